"""The HTTP server under the application: uvicorn, bounded, and leaving when it is told to."""

import asyncio
import errno
import json
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from pysequence_api.errors import SettingsError
from pysequence_api.settings import variable
from pysequence_api.web.request_log import MAX_KEYLESS_LINES_PER_MINUTE, LineAllowance

MAX_CONNECTIONS = 256
"""Beyond it, callers get 503 at once."""
MAX_REQUEST_HEAD_BYTES = 32 * 1024
KEEP_ALIVE_SECONDS = 30
"""Longer than callers keep idle connections, so that it is they who close them: a transfer that is sent into a closing
connection fails in a way that its caller cannot explain."""
SILENCE_SECONDS = 35.0
"""A connection without a whole request for once to twice as long is closed."""
NO_STORE = ("cache-control", "no-store")
"""On every answer: no cache may keep what an account holds."""
NO_REQUEST = {"detail": "This is no HTTP/1.1 request that can be read, or its head is too large."}
LOGGER_NAME = "pysequence_api.api.http"
LEAVE_SIGNALS = (signal.SIGINT, signal.SIGTERM)

log = logging.getLogger(LOGGER_NAME)
_allowance = LineAllowance(MAX_KEYLESS_LINES_PER_MINUTE)


def _is_admitted(record: logging.LogRecord) -> bool:
    """Keep what anybody can have uvicorn complain of, such as bytes that are no HTTP, from filling the log."""
    return record.levelno > logging.WARNING or _allowance.take() is not None


log.addFilter(_is_admitted)


def bind(host: str, port: int) -> socket.socket:
    """Bind the address and listen.

    Raises:
        SettingsError: that is not possible.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol by name, or asyncio leaves Nagle's algorithm on, which costs each answer 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(
                f"Port {port} of {host} is taken. Stop what listens there, or set {variable('server_port')}."
            ) from error
        raise SettingsError(
            f"Nothing can listen on port {port} of {host} ({error.strerror}). Set {variable('server_host')} and"
            f" {variable('server_port')}."
        ) from error
    return listener


class ImpatientProtocol(H11Protocol):
    """Closes a connection on which no whole request arrives.

    Otherwise as many connections as may be open, each with half a request, would keep everybody out for ever.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch."""
        super().connection_made(transport)
        self.logger = log
        self._look_again(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to watch."""
        self._next_look.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are not for callers
        """Answer what is no request in the form of every other error."""
        content = json.dumps(NO_REQUEST).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(content))),
            NO_STORE,
            ("connection", "close"),
        ]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=content), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _should_upgrade(self) -> bool:
        return False  # to nothing, and without uvicorn's warnings

    def _look_again(self, idle_after: RequestResponseCycle | None) -> None:
        self._next_look = self.loop.call_later(SILENCE_SECONDS, self._look, idle_after)

    def _look(self, idle_after: RequestResponseCycle | None) -> None:
        if self.transport.is_closing():
            return
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.cycle is idle_after:
            self.transport.close()
        else:
            self._look_again(self.cycle if is_idle else None)


class Server(uvicorn.Server):
    """An uvicorn that says when it listens, and returns when it is told to leave instead of dying of the signal.

    Args:
        app: what to serve.
        on_listening: called once connections are accepted.
    """

    def __init__(self, app: ASGIApp, on_listening: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=ImpatientProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                headers=[NO_STORE],
                proxy_headers=False,
                limit_concurrency=MAX_CONNECTIONS,
                backlog=MAX_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=None,  # what runs has time-outs of its own
                h11_max_incomplete_event_size=MAX_REQUEST_HEAD_BYTES,
            )
        )
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        self._on_listening()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: `leaving_on_signals` does it, for longer than uvicorn runs."""
        yield

    @contextmanager
    def leaving_on_signals(self) -> Iterator[None]:
        """Have signals end the serving, and nothing else, until this is left."""
        loop = asyncio.get_running_loop()
        for number in LEAVE_SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in LEAVE_SIGNALS:
                loop.remove_signal_handler(number)
