"""The one clock of the safeguards, in UTC."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

MAX_CLOCK_OFFSET_SECONDS = 120.0
"""Further than this from Sequence's clock, nobody can say which day it is there."""

MAX_CACHED_TIMES = 50_000
"""The ledger of a busy day is read at every step of a transfer, with the same times in it."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Give the time, in UTC."""
    return datetime.now(UTC)


@lru_cache(maxsize=MAX_CACHED_TIMES)
def read_time(text: str | None) -> datetime | None:
    """Read a time in UTC; ``None`` where it cannot be read, or does not say in which zone it is."""
    try:
        time = datetime.fromisoformat(text or "")
        return time.astimezone(UTC) if time.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
