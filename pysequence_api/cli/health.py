"""``health``: whether a server is healthy. The HEALTHCHECK of the image runs it, so it loads little."""

import http.client
import json
from typing import Annotated

import typer

from pysequence_api.cli.terminal import print_line
from pysequence_api.errors import GatewayError
from pysequence_api.local_server import reach

HEALTH_PATH = "/api/health"
TIMEOUT_SECONDS = 3.0
"""Shorter than the timeout of the HEALTHCHECK, so it sees the reason."""
MAX_ANSWER_BYTES = 1024


def health(
    url: Annotated[
        str | None,
        typer.Option(help="URL of the server. By default, the server of the settings."),
    ] = None,
) -> None:
    """Check whether a server is healthy.

    Sends no API key, and the server makes no upstream call.

    \b
    Example:
      pysequence-api health
      pysequence-api health --url http://127.0.0.1:8720

    \b
    Exit codes:
      0  the server is healthy
      1  it is not healthy, or there is no server
      2  invalid usage or settings
    """
    server = reach(url, TIMEOUT_SECONDS)
    status = _status_of(server.connect(), server.path, server.address)
    print_line(f"{server.address} is healthy: {status}")


def _status_of(connection: http.client.HTTPConnection, path: str, address: str) -> str:
    try:
        connection.request("GET", path + HEALTH_PATH)
        answer = connection.getresponse()
        content = answer.read(MAX_ANSWER_BYTES)
        document = json.loads(content)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise GatewayError(f"No server answers at {address} ({reason}). Start it: pysequence-api serve") from error
    except ValueError:
        raise GatewayError(f"The server at {address} is not pysequence-api: its answer is not JSON.") from None
    finally:
        connection.close()
    status = document.get("status") if isinstance(document, dict) else None
    if answer.status != 200 or status != "ok":
        raise GatewayError(f"The server at {address} is not healthy: it answered {answer.status}.")
    return str(status)
