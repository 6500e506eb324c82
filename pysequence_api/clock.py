"""Times in UTC, and how the database keeps them: whole microseconds since 1970."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

MAX_CLOCK_OFFSET_SECONDS = 120.0
"""If this machine's clock and Sequence's differ by more, the UTC day is uncertain, and transfers stop."""

Clock = Callable[[], datetime]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def steady_seconds() -> float:
    """Return a time that is never set, and that also counts while the machine sleeps where the system offers that."""
    boottime: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


def read_time(text: str | None) -> datetime | None:
    """Read an ISO 8601 time, in UTC; ``None`` if it is not one, or names no time zone."""
    try:
        moment = datetime.fromisoformat(text or "")
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def to_micros(moment: datetime) -> int:
    """Convert an aware time to whole microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Convert whole microseconds since 1970 to an aware time in UTC."""
    return _EPOCH + timedelta(microseconds=micros)
