"""Times as Sequence writes them: ISO 8601 in UTC, ending in Z. Some are dates only."""

from datetime import UTC, date, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
MILLISECOND = timedelta(milliseconds=1)
DAY_MS = _DAY // MILLISECOND


def from_ms(time_ms: int) -> datetime:
    """Convert milliseconds since 1970 to a time in UTC, without rounding."""
    return _EPOCH + timedelta(milliseconds=time_ms)


def write_time(time_ms: int) -> str:
    """Return the ISO timestamp of a time, for example ``2026-01-31T09:30:00.250Z``."""
    return from_ms(time_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_date(time_ms: int) -> str:
    """Return the UTC date of a time, for example ``2026-01-31``."""
    return from_ms(time_ms).date().isoformat()


def read_range(start: str | None, end: str | None) -> tuple[int | None, int | None]:
    """Parse a range of ISO dates or timestamps. Both are included.

    Args:
        start: a date means midnight UTC.
        end: a date includes the whole day.

    Returns:
        The first and the last millisecond; ``None`` means no bound.

    Raises:
        ValueError: one of them is neither a date nor a timestamp.
    """
    first_ms = None if start is None else to_ms(_read(start))
    if end is None:
        return first_ms, None
    last = _read(end)
    return first_ms, to_ms(last) + (DAY_MS - 1 if _is_date(end) else 0)


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _read(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is neither an ISO 8601 date nor a timestamp") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def to_ms(time: datetime) -> int:
    """Convert an aware time to whole milliseconds since 1970."""
    return (time - _EPOCH) // MILLISECOND
