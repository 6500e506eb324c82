"""``openapi``: the schema of the HTTP API."""

from pysequence_api.cli.output import print_json


def openapi() -> None:
    """Print the OpenAPI schema of the server as JSON. Needs no key, no Sequence and no network.

    \b
    Example:
      pysequence-api openapi > openapi.json
    """
    from pysequence_api.api.schema import openapi_schema  # noqa: PLC0415 - the web framework, for this command only

    print_json(openapi_schema())
