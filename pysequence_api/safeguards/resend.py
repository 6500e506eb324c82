"""Sending a transfer again whose answer was lost, where the upstream then moves money once (upstream-platform).

The transfer keeps its id, so that Sequence answers with the first one if there is one. After a lost answer no error
ends the attempt: an error says nothing about the request before it.
"""

import asyncio
import logging
from datetime import datetime, timedelta
from itertools import chain, repeat
from typing import Generic, Protocol, TypeVar

import anyio.to_thread

from pysequence_api.clock import Clock, steady_seconds
from pysequence_api.errors import (
    KeyMismatchError,
    NotSentError,
    SafeguardError,
    SafeguardsUnavailableError,
    SequenceError,
)
from pysequence_api.models import TransferReceipt
from pysequence_api.records.attempts import Attempt, Writer
from pysequence_api.records.audit import Channel
from pysequence_api.records.database import Database
from pysequence_api.safeguards import decide
from pysequence_api.sequence.client import Capabilities, PreparedTransfer

RESEND_SECONDS = 600.0
"""How long after it was announced a transfer is sent again. Sequence knows it for 24 hours."""
PAUSES_SECONDS = (1.0, 2.0, 4.0, 5.0)
"""Pauses before it is sent again; the last one repeats."""
WAIT_SECONDS = 8.0
"""How long a caller waits for what comes of that, so that callers with a time-out of 30 seconds get an answer."""
TERMINAL_WAIT_SECONDS = 60.0
"""The same for the terminal, with whose process it ends."""
ADOPT_SECONDS = 15.0
"""How often to look whether another process has ended while it was sending a transfer again."""

Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)
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


class Steps(Protocol[Answer_co]):
    """What the transfer service does for a transfer that is sent again."""

    async def prepare(self, attempt: Attempt) -> PreparedTransfer: ...
    async def is_open(self, attempt: Attempt) -> bool: ...
    def check_stopped(self, attempt: Attempt) -> None: ...
    async def end_resending(self, attempt: Attempt, receipt: TransferReceipt | None) -> Answer_co | None: ...


class Resending(Generic[Answer]):
    """The transfers that this process sends again.

    Args:
        steps: the transfer service.
        records: the database.
        capabilities: of the upstream.
        stopping: ends this.
        clock: returns the time in UTC.
    """

    def __init__(
        self, steps: Steps[Answer], records: Database, capabilities: Capabilities, stopping: asyncio.Event, clock: Clock
    ) -> None:
        self._steps = steps
        self._records = records
        self.capabilities = capabilities
        self._stopping = stopping
        self._clock = clock
        self.tasks: dict[str, asyncio.Task[Answer | None]] = {}
        """One for each attempt that is sent again, by its id."""

    async def wait_for(self, attempt: Attempt, age: Age) -> Answer | None:
        """Send a transfer again, and wait a little for what comes of that. It goes on when nobody waits anymore.

        Returns:
            The answer to the caller; ``None`` if the outcome is still unknown.
        """
        task = self._start(attempt, age)
        await asyncio.wait({task}, timeout=TERMINAL_WAIT_SECONDS if attempt.channel == Channel.CLI else WAIT_SECONDS)
        return task.result() if task.done() else None

    async def keep_adopting(self) -> None:
        """Adopt what other processes leave behind, until cancelled."""
        while self.capabilities.resend:
            try:
                await self.adopt()
            except SafeguardsUnavailableError as error:
                log.error("%s", error)
            await asyncio.sleep(ADOPT_SECONDS)

    async def adopt(self, wait_seconds: float = 0) -> None:
        """Send again what a process that has ended sent again, or was sending, if the time for that is not over.

        Args:
            wait_seconds: how long to wait for what comes of that.

        Raises:
            SafeguardsUnavailableError: the records cannot be read or written.
        """
        owners, since = self._records.owners, self._clock() - timedelta(seconds=RESEND_SECONDS)

        def adopt(writer: Writer) -> list[Attempt]:
            adopted = decide.adopt(writer, owners, self.capabilities.upstream, since)
            owners.running.update(one.id for one in adopted)
            return adopted

        if self.capabilities.resend and self._records.read(lambda reader: bool(reader.open_attempts())):
            for attempt in await anyio.to_thread.run_sync(self._records.write, adopt):
                log.warning("attempt %s: its answer was lost; it is sent again", attempt.id)
                self._start(attempt, Age(attempt.sent_at, self._clock))
        if wait_seconds and self.tasks:
            await asyncio.wait(self.tasks.values(), timeout=wait_seconds)

    async def freeze(self, attempt: Attempt, error: KeyMismatchError) -> None:
        """Freeze all transfers, because Sequence knows another transfer by the id of this attempt."""
        log.critical("attempt %s: %s", attempt.id, error)

        def stop(writer: Writer) -> None:
            if (current := writer.attempt(attempt.id)) is not None:
                writer.update(current, code=error.code.value, error=str(error))
            writer.set_freeze(f"attempt {attempt.id}: {error}")

        try:
            await anyio.to_thread.run_sync(self._records.write, stop)
        except SafeguardsUnavailableError as failed:
            log.critical("transfers cannot be frozen: %s", failed)

    def _start(self, attempt: Attempt, age: Age) -> asyncio.Task[Answer | None]:
        task = asyncio.create_task(self._run(attempt, age), name=f"sending {attempt.id} again")
        self.tasks[attempt.id] = task
        return task

    async def _run(self, attempt: Attempt, age: Age) -> Answer | None:
        receipt = None
        try:
            receipt = await self._send_again(attempt, age)
        except KeyMismatchError as error:
            await self.freeze(attempt, error)
        except Exception:
            log.exception("attempt %s cannot be sent again", attempt.id)
        finally:
            try:
                answer = await self._steps.end_resending(attempt, receipt)
            finally:
                del self.tasks[attempt.id]
        return answer

    async def _send_again(self, attempt: Attempt, age: Age) -> TransferReceipt | None:
        """Send a transfer again until Sequence says that it took it.

        Returns:
            The receipt; ``None`` if the time for it is over, the program stops, or the outcome is known from elsewhere.
        """

        async def check_once_connected() -> None:
            if not age.left_seconds:
                raise NotSentError("The transfer was not sent again: its time for that is over.")
            self._steps.check_stopped(attempt)

        pauses = chain(PAUSES_SECONDS, repeat(PAUSES_SECONDS[-1]))
        pause_seconds = next(pauses)
        while not await is_set_within(self._stopping, min(pause_seconds, age.left_seconds)) and age.left_seconds:
            pause_seconds = next(pauses)
            try:
                prepared = await self._steps.prepare(attempt)
                if not await self._steps.is_open(attempt):
                    return None
                log.info("attempt %s is sent again", attempt.id)
                return await prepared.send(check_once_connected)
            except KeyMismatchError:
                raise
            except (SequenceError, SafeguardError) as error:
                log.info("attempt %s: its outcome is still unknown: %s", attempt.id, error)
                pause_seconds = max(pause_seconds, error.retry_after_seconds or 0)
        return None


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most so long."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
