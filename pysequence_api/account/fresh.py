"""Answers of Sequence that are young enough to be used again, for screens and programs that read.

What decides about a transfer never comes from here: the safeguards ask Sequence.
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
        records: the state of the records when the read began.
    """

    value: T
    read_at_seconds: float
    records: str
    _made: dict[Hashable, Any] = field(default_factory=dict)

    def made(self, what: Hashable, make: Callable[[T], D]) -> D:
        """Return what is made of the value, and make it only once.

        Args:
            what: names what is made, and for whom.
            make: depends on nothing but the value and on what `what` says.
        """
        if what not in self._made:
            self._made[what] = make(self.value)
        return cast(D, self._made[what])


class FreshReads:
    """Uses answers again that are young, over all callers, until a transfer of ours can have changed them.

    Args:
        max_age_seconds: how old an answer may be; 0 uses none again.
        records: returns the state of the records, which every step of a transfer changes, whichever process makes it;
            ``None`` if they cannot be read, so that no answer is used again.
        clock_seconds: a monotonic clock.
    """

    def __init__(
        self,
        max_age_seconds: float,
        records: Callable[[], str | None],
        clock_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_age_seconds = max_age_seconds
        self._records = records
        self._clock_seconds = clock_seconds
        self._answers: OrderedDict[Hashable, Fresh[Any]] = OrderedDict()

    def age_seconds(self, answer: Fresh[Any]) -> float:
        """Return how old an answer is."""
        return self._clock_seconds() - answer.read_at_seconds

    async def read(
        self, key: Hashable, read: Callable[[], Awaitable[T]], *, again: bool = True
    ) -> tuple[Fresh[T], bool]:
        """Return an answer that is young enough, or read a new one, and say whether it is used again.

        Args:
            key: equal for equal reads.
            read: asks Sequence.
            again: whether an answer may be used again.

        Raises:
            GatewayError: reading failed. Failures are not kept, and neither are answers with gaps.
        """
        records = self._records() if self._max_age_seconds else None
        known = self._answers.get(key)
        if again and known is not None and known.records == records and self.age_seconds(known) < self._max_age_seconds:
            return cast(Fresh[T], known), True
        value = await read()
        answer = Fresh(value, self._clock_seconds(), records or "")
        if records is not None and getattr(value, "complete", True):
            self._answers[key] = answer
            self._answers.move_to_end(key)
            if len(self._answers) > MAX_ANSWERS:
                self._answers.popitem(last=False)
        return answer, False
