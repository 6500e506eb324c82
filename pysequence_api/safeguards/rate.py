"""How often each caller may ask for something within a minute."""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from pysequence_api.errors import TooManyAttemptsError

RATE_WINDOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a caller stands with a rate.

    Attributes:
        name: of what the rate is, in the plural.
        limit: how often within a minute.
        remaining: how often now.
        reset_seconds: when there is more; ``None`` if all of it is there.
    """

    name: str
    limit: int
    remaining: int
    reset_seconds: int | None


class Rate:
    """Counts what each caller asks for, within a minute that moves on.

    Args:
        name: of what, in the plural: ``transfers``.
        limit: how often each caller may ask within a minute.
        clock_seconds: a monotonic clock.
    """

    def __init__(self, name: str, limit: int, clock_seconds: Callable[[], float]) -> None:
        self._name = name
        self._limit = limit
        self._clock_seconds = clock_seconds
        self._admitted_at = defaultdict[str, deque[float]](deque)

    def admit(self, caller: str) -> None:
        """Count one more.

        Raises:
            TooManyAttemptsError: the caller has to wait; nothing is counted.
        """
        standing = self.standing(caller)
        if not standing.remaining:
            raise TooManyAttemptsError(
                f"More than {self._limit} {self._name} were requested within a minute. Wait {standing.reset_seconds}"
                " seconds.",
                retry_after_seconds=standing.reset_seconds,
            )
        self._admitted_at[caller].append(self._clock_seconds())

    def standing(self, caller: str) -> Standing:
        """Say how a caller stands."""
        now, times = self._clock_seconds(), self._admitted_at[caller]
        while times and times[0] + RATE_WINDOW_SECONDS <= now:
            times.popleft()
        reset_seconds = ceil(times[0] + RATE_WINDOW_SECONDS - now) if times else None
        return Standing(self._name, self._limit, self._limit - len(times), reset_seconds)
