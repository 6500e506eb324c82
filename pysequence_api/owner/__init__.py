"""The owner's page: web pages on their own listener, on which only the owner can decide."""

from pysequence_api.owner.app import create_app
from pysequence_api.owner.listening import PageServer
from pysequence_api.owner.pages import Showcase

__all__ = ["PageServer", "Showcase", "create_app"]
