"""HTTP requests and responses, and how much of a response is sent before the connection is closed."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, JsonValue
from pydantic_core import from_json

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

CONNECTION_EXTENSION = "pysequence_api.sandbox.connection"
"""The key of the `Connection` in the ``extensions`` of an ASGI scope."""
MAX_REQUEST_BYTES = 1024 * 1024
HTML_TYPE = "text/html; charset=utf-8"
TEXT_TYPE = "text/plain; charset=utf-8"
_FILL = b" " * 64 * 1024


@dataclass(frozen=True, slots=True)
class Connection:
    """The connection of a request, as the server shows it to the application."""

    connection_id: str
    is_fresh: bool
    disconnect: Callable[[], None]
    """Sends what has been written, then closes the connection."""


class Delivery(StrEnum):
    """How much of a response is sent before the connection is closed."""

    WHOLE = "whole"
    HALF_BODY = "half_body"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Request:
    """A complete request."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first header with this name in lower case."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Response:
    """A response and how it is delivered."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    delivery: Delivery = Delivery.WHOLE
    fill_bytes: int = 0
    """How many spaces follow the body. The JSON in it stays the same."""
    date_offset_seconds: float | None = 0.0
    """How far the ``Date`` header is off; ``None`` leaves it out."""

    def with_json(self, body: JsonValue) -> "Response":
        """Return the same response with another body."""
        return replace(self, body=json.dumps(body).encode())


def json_response(body: JsonValue, status: int = 200) -> Response:
    """Return a response with JSON."""
    return Response(status, json.dumps(body).encode())


def model_response(model: BaseModel, status: int = 200) -> Response:
    """Return a response with a model as JSON."""
    return Response(status, model.model_dump_json(by_alias=True).encode())


def load_object(body: bytes) -> dict[str, JsonValue]:
    """Return the JSON object of a body; an empty one if the body is not a JSON object."""
    try:
        content = from_json(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


async def read_request(scope: Scope, receive: Receive) -> Request | None:
    """Read the whole request.

    Returns:
        The request, its body cut off one byte after `MAX_REQUEST_BYTES`; ``None`` if the client disconnected.
    """
    body = bytearray()
    more = True
    while more and len(body) <= MAX_REQUEST_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = tuple((key.decode("latin-1").lower(), value.decode("latin-1")) for key, value in scope["headers"])
    query = scope["query_string"].decode("latin-1")
    return Request(scope["method"], scope["path"], query, headers, bytes(body[: MAX_REQUEST_BYTES + 1]))


async def deliver(
    response: Response, now_seconds: float, connection: Connection | None, receive: Receive, send: Send
) -> None:
    """Send as much of a response as its delivery says.

    Args:
        response: what to send.
        now_seconds: Unix time for the ``Date`` header.
        connection: the connection that a broken delivery closes.
        receive: the ASGI channel from the client.
        send: the ASGI channel to the client.

    Raises:
        RuntimeError: the server does not let the application close the connection.
    """
    if response.delivery is Delivery.WHOLE:
        await send(_start(response, now_seconds))
        await _send_body(response, send)
        return
    if connection is None:
        raise RuntimeError("This server cannot close a connection on demand; use pysequence_api.sandbox.server.serve.")
    if response.delivery is Delivery.HALF_BODY:
        await send(_start(response, now_seconds))
        await send({"type": "http.response.body", "body": response.body[: len(response.body) // 2], "more_body": True})
    connection.disconnect()
    while (await receive())["type"] != "http.disconnect":
        continue


def _start(response: Response, now_seconds: float) -> Message:
    headers = [
        (b"content-type", response.content_type.encode("latin-1")),
        (b"content-length", str(len(response.body) + response.fill_bytes).encode()),
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers),
    ]
    if response.date_offset_seconds is not None:
        headers.append((b"date", formatdate(now_seconds + response.date_offset_seconds, usegmt=True).encode()))
    return {"type": "http.response.start", "status": response.status, "headers": headers}


async def _send_body(response: Response, send: Send) -> None:
    await send({"type": "http.response.body", "body": response.body, "more_body": response.fill_bytes > 0})
    left_bytes = response.fill_bytes
    while left_bytes > 0:
        part = _FILL[:left_bytes]
        left_bytes -= len(part)
        await send({"type": "http.response.body", "body": part, "more_body": left_bytes > 0})
