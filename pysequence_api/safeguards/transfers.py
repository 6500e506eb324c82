"""The desk that alone can move money."""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from math import ceil
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

from pysequence_api.clock import MAX_CLOCK_OFFSET_SECONDS
from pysequence_api.errors import (
    GatewayError,
    LimitExceededError,
    NotAuthorizedError,
    RefusedError,
    SafeguardError,
    SafeguardsUnavailableError,
    SequenceError,
    TooManyAttemptsError,
)
from pysequence_api.models import ActivityFilter, Transfer, TransferOrder, TransferReceipt
from pysequence_api.records.audit import Channel
from pysequence_api.safeguards.matching import matches
from pysequence_api.safeguards.reservations import (
    Attempt,
    CompletedTransfer,
    Limits,
    Records,
    attempt_answer,
    unknown_outcome,
)
from pysequence_api.sequence.client import SequenceClient

IDENTIFY_TIMEOUT_SECONDS = 8.0
"""How long a finished transfer waits for its id, so that the caller, who gives up after 30 s, hears of it."""
IDENTIFY_PAGE_TRANSFERS = 100
WINDOW_SECONDS = 60.0
CLOCK_MARGIN = timedelta(seconds=MAX_CLOCK_OFFSET_SECONDS + 2)
"""How far Sequence's clock may be from ours, with what a ``Date`` in whole seconds leaves open: around midnight, both
days count for so long. Always, because what is measured now says nothing of the clock that an earlier transfer had."""


class End(StrEnum):
    """How a call of `TransferService.transfer` ended, for who counts them."""

    COMPLETED = "completed"
    REPLAYED = "replayed"
    """The answer to an earlier one with the same idempotency key."""
    REJECTED = "rejected"
    """By a limit."""
    TURNED_AWAY = "turned_away"
    """By any other safeguard."""
    REFUSED = "refused"
    """By Sequence."""
    FAILED = "failed"
    """Certainly nothing moved."""
    UNKNOWN = "unknown"


log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class TransferService:
    """Holds every transfer against the limits, records it, and sends it once.

    Args:
        client: the account at Sequence.
        records: ledger and audit trail.
        organization_id: where to look for a transfer whose answer names no organization.
        max_attempts_per_minute: beyond it, callers are told to wait.
        on_unsettled: called when an attempt ended in doubt, or without its id.
        clock_seconds: a monotonic clock.
    """

    def __init__(
        self,
        client: SequenceClient,
        records: Records,
        *,
        organization_id: str | None,
        max_attempts_per_minute: int,
        on_unsettled: Callable[[], None] = lambda: None,
        clock_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._records = records
        self._organization_id = organization_id
        self._admitted_at: deque[float] = deque(maxlen=max_attempts_per_minute)
        self._clock_seconds = clock_seconds
        self._one_at_a_time = asyncio.Lock()  # threads of one process need not poll for the file lock
        self._running: set[asyncio.Task[CompletedTransfer]] = set()
        self._on_unsettled = on_unsettled
        self.ends: Counter[End] = Counter()
        """How often transfers ended in which way since this was opened."""

    async def transfer(self, order: TransferOrder, via: Channel, key: str | None = None) -> CompletedTransfer:
        """Move money, or say why not.

        The transfer outlives its caller: who goes away, goes without the answer, but it is recorded to its end.

        Args:
            order: what to move.
            via: the door that it came through.
            key: the caller's idempotency key: the same key and order get the first answer again.

        Raises:
            SafeguardError: a safeguard said no; nothing was sent.
            SequenceError: Sequence, or the way to it, failed, and certainly nothing moved.
            OutcomeUnknownError: it was sent, and nobody knows what became of it.
        """
        try:
            self._admit()
        except TooManyAttemptsError:
            self.ends[End.TURNED_AWAY] += 1
            raise
        attempt = Attempt(order, via, key)
        task = asyncio.create_task(self._run(attempt), name=f"transfer {attempt.attempt_id}")
        self._running.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def rehearse(self, order: TransferOrder, via: Channel, key: str | None = None) -> CompletedTransfer | None:
        """Say what `transfer` would say before sending, and change nothing.

        Returns:
            The answer to an earlier request with the same key; ``None`` if it would be sent now.

        Raises:
            GatewayError: it would be refused.
        """
        await self._check_clock()
        return await self._recorded(self._records.rehearse, Attempt(order, via, key), CLOCK_MARGIN)

    async def limits(self) -> Limits:
        """Say what is used and left today.

        Raises:
            SafeguardsUnavailableError: the ledger cannot be trusted.
        """
        return await self._recorded(self._records.limits)

    async def aclose(self) -> None:
        """Wait for every transfer that is on its way, and give up this process's place among the owners."""
        while self._running:
            log.warning("waiting for %d transfers to end", len(self._running))
            await asyncio.wait(set(self._running))
        await self._recorded(self._records.close)

    def _admit(self) -> None:
        now = self._clock_seconds()
        times = self._admitted_at
        if len(times) == times.maxlen and (wait_seconds := ceil(times[0] + WINDOW_SECONDS - now)) > 0:
            log.warning("refused a transfer: %d were asked for within a minute", len(times))
            raise TooManyAttemptsError(
                f"More than {len(times)} transfers were asked for within a minute. Wait {wait_seconds} seconds.",
                retry_after_seconds=wait_seconds,
            )
        times.append(now)

    async def _run(self, attempt: Attempt) -> CompletedTransfer:
        await self._check_clock()
        try:
            return await self._transfer(attempt)
        finally:
            self._records.let_go(attempt)

    async def _transfer(self, attempt: Attempt) -> CompletedTransfer:
        if (replayed := await self._reserve(attempt)) is not None:
            return replayed
        try:
            receipt = await self._send(attempt)
        except BaseException as error:
            await self._end_failed(attempt, error)
            raise
        return await self._end_taken(attempt, receipt)

    async def _reserve(self, attempt: Attempt) -> CompletedTransfer | None:
        try:
            prune = self._clock_is_wrong() is False
            return await self._recorded(self._records.reserve, attempt, CLOCK_MARGIN, prune=prune)
        except (SafeguardsUnavailableError, asyncio.CancelledError):
            # Whether it was reserved is not known; nothing was sent.
            with suppress(SafeguardsUnavailableError):
                await self._recorded(self._records.withdraw, attempt)
            raise

    async def _send(self, attempt: Attempt) -> TransferReceipt:
        prepared = await self._client.prepare_transfer(attempt.order)
        await self._announce(attempt)
        try:
            return await prepared.send()
        except NotAuthorizedError:
            await prepared.renew()
        return await prepared.send()

    async def _announce(self, attempt: Attempt) -> None:
        if self._clock_is_wrong():
            raise self._wrong_clock()
        await self._recorded(self._records.announce, attempt)

    async def _end_failed(self, attempt: Attempt, error: BaseException) -> None:
        """Record the end, and raise what the caller should know, if that is not the error itself."""
        text = str(error) if isinstance(error, GatewayError) else type(error).__name__
        unsent = attempt.announced_at is None
        certain = unsent or (isinstance(error, SequenceError) and error.nothing_moved)
        if isinstance(error, GatewayError):
            error.attempt_id = attempt.attempt_id
        try:
            if unsent and isinstance(error, SafeguardsUnavailableError):
                await self._recorded(self._records.withdraw, attempt)
            elif certain:
                refused = isinstance(error, RefusedError)
                await self._recorded(self._records.release, attempt, text, refused=refused)
            else:
                await self._recorded(self._records.doubt, attempt, text)
        except SafeguardsUnavailableError as unrecorded:
            log.critical("attempt %s ended (%s) and stays counted: %s", attempt.attempt_id, text, unrecorded)
        if not certain and isinstance(error, Exception):
            self._on_unsettled()
            raise unknown_outcome(text, attempt.attempt_id) from error

    async def _end_taken(self, attempt: Attempt, receipt: TransferReceipt) -> CompletedTransfer:
        answer = await self._settle(attempt, receipt, self._matches(attempt, receipt.transfers), last=False)
        if answer is None:
            candidates: tuple[Transfer, ...] = ()
            try:
                if attempt.announced_at is not None:
                    candidates = await self._look(attempt, attempt.announced_at, receipt.organization_id)
            finally:
                answer = await self._settle(attempt, receipt, candidates, last=True)
        answer = answer or attempt_answer(attempt, None)
        if answer.id is None:
            self._on_unsettled()
        return answer

    async def _settle(
        self, attempt: Attempt, receipt: TransferReceipt, candidates: tuple[Transfer, ...], *, last: bool
    ) -> CompletedTransfer | None:
        settle = partial(self._records.settle, organization_id=receipt.organization_id, last=last)
        try:
            return await self._recorded(settle, attempt, candidates)
        except SafeguardsUnavailableError as unrecorded:
            log.critical("attempt %s completed and stays counted: %s", attempt.attempt_id, unrecorded)
            return None

    async def _look(self, attempt: Attempt, sent_at: datetime, organization_id: str | None) -> tuple[Transfer, ...]:
        organization_id = organization_id or self._organization_id
        if organization_id is None:
            return ()
        day = timedelta(days=1)
        about_then = ActivityFilter(date_start=(sent_at - day).date(), date_end=(sent_at + day).date())
        with anyio.move_on_after(IDENTIFY_TIMEOUT_SECONDS):
            try:
                page = await self._client.activity(
                    organization_id, first=IDENTIFY_PAGE_TRANSFERS, only=about_then, urgent=True
                )
                return self._matches(attempt, page.transfers)
            except GatewayError as error:
                log.warning("the id of a transfer could not be looked up: %s", error)
        return ()

    def _matches(self, attempt: Attempt, transfers: tuple[Transfer, ...]) -> tuple[Transfer, ...]:
        order, sent_at = attempt.order, attempt.announced_at
        if sent_at is None:
            return ()
        alike = order.source_id, order.destination_id, order.amount_cents
        return matches(alike, transfers, sent_at, self._client.clock_offset_seconds)

    async def _check_clock(self) -> None:
        if self._clock_is_wrong() is not False:
            # Nothing is known yet, or it may have been set right since: Sequence's next answer says.
            with suppress(SequenceError):
                await self._client.activity_summary(urgent=True)
        if self._clock_is_wrong():
            raise self._wrong_clock()

    def _clock_is_wrong(self) -> bool | None:
        offset_seconds = self._client.clock_offset_seconds
        return None if offset_seconds is None else abs(offset_seconds) > MAX_CLOCK_OFFSET_SECONDS

    def _wrong_clock(self) -> SafeguardsUnavailableError:
        return SafeguardsUnavailableError(
            f"No transfer is possible: Sequence's clock is {self._client.clock_offset_seconds or 0:+.0f} seconds from"
            " this machine's, so that nobody knows which day it is. Set this clock right. Reads go on."
        )

    async def _recorded(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._one_at_a_time:
            return await anyio.to_thread.run_sync(partial(function, *args, **kwargs))

    def _done(self, task: asyncio.Task[CompletedTransfer]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            self.ends[End.UNKNOWN] += 1
        elif error is None:
            self.ends[End.REPLAYED if task.result().replayed else End.COMPLETED] += 1
        else:
            self.ends[_end_of(error)] += 1
            # Also where the caller has gone, and nobody else would hear of it.
            log.info("%s: %s", task.get_name(), error)


def _end_of(error: BaseException) -> End:
    if isinstance(error, GatewayError) and error.replayed:
        return End.REPLAYED
    if isinstance(error, LimitExceededError):
        return End.REJECTED
    if isinstance(error, SafeguardError):
        return End.TURNED_AWAY
    if isinstance(error, RefusedError):
        return End.REFUSED
    return End.FAILED if isinstance(error, SequenceError) and error.nothing_moved else End.UNKNOWN
