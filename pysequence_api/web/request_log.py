"""An id, a log line and a count for every request, and the answer to an unexpected error."""

import logging
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from secrets import token_hex
from urllib.parse import unquote

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pysequence_api.errors import Code
from pysequence_api.records.callers import Caller
from pysequence_api.sequence.telemetry import UpstreamWait, measured
from pysequence_api.text import KEY_PREFIX, without_keys
from pysequence_api.web.access import CALLER_STATE
from pysequence_api.web.keyless import keyless

REQUEST_ID_HEADER = b"x-request-id"
REQUEST_ID_BYTES = 16
REQUEST_ID_PATTERN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
MAX_LOGGED_PATH_CHARACTERS = 200
MAX_LOGGED_METHOD_CHARACTERS = 20
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
OTHER_METHOD = "OTHER"
MAX_RUNNING_REQUESTS = 512
"""More than there are connections, because a request can go on after its client disconnected."""
HIDDEN_KEY = "[key]"
NONE = "none"
"""Counts all paths that do not exist, and all requests without a right key, so that they add no time series."""
BUCKETS_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 60)

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
        self._durations.labels(route or NONE).observe(duration_seconds)


@dataclass(slots=True)
class _Seen:
    """One request, and what is known of its answer so far."""

    scope: Scope
    request_id: str
    status: int = 0
    duration_seconds: float = 0.0

    @property
    def route(self) -> str | None:
        """The route's template."""
        template = getattr(self.scope.get("route"), "path_format", None)
        return template if isinstance(template, str) else None

    @property
    def caller(self) -> str | None:
        """Whose key was sent; ``None`` if it was no right one."""
        caller = self.scope.get("state", {}).get(CALLER_STATE)
        return caller.name if isinstance(caller, Caller) else None

    @property
    def source(self) -> str:
        """The address of the connection. Headers such as ``X-Forwarded-For`` are ignored."""
        client = self.scope.get("client")
        return str(client[0]) if client else "unknown"


class RequestLog:
    """Gives every request an id, one log line and a count. The id is sent back as ``X-Request-ID``.

    Queries and headers are never logged, and neither is a key, wherever it was sent.

    Args:
        app: the application behind it.
        counts: counts the requests.
        key: the key of the caller `default`, if it has one.
    """

    def __init__(self, app: ASGIApp, counts: RequestCounts, key: str | None) -> None:
        self._app = app
        self._counts = counts
        self._key = key
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and answer 500 if the application fails."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = _Seen(scope, _request_id(scope["headers"], self._key))
        started_seconds = time.perf_counter()
        with keyless(), measured() as upstream:
            self._running += 1
            try:
                await self._answer(seen, receive, send)
            finally:
                self._running -= 1
                seen.duration_seconds = time.perf_counter() - started_seconds
                self._counts.add(seen.route, scope["method"], seen.status, seen.caller, seen.duration_seconds)
                self._log(seen, upstream)

    async def _answer(self, seen: _Seen, receive: Receive, send: Send) -> None:
        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID_HEADER, seen.request_id.encode())]
            await send(message)

        if self._running > MAX_RUNNING_REQUESTS:
            content = {
                "detail": "The server works on too many requests. Try again later.",
                "code": Code.BUSY,
                "retry_after_seconds": 1,
            }
            await JSONResponse(content, status_code=503, headers={"Retry-After": "1"})(
                seen.scope, receive, send_with_id
            )
            return
        try:
            await self._app(seen.scope, receive, send_with_id)
        except Exception:
            log.exception("unexpected error in request %s", seen.request_id)
            if seen.status:
                raise  # part of the answer was sent; the server closes the connection
            detail = f"Internal error (request {seen.request_id}). The server's log has the details."
            await JSONResponse({"detail": detail, "code": Code.INTERNAL_ERROR}, status_code=500)(
                seen.scope, receive, send_with_id
            )

    def _log(self, seen: _Seen, upstream: UpstreamWait) -> None:
        fields = {
            "request_id": seen.request_id,
            "method": _without(self._key, seen.scope["method"])[:MAX_LOGGED_METHOD_CHARACTERS],
            "route": seen.route or _path(seen.scope, self._key),
            "caller": seen.caller or NONE,
            "status": seen.status,
            "duration_ms": round(seen.duration_seconds * 1000),
            "upstream_ms": round(upstream.seconds * 1000),
            "source": seen.source,
        }
        text = (
            "%(method)s %(route)s %(status)d %(duration_ms)d ms (upstream %(upstream_ms)d ms)"
            " by %(caller)s from %(source)s %(request_id)s"
        )
        log.info("%s", text % fields, extra={"fields": fields})


def _request_id(headers: Iterable[tuple[bytes, bytes]], key: str | None) -> str:
    given = [value for name, value in headers if name.lower() == REQUEST_ID_HEADER]
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
