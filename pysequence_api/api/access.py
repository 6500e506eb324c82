"""An id for every request, a line in the log about each, and an answer where the program itself failed."""

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from uuid import uuid4

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pysequence_api.api.security import HEALTH_PATH

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


class RequestLog:
    """Gives every request an id, which comes back as ``X-Request-ID`` and stands in its one line in the log.

    Neither the query nor a header is logged.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._keyless = LineAllowance(MAX_KEYLESS_LINES_PER_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand over, and see to it that there is an answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope["headers"])
        begin_seconds = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID_HEADER, request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("request %s failed in a way that nobody foresaw", request_id)
            if status:
                raise  # the answer has begun; the server cuts it off
            answer = JSONResponse(
                {"detail": f"Internal error (request {request_id}); the server's log has more."}, status_code=500
            )
            await answer(scope, receive, send_with_id)
        finally:
            self._log(scope, status, (time.perf_counter() - begin_seconds) * 1000, request_id)

    def _log(self, scope: Scope, status: int, duration_milliseconds: float, request_id: str) -> None:
        left_out: int | None = 0
        if status == 401 or scope["path"] == HEALTH_PATH:
            left_out = self._keyless.take()
        if left_out is None:
            return
        method = scope["method"][:MAX_LOGGED_METHOD_CHARACTERS]
        log.info("%s %s %d %.0f ms %s", method, _path(scope), status, duration_milliseconds, request_id)
        if left_out:
            log.warning("%d requests without a key before this one were not logged", left_out)


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    given = [value for name, value in headers if name.lower() == REQUEST_ID_HEADER]
    if len(given) == 1 and REQUEST_ID_PATTERN.fullmatch(given[0]):
        return given[0].decode()
    return uuid4().hex


def _path(scope: Scope) -> str:
    """Give the route's template, else the path as it was sent, in ASCII and without the query."""
    template = getattr(scope.get("route"), "path_format", None)
    if isinstance(template, str):
        return template
    raw = bytes(scope.get("raw_path") or scope["path"].encode())[:MAX_LOGGED_PATH_CHARACTERS]
    return ascii(raw.partition(b"?")[0].decode("latin-1"))[1:-1]
