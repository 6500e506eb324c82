"""The sandbox over HTTP, with connections that really break."""

import asyncio
import contextlib
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from pysequence_api.sandbox.application import Sandbox
from pysequence_api.sandbox.http import CONNECTION_EXTENSION, Connection, Receive, Scope, Send

CLOSING_SECONDS = 1
"""How long a stopped server waits for requests that are still running."""
KEEP_ALIVE_SECONDS = 60
_BACKLOG = 128
_LOCALHOST = "localhost"


class _BreakableProtocol(H11Protocol):
    """HTTP/1.1 whose connection the application can close."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._application = self.app
        self.app = self._serve_one
        self._requests = 0

    def _should_upgrade(self) -> bool:
        return False  # ignores an offer of HTTP/2, without uvicorn's warning

    async def _serve_one(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._requests += 1
        host, port = self.client or ("", 0)
        connection = Connection(f"{host}:{port}", is_fresh=self._requests == 1, disconnect=self.transport.close)
        scope["extensions"] = {CONNECTION_EXTENSION: connection}
        try:
            await self._application(scope, receive, send)
        except asyncio.CancelledError:
            # The server is stopping. Without this, uvicorn logs a traceback and responds with a 500.
            self.cycle.disconnected = True
            self.transport.abort()


class _Server(Server):
    """Reports when it listens. A signal stops it and is not raised again."""

    def __init__(self, config: Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # signals reach the main thread only
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


async def serve(sandbox: Sandbox, *, host: str = "127.0.0.1", port: int, on_ready: Callable[[str], None]) -> None:
    """Serve a sandbox over HTTP until SIGINT, SIGTERM or cancellation; then close it.

    Args:
        sandbox: what to serve.
        host: a loopback address or ``localhost``, because this server protects nothing.
        port: the port to listen on; 0 means any free port.
        on_ready: called with the base URL once the server listens.

    Raises:
        ValueError: the host is not a loopback address.
        OSError: the port is in use.
    """
    address = _loopback_address(host)
    listener = _listen(str(address), port, socket.AF_INET6 if address.version == 6 else socket.AF_INET)
    shown = f"[{address}]" if address.version == 6 else host
    base_url = f"http://{shown}:{listener.getsockname()[1]}"
    config = Config(
        sandbox.app,
        http=_BreakableProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=CLOSING_SECONDS,
    )
    server = _Server(config, lambda: on_ready(base_url))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(task)
    finally:
        server.should_exit = True
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
            listener.close()
            await sandbox.aclose()


def _loopback_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == _LOCALHOST else host)
    except ValueError:
        raise ValueError(f"{host!r} is not an IP address or localhost") from None
    if not address.is_loopback:
        raise ValueError(f"{host!r} is not a loopback address; the sandbox listens on loopback only")
    return address


def _listen(address: str, port: int, family: socket.AddressFamily) -> socket.socket:
    # If the protocol is given, asyncio disables Nagle's algorithm, which would delay each response by 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
