"""The FastAPI application: key check, routes, response models, errors as HTTP answers.

It knows the gateway, and neither files nor GraphQL.
"""

from pysequence_api.api.app import create_app

__all__ = ["create_app"]
