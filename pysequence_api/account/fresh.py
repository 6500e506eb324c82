"""A short-lived cache of answers of Sequence, for reads only.

Decisions about transfers never use it: the safeguards ask Sequence.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

MAX_ANSWERS = 64

T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Fresh(Generic[T]):
    """An answer of Sequence.

    Attributes:
        value: what was read.
        read_at_seconds: when, by a monotonic clock.
        records: the state of the records before the read began.
    """

    value: T
    read_at_seconds: float
    records: str
    _made: dict[Hashable, Any] = field(default_factory=dict)

    def made(self, what: Hashable, make: Callable[[T], D]) -> D:
        """Return a result derived from the value. It is computed only once.

        Args:
            what: names the result, and whom it is for.
            make: computes it, from nothing but the value and what `what` names.
        """
        if what not in self._made:
            self._made[what] = make(self.value)
        return cast(D, self._made[what])


class FreshReads:
    """Reuses recent answers for all callers, until one of our transfers may have changed them.

    Args:
        max_age_seconds: how old an answer may be; 0 reuses none.
        clock_seconds: a monotonic clock.
    """

    def __init__(self, max_age_seconds: float, clock_seconds: Callable[[], float] = time.monotonic) -> None:
        self._max_age_seconds = max_age_seconds
        self._clock_seconds = clock_seconds
        self._answers: OrderedDict[Hashable, Fresh[Any]] = OrderedDict()

    def age_seconds(self, answer: Fresh[Any]) -> float:
        """Return how old an answer is."""
        return self._clock_seconds() - answer.read_at_seconds

    async def read(
        self, key: Hashable, read: Callable[[], Awaitable[T]], records: str | None, *, again: bool = True
    ) -> tuple[Fresh[T], bool]:
        """Return a recent answer or read a new one, and whether it is reused.

        Args:
            key: equal for equal reads.
            read: asks Sequence.
            records: the state of the records when the request of the caller began, which every step of a transfer in
                any process changes; ``None`` if they cannot be read, and then no answer is reused. A transfer that
                begins later runs beside this request, which may miss it. The answer is kept for the older state.
            again: whether an answer may be reused.

        Raises:
            GatewayError: reading failed. Failures are not kept, and neither are answers with gaps.
        """
        known = self._answers.get(key)
        if again and known is not None and known.records == records and self.age_seconds(known) < self._max_age_seconds:
            return cast("Fresh[T]", known), True
        value = await read()
        answer = Fresh(value, self._clock_seconds(), records or "")
        if records is not None and self._max_age_seconds and getattr(value, "complete", True):
            self._answers[key] = answer
            self._answers.move_to_end(key)
            if len(self._answers) > MAX_ANSWERS:
                self._answers.popitem(last=False)
        return answer, False
