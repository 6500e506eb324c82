"""One HTTP exchange: what was asked, what is answered, and how much of the answer really leaves."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, JsonValue

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

CONNECTION_EXTENSION = "pysequence_api.sandbox.connection"
"""Under this name an ASGI scope's ``extensions`` hold the `Connection`."""
MAX_REQUEST_BYTES = 1024 * 1024
_FILL = b" " * 64 * 1024


@dataclass(frozen=True, slots=True)
class Connection:
    """The connection under a request, as far as its server lets the application reach it."""

    connection_id: str
    is_fresh: bool
    disconnect: Callable[[], None]
    """Sends what has been written, and nothing more."""


class Delivery(StrEnum):
    """How much of an answer leaves before the connection is closed."""

    WHOLE = "whole"
    HALF_BODY = "half_body"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Request:
    """A request that has arrived in full."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of that lower-case name."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer and the way it is delivered."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    delivery: Delivery = Delivery.WHOLE
    fill_bytes: int = 0
    """So many spaces follow the body: it becomes as large as one likes and stays the same JSON."""
    date_offset_seconds: float | None = 0.0
    """How wrong the ``Date`` header is; ``None`` leaves it out."""

    def with_json(self, body: JsonValue) -> "Response":
        """The same answer with another body."""
        return replace(self, body=json.dumps(body).encode())


def json_response(body: JsonValue, status: int = 200) -> Response:
    """Response with JSON."""
    return Response(status, json.dumps(body).encode())


def model_response(model: BaseModel, status: int = 200) -> Response:
    """Response with a model, as JSON."""
    return Response(status, model.model_dump_json(by_alias=True).encode())


async def read_request(scope: Scope, receive: Receive) -> Request | None:
    """Wait for the whole request.

    Returns:
        The request; its body is cut off one byte after `MAX_REQUEST_BYTES`. ``None`` if the client left before.
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


async def deliver(answer: Response, now: float, connection: Connection | None, receive: Receive, send: Send) -> None:
    """Send an answer, or as much of it as it says.

    Args:
        answer: what to send.
        now: Unix time in seconds, for the ``Date`` header.
        connection: what a broken delivery closes.
        receive: the ASGI channel that says when the connection is gone.
        send: the ASGI channel to the client.

    Raises:
        RuntimeError: the server does not let the application close the connection.
    """
    if answer.delivery is not Delivery.WHOLE and connection is None:
        raise RuntimeError("This server cannot close a connection on demand; use pysequence_api.sandbox.serve.")
    if answer.delivery is Delivery.WHOLE or connection is None:
        await send(_start(answer, now))
        await _send_whole(answer, send)
        return
    if answer.delivery is Delivery.HALF_BODY:
        await send(_start(answer, now))
        await send({"type": "http.response.body", "body": answer.body[: len(answer.body) // 2], "more_body": True})
    connection.disconnect()
    while (await receive())["type"] != "http.disconnect":
        continue


def _start(answer: Response, now: float) -> Message:
    headers = [
        (b"content-type", answer.content_type.encode("latin-1")),
        (b"content-length", str(len(answer.body) + answer.fill_bytes).encode()),
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers),
    ]
    if answer.date_offset_seconds is not None:
        headers.append((b"date", formatdate(now + answer.date_offset_seconds, usegmt=True).encode()))
    return {"type": "http.response.start", "status": answer.status, "headers": headers}


async def _send_whole(answer: Response, send: Send) -> None:
    await send({"type": "http.response.body", "body": answer.body, "more_body": answer.fill_bytes > 0})
    left_bytes = answer.fill_bytes
    while left_bytes > 0:
        part = _FILL[:left_bytes]
        left_bytes -= len(part)
        await send({"type": "http.response.body", "body": part, "more_body": left_bytes > 0})
