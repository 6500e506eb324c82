"""How the API and the simulated Sequence use uvicorn: one way to listen, one protocol, one server."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def listen(host: str, port: int, *, backlog: int) -> socket.socket:
    """Bind an address and listen on it.

    Args:
        host: an IP address or a host name.
        port: 0 takes any free port.
        backlog: how many connections may wait to be accepted.

    Raises:
        OSError: the address or the port cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without the protocol, asyncio leaves Nagle's algorithm on, and each answer takes 40 ms longer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


class HttpProtocol(H11Protocol):
    """HTTP/1.1 that ignores every offer to upgrade, without uvicorn's warnings."""

    def _should_upgrade(self) -> bool:
        return False


class HttpServer(uvicorn.Server):
    """A uvicorn server that reports when it listens, and returns on SIGINT, SIGTERM or SIGHUP.

    Args:
        app: the ASGI application.
        protocol: how connections are read.
        on_listening: called once connections are accepted.
        on_stop: called in the event loop at each signal to stop.
        takes_signals: whether signals stop it; if not, `should_exit` does.
        **config: more parameters of `uvicorn.Config`.
    """

    def __init__(
        self,
        app: Any,
        *,
        protocol: Callable[..., HttpProtocol],
        on_listening: Callable[[], None],
        on_stop: Callable[[], None] = lambda: None,
        takes_signals: bool = True,
        **config: Any,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,  # type: ignore[arg-type]  # any function that makes one will do
                ws="none",
                lifespan="off",
                log_config=None,
                server_header=False,
                proxy_headers=False,
                **config,
            )
        )
        self._on_listening = on_listening
        self._on_stop = on_stop
        self._takes_signals = takes_signals
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and report it."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._on_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - every signal means the same
        """Stop. Unlike uvicorn's own, a second signal does not cut off what runs."""
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._on_stop)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop the server on a signal. Unlike uvicorn's own, do not raise the signal again afterwards.

        `serve` enters this. Enter it around `serve` as well if signals must not end what comes after it.
        """
        if not self._takes_signals or threading.current_thread() is not threading.main_thread():
            yield  # only the main thread receives signals
            return
        before = {number: signal.signal(number, self.handle_exit) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
