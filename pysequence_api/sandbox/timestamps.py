"""Moments as Sequence writes them: ISO 8601 in UTC with a closing Z, some of them dates only (upstream-graphql)."""

from datetime import UTC, date, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
MILLISECOND = timedelta(milliseconds=1)
DAY_MS = _DAY // MILLISECOND


def from_ms(moment_ms: int) -> datetime:
    """Turn milliseconds since 1970 into an aware moment, without a float in between."""
    return _EPOCH + timedelta(milliseconds=moment_ms)


def write_moment(moment_ms: int) -> str:
    """Write a moment, for example ``2026-01-31T09:30:00.250Z``."""
    return from_ms(moment_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_date(moment_ms: int) -> str:
    """Write the UTC date of a moment, for example ``2026-01-31``."""
    return from_ms(moment_ms).date().isoformat()


def read_range(start: str | None, end: str | None) -> tuple[int | None, int | None]:
    """Read a range of ISO dates or timestamps, both ends included.

    Args:
        start: its beginning; a date begins at midnight UTC.
        end: its end; a date includes its whole day.

    Returns:
        The first and the last millisecond; ``None`` for an open end.

    Raises:
        ValueError: a text is neither a date nor a timestamp.
    """
    first_ms = None if start is None else _to_ms(_read(start))
    if end is None:
        return first_ms, None
    last = _read(end)
    return first_ms, _to_ms(last) + (DAY_MS - 1 if _is_date(end) else 0)


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _read(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is neither an ISO 8601 date nor a timestamp") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _to_ms(moment: datetime) -> int:
    return (moment - _EPOCH) // MILLISECOND
