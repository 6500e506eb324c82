"""What a request waits for just now, for whoever wants to show it.

The observer travels in the context, so that nothing between the one who shows and the one who waits has to know of it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum


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
