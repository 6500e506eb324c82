"""How a command reaches a server: at a URL, or the one of the settings over TCP, over TLS, or over its Unix socket."""

import http.client
import socket
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from pysequence_api.errors import InvalidRequestError, SettingsError
from pysequence_api.settings import Settings, variable

LOCAL_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""How this machine reaches a server that listens on all addresses."""


class Reached(NamedTuple):
    """A server to connect to.

    Attributes:
        address: what people call it.
        path: what its paths begin with; often empty.
        connect: makes a connection, which opens with the first request.
    """

    address: str
    path: str
    connect: Callable[[], http.client.HTTPConnection]


def reach(url: str | None, timeout_seconds: float) -> Reached:
    """Say how to connect to a server.

    Args:
        url: where it is; ``None`` for the server of the settings.
        timeout_seconds: how long a connection waits for each part of an answer.

    Raises:
        InvalidRequestError: that is not a URL.
        SettingsError: the settings cannot be used.
    """
    if url is None:
        settings = Settings.load()
        return Reached(local_url(settings), "", partial(connect, settings, timeout_seconds))
    parts = _parts(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    make = partial(kind, parts.hostname or "", parts.port, timeout=timeout_seconds)
    return Reached(url, parts.path.rstrip("/"), make)


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidRequestError("--url must be an address like http://127.0.0.1:8720.")
    return parts


def local_url(settings: Settings) -> str:
    """Return the server's URL, or ``unix:`` and the path of its socket."""
    if settings.server_socket is not None:
        return f"unix:{settings.server_socket}"
    return _url(settings, settings.server_host, settings.server_port)


def page_url(settings: Settings) -> str:
    """Return the address of the owner's page, as a person opens it."""
    return settings.owner_proxy or _url(settings, settings.owner_host, settings.owner_port or 0)


def _url(settings: Settings, host: str, port: int) -> str:
    host = LOCAL_ADDRESSES.get(host, host)
    scheme = "http" if settings.tls_certificate is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def connect(settings: Settings, timeout_seconds: float) -> http.client.HTTPConnection:
    """Return a connection to the server, which opens with the first request.

    Raises:
        SettingsError: the TLS certificate cannot be used.
    """
    if settings.server_socket is not None:
        return _UnixConnection(settings.server_socket, timeout_seconds)
    host, port = LOCAL_ADDRESSES.get(settings.server_host, settings.server_host), settings.server_port
    if settings.tls_certificate is None:
        return http.client.HTTPConnection(host, port, timeout=timeout_seconds)
    context = _only(settings.tls_certificate)
    return http.client.HTTPSConnection(host, port, timeout=timeout_seconds, context=context)


def _only(certificate: Path) -> ssl.SSLContext:
    """Trust the server's own certificate and no other one. So it need not name this address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(certificate)
    except OSError as error:
        raise SettingsError(
            f"{variable('tls_certificate')}: {certificate} cannot be used ({reason_of(error)})."
        ) from error
    return context


def reason_of(error: OSError) -> str:
    """Say in a few words why a file or a TLS connection failed."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not in PEM format").lower().replace("_", " ")
    return error.strerror or type(error).__name__


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
