"""Sending a transfer again whose answer was lost, where the upstream then moves money once (upstream-platform).

The transfer keeps its id, so that Sequence answers with the first one if there is one. After a lost answer no error
ends the attempt: an error says nothing about the request before it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from itertools import chain, repeat

from pysequence_api.clock import Clock, steady_seconds
from pysequence_api.errors import KeyMismatchError, NotSentError, SafeguardError, SequenceError
from pysequence_api.models import TransferReceipt
from pysequence_api.sequence.client import PreparedTransfer

RESEND_SECONDS = 600.0
"""How long after it was announced a transfer is sent again. Sequence knows it for 24 hours."""
PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 10.0)
"""Pauses before it is sent again; the last one repeats."""

log = logging.getLogger(__name__)


class Age:
    """How long ago a transfer was announced: by the wall clock or by one that is never set, whichever says more.

    Args:
        announced_at: when it was announced.
        clock: the wall clock, in UTC.
    """

    def __init__(self, announced_at: datetime, clock: Clock) -> None:
        self._announced_at = announced_at
        self._clock = clock
        self._announced_steady_seconds = steady_seconds() - max(0.0, self._wall_seconds())

    @property
    def left_seconds(self) -> float:
        """How long it may still be sent again; 0 if it may not."""
        steady_age_seconds = steady_seconds() - self._announced_steady_seconds
        return max(0.0, RESEND_SECONDS - max(self._wall_seconds(), steady_age_seconds))

    def _wall_seconds(self) -> float:
        return (self._clock() - self._announced_at).total_seconds()


async def send_again(
    attempt_id: str,
    age: Age,
    *,
    prepare: Callable[[], Awaitable[PreparedTransfer]],
    is_open: Callable[[], Awaitable[bool]],
    check: Callable[[], None],
    stopping: asyncio.Event,
) -> TransferReceipt | None:
    """Send a transfer again until Sequence says that it took it, or the time for that is over.

    Args:
        attempt_id: its attempt.
        age: how long ago it was announced.
        prepare: waits for a turn.
        is_open: makes the checks of announcing again, and says whether the attempt is still of unknown outcome.
        check: raises if it must not be sent, right before the first byte.
        stopping: ends this.

    Returns:
        The receipt; ``None`` if the outcome stays unknown, or is known from elsewhere.

    Raises:
        KeyMismatchError: Sequence knows another transfer by this id.
    """

    async def check_once_connected() -> None:
        if not age.left_seconds:
            raise NotSentError("The transfer was not sent again: its time for that is over.")
        check()

    pauses = _pauses()
    pause_seconds = next(pauses)
    while not await _is_set_within(stopping, min(pause_seconds, age.left_seconds)) and age.left_seconds:
        pause_seconds = next(pauses)
        try:
            prepared = await prepare()
            if not await is_open():
                return None
            log.info("attempt %s is sent again", attempt_id)
            return await prepared.send(check_once_connected)
        except KeyMismatchError:
            raise
        except (SequenceError, SafeguardError) as error:
            log.info("attempt %s: its outcome is still unknown: %s", attempt_id, error)
            pause_seconds = max(pause_seconds, error.retry_after_seconds or 0)
    return None


def _pauses() -> Iterator[float]:
    return chain(PAUSES_SECONDS, repeat(PAUSES_SECONDS[-1]))


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most so long."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
