"""A short-lived cache of answers of Sequence, for reads only.

Decisions about transfers never use it: the safeguards ask Sequence.

Each process keeps its answers in memory. Where it would otherwise ask Sequence, it looks into a file that all processes
on the data directory share.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import anyio.to_thread
from anyio import CapacityLimiter
from pydantic import BaseModel

from pysequence_api.account.shared import SharedAnswers
from pysequence_api.clock import steady_seconds

MAX_ANSWERS = 64
"""In memory."""

T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Fresh(Generic[T]):
    """An answer of Sequence.

    Attributes:
        value: what was read.
        read_at_seconds: when, by a clock that is never set.
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
        shared: the answers of all processes.
        clock_seconds: a clock that is never set.
    """

    def __init__(
        self, max_age_seconds: float, shared: SharedAnswers, clock_seconds: Callable[[], float] = steady_seconds
    ) -> None:
        self._max_age_seconds = max_age_seconds
        self._shared = shared
        self._clock_seconds = clock_seconds
        self._answers: OrderedDict[Hashable, Fresh[Any]] = OrderedDict()
        self._one_at_a_time = CapacityLimiter(1)
        """Looks at the file. Many readers at once would start many threads, each of which keeps memory for good."""

    def age_seconds(self, answer: Fresh[Any]) -> float:
        """Return how old an answer is."""
        return self._clock_seconds() - answer.read_at_seconds

    async def read(
        self,
        key: Hashable,
        read: Callable[[], Awaitable[T]],
        records: str | None,
        *,
        again: bool = True,
        shape: type[BaseModel] | None = None,
    ) -> tuple[Fresh[T], bool]:
        """Return a recent answer or read a new one, and whether it is reused.

        Args:
            key: equal for equal reads.
            read: asks Sequence.
            records: the state of the records when the request of the caller began, which every step of a transfer in
                any process changes; ``None`` if they cannot be read, and then no answer is reused. A transfer that
                begins later runs beside this request, which may miss it. The answer is kept for the older state.
            again: whether an answer may be reused.
            shape: the model that the answer is, if other processes may use it again; see `SharedAnswers.key_of`.

        Raises:
            GatewayError: reading failed. Failures are not kept, and neither are answers with gaps.
        """
        if records is None or not self._max_age_seconds:
            return Fresh(await read(), self._clock_seconds(), ""), False
        known = self._answers.get(key)
        if again and known is not None and known.records == records and self.age_seconds(known) < self._max_age_seconds:
            return cast("Fresh[T]", known), True  # `Fresh[T]` itself is looked up by `typing` each time
        if shape is None:
            return await self._read(key, read, records), False
        shared_key = await self._in_thread(self._shared.key_of, key)
        found = await self._in_thread(self._shared.find, shared_key, records, shape) if again else None
        if found is not None:
            answer = Fresh(cast(T, found[0]), found[1], records)
            self._keep(key, answer)
            return answer, True
        answer = await self._read(key, read, records)
        if self._answers.get(key) is answer:
            await self._in_thread(self._share, key, shared_key, answer)
        return answer, False

    async def _in_thread(self, look: Callable[..., D], *arguments: Any) -> D:
        return await anyio.to_thread.run_sync(look, *arguments, limiter=self._one_at_a_time)

    async def _read(self, key: Hashable, read: Callable[[], Awaitable[T]], records: str) -> Fresh[T]:
        """Ask Sequence, and keep the answer if it is complete."""
        began_seconds = self._clock_seconds()
        answer = Fresh(await read(), self._clock_seconds(), records)
        known = self._answers.get(key)
        # Of the many that waited for one request, the first keeps its answer.
        is_kept = known is not None and known.records == records and known.read_at_seconds > began_seconds
        if getattr(answer.value, "complete", True) and not is_kept:
            self._keep(key, answer)
        return answer

    def _keep(self, key: Hashable, answer: Fresh[Any]) -> None:
        self._answers[key] = answer
        self._answers.move_to_end(key)
        if len(self._answers) > MAX_ANSWERS:
            self._answers.popitem(last=False)

    def _share(self, key: Hashable, shared_key: str, answer: Fresh[Any]) -> None:
        # If somebody signed in meanwhile, whose answer it is is not certain.
        if self._shared.key_of(key) == shared_key:
            self._shared.add(shared_key, answer.records, answer.value, answer.read_at_seconds)
