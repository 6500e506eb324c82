"""The REST API: parses requests, calls the gateway, and answers. One module for each tag of the OpenAPI schema."""

from pysequence_api.api.app import create_app

__all__ = ["create_app"]
