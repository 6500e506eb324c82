"""``openapi``: the schema of the HTTP API."""

from pysequence_api.api.schema import openapi_schema
from pysequence_api.cli.terminal import print_json


def openapi() -> None:
    """Print the OpenAPI schema of the HTTP API.

    Needs no settings and makes no upstream call.

    \b
    Example:
      pysequence-api openapi > openapi.json
    """
    print_json(openapi_schema())
