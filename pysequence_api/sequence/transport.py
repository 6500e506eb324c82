"""One HTTP exchange: the request is sent at most once, and every failure becomes a `SequenceError`.

The class of the error says whether anything was sent.
"""

import logging
import math
import os
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Protocol
from urllib.parse import urlsplit

import anyio
import httpx

from pysequence_api.clock import steady_seconds
from pysequence_api.errors import (
    ConnectionLostError,
    GatewayError,
    NotSentError,
    SequenceError,
    SettingsError,
    TimedOutError,
    UnreadableAnswerError,
)
from pysequence_api.sequence.proxies import proxy_for
from pysequence_api.text import plain_text

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 10 * 1024 * 1024
MAX_ERROR_BODY_BYTES = 64 * 1024
"""How much is read of the body of an answer with a status of 300 and above. It is read to tell what went wrong."""
ERROR_BODY_SECONDS = 2.0
"""How long that takes at most. The status is known by then."""
MAX_RETRY_AFTER_SECONDS = 24 * 3600
"""A longer ``Retry-After`` counts as this."""
KEEP_ALIVE_SECONDS = 4.0
"""Less than the five seconds after which many servers close a connection, so that no request is sent on one that is
being closed."""
DATE_RESOLUTION_SECONDS = 1.0
ERROR_LIMIT_CHARACTERS = 120
REDIRECTS = {301, 302, 303, 307, 308}

_CONNECTED = "connection.connect_tcp.complete"
_HEADERS_STARTED = "http11.send_request_headers.started"
_BODY_WRITTEN = "http11.send_request_body.complete"
_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9._-]{1,253}|[0-9a-f:.]{2,45}", re.ASCII)

Hook = Callable[[], Awaitable[None]]
Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """One HTTP answer.

    Attributes:
        status: the HTTP status.
        body: the body; for a status of 300 and above, as much of it as came in time, up to `MAX_ERROR_BODY_BYTES`.
        retry_after_seconds: from ``Retry-After``, at most a day.
        clock_offset_seconds: how far the server's clock is ahead of ours, if the answer has a valid ``Date``.
        is_whole: whether the body was read to its end.
        is_html: whether the body is a page for people.
        location_host: the host that ``Location`` names, if it names one.
    """

    status: int
    body: bytes
    retry_after_seconds: int | None
    clock_offset_seconds: float | None
    is_whole: bool = True
    is_html: bool = False
    location_host: str | None = None

    @property
    def moved_to(self) -> str | None:
        """Where a redirect leads, without anything of its address but the host; ``None`` for another answer."""
        if self.status not in REDIRECTS:
            return None
        return f"host {self.location_host}" if self.location_host else "another address of the same host"


class ServerClock:
    """Sequence's clock, by the ``Date`` of its latest answer and two local clocks."""

    def __init__(self) -> None:
        self._offset_seconds: float | None = None
        self._at_seconds = 0.0
        self._at_steady_seconds = 0.0

    def read(self, answer: HttpAnswer) -> None:
        """Take over the time of an answer, if it has one."""
        if answer.clock_offset_seconds is not None:
            self._offset_seconds = answer.clock_offset_seconds
            self._at_seconds, self._at_steady_seconds = time.time(), steady_seconds()

    @property
    def offset_seconds(self) -> float | None:
        """How far Sequence's clock is ahead of ours now; ``None`` before the first answer."""
        if self._offset_seconds is None:
            return None
        # The steady clock is never set, so the difference between the two shows whether the other was set since.
        set_by_seconds = (time.time() - self._at_seconds) - (steady_seconds() - self._at_steady_seconds)
        return self._offset_seconds - set_by_seconds


class HttpEndpoint:
    """One URL, and the paths below it, that requests are sent to.

    Args:
        url: https, or http to this machine.
        timeout_seconds: the deadline of a whole exchange, from connecting to the last byte of the body.
        keep_alive: reuse connections. Otherwise each exchange opens a new one, which cannot fail because it was idle.
        tls: from `new_tls`.
        transport: used instead of the network. The caller closes it.

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
        """The deadline of a whole exchange."""
        self._headers = {"accept-encoding": "identity", "user-agent": "pysequence-api"}
        if not keep_alive:
            self._headers["connection"] = "close"
        try:
            self._client = httpx.AsyncClient(
                transport=None if transport is None else _CustomTransport(transport),
                verify=tls,
                follow_redirects=False,
                timeout=None,  # `send` sets one deadline for the whole exchange
                trust_env=False,
                proxy=None if transport is not None else proxy_for(url),
                limits=httpx.Limits(
                    max_keepalive_connections=None if keep_alive else 0, keepalive_expiry=KEEP_ALIVE_SECONDS
                ),
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise SettingsError(
                f"The variable HTTPS_PROXY or ALL_PROXY cannot be used ({type(error).__name__}). Correct or unset it."
            ) from error

    async def send(
        self,
        operation: str,
        *,
        headers: dict[str, str],
        content: bytes | None = None,
        path: str = "",
        query: Query = (),
        before_first_byte: Hook | None = None,
        after_writing: Hook | None = None,
    ) -> HttpAnswer:
        """Send a request once and read the answer.

        Args:
            operation: the name of the request in errors and log lines.
            headers: headers of this request.
            content: the body of a POST; without one, this is a GET.
            path: below the URL, with a leading slash; encoded already.
            query: the parameters of the query.
            before_first_byte: awaited once the connection is open, right before the first byte. If it raises, nothing
                is sent.
            after_writing: awaited once the request is fully written.

        Raises:
            NotSentError: no byte of the request was sent.
            TimedOutError: the request was sent, but the answer was not complete in time.
            ConnectionLostError: the connection broke after the request was sent.
            UnreadableAnswerError: the status is below 300, and the body is too large or compressed.
        """
        progress = _Progress(before_first_byte, after_writing)
        request = self._client.build_request(
            "GET" if content is None else "POST",
            self._url + path,
            params=list(query) or None,
            headers=self._headers | headers,
            content=content,
            extensions={"trace": progress},
        )
        started_seconds = time.monotonic()
        answer = None
        try:
            with anyio.move_on_after(self.timeout_seconds) as scope:
                answer = await self._exchange(request, progress, scope)
        except GatewayError:
            raise
        except Exception as error:
            raise self._failure(operation, error, sent=progress.sent_at is not None) from error
        duration_seconds = time.monotonic() - started_seconds
        if answer is None:
            raise self._too_late(operation, sent=progress.sent_at is not None)
        log.debug("%s: HTTP %d in %.3f s", operation, answer.status, duration_seconds)
        return answer

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _exchange(self, request: httpx.Request, progress: "_Progress", scope: anyio.CancelScope) -> HttpAnswer:
        try:
            response = await self._client.send(request, stream=True)
        except BaseException:
            await progress.close_connection()
            raise
        try:
            offset = clock_offset_seconds(response.headers.get("date"), progress.sent_at, time.time())
            if response.status_code < 300:
                body, is_whole = await _read_body(response), True
            else:
                body, is_whole = await _read_error_body(response, scope.deadline - anyio.current_time())
        finally:
            await response.aclose()
        return HttpAnswer(
            status=response.status_code,
            body=body,
            retry_after_seconds=retry_after_seconds(response.headers.get("retry-after"), response.headers.get("date")),
            clock_offset_seconds=offset,
            is_whole=is_whole,
            is_html=_is_html(response.headers.get("content-type", ""), body),
            location_host=_host_of(response.headers.get("location", "")),
        )

    def _failure(self, operation: str, error: Exception, *, sent: bool) -> SequenceError:
        # If connecting fails, nothing was sent, even if a CONNECT to a proxy was.
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)) or not sent:
            reason = plain_text(str(error), ERROR_LIMIT_CHARACTERS) if isinstance(error, httpx.ConnectError) else ""
            return NotSentError(
                f"{operation} was not sent: no connection to {self._host} ({reason or type(error).__name__})."
            )
        return ConnectionLostError(
            f"The connection to {self._host} broke after {operation} was sent, before the answer was complete"
            f" ({type(error).__name__})."
        )

    def _too_late(self, operation: str, *, sent: bool) -> SequenceError:
        if sent:
            return TimedOutError(
                f"{operation} was sent, but the answer of {self._host} was not complete within"
                f" {self.timeout_seconds:g} seconds."
            )
        return NotSentError(
            f"{operation} was not sent: no connection to {self._host} within {self.timeout_seconds:g} seconds."
        )


def new_tls(*, certificates: bool) -> ssl.SSLContext:
    """Return the TLS context that the endpoints of this process share.

    Args:
        certificates: load the trusted certificates, which takes a moment. Without them no server is trusted, which is
            for endpoints that never leave this machine.

    Raises:
        SettingsError: ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` cannot be used.
    """
    if not certificates:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return _trusting(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    except OSError as error:
        raise SettingsError(
            f"The variable SSL_CERT_FILE or SSL_CERT_DIR cannot be used ({type(error).__name__}). Correct or unset it."
        ) from error


@cache
def _trusting(_file: str | None, _directory: str | None) -> ssl.SSLContext:
    """Load the certificates that these variables name, once: it takes 25 ms, and signing in has an endpoint, too."""
    return httpx.create_ssl_context()


class _Closable(Protocol):
    async def aclose(self) -> None: ...


class _Progress:
    """Follows one request through httpcore's ``trace`` extension.

    With a proxy, the request counts as sent from the first byte of CONNECT. That is early, which is the safe direction.
    """

    def __init__(self, before_first_byte: Hook | None, after_writing: Hook | None) -> None:
        self._before_first_byte = before_first_byte
        self._after_writing = after_writing
        self.sent_at: float | None = None
        """When the first byte was sent, in Unix seconds."""
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
        """Close the connection of a failed request. httpcore does not if it is cancelled during the TLS handshake."""
        if self._connection is not None:
            with anyio.CancelScope(shield=True):
                await self._connection.aclose()


class _CustomTransport(httpx.AsyncBaseTransport):
    """Wraps a transport that replaces the network. Passing it the request counts as sending the first byte."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        trace = request.extensions["trace"]
        await trace(_HEADERS_STARTED, {})
        return await self._transport.handle_async_request(request)


def clock_offset_seconds(date: str | None, sent_at: float | None, received_at: float) -> float | None:
    """Return how far the server's clock is ahead of ours.

    Args:
        date: the ``Date`` header.
        sent_at: when the request was sent, in Unix seconds.
        received_at: when the headers of the answer arrived, in Unix seconds.

    Returns:
        Seconds, accurate to half a second plus half the exchange; ``None`` without a valid ``Date``.
    """
    if date is None or sent_at is None:
        return None
    server_time = _read_date(date)
    # Date has whole seconds, rounded down, so on average half a second is missing.
    return None if server_time is None else server_time + DATE_RESOLUTION_SECONDS / 2 - (sent_at + received_at) / 2


def retry_after_seconds(header: str | None, date: str | None = None) -> int | None:
    """Read ``Retry-After``.

    Args:
        header: a whole number of seconds, or a date.
        date: the ``Date`` header of the same answer; a date is later by the server's own clock.

    Returns:
        Seconds, at most a day; ``None`` if the header is neither.
    """
    text = (header or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        return min(int(text), MAX_RETRY_AFTER_SECONDS)
    until = _read_date(text)
    if until is None:
        return None
    now = _read_date(date) or time.time()
    return min(max(0, math.ceil(until - now)), MAX_RETRY_AFTER_SECONDS)


def _read_date(header: str | None) -> float | None:
    """Read an HTTP date as Unix seconds."""
    try:
        moment = parsedate_to_datetime(header or "")
        return None if moment.tzinfo is None else moment.timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


async def _read_body(response: httpx.Response) -> bytes:
    if not _is_plain(response):
        raise UnreadableAnswerError("Sequence's answer cannot be read: it is compressed, which was not asked for.")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise UnreadableAnswerError(
                f"Sequence's answer cannot be read: it is larger than {MAX_ANSWER_BYTES // 1024**2} MiB."
            )
    return bytes(body)


async def _read_error_body(response: httpx.Response, left_seconds: float) -> tuple[bytes, bool]:
    """Read the beginning of a body that only tells more about the status. Return it, and whether that is all of it."""
    body, is_whole = bytearray(), False
    if not _is_plain(response):
        return b"", False
    # It ends before the deadline of the exchange, because the status alone is an answer.
    with anyio.move_on_after(min(ERROR_BODY_SECONDS, left_seconds / 2)):
        try:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_ERROR_BODY_BYTES:
                    break
            else:
                is_whole = True
        except (httpx.HTTPError, OSError) as error:
            log.debug("the body of an answer with HTTP %d broke off: %s", response.status_code, type(error).__name__)
    return bytes(body[:MAX_ERROR_BODY_BYTES]), is_whole


def _is_plain(response: httpx.Response) -> bool:
    # Without decompression, a few kilobytes cannot become gigabytes in memory.
    return response.headers.get("content-encoding", "").strip().lower() in {"", "identity"}


def _is_html(content_type: str, body: bytes) -> bool:
    return content_type.strip().lower().startswith("text/html") or bool(_HTML.match(body))


def _host_of(location: str) -> str | None:
    try:
        host = urlsplit(location.strip()).hostname or ""
    except ValueError:
        return None
    return host if _HOST.fullmatch(host) else None
