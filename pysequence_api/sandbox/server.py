"""The sandbox over HTTP, with connections that really break."""

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Any

import anyio
from uvicorn import Config
from uvicorn.server import ServerState

from pysequence_api.http_server import HttpProtocol, HttpServer, listen
from pysequence_api.sandbox.application import Sandbox
from pysequence_api.sandbox.http import CONNECTION_EXTENSION, Connection, Receive, Scope, Send

CLOSING_SECONDS = 1
"""How long a stopped server waits for requests that are still running."""
KEEP_ALIVE_SECONDS = 60
_BACKLOG = 128
_LOCALHOST = "localhost"


class _BreakableProtocol(HttpProtocol):
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
    listener = listen(str(address), port, backlog=_BACKLOG)
    shown = f"[{address}]" if address.version == 6 else host
    base_url = f"http://{shown}:{listener.getsockname()[1]}"
    server = HttpServer(
        sandbox.app,
        protocol=_BreakableProtocol,
        on_listening=lambda: on_ready(base_url),
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=CLOSING_SECONDS,
    )
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
