"""The HTTP server under the application: uvicorn with bounds on connections, request heads and silence."""

import asyncio
import errno
import fcntl
import logging
import os
import socket
import ssl
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import h11
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import RequestResponseCycle

from pysequence_api.errors import Code, SettingsError
from pysequence_api.files import who_else_can_write
from pysequence_api.http_server import HttpProtocol, HttpServer, listen
from pysequence_api.local_server import reason_of
from pysequence_api.settings import Settings, variable
from pysequence_api.web.connections import CONNECTION_STATE, NO_STORE, BoundedListener, json_answer
from pysequence_api.web.keyless import CONNECTION_LOGGER

MAX_REQUEST_HEAD_BYTES = 32 * 1024
KEEP_ALIVE_SECONDS = 30
"""Longer than clients keep idle connections, so that the client closes first. A transfer sent on a connection that the
server is closing fails in a way that its caller cannot explain."""
SILENCE_SECONDS = 35.0
"""A connection without a whole request for this long, up to twice as long, is closed."""
WRITE_SECONDS = 15.0
"""A client that does not read an answer for this long, up to twice as long, is disconnected."""
MAX_JOINED_BYTES = 64 * 1024
BACKLOG = 256
UNREADABLE_REQUEST = {
    "detail": "This is not a valid HTTP/1.1 request, or its headers are too large.",
    "code": Code.INVALID_REQUEST,
}
VERSIONS = (b"HTTP/1.0", b"HTTP/1.1")

log = logging.getLogger(CONNECTION_LOGGER)


def bind(settings: Settings) -> BoundedListener:
    """Bind the server's address, or its Unix socket, and listen on it.

    Raises:
        SettingsError: the address cannot be used.
    """
    if settings.server_socket is not None:
        return BoundedListener(_bind_socket(settings.server_socket), is_plain=True)
    return _bind_address(settings, "server_host", "server_port")


def bind_page(settings: Settings) -> BoundedListener:
    """Bind the address of the owner's page, and listen on it.

    Raises:
        SettingsError: the address cannot be used.
    """
    return _bind_address(settings, "owner_host", "owner_port")


def _bind_address(settings: Settings, host_name: str, port_name: str) -> BoundedListener:
    host, port = getattr(settings, host_name), getattr(settings, port_name)
    try:
        return BoundedListener(listen(host, port, backlog=BACKLOG), is_plain=settings.tls_key is None)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(
                f"Port {port} on {host} is already in use. Stop the program that uses it, or set {variable(port_name)}."
            ) from error
        raise SettingsError(
            f"Cannot listen on port {port} of {host} ({error.strerror}). Set {variable(host_name)} and"
            f" {variable(port_name)}."
        ) from error


def _bind_socket(path: Path) -> socket.socket:
    name, directory = variable("server_socket"), path.absolute().parent
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise SettingsError(f"{name}: the directory {directory} cannot be used ({error.strerror}).") from error
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _require_private(os.fstat(descriptor), directory)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # two servers could both find an old socket and remove it
        _remove_unused(path)
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen(BACKLOG)
    except BaseException as error:
        listener.close()
        if isinstance(error, OSError):
            raise SettingsError(f"{name}: cannot listen on {path} ({error.strerror or error}).") from error
        raise
    finally:
        os.close(descriptor)
    return listener


def _require_private(status: os.stat_result, directory: Path) -> None:
    others = "Another user" if status.st_uid not in {0, os.geteuid()} else who_else_can_write(status)
    if others is not None:
        raise SettingsError(
            f"{variable('server_socket')}: {others} can change the directory {directory}. Choose another one."
        )


def _remove_unused(path: Path) -> None:
    """Remove the socket of a server that was killed."""
    name = variable("server_socket")
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SettingsError(f"{name}: {path} exists and is not a socket. Remove it, or choose another path.")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise SettingsError(f"{name}: another server listens on {path}.")


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Load the server's certificate and its key; ``None`` if none is set.

    Raises:
        SettingsError: they cannot be used.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None or key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        for path in (certificate, key):
            path.open("rb").close()
    except OSError as error:
        name = variable("tls_certificate" if path is certificate else "tls_key")
        raise SettingsError(f"{name}: {path} cannot be read ({error.strerror}).") from error
    try:
        context.load_cert_chain(certificate, key, password="")  # else OpenSSL would ask for one
    except OSError as error:
        names = f"{variable('tls_certificate')} and {variable('tls_key')}"
        raise SettingsError(f"{names} cannot be used: {reason_of(error)}.") from error
    return context


def create_server(
    app: ASGIApp,
    listener: BoundedListener,
    tls: ssl.SSLContext | None,
    on_listening: Callable[[], None] = lambda: None,
    on_stop: Callable[[], None] = lambda: None,
    *,
    takes_signals: bool = True,
) -> HttpServer:
    """Create the server of an application.

    Args:
        app: the application.
        listener: where it will listen.
        tls: the certificate; without one, it speaks plain HTTP.
        on_listening: called once connections are accepted.
        on_stop: called at each signal to stop.
        takes_signals: whether signals stop it; if not, `should_exit` does.
    """
    return HttpServer(
        app,
        protocol=partial(ImpatientProtocol, listener),
        on_listening=on_listening,
        on_stop=on_stop,
        takes_signals=takes_signals,
        ssl_context_factory=None if tls is None else lambda *_: tls,
        access_log=False,
        headers=[NO_STORE],
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=None,  # running requests have timeouts of their own
        h11_max_incomplete_event_size=MAX_REQUEST_HEAD_BYTES,
    )


class StrictConnection(h11.Connection):
    """Rejects heads that another program could read differently, which h11 accepts."""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event.

        Raises:
            h11.RemoteProtocolError: the request is not valid.
        """
        if self.their_state is h11.IDLE and (received := self.trailing_data[0]):
            _check_head(received)
        return super().next_event()


def _check_head(received: bytes) -> None:
    end = received.find(b"\r\n\r\n")
    head = received if end < 0 else received[: end + 2]
    if head.count(b"\n") != head.count(b"\r\n"):
        raise h11.RemoteProtocolError("a line ends without a carriage return")
    if end < 0:
        return
    first, *lines = head.split(b"\r\n")
    if not first.endswith(VERSIONS):
        raise h11.RemoteProtocolError("not HTTP/1.0 or HTTP/1.1")
    lower = head.lower()
    if b"content-length" not in lower and b"transfer-encoding" not in lower:
        return
    fields = [(name.strip().lower(), value) for name, _, value in (line.partition(b":") for line in lines)]
    lengths = [value for name, value in fields if name == b"content-length"]
    encodings = [value for name, value in fields if name == b"transfer-encoding"]
    if len(lengths) + len(encodings) > 1 or any(b"," in value for value in lengths):
        raise h11.RemoteProtocolError("more than one length of the body")
    if encodings and first.endswith(b"HTTP/1.0"):
        raise h11.RemoteProtocolError("HTTP/1.0 has no transfer encodings")


class JoinedWrites:
    """A transport that sends the head of an answer and its body together, as one packet instead of two.

    Args:
        transport: the transport of the connection, which does everything else.
        loop: the event loop; what is written in one step of it is sent at its end.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.is_closing = transport.is_closing  # asked several times a request, each a detour over `__getattr__`

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write soon; at once if much is waiting."""
        if not self._waiting:
            self._loop.call_soon(self._send)
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > MAX_JOINED_BYTES:
            self._send()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the client has not taken."""
        return self._waiting_bytes + self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Close, after what was written."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._waiting:
            self._transport.write(b"".join(self._waiting))
            self._waiting.clear()
            self._waiting_bytes = 0


class ImpatientProtocol(HttpProtocol):
    """Closes a connection on which no whole request arrives, or whose client does not read its answer."""

    def __init__(self, listener: BoundedListener, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._listener = listener

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the checks."""
        super().connection_made(cast(asyncio.Transport, JoinedWrites(transport, self.loop)))
        self.conn = StrictConnection(h11.SERVER, MAX_REQUEST_HEAD_BYTES)
        self.logger = log
        connection = self._listener.find(transport.get_extra_info("socket").fileno())
        if connection is None:
            transport.abort()  # another one took its place before it was served
        else:
            connection.abort = transport.abort
            self.app_state = {CONNECTION_STATE: connection}
        self._schedule_check(None)
        self._schedule_write_check(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the checks."""
        self._next_check.cancel()
        self._next_write_check.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what was sent, unless the connection is closing."""
        if not self.transport.is_closing():
            super().data_received(data)

    def shutdown(self) -> None:
        """Close the connection once it is idle."""
        if not self.transport.is_closing():
            super().shutdown()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's text is not for callers
        """Answer an unreadable request in the shape of every other error."""
        # Written without h11, which would refuse if the answer has started.
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.write(json_answer(400, "Bad Request", UNREADABLE_REQUEST))
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

    def _schedule_write_check(self, unread: RequestResponseCycle | None) -> None:
        self._next_write_check = self.loop.call_later(WRITE_SECONDS, self._check_writing, unread)

    def _check_writing(self, unread: RequestResponseCycle | None) -> None:
        is_waiting = self.transport.get_write_buffer_size() > 0
        if is_waiting and self.cycle is unread:
            self.transport.abort()
        else:
            self._schedule_write_check(self.cycle if is_waiting else None)
