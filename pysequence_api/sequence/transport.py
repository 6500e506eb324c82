"""One HTTP exchange: sent once, answered in time or not, and every failure an error of ours that says which."""

import logging
import re
import ssl
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

import anyio
import httpx

from pysequence_api.errors import (
    ConnectionLostError,
    GatewayError,
    NotSentError,
    SequenceError,
    SettingsError,
    TimedOutError,
    UnreadableAnswerError,
)
from pysequence_api.text import plain_text

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 10 * 1024 * 1024
MAX_RETRY_AFTER_SECONDS = 24 * 3600
"""A longer wait that a peer asks for is no sane one."""
KEEP_ALIVE_SECONDS = 4.0
"""Shorter than the five seconds after which many servers close, so that their closing and our sending do not cross."""
DATE_RESOLUTION_SECONDS = 1.0
ERROR_LIMIT_CHARACTERS = 120

_CONNECTED = "connection.connect_tcp.complete"
_HEADERS_STARTED = "http11.send_request_headers.started"
_BODY_WRITTEN = "http11.send_request_body.complete"

Hook = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back.

    Attributes:
        status: the HTTP status.
        body: the body, decompressed; empty for a status of 300 and above, unless it was asked for.
        retry_after_seconds: from ``Retry-After``, if it is a sane number.
        clock_offset_seconds: how far the peer's clock is ahead of ours by its ``Date``, if it has a valid one.
    """

    status: int
    body: bytes
    retry_after_seconds: int | None
    clock_offset_seconds: float | None


class HttpEndpoint:
    """The way to one URL.

    Args:
        url: https, or http to this machine.
        timeout_seconds: the deadline of an exchange in all, from connecting to the last byte of the body.
        keep_alive: use a connection again. Without it, every exchange has a fresh one, which cannot be lost because it
            has been idle.
        tls: from `new_tls`.
        transport: goes in the place of the network. It stays its giver's, who closes it.

    Raises:
        SettingsError: a proxy variable of the environment cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float,
        keep_alive: bool,
        tls: ssl.SSLContext,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._host = urlsplit(url).hostname or ""
        self.timeout_seconds = timeout_seconds
        """The deadline of an exchange."""
        self._headers = {"accept-encoding": "gzip", "user-agent": "pysequence-api"}
        if not keep_alive:
            self._headers["connection"] = "close"
        try:
            self._client = httpx.AsyncClient(
                transport=None if transport is None else _Given(transport),
                verify=tls,
                follow_redirects=False,
                timeout=None,  # the deadline is ours, over the whole exchange
                trust_env=url.startswith("https:"),  # plain http is this machine, never a proxy
                limits=httpx.Limits(
                    max_keepalive_connections=None if keep_alive else 0, keepalive_expiry=KEEP_ALIVE_SECONDS
                ),
            )
        except (ImportError, ValueError) as error:
            raise SettingsError(
                f"HTTPS_PROXY or ALL_PROXY of the environment cannot be used ({type(error).__name__})."
            ) from error

    async def post(
        self,
        operation: str,
        *,
        headers: dict[str, str],
        content: bytes,
        before_first_byte: Hook | None = None,
        after_writing: Hook | None = None,
        with_error_body: bool = False,
    ) -> HttpAnswer:
        """Send a request once, and read its answer.

        Args:
            operation: what it is for, in errors and in the log.
            headers: its own headers.
            content: its body.
            before_first_byte: awaited when the connection is there, right before the first byte; what it raises is
                raised, and nothing is sent.
            after_writing: awaited when the request has been written.
            with_error_body: read the body of an answer of 300 and above too.

        Raises:
            NotSentError: not a byte of the request was sent.
            TimedOutError: it was sent, and no full answer came in time.
            ConnectionLostError: the connection broke after sending.
            UnreadableAnswerError: the answer is too large, or cannot be decompressed.
        """
        progress = _Progress(before_first_byte, after_writing)
        request = self._client.build_request(
            "POST", self._url, headers=self._headers | headers, content=content, extensions={"trace": progress}
        )
        began = time.monotonic()
        answer = None
        try:
            with anyio.move_on_after(self.timeout_seconds):
                answer = await self._exchange(request, progress, with_error_body)
        except GatewayError:
            raise
        except Exception as error:
            raise self._failure(operation, error, sent=progress.sent_at is not None) from error
        duration_seconds = time.monotonic() - began
        if answer is None:
            raise self._too_late(operation, sent=progress.sent_at is not None)
        log.debug("%s: HTTP %d in %.3f s", operation, answer.status, duration_seconds)
        return answer

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _exchange(self, request: httpx.Request, progress: "_Progress", with_error_body: bool) -> HttpAnswer:
        try:
            response = await self._client.send(request, stream=True)
        except BaseException:
            await progress.close_connection()
            raise
        try:
            offset = clock_offset_seconds(response.headers.get("date"), progress.sent_at, time.time())
            body = b""
            if response.status_code < 300 or with_error_body:
                body = await _read_body(response)
        finally:
            await response.aclose()
        return HttpAnswer(
            status=response.status_code,
            body=body,
            retry_after_seconds=retry_after_seconds(response.headers.get("retry-after")),
            clock_offset_seconds=offset,
        )

    def _failure(self, operation: str, error: Exception, *, sent: bool) -> SequenceError:
        # A failure to connect is one even where the first byte of something else, a proxy's CONNECT, has been sent.
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)) or not sent:
            reason = plain_text(str(error), ERROR_LIMIT_CHARACTERS) if isinstance(error, httpx.ConnectError) else ""
            return NotSentError(
                f"{operation} was not sent: no connection to {self._host} ({reason or type(error).__name__})."
                " Check the network and try again."
            )
        return ConnectionLostError(
            f"The connection to {self._host} broke after {operation} was sent ({type(error).__name__}),"
            " before all of the answer was there."
        )

    def _too_late(self, operation: str, *, sent: bool) -> SequenceError:
        if sent:
            return TimedOutError(
                f"{self._host} gave no full answer to {operation} within {self.timeout_seconds:g} seconds."
            )
        return NotSentError(
            f"{operation} was not sent: no connection to {self._host} within {self.timeout_seconds:g} seconds."
            " Check the network and try again."
        )


def new_tls(*, certificates: bool) -> ssl.SSLContext:
    """Make what the channels of a client share for TLS.

    Args:
        certificates: load the certificates of those to trust, which takes a moment. Without them, nobody is trusted:
            that is for channels that never leave this machine or process.

    Raises:
        SettingsError: the certificates that the environment names cannot be used.
    """
    if not certificates:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        raise SettingsError(
            f"SSL_CERT_FILE or SSL_CERT_DIR of the environment cannot be used ({type(error).__name__})."
        ) from error


class _Closable(Protocol):
    async def aclose(self) -> None: ...


class _Progress:
    """How far a request has come, as httpcore's ``trace`` extension tells.

    With a proxy, the first byte is the one of its CONNECT, which is early and so on the side of doubt.
    """

    def __init__(self, before_first_byte: Hook | None, after_writing: Hook | None) -> None:
        self._before_first_byte = before_first_byte
        self._after_writing = after_writing
        self.sent_at: float | None = None
        """When the first byte went out, in Unix seconds."""
        self._connection: _Closable | None = None

    async def __call__(self, event: str, info: dict[str, Any]) -> None:
        if event == _CONNECTED:
            self._connection = info["return_value"]
        elif event == _HEADERS_STARTED and self.sent_at is None:
            if self._before_first_byte is not None:
                await self._before_first_byte()
            self.sent_at = time.time()
        elif event == _BODY_WRITTEN and self._after_writing is not None:
            await self._after_writing()

    async def close_connection(self) -> None:
        """Close what was opened for a request that failed: httpcore forgets it if it is cancelled during TLS."""
        if self._connection is not None:
            with anyio.CancelScope(shield=True):
                await self._connection.aclose()


class _Given(httpx.AsyncBaseTransport):
    """A transport that was given from outside. It has no first byte to tell of: handing over the request is it."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        trace = request.extensions["trace"]
        await trace(_HEADERS_STARTED, {})
        return await self._transport.handle_async_request(request)


def clock_offset_seconds(date: str | None, sent_at: float | None, received_at: float) -> float | None:
    """Say how far the clock behind a ``Date`` header is ahead of ours.

    Args:
        date: the header.
        sent_at: when the request was sent, in Unix seconds.
        received_at: when the answer's headers were there, in Unix seconds.

    Returns:
        Seconds, right to half a second and half the exchange; ``None`` without a valid ``Date``.
    """
    if date is None or sent_at is None:
        return None
    try:
        time_of_peer = parsedate_to_datetime(date)
        if time_of_peer.tzinfo is None:
            return None
        # Date has its fraction cut off; on average half of its resolution is missing.
        return time_of_peer.timestamp() + DATE_RESOLUTION_SECONDS / 2 - (sent_at + received_at) / 2
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def retry_after_seconds(header: str | None) -> int | None:
    """Read ``Retry-After``, if it is a whole number of seconds up to a day."""
    if header is None or not re.fullmatch(r"[0-9]{1,6}", header.strip(), re.ASCII):
        return None
    seconds = int(header)
    return seconds if seconds <= MAX_RETRY_AFTER_SECONDS else None


async def _read_body(response: httpx.Response) -> bytes:
    # httpx would decompress without a bound, so that a few kilobytes could become gigabytes.
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "", "gzip", "x-gzip"}:
        raise UnreadableAnswerError("Sequence's answer cannot be read: it is compressed in a way nobody asked for.")
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if "gzip" in encoding else None
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk if inflater is None else _inflate(inflater, chunk, MAX_ANSWER_BYTES + 1 - len(body))
        if len(body) > MAX_ANSWER_BYTES:
            raise UnreadableAnswerError(
                f"Sequence's answer cannot be read: it has more than {MAX_ANSWER_BYTES // 1024**2} MiB."
            )
    if inflater is not None and not inflater.eof:
        raise UnreadableAnswerError("Sequence's answer cannot be read: its compressed body is not whole.")
    return bytes(body)


def _inflate(inflater: "zlib._Decompress", chunk: bytes, max_bytes: int) -> bytes:
    if inflater.eof:
        return b""
    try:
        return inflater.decompress(chunk, max_bytes)
    except zlib.error as error:
        raise UnreadableAnswerError("Sequence's answer cannot be read: its compressed body is damaged.") from error
