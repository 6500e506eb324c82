"""An id for every request, a line in the log and a count of each, and an answer where the program itself failed."""

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import uuid4

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pysequence_api.api.metrics import RequestMeter
from pysequence_api.sequence.telemetry import UpstreamWait, measured
from pysequence_api.web.keys import HEALTH_PATH

REQUEST_ID_HEADER = b"x-request-id"
REQUEST_ID_PATTERN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
MAX_LOGGED_PATH_CHARACTERS = 200
MAX_LOGGED_METHOD_CHARACTERS = 20
MAX_KEYLESS_LINES_PER_MINUTE = 30
"""What anybody can do without a key must not fill the log."""

log = logging.getLogger("pysequence_api.api")


class LineAllowance:
    """So many lines a minute.

    Args:
        max_lines: how many.
        clock_seconds: a monotonic clock.
    """

    def __init__(self, max_lines: int, clock_seconds: Callable[[], float] = time.monotonic) -> None:
        self._written_at: deque[float] = deque(maxlen=max_lines)
        self._clock_seconds = clock_seconds
        self._left_out = 0

    def take(self) -> int | None:
        """Ask for a line.

        Returns:
            How many were left out before it; ``None`` if it is to be left out as well.
        """
        now = self._clock_seconds()
        times = self._written_at
        if len(times) == times.maxlen and now - times[0] < 60:
            self._left_out += 1
            return None
        times.append(now)
        left_out, self._left_out = self._left_out, 0
        return left_out


@dataclass(slots=True)
class _Seen:
    """One request, as far as it has come."""

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
    def is_keyless(self) -> bool:
        """Whether anybody can send it: it asked for health, or the key or the host was refused before routing."""
        return self.scope["path"] == HEALTH_PATH or (self.status in {400, 401} and self.route is None)

    @property
    def source(self) -> str:
        """The address that the connection came from. What a header says about it is not believed."""
        client = self.scope.get("client")
        return str(client[0]) if client else "unknown"


class RequestLog:
    """Gives every request an id, which comes back as ``X-Request-ID`` and stands in its one line in the log.

    Neither the query nor a header is logged.

    Args:
        app: what answers.
        meter: counts the requests.
    """

    def __init__(self, app: ASGIApp, meter: RequestMeter) -> None:
        self._app = app
        self._meter = meter
        self._keyless = LineAllowance(MAX_KEYLESS_LINES_PER_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand over, and see to it that there is an answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = _Seen(scope, _request_id(scope["headers"]))
        begin_seconds = time.perf_counter()
        with measured() as upstream:
            try:
                await self._answer(seen, receive, send)
            finally:
                seen.duration_seconds = time.perf_counter() - begin_seconds
                self._meter.count(seen.route, scope["method"], seen.status, seen.duration_seconds)
                self._log(seen, upstream)

    async def _answer(self, seen: _Seen, receive: Receive, send: Send) -> None:
        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID_HEADER, seen.request_id.encode())]
            await send(message)

        try:
            await self._app(seen.scope, receive, send_with_id)
        except Exception:
            log.exception("request %s failed in a way that nobody foresaw", seen.request_id)
            if seen.status:
                raise  # the answer has begun; the server cuts it off
            detail = f"Internal error (request {seen.request_id}); the server's log has more."
            await JSONResponse({"detail": detail}, status_code=500)(seen.scope, receive, send_with_id)

    def _log(self, seen: _Seen, upstream: UpstreamWait) -> None:
        left_out: int | None = 0
        if seen.is_keyless:
            left_out = self._keyless.take()
        if left_out is None:
            return
        fields = {
            "request_id": seen.request_id,
            "method": seen.scope["method"][:MAX_LOGGED_METHOD_CHARACTERS],
            "route": seen.route or _path(seen.scope),
            "status": seen.status,
            "duration_ms": round(seen.duration_seconds * 1000),
            "upstream_ms": round(upstream.seconds * 1000),
            "source": seen.source,
        }
        text = "{method} {route} {status} {duration_ms} ms (upstream {upstream_ms} ms) from {source} {request_id}"
        log.info("%s", text.format(**fields), extra={"fields": fields})
        if left_out:
            log.warning("%d requests without a key before this one were not logged", left_out)


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    given = [value for name, value in headers if name.lower() == REQUEST_ID_HEADER]
    if len(given) == 1 and REQUEST_ID_PATTERN.fullmatch(given[0]):
        return given[0].decode()
    return uuid4().hex


def _path(scope: Scope) -> str:
    """Give the path as it was sent, in ASCII and without the query."""
    raw = bytes(scope.get("raw_path") or scope["path"].encode())[:MAX_LOGGED_PATH_CHARACTERS]
    return ascii(raw.partition(b"?")[0].decode("latin-1"))[1:-1]
