"""What a client tells of itself: how often it asked, how that ended, how long was waited, how old its token is.

Plain numbers. Who shows them, and how, is no business of this room.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from time import perf_counter


class Phase(StrEnum):
    """What can be waited for; the value is how people say it."""

    TURN = "waiting for its turn (requests to Sequence are paced)"
    SIGN_IN = "signing in"
    ANSWER = "waiting for Sequence's answer"


Observer = Callable[[Phase], None]
_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Have requests that are made in here tell what they wait for.

    Args:
        observer: called at the beginning of each phase; it must neither wait nor fail.
    """
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def report(phase: Phase) -> None:
    """Tell the observer, if there is one, that a phase begins."""
    observer = _observer.get()
    if observer is not None:
        observer(phase)


OK = "ok"


@dataclass(slots=True)
class Duration:
    """How often something was waited for, and how long in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.seconds += seconds


@dataclass(slots=True)
class Exchange:
    """One request; its outcome can be said by whoever knows better than the exception that there is not."""

    outcome: str = OK


@dataclass(slots=True)
class Vitals:
    """Numbers since the client was opened.

    Attributes:
        requests: how often each operation ended in each way: ``ok``, or the name of an exception's class.
        exchanges: how long the exchanges of each operation took, from connecting to the last byte.
        turns: how long requests waited for their turn.
    """

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    exchanges: dict[str, Duration] = field(default_factory=dict)
    turns: Duration = field(default_factory=Duration)

    @contextmanager
    def exchange(self, operation: str) -> Iterator[Exchange]:
        """Count one request by its end.

        Args:
            operation: what it is for.
        """
        exchange = Exchange()
        begin_seconds = perf_counter()
        try:
            yield exchange
        except BaseException as error:
            exchange.outcome = type(error).__name__
            raise
        finally:
            self.exchanges.setdefault(operation, Duration()).add(perf_counter() - begin_seconds)
            self.requests[operation, exchange.outcome] += 1

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Count the wait for one turn."""
        begin_seconds = perf_counter()
        try:
            yield
        finally:
            self.turns.add(perf_counter() - begin_seconds)


@dataclass(frozen=True, slots=True)
class TokenLife:
    """How old the access token is, if it says when it was issued, and how long it is good; below 0 it no longer is."""

    age_seconds: float | None
    left_seconds: float | None


@dataclass(slots=True)
class Upstream:
    """How long one caller has waited for Sequence: for turns, for tokens and for answers."""

    seconds: float = 0.0


_upstream: ContextVar[Upstream | None] = ContextVar("upstream", default=None)


@contextmanager
def measured() -> Iterator[Upstream]:
    """Measure, for what runs in here, how long it waits for Sequence; also in the tasks that it starts."""
    upstream = Upstream()
    reset = _upstream.set(upstream)
    try:
        yield upstream
    finally:
        _upstream.reset(reset)


@contextmanager
def waiting() -> Iterator[None]:
    """Wait for Sequence. Each caller of a read that several share waits for itself."""
    begin_seconds = perf_counter()
    try:
        yield
    finally:
        upstream = _upstream.get()
        if upstream is not None:
            upstream.seconds += perf_counter() - begin_seconds
