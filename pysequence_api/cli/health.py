"""``health``: whether a server runs. What the image's HEALTHCHECK calls, so it loads next to nothing."""

import http.client
import json
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

import typer

from pysequence_api.cli.output import print_line
from pysequence_api.errors import GatewayError, InvalidRequestError
from pysequence_api.settings import Settings

HEALTH_PATH = "/api/health"
TIMEOUT_SECONDS = 3.0
"""Shorter than a HEALTHCHECK waits, so that it hears the reason."""
MAX_ANSWER_BYTES = 1024
ANY_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where a server that listens on every address is reached from here."""


def health(
    url: Annotated[
        str | None,
        typer.Option(help="The server's address; without it, the one that SEQUENCE_SERVER_HOST and _PORT name."),
    ] = None,
) -> None:
    """Ask a running server whether it is well. Sends no key, and the server asks nothing of Sequence.

    Exit codes: 0 it is, 1 it is not, 2 usage or settings.

    \b
    Example:
      pysequence-api health
      pysequence-api health --url http://127.0.0.1:8720
    """
    address = url or _own_url(Settings.load())
    status = _status_of(_parts(address), address)
    print_line(f"{address} is well: {status}")


def _own_url(settings: Settings) -> str:
    host = ANY_ADDRESSES.get(settings.server_host, settings.server_host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.server_port}"


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidRequestError("--url must be an address like http://127.0.0.1:8720.")
    return parts


def _status_of(parts: SplitResult, address: str) -> str:
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", parts.path.rstrip("/") + HEALTH_PATH)
        answer = connection.getresponse()
        content = answer.read(MAX_ANSWER_BYTES)
        said = json.loads(content)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise GatewayError(f"No server answers at {address} ({reason}). Start it: pysequence-api serve") from error
    except ValueError:
        raise GatewayError(f"What answers at {address} is not pysequence-api: its answer is no JSON.") from None
    finally:
        connection.close()
    status = said.get("status") if isinstance(said, dict) else None
    if answer.status != 200 or status != "ok":
        raise GatewayError(f"The server at {address} is not well: it answered {answer.status}.")
    return str(status)
