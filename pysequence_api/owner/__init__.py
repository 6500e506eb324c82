"""The owner's page: pages for a browser, on a listener of their own. They show, and let only the owner decide."""

from pysequence_api.owner.app import create_app
from pysequence_api.owner.listening import PageServer
from pysequence_api.owner.pages import Showcase

__all__ = ["PageServer", "Showcase", "create_app"]
