"""Bounds what anybody without the API key can write to the log, tracebacks included.

A request counts as sent without the key until the key was checked. So do the loggers of connections, because no key is
known there. One filter on the handlers of the log counts all of them together.
"""

import logging
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar

MAX_KEYLESS_LINES_PER_MINUTE = 30
MAX_TRACEBACK_LINES = 12
MAX_MESSAGE_CHARACTERS = 1000
CONNECTION_LOGGER = "pysequence_api.api.http"
CONNECTION_LOGGERS = {CONNECTION_LOGGER, "uvicorn.error", "asyncio"}
"""Their warnings and errors are about connections."""

_is_keyless: ContextVar[bool] = ContextVar("is_keyless", default=False)


class Keyless:
    """Treats what is logged inside as caused by a request without the key, until `key_was_right`."""

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = _is_keyless.set(True)

    def __exit__(self, *_: object) -> None:
        _is_keyless.reset(self._before)


def key_was_right() -> None:
    """Treat what this request logs from now on as caused by a request with the key."""
    _is_keyless.set(False)


class LineAllowance:
    """Allows a number of log lines per minute.

    Args:
        max_lines: how many.
        clock_seconds: a monotonic clock.
    """

    def __init__(self, max_lines: int, clock_seconds: Callable[[], float] = time.monotonic) -> None:
        self._max_lines = max_lines
        self._written_at: deque[float] = deque()
        self._clock_seconds = clock_seconds
        self._skipped = 0

    def take(self, lines: int = 1) -> int | None:
        """Ask to write a record of some lines.

        Returns:
            How many records were skipped before it, or ``None`` if it does not fit and must be skipped too.
        """
        now, times = self._clock_seconds(), self._written_at
        while times and now - times[0] >= 60:
            times.popleft()
        if len(times) + lines > self._max_lines:
            return None
        times.extend([now] * lines)
        skipped, self._skipped = self._skipped, 0
        return skipped

    def skip(self) -> None:
        """Count a record that was not written."""
        self._skipped += 1


class KeylessFilter(logging.Filter):
    """Lets records without the key pass at most `MAX_KEYLESS_LINES_PER_MINUTE` lines a minute, and all others."""

    def __init__(self) -> None:
        super().__init__()
        self._allowance = LineAllowance(MAX_KEYLESS_LINES_PER_MINUTE)

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide once for each record, for all handlers."""
        about_connection = record.name in CONNECTION_LOGGERS and record.levelno >= logging.WARNING
        if not (about_connection or _is_keyless.get()):
            return True
        state = record.__dict__
        if "keyless_admitted" not in state:
            state["keyless_admitted"] = self._admit(record)
        return bool(state["keyless_admitted"])

    def _admit(self, record: logging.LogRecord) -> bool:
        message = record.getMessage().partition("\n")[0][:MAX_MESSAGE_CHARACTERS]
        trace = _last_lines(record)
        record.exc_info = record.exc_text = record.stack_info = None
        skipped = self._allowance.take(1 + len(trace))
        if skipped is None and trace:
            message, trace = f"{message} ({trace[-1][:MAX_MESSAGE_CHARACTERS]})", []
            skipped = self._allowance.take()
        if skipped is None:
            self._allowance.skip()
            return False
        note = f" ({skipped} earlier records of requests without a key were not logged)" if skipped else ""
        record.msg, record.args = message + note, ()  # without arguments, % has no meaning
        record.exc_text = "\n".join(trace) or None
        return True


def _last_lines(record: logging.LogRecord) -> list[str]:
    if not record.exc_info or record.exc_info[1] is None:
        return []
    return "".join(traceback.format_exception(record.exc_info[1])).splitlines()[-MAX_TRACEBACK_LINES:]


def limit_keyless_lines() -> None:
    """Put a new filter on all handlers of the log."""
    added = KeylessFilter()
    for handler in logging.getLogger().handlers:
        for present in [one for one in handler.filters if isinstance(one, KeylessFilter)]:
            handler.removeFilter(present)
        handler.addFilter(added)
