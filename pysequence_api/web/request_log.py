"""An id, a log line and a count for every request, and the answer to an unexpected error."""

import logging
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Protocol
from urllib.parse import unquote

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pysequence_api.errors import Code
from pysequence_api.sequence.telemetry import UpstreamWait
from pysequence_api.text import KEY_PREFIX, without_keys
from pysequence_api.web.head import FAILURE_STATE, Head
from pysequence_api.web.keyless import Keyless

REQUEST_ID_HEADER = b"x-request-id"
REQUEST_ID_BYTES = 16
AGE_HEADER = b"age"
FIRST_ERROR = 400
REQUEST_ID_PATTERN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
MAX_LOGGED_PATH_CHARACTERS = 200
MAX_LOGGED_METHOD_CHARACTERS = 20
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
OTHER_METHOD = "OTHER"
MAX_RUNNING_REQUESTS = 512
"""More than there are connections, because a request can go on after its client disconnected."""
TOO_MANY_REQUESTS = {
    "detail": "The server works on too many requests. Try again later.",
    "code": Code.BUSY,
    "retry_after_seconds": 1,
}
POLICY_VIOLATION = 1008
"""The close code of a rejected WebSocket."""
HIDDEN_KEY = "[key]"
NONE = "none"
"""Counts all paths that do not exist, and all requests without a right key, so that they add no time series."""
BUCKETS_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 60)

LINE = (
    "%(method)s %(route)s %(status)d %(duration_ms)d ms (upstream %(upstream_ms)d ms)"
    " by %(caller)s from %(source)s %(request_id)s"
)

log = logging.getLogger("pysequence_api.api")


class RequestCounts:
    """Counts the requests of one application, for Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "pysequence_http_requests",
            "HTTP requests by route template, method, status and caller.",
            ["route", "method", "status", "caller"],
            registry=self.registry,
        )
        self._series: dict[tuple[str, str, int, str], Counter] = {}
        """Found by prometheus_client under a lock, which takes longer than to count."""
        self._duration_series: dict[str, Histogram] = {}
        self._durations = Histogram(
            "pysequence_http_request_seconds",
            "Duration of HTTP requests.",
            ["route"],
            buckets=BUCKETS_SECONDS,
            registry=self.registry,
        )

    def add(self, route: str | None, method: str, status: int, caller: str | None, duration_seconds: float) -> None:
        """Count one request.

        Args:
            route: the route's template, or ``None`` if no route matched.
            method: as the caller sent it.
            status: the status of the answer.
            caller: whose key was sent; ``None`` if it was no right one.
            duration_seconds: the time until the answer was sent.
        """
        known_method = method if method in METHODS else OTHER_METHOD
        labels = (route or NONE, known_method, status, caller or NONE)
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = self._requests.labels(*labels)
        series.inc()
        durations = self._duration_series.get(labels[0])
        if durations is None:
            durations = self._duration_series[labels[0]] = self._durations.labels(labels[0])
        durations.observe(duration_seconds)


class Check(Protocol):
    """Looks at the head of a request before anything else does."""

    async def __call__(self, head: Head) -> Response | None:
        """Return an answer to refuse the request, or ``None``."""


@dataclass(slots=True)
class _Answer:
    """What is known of an answer so far."""

    request_id: str
    status: int = 0


class RequestLog:
    """Gives every request an id, one log line and a count, and runs the checks. It is the only layer of an application.

    The id is sent back as ``X-Request-ID``. Queries and headers are never logged, and neither is a key, wherever it was
    sent. There are no WebSockets.

    Args:
        app: the application behind it.
        counts: counts the requests.
        key: the key of the caller `default`, if it has one.
        checks: run in this order, until one refuses the request.
    """

    def __init__(self, app: ASGIApp, counts: RequestCounts, key: str | None, checks: Iterable[Check]) -> None:
        self._app = app
        self._counts = counts
        self._key = key
        self._checks = tuple(checks)
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on. If the application fails, answer 500."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_seconds = time.perf_counter()
        head = Head(scope)
        answer = _Answer(_request_id(head.all(REQUEST_ID_HEADER), self._key))
        with Keyless(), UpstreamWait() as upstream:
            self._running += 1
            try:
                await self._answer(head, answer, receive, send)
            finally:
                self._running -= 1
                duration_seconds = time.perf_counter() - started_seconds
                self._log(head, answer, duration_seconds, upstream)

    async def _answer(self, head: Head, answer: _Answer, receive: Receive, send: Send) -> None:
        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_more_headers(head, answer)]
            await send(message)

        try:
            await self._respond(head, receive, send_with_id)
        except Exception:
            log.exception("unexpected error in request %s", answer.request_id)
            if answer.status:
                raise  # part of the answer was sent; the server closes the connection
            detail = f"Internal error (request {answer.request_id}). The server's log has the details."
            await JSONResponse({"detail": detail, "code": Code.INTERNAL_ERROR}, status_code=500)(
                head.scope, receive, send_with_id
            )

    async def _respond(self, head: Head, receive: Receive, send: Send) -> None:
        refusal = await self._refusal(head)
        await (self._app if refusal is None else refusal)(head.scope, receive, send)
        if head.failure is not None:
            raise head.failure

    async def _refusal(self, head: Head) -> Response | None:
        if self._running > MAX_RUNNING_REQUESTS:
            return JSONResponse(TOO_MANY_REQUESTS, status_code=503, headers={"Retry-After": "1"})
        for check in self._checks:
            if (refusal := await check(head)) is not None:
                return refusal
        return None

    def _log(self, head: Head, answer: _Answer, duration_seconds: float, upstream: UpstreamWait) -> None:
        method, route, caller = head.scope["method"], head.route, head.caller
        name = None if caller is None else caller.name
        self._counts.add(route, method, answer.status, name, duration_seconds)
        fields = {
            "request_id": answer.request_id,
            "method": method if method in METHODS else _without(self._key, method)[:MAX_LOGGED_METHOD_CHARACTERS],
            "route": route or _path(head.scope, self._key),
            "caller": name or NONE,
            "status": answer.status,
            "duration_ms": round(duration_seconds * 1000),
            "upstream_ms": round(upstream.seconds * 1000),
            "source": head.source,
        }
        log.info(LINE, fields, extra={"fields": fields})


class KeepFailure:
    """Keeps an unexpected error for `RequestLog`. Starlette would answer it itself, as text.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        try:
            await self._app(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - `RequestLog` raises it again
            scope["state"][FAILURE_STATE] = error


def _more_headers(head: Head, answer: _Answer) -> Iterator[tuple[bytes, bytes]]:
    yield REQUEST_ID_HEADER, answer.request_id.encode()
    if (age_seconds := head.age_seconds) is not None and answer.status < FIRST_ERROR:
        yield AGE_HEADER, b"%d" % age_seconds


def _request_id(given: Sequence[bytes], key: str | None) -> str:
    if len(given) == 1 and REQUEST_ID_PATTERN.fullmatch(given[0]) and not _has_key(key, text := given[0].decode()):
        return text
    return token_hex(REQUEST_ID_BYTES)


def _path(scope: Scope, key: str | None) -> str:
    """Return the path as it was sent, in ASCII and without the query."""
    raw = bytes(scope.get("raw_path") or scope["path"].encode())
    path = _without(key, raw.partition(b"?")[0].decode("latin-1"))
    return ascii(path[:MAX_LOGGED_PATH_CHARACTERS])[1:-1]


def _without(key: str | None, text: str) -> str:
    """Replace keys, also if one was sent in percent-encoding."""
    if _has_key(key, decoded := unquote(text)):
        text = decoded
    return without_keys(text if key is None else text.replace(key, HIDDEN_KEY))


def _has_key(key: str | None, text: str) -> bool:
    return KEY_PREFIX in text or (key is not None and key in text)
