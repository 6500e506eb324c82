"""Who makes a request and what it waits for, and counts and durations of requests to Sequence.

Callers, observers and measurements travel in context variables, so the code between the caller and the request passes
nothing along.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from time import perf_counter
from typing import Self

OK = "ok"
GATEWAY = "gateway"
"""The caller of what this program does by itself."""


_caller: ContextVar[str] = ContextVar("caller", default=GATEWAY)


@contextmanager
def called_by(caller: str) -> Iterator[None]:
    """Name the caller of the requests made inside, for Sequence's own log."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


def name_caller(caller: str) -> None:
    """Name the caller of the requests made from now on, until the end of `UpstreamWait`."""
    _caller.set(caller)


def current_caller() -> str:
    """Return who makes the current request: a caller's name, or `GATEWAY`."""
    return _caller.get()


class Phase(StrEnum):
    """What a request can wait for, in words for a progress display."""

    TURN = "waiting for its turn (requests to Sequence are paced)"
    HELD = "waiting as long as Sequence asked to (Retry-After)"
    SIGN_IN = "signing in"
    ANSWER = "waiting for Sequence's answer"


Observer = Callable[[Phase], None]
_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Call an observer at the start of each phase of the requests made inside.

    Args:
        observer: must neither block nor raise.
    """
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def report(phase: Phase) -> None:
    """Tell the observer, if there is one, that a phase starts."""
    observer = _observer.get()
    if observer is not None:
        observer(phase)


@dataclass(slots=True)
class Duration:
    """A number of waits and their total duration."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more wait."""
        self.count += 1
        self.seconds += seconds


@dataclass(slots=True)
class Exchange:
    """One counted request. Set ``outcome`` where a failure does not raise."""

    outcome: str = OK


@dataclass(slots=True)
class RequestStatistics:
    """Counts and durations since the client was opened.

    Attributes:
        requests: the number of requests by operation and outcome: ``ok``, or the name of an exception class.
        exchanges: by operation, the time from connecting to the last byte of the answer.
        turns: the time that requests waited for their turn.
    """

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    exchanges: dict[str, Duration] = field(default_factory=dict)
    turns: Duration = field(default_factory=Duration)

    @contextmanager
    def exchange(self, operation: str) -> Iterator[Exchange]:
        """Count and measure one request."""
        exchange = Exchange()
        started_seconds = perf_counter()
        try:
            yield exchange
        except BaseException as error:
            exchange.outcome = type(error).__name__
            raise
        finally:
            self.exchanges.setdefault(operation, Duration()).add(perf_counter() - started_seconds)
            self.requests[operation, exchange.outcome] += 1

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Measure the wait for one turn."""
        started_seconds = perf_counter()
        try:
            yield
        finally:
            self.turns.add(perf_counter() - started_seconds)


@dataclass(frozen=True, slots=True)
class TokenLife:
    """The age of the access token and the time until it expires, where known; negative once it has expired."""

    age_seconds: float | None
    left_seconds: float | None


class UpstreamWait:
    """Measures how long the code inside waits for Sequence: for turns, tokens and answers, also in tasks it starts.

    Attributes:
        seconds: how long that was.
    """

    __slots__ = ("_before", "_caller_before", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._before = _upstream_wait.set(self)
        self._caller_before = _caller.set(GATEWAY)
        return self

    def __exit__(self, *_: object) -> None:
        _caller.reset(self._caller_before)
        _upstream_wait.reset(self._before)


_upstream_wait: ContextVar[UpstreamWait | None] = ContextVar("upstream_wait", default=None)


@contextmanager
def waiting() -> Iterator[None]:
    """Add the time spent inside to the wait of the current caller. Callers of a shared read each count their own."""
    started_seconds = perf_counter()
    try:
        yield
    finally:
        upstream_wait = _upstream_wait.get()
        if upstream_wait is not None:
            upstream_wait.seconds += perf_counter() - started_seconds
