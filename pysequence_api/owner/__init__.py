"""The owner's page: pages for a browser, on a listener of their own. They show, and let only the owner decide."""

from pysequence_api.owner.app import create_app

__all__ = ["create_app"]
