"""The HTTP server under the application: uvicorn with bounds on connections, request heads and silence."""

import asyncio
import errno
import json
import logging
import socket
from collections.abc import Callable

import h11
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import RequestResponseCycle

from pysequence_api.errors import Code, SettingsError
from pysequence_api.http_server import HttpProtocol, HttpServer, listen
from pysequence_api.settings import variable
from pysequence_api.web.request_log import MAX_KEYLESS_LINES_PER_MINUTE, LineAllowance

MAX_CONNECTIONS = 256
"""Callers above this number get 503 at once."""
MAX_REQUEST_HEAD_BYTES = 32 * 1024
KEEP_ALIVE_SECONDS = 30
"""Longer than clients keep idle connections, so that the client closes first. A transfer sent on a connection that the
server is closing fails in a way that its caller cannot explain."""
SILENCE_SECONDS = 35.0
"""A connection without a whole request for this long, up to twice as long, is closed."""
NO_STORE = ("cache-control", "no-store")
"""On every answer: no cache may store account data."""
UNREADABLE_REQUEST = {
    "detail": "This is not a valid HTTP/1.1 request, or its headers are too large.",
    "code": Code.INVALID_REQUEST,
}
LOGGER_NAME = "pysequence_api.api.http"

log = logging.getLogger(LOGGER_NAME)
_allowance = LineAllowance(MAX_KEYLESS_LINES_PER_MINUTE)


def _is_admitted(record: logging.LogRecord) -> bool:
    """Limit the warnings that anyone without a key can cause, for example with bytes that are not HTTP."""
    return record.levelno > logging.WARNING or _allowance.take() is not None


log.addFilter(_is_admitted)


def bind(host: str, port: int) -> socket.socket:
    """Bind the server's address and listen on it.

    Raises:
        SettingsError: the address cannot be used.
    """
    try:
        return listen(host, port, backlog=MAX_CONNECTIONS)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(
                f"Port {port} on {host} is already in use. Stop the program that uses it, or set"
                f" {variable('server_port')}."
            ) from error
        raise SettingsError(
            f"Cannot listen on port {port} of {host} ({error.strerror}). Set {variable('server_host')} and"
            f" {variable('server_port')}."
        ) from error


def create_server(app: ASGIApp, on_listening: Callable[[], None], on_stop: Callable[[], None]) -> HttpServer:
    """Create the server of an application.

    Args:
        app: the application.
        on_listening: called once connections are accepted.
        on_stop: called at each signal to stop.
    """
    return HttpServer(
        app,
        protocol=ImpatientProtocol,
        on_listening=on_listening,
        on_stop=on_stop,
        access_log=False,
        headers=[NO_STORE],
        limit_concurrency=MAX_CONNECTIONS,
        backlog=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=None,  # running requests have timeouts of their own
        h11_max_incomplete_event_size=MAX_REQUEST_HEAD_BYTES,
    )


class ImpatientProtocol(HttpProtocol):
    """Closes a connection on which no whole request arrives.

    Otherwise half a request on each of `MAX_CONNECTIONS` connections would block every other caller.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the checks."""
        super().connection_made(transport)
        self.logger = log
        self._schedule_check(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the checks."""
        self._next_check.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's text is not for callers
        """Answer an unreadable request in the shape of every other error."""
        # Written without h11, which would refuse it after an answer has started, or as the answer to HEAD.
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            content = json.dumps(UNREADABLE_REQUEST).encode()
            name, value = NO_STORE
            head = (
                "HTTP/1.1 400 Bad Request",
                "content-type: application/json",
                f"content-length: {len(content)}",
                f"{name}: {value}",
                "connection: close",
            )
            self.transport.write("\r\n".join([*head, "", ""]).encode() + content)
        if self.cycle is not None:
            self.cycle.disconnected = True  # the application's answer comes too late
            self.cycle.message_event.set()
        self.transport.close()

    def _schedule_check(self, idle_after: RequestResponseCycle | None) -> None:
        self._next_check = self.loop.call_later(SILENCE_SECONDS, self._check, idle_after)

    def _check(self, idle_after: RequestResponseCycle | None) -> None:
        if self.transport.is_closing():
            return
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.cycle is idle_after:
            self.transport.close()
        else:
            self._schedule_check(self.cycle if is_idle else None)
