"""Bounds connections where they are accepted: in total, and by address.

If there is no room, the oldest connection on which the API key was never sent makes room for the new one. So neither
idle connections nor guesses keep anybody out. Only if all connections have sent the key is a new one refused.
"""

import asyncio
import json
import logging
import resource
import socket
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any

from pysequence_api.errors import Code
from pysequence_api.settings import is_loopback
from pysequence_api.web.keyless import CONNECTION_LOGGER

MAX_CONNECTIONS = 256
MAX_CONNECTIONS_PER_ADDRESS = 64
"""Without this machine's own addresses: all callers behind a proxy here have them."""
RESERVED_DESCRIPTORS = 160
"""File descriptors for records, requests to Sequence, and connections that are about to be closed."""
MIN_CONNECTIONS = 16
MAX_CLOSING = 32
"""Connections that were refused or replaced, and are not closed yet. Above this number, accepting pauses."""
LINGER_SECONDS = 1.0
"""A refused connection stays open for so long, so that the answer arrives before the connection is reset."""
CONNECTION_STATE = "connection"
"""The name of the connection in the ``state`` of an ASGI scope."""
NO_STORE = ("cache-control", "no-store")
"""On every answer: no cache may store account data."""
BUSY = {
    "detail": "The server has too many connections. Try again in a second.",
    "code": Code.BUSY,
    "retry_after_seconds": 1,
}

log = logging.getLogger(CONNECTION_LOGGER)


def json_answer(status: int, reason: str, content: object, *headers: tuple[str, str]) -> bytes:
    """Return a whole answer that closes the connection."""
    body = json.dumps(content).encode()
    fields = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        NO_STORE,
        ("connection", "close"),
        *headers,
    ]
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"HTTP/1.1 {status} {reason}\r\n{head}\r\n".encode() + body


@lru_cache(maxsize=1024)
def network_of(host: str) -> str:
    """Return what counts as one address: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return host if address.is_loopback else str(IPv6Address(int(address) >> 64 << 64))
    return host


class Connection(socket.socket):
    """An accepted connection.

    Attributes:
        source: what counts as its address; empty for a Unix socket.
        has_sent_key: whether the right API key was sent on it.
        abort: closes it at once.
        is_closed: done once it is closed.
    """

    def __init__(self, listener: "BoundedListener", accepted: socket.socket, source: str) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self._listener = listener
        self.source = source
        self.has_sent_key = False
        self.abort: Callable[[], None] = self._hang_up
        self.is_closed = asyncio.get_running_loop().create_future()

    def _hang_up(self) -> None:
        try:
            self.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("The client had closed the connection already.")

    def close(self) -> None:
        """Close it, and make room."""
        self._listener.forget(self)
        if not self.is_closed.done():
            self.is_closed.set_result(None)
        super().close()


class BoundedListener(socket.socket):
    """A listening socket that accepts a bounded number of connections.

    Args:
        listener: a listening socket, which this one replaces.
        is_plain: whether a refused connection gets an answer. On a TLS connection, it could not be read.
    """

    def __init__(self, listener: socket.socket, *, is_plain: bool) -> None:
        super().__init__(listener.family, listener.type, listener.proto, fileno=listener.detach())
        self._is_plain = is_plain
        soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = MAX_CONNECTIONS if soft_limit == resource.RLIM_INFINITY else soft_limit - RESERVED_DESCRIPTORS
        self._max_connections = min(MAX_CONNECTIONS, max(room, MIN_CONNECTIONS))
        self._open: dict[int, Connection] = {}
        self._closing: set[Connection] = set()
        self._refused: set[Connection] = set()

    def __len__(self) -> int:
        """Return the number of connections."""
        return len(self._open)

    def __bool__(self) -> bool:
        """Return true, also without connections."""
        return True

    def find(self, descriptor: int) -> Connection | None:
        """Return the connection of a descriptor."""
        return self._open.get(descriptor)

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept the next connection that may stay.

        Raises:
            BlockingIOError: there is none now.
        """
        while len(self._closing) < MAX_CLOSING:
            accepted, address = super().accept()
            accepted.setblocking(False)
            source = network_of(str(address[0])) if isinstance(address, tuple) else ""
            connection = Connection(self, accepted, source)
            if self._make_room(source):
                self._open[connection.fileno()] = connection
                return connection, address
            self._refuse(connection)
        raise BlockingIOError

    def forget(self, connection: Connection) -> None:
        """Stop counting a connection that is being closed."""
        self._closing.discard(connection)
        self._refused.discard(connection)
        descriptor = connection.fileno()
        if self._open.get(descriptor) is connection:
            del self._open[descriptor]

    def close(self) -> None:
        """Stop listening."""
        for connection in list(self._refused):
            connection.close()
        super().close()

    def _make_room(self, source: str) -> bool:
        """Return whether there is room, after closing another connection if need be."""
        is_limited = bool(source) and not is_loopback(source)
        if is_limited:
            of_source = [one for one in self._open.values() if one.source == source]
            if len(of_source) >= MAX_CONNECTIONS_PER_ADDRESS:
                return self._replace(of_source)
        return len(self._open) < self._max_connections or self._replace(self._open.values())

    def _replace(self, connections: Iterable[Connection]) -> bool:
        oldest = next((one for one in connections if not one.has_sent_key), None)
        if oldest is None:
            return False
        del self._open[oldest.fileno()]
        self._closing.add(oldest)
        oldest.abort()
        log.warning("too many connections; the oldest one without a key, from %s, was closed", oldest.source or "here")
        return True

    def _refuse(self, connection: Connection) -> None:
        log.warning("too many connections; one from %s was refused", connection.source or "here")
        self._closing.add(connection)
        self._refused.add(connection)
        try:
            if self._is_plain:
                connection.send(json_answer(503, "Service Unavailable", BUSY, ("retry-after", "1")))
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            connection.close()
        else:
            asyncio.get_running_loop().call_later(LINGER_SECONDS, connection.close)
