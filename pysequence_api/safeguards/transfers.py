"""The transfer service: the only way to move money.

A transfer is decided and reserved, waits for its turn, is announced, is sent once, and ends as accepted, refused,
failed or unknown. `FollowUp` finds out the rest.
"""

import asyncio
import hashlib
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, TypeVar
from uuid import uuid4

import anyio
import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field, computed_field

from pysequence_api.clock import MAX_CLOCK_OFFSET_SECONDS, Clock
from pysequence_api.errors import (
    ApprovalOverError,
    CallerExpiredError,
    ClockError,
    Code,
    FrozenError,
    GatewayError,
    InvalidRequestError,
    KeyMismatchError,
    KeyRequiredError,
    KeyRevokedError,
    LowBalanceError,
    NotAuthorizedError,
    Outcome,
    OutcomeUnknownError,
    PolicyRefusedError,
    RefusedError,
    Retry,
    SafeguardError,
    SafeguardsUnavailableError,
    ScopeMissingError,
    SequenceError,
    StoppingError,
)
from pysequence_api.files import LOCK_TIMEOUT_SECONDS
from pysequence_api.models import (
    FROM_OTHERS,
    Accounts,
    AccountType,
    ActivityFilter,
    Moment,
    Party,
    Timestamp,
    Transfer,
    TransferOrder,
    TransferReceipt,
    TransferStatus,
)
from pysequence_api.money import format_cents
from pysequence_api.records.attempts import Attempt, Reader, Writer
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import Caller
from pysequence_api.records.database import Database
from pysequence_api.records.names import Names
from pysequence_api.records.states import State
from pysequence_api.safeguards import approving, asking, decide
from pysequence_api.safeguards.approving import PendingApproval
from pysequence_api.safeguards.caller_status import read_attempt_of
from pysequence_api.safeguards.decide import unknown_outcome
from pysequence_api.safeguards.enforce import order_of, trip, warn_of_equal_orders
from pysequence_api.safeguards.judge import Check, is_free, needs_key
from pysequence_api.safeguards.matching import describes, matches
from pysequence_api.safeguards.now import MaxCents
from pysequence_api.safeguards.owner import Owner
from pysequence_api.safeguards.parties import unknown_account
from pysequence_api.safeguards.policies import policy_in_force
from pysequence_api.safeguards.rate import Rate
from pysequence_api.safeguards.resend import Age, Resending, is_set_within
from pysequence_api.safeguards.status import AttemptStatus, read_attempt
from pysequence_api.sequence.client import PreparedTransfer, SequenceClient
from pysequence_api.text import one_line, without_keys

IDENTIFY_TIMEOUT_SECONDS = 8.0
"""How long a finished transfer waits for its id, so that callers with a time-out of 30 seconds get the answer."""
IDENTIFY_PAGE_TRANSFERS = 100
ACCOUNTS_SECONDS = 60.0
"""A list of the account that is older is read again before a transfer is rejected because of it."""
END_LOCK_TIMEOUT_SECONDS = 60.0
"""How long the end of an attempt waits for the lock: the money has moved, so giving up early helps nobody."""
MAX_WAIT_SECONDS = 30.0
"""How long a request waits at most for an attempt to change."""
WAIT_POLL_SECONDS = 0.5
"""How often it looks, because another process can change it."""
MAX_WAITING = 64
"""So many requests wait at most; others are answered at once."""
MAX_OWN_WAITING = 8
"""The same for one caller."""
CHANGING = {State.AWAITING_APPROVAL, State.RESERVED, State.SENDING, State.UNKNOWN, State.ACCEPTED}
"""What is waited for: in these states, the money has not arrived, and may still move."""
LOOKED_UP = {State.UNKNOWN, State.ACCEPTED}
"""What only a lookup at Sequence changes."""
LOOK_SECONDS = 10.0
"""How often a lookup is asked for at most, however many requests wait for its result."""
LOOKED_UP_FOR = timedelta(minutes=2)
"""How long after a transfer was sent: what takes longer takes hours, and is looked up without being asked for."""
NOT_SENT = "You approved it, and it was not sent. If its caller requests it again, you are asked again."
FREEZE_POLL_SECONDS = 0.2
"""How often a transfer that waits for its turn looks whether it was stopped."""
STOPS = (FrozenError, KeyRevokedError, CallerExpiredError, ScopeMissingError, PolicyRefusedError)
"""They cancel a transfer that waits."""

log = logging.getLogger(__name__)
T = TypeVar("T")
A = TypeVar("A", bound="CompletedTransfer | PendingTransfer")


class Result(BaseModel):
    """The base of what the service answers."""

    # Every field is in every answer, also one that is null.
    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True, defer_build=True)


class CompletedTransfer(Result):
    """A transfer that Sequence took."""

    id: str | None = Field(description="Null if Sequence does not show it yet; it is added later")
    status: TransferStatus | None = Field(description="The newest status known from Sequence")
    state: State = Field(description="accepted: Sequence took it; arrived; returned: the money came back")
    amount_cents: int
    source: Party
    destination: Party
    created_at: Moment | None
    attempt_id: str
    daily_remaining_cents: int = Field(description="What is left of the daily limit, in cents")
    reason: str | None = Field(default=None, description=f"Why the money came back, if it did. {FROM_OTHERS}")
    retry: Retry | None = Field(default=None, description="never: the money came back; do not request it again")
    replayed: bool = Field(default=False, exclude=True)

    @computed_field(description="Amount for people")  # type: ignore[prop-decorator]
    @property
    def amount(self) -> str:
        """The amount for people."""
        return format_cents(self.amount_cents)


class PendingTransfer(Result):
    """A transfer that waits for the owner's approval. Nothing was sent."""

    attempt_id: str
    state: Literal[State.AWAITING_APPROVAL] = State.AWAITING_APPROVAL
    amount_cents: int
    rule: str | None = Field(description="The rule of the policy that asks the owner")
    expires_at: Timestamp = Field(description="If the owner has not approved it by then, it expires")
    detail: str = Field(description="What to do: for people")
    replayed: bool = Field(default=False, exclude=True)

    @computed_field(description="Amount for people")  # type: ignore[prop-decorator]
    @property
    def amount(self) -> str:
        """The amount for people."""
        return format_cents(self.amount_cents)


@dataclass(frozen=True, slots=True)
class Decision:
    """What `TransferService.transfer` would say before sending.

    Attributes:
        checks: every check of the policy and the limits that applies, in order; none for a replay.
        replayed: the answer to an earlier request with the same key.
        error: why the transfer would not be sent now; ``None`` if it would, or if it was before.
        needs_approval: nothing but the owner's approval is missing.
    """

    checks: tuple[Check, ...]
    replayed: CompletedTransfer | PendingTransfer | None = None
    error: GatewayError | None = None
    needs_approval: bool = False

    @property
    def would_move(self) -> bool:
        """Whether it would be sent, now or once it is approved."""
        return self.needs_approval or (self.error is None and self.replayed is None)


class TransferService:
    """Holds every transfer against the limits, records it, and sends it once.

    Args:
        client: the account at Sequence.
        records: the database.
        names: what pods, ports and accounts are called.
        owner: checks the codes of the owner.
        limits: the limits of this process.
        organization_id: where to look for a transfer whose answer names no organization.
        max_attempts_per_minute: of each caller; beyond it, it has to wait.
        request_timeout_seconds: how long one request to Sequence takes at most.
        clock: returns the time in UTC.
        count_missing: counts what restored records lack, before the first transfer.
        on_open: called when something should be looked up at Sequence soon: an attempt ended as unknown, or without its
            id, or a request waits for what became of one.
        clock_seconds: a monotonic clock.
    """

    def __init__(
        self,
        client: SequenceClient,
        records: Database,
        names: Names,
        owner: Owner,
        limits: MaxCents,
        *,
        organization_id: str | None,
        max_attempts_per_minute: int,
        request_timeout_seconds: float,
        clock: Clock,
        count_missing: Callable[[], Awaitable[None]],
        on_open: Callable[[], None] = lambda: None,
        clock_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._records = records
        self._names = names
        self._owner = owner
        self._limits = limits
        self._organization_id = organization_id
        self.rate = Rate("transfers", max_attempts_per_minute, clock_seconds)
        """How often each caller may request transfers."""
        # Sent, refused with 401, and sent again; then the id is looked up, and the end is recorded.
        self._longest_seconds = 2 * request_timeout_seconds + IDENTIFY_TIMEOUT_SECONDS + END_LOCK_TIMEOUT_SECONDS
        self._clock = clock
        self._clock_seconds = clock_seconds
        self._count_missing = count_missing
        self._on_open = on_open
        self._lookup_asked_at = -math.inf
        self._accounts: tuple[Accounts, float] | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._sent: set[str] = set()
        self._waiting: Counter[str] = Counter()
        self._stopping = asyncio.Event()
        self.resending = Resending(self, records, client.capabilities, self._stopping, clock)
        """What is sent again, because its answer was lost."""
        self.ends: Counter[tuple[str, str]] = Counter()
        """How often requests of which caller ended in which state, or with which code, since this was opened."""

    async def transfer(
        self,
        order: TransferOrder,
        channel: Channel,
        key: str | None = None,
        *,
        caller: Caller,
        reason: str | None = None,
    ) -> CompletedTransfer | PendingTransfer:
        """Move money, or say why not, or that it waits for the owner.

        The transfer does not depend on its caller: if the client disconnects, it is still recorded to its end.

        Args:
            order: what to move.
            channel: how it was requested.
            key: the caller's idempotency key: the same key and order get the original answer again.
            caller: who asks.
            reason: what the caller says it is for, for the owner. It is not sent, and another reason makes no other
                request of the same order.

        Raises:
            SafeguardError: a safeguard rejected it; nothing was sent.
            SequenceError: Sequence, or the connection to it, failed, and certainly nothing moved.
            OutcomeUnknownError: it was sent, and its outcome is unknown.
        """
        attempt = self._new_attempt(order, channel, key, caller)
        attempt = replace(attempt, reason=without_keys(one_line(reason or "")) or None)
        return await self._shielded(attempt, self._run(attempt, order))

    async def _shielded(self, attempt: Attempt, steps: Coroutine[Any, Any, A]) -> A:
        """Take the steps of an attempt in a task of its own, which does not end with whoever waits for it."""
        task = asyncio.create_task(steps, name=f"transfer {attempt.id}")
        self._running.add(task)
        task.add_done_callback(partial(self._done, attempt))
        return await asyncio.shield(task)

    async def pending(self) -> tuple[PendingApproval, ...]:
        """List what waits for the owner's approval, oldest first, with names read from Sequence now.

        Raises:
            SafeguardsUnavailableError: the records cannot be read.
        """
        found = self._records.read(approving.pending)
        accounts = None
        if found:
            try:
                accounts = await self._client.accounts(balances=False)
            except SequenceError as error:
                log.warning("the names of accounts cannot be read: %s", error)
        return tuple(approving.shown(attempt, approval, accounts) for attempt, approval in found)

    async def pending_one(self, attempt_id: str) -> PendingApproval:
        """Describe one of those.

        Raises:
            NotFoundError: there is no such attempt.
            ApprovalOverError: it does not wait.
            SafeguardsUnavailableError: the records cannot be read.
        """
        self._records.read(lambda reader: approving.require_pending(reader, attempt_id))
        for one in await self.pending():
            if one.attempt_id == attempt_id:
                return one
        raise ApprovalOverError("It does not wait for an approval any more.", attempt_id=attempt_id)

    async def approve(self, attempt_id: str, bound_sha256: str, code: str, channel: Channel) -> CompletedTransfer:
        """Approve an attempt that waits, and send it.

        Args:
            attempt_id: the attempt.
            bound_sha256: what the owner was shown, as `PendingApproval` has it.
            code: of the owner's authenticator. It is spent if the attempt still waits and the code is right.
            channel: how.

        Raises:
            NotFoundError: there is no such attempt.
            ApprovalOverError: it does not wait, or is not what the owner was shown.
            InvalidRequestError: it was requested for another upstream.
            WrongCodeError: the code is wrong, was used, or none is looked at now.
            SafeguardError: a safeguard stopped it. Unless it is rejected now, it still waits.
            SequenceError: Sequence, or the connection to it, failed, and certainly nothing moved.
            OutcomeUnknownError: it was sent, and its outcome is unknown.
        """
        request = approving.Request(attempt_id, bound_sha256, code, channel)
        attempt = self._records.read(lambda reader: approving.check_bound(reader, request))
        return await self._shielded(attempt, self._approve(attempt, request))

    async def deny(self, attempt_id: str, channel: Channel) -> AttemptStatus:
        """Deny an attempt that waits. The same transfer is refused for 24 hours.

        Raises:
            NotFoundError: there is no such attempt.
            ApprovalOverError: it does not wait.
            SafeguardsUnavailableError: the records cannot be written.
        """
        await self._write(lambda writer: approving.deny(writer, attempt_id, channel))
        return read_attempt(self._records, attempt_id)

    async def cancel(self, attempt_id: str, caller: Caller, channel: Channel = Channel.API) -> AttemptStatus:
        """Cancel a caller's own attempt that waits for the owner.

        Raises:
            NotFoundError: there is no such attempt of this caller.
            ApprovalOverError: it does not wait.
            SafeguardsUnavailableError: the records cannot be written.
        """
        owners, name = self._records.owners, caller.name
        # Read first: there is no rate for this, and transfers wait for each other's writes.
        if self._records.read(lambda reader: approving.to_cancel(reader, attempt_id, name)) is not None:
            await self._write(lambda writer: approving.cancel(writer, owners, attempt_id, caller=name, channel=channel))
        return read_attempt(self._records, attempt_id)

    async def cancel_queued(self, attempt_id: str, channel: Channel) -> AttemptStatus:
        """Cancel, as the owner, an attempt that waits for the owner or for its turn, in whichever process.

        Raises:
            NotFoundError: there is no such attempt.
            ApprovalOverError: it does not wait.
            SafeguardsUnavailableError: the records cannot be written.
        """
        owners = self._records.owners
        await self._write(lambda writer: approving.cancel(writer, owners, attempt_id, caller=None, channel=channel))
        return read_attempt(self._records, attempt_id)

    async def wait_for_change(self, attempt_id: str, caller: Caller, wait_seconds: float) -> AttemptStatus:
        """Say what is known of an attempt, once it is in another state, or after some time.

        Nothing is waited for once it is over, if too many wait already, or if the program stops. What only a lookup at
        Sequence changes is looked up every `LOOK_SECONDS` meanwhile, if it was sent just now.

        Args:
            attempt_id: the attempt.
            caller: who asks.
            wait_seconds: for how long to wait at most.

        Raises:
            NotFoundError: there is no such attempt, or not one that the caller may see.
            SafeguardsUnavailableError: the records cannot be read.
        """
        first = status = read_attempt_of(self._records, attempt_id, caller.name)
        until = self._clock_seconds() + min(wait_seconds, MAX_WAIT_SECONDS)
        if wait_seconds <= 0 or self._waiting.total() >= MAX_WAITING or self._waiting[caller.name] >= MAX_OWN_WAITING:
            return status
        self._waiting[caller.name] += 1
        try:
            while status.state is first.state and status.state in CHANGING:
                self._ask_for_lookup(status)
                pause_seconds = min(WAIT_POLL_SECONDS, until - self._clock_seconds())
                if pause_seconds <= 0 or await is_set_within(self._stopping, pause_seconds):
                    break
                status = read_attempt_of(self._records, attempt_id, caller.name)
        finally:
            self._waiting[caller.name] -= 1
        return status

    def _ask_for_lookup(self, status: AttemptStatus) -> None:
        """Have it looked up soon what became of an attempt, if that was not asked for just now."""
        sent_at, now_seconds = status.announced_at, self._clock_seconds()
        if status.state not in LOOKED_UP or sent_at is None or self._clock() - sent_at > LOOKED_UP_FOR:
            return
        if now_seconds - self._lookup_asked_at >= LOOK_SECONDS:
            self._lookup_asked_at = now_seconds
            self._on_open()

    async def preview(
        self,
        order: TransferOrder,
        channel: Channel,
        key: str | None = None,
        *,
        caller: Caller,
        accounts: Accounts | None = None,
    ) -> Decision:
        """Say what `transfer` would say before sending, and change nothing.

        Args:
            order: what would be moved.
            channel: how it was requested.
            key: the caller's idempotency key.
            caller: who asks.
            accounts: the list of the account, if it was just read.

        Raises:
            InvalidRequestError: the account does not have what the order names, or this upstream cannot do it.
            SequenceError: the account cannot be read.
            SafeguardsUnavailableError: no transfer is possible, whatever is requested.
        """
        self._client.check_order(order)
        attempt = self._new_attempt(order, channel, key, caller)
        if accounts is not None:
            self._accounts = accounts, self._clock_seconds()
        if not self._is_refused(attempt):
            await self._check_accounts(order, attempt.caller)
            await self._check_clock()
        return self._records.read(lambda reader: self._decision(reader, attempt))

    def _decision(self, reader: Reader, attempt: Attempt) -> Decision:
        owners = self._records.owners
        found: Attempt | GatewayError | None = decide.replayed(reader, owners, attempt)
        if isinstance(found, Attempt):
            return Decision((), replayed=self._answer(found, replayed=True))
        judgement = decide.judgement_of(reader, attempt, self._limits)
        found = found or decide.rejected_by(reader, owners, attempt, self._limits)
        if isinstance(found, SafeguardsUnavailableError):
            raise found
        asks = judgement.asks and decide.asks(found)
        if asks and asking.equal_pending(reader, attempt) is None:
            found = asking.too_many_pending(reader, attempt.caller) or found
        return Decision(judgement.checks, error=found, needs_approval=asks and decide.asks(found))

    def stop(self) -> None:
        """Release what has not been sent, and say what is waited for. At each call after the first, say how long."""
        is_first = not self._stopping.is_set()
        self._stopping.set()
        if self._sent:
            at_most = "" if is_first else f", at most {self._longest_seconds:.0f} seconds"
            count = len(self._sent)
            what = "1 transfer that was sent" if count == 1 else f"{count} transfers that were sent"
            log.warning("waiting for the outcome of %s%s", what, at_most)

    async def aclose(self) -> None:
        """Release what has not been sent, and wait for what has."""
        if not self._stopping.is_set():
            self.stop()
        while tasks := {*self._running, *self.resending.tasks.values()}:
            await asyncio.wait(tasks)

    # The steps of one transfer, in their order.

    async def _run(self, attempt: Attempt, order: TransferOrder) -> CompletedTransfer | PendingTransfer:
        if attempt.key_sha256 is None and needs_key(attempt.caller):
            raise KeyRequiredError(
                "Name an idempotency key (over HTTP the header Idempotency-Key): a new one for each payment that you"
                " intend, and the same one whenever you repeat the request for that payment. Then no retry pays twice."
            )
        if (replay := self._find_replay(attempt)) is not None:
            return self._answer(replay, replayed=True)
        self._client.check_order(order)
        self.rate.admit(attempt.caller)
        owners = self._records.owners
        owners.running.add(attempt.id)
        try:
            reserved = await self._check_and_reserve(attempt, order)
            if reserved.id != attempt.id or reserved.state is State.AWAITING_APPROVAL:
                return self._answer(reserved, replayed=reserved.id != attempt.id)
            return await self._carry_out(reserved, order)
        finally:
            if attempt.id not in self.resending.tasks:
                owners.running.discard(attempt.id)
            self._sent.discard(attempt.id)

    async def _check_and_reserve(self, attempt: Attempt, order: TransferOrder) -> Attempt:
        # The refusal of a policy must tell nothing about the account, so that it comes first.
        if self._is_refused(attempt):
            earlier = await self._reserve(attempt, is_checked=False)
            if earlier is not None:
                return earlier
        organization_id = await self._check_first(attempt, order)
        reserved = await self._reserve(attempt, organization_id=organization_id)
        assert reserved is not None
        if reserved.id == attempt.id:
            self._records.read(lambda reader: warn_of_equal_orders(reader, attempt.caller))
        return reserved

    def _is_refused(self, attempt: Attempt) -> bool:
        owners = self._records.owners
        return self._records.read(lambda reader: decide.is_refused(reader, owners, attempt, self._limits))

    async def _check_first(self, attempt: Attempt, order: TransferOrder) -> str | None:
        """Make the checks that may need Sequence, and return the organization of the source."""
        try:
            accounts = await self._check_accounts(order, attempt.caller)
        except SequenceError as error:
            await self._record_failed(attempt, error)
            raise
        await self._check_clock()
        if self._records.read(lambda reader: decide.must_count_missing(reader, attempt.caller)):
            await self._count_missing()
        source = accounts.find(order.source_type, order.source_id)
        return None if source is None else source.organization_id

    async def _check_accounts(self, order: TransferOrder, caller: str) -> Accounts:
        """Check that the account has what the transfer names, in a list that is read again if it is old.

        The caller is told nothing of what it may not read.

        Raises:
            UnknownAccountError: it does not.
            SequenceError: the account cannot be read. Nothing was sent.
        """
        accounts, read_at = self._accounts or (None, -math.inf)
        policy = self._records.read(policy_in_force)

        def may_read(kind: AccountType, account_id: str) -> bool:
            return is_free(policy, caller) or (policy is not None and policy.caller(caller).may_read(kind, account_id))

        problem = None if accounts is None else unknown_account(order, accounts, may_read)
        if accounts is None or (problem is not None and self._clock_seconds() - read_at > ACCOUNTS_SECONDS):
            accounts = await self._client.accounts(balances=False, urgent=True)
            self._accounts = accounts, self._clock_seconds()
            problem = unknown_account(order, accounts, may_read)
        if problem is not None:
            raise problem
        return accounts

    async def _record_failed(self, attempt: Attempt, error: SequenceError) -> None:
        """Record an attempt that failed because the account cannot be read."""
        error.outcome, error.retry, error.attempt_id = Outcome.NOTHING_MOVED, error.retry or Retry.LATER, attempt.id

        def record(writer: Writer) -> None:
            writer.add_attempt(attempt)
            decide.end(writer, attempt, State.FAILED, error=str(error), code=error.code.value)

        with suppress(SafeguardsUnavailableError):
            await self._write(record)

    def _find_replay(self, attempt: Attempt) -> Attempt | None:
        """Find the earlier attempt that a replay names. A replay is free of the rate, and needs no upstream call.

        Raises:
            GatewayError: what to say of an earlier attempt that Sequence did not take.
        """
        found = self._records.read(lambda reader: decide.replayed(reader, self._records.owners, attempt))
        if isinstance(found, GatewayError):
            raise found
        return found

    async def _reserve(
        self, attempt: Attempt, *, is_checked: bool = True, organization_id: str | None = None
    ) -> Attempt | None:
        owners = self._records.owners

        def reserve(writer: Writer) -> Attempt | GatewayError | None:
            owned = replace(attempt, owner=owners.own_id())
            return decide.reserve(
                writer, owners, owned, self._limits, is_checked=is_checked, organization_id=organization_id
            )

        decided = await self._write(reserve)
        if isinstance(decided, GatewayError):
            raise decided
        return decided

    async def _approve(self, attempt: Attempt, request: approving.Request) -> CompletedTransfer:
        """Take the steps of an attempt that the owner approves."""
        owners, order = self._records.owners, order_of(attempt)
        if attempt.sent_through != self._client.capabilities.upstream.value:
            raise InvalidRequestError(
                f"This transfer was requested through {attempt.sent_through}. Approve it in a process that uses it."
            )
        if (error := self._records.read(self._owner.check_pause)) is not None:
            raise error
        self._client.check_order(order)
        if attempt.id in owners.running:  # whoever comes second must not take it from the first one
            raise ApprovalOverError("It is being approved right now.", attempt_id=attempt.id)
        owners.running.add(attempt.id)
        try:
            problem = await self._problem_of(attempt, order)
            await self._check_clock()
            if self._records.read(lambda reader: decide.must_count_missing(reader, attempt.caller)):
                await self._count_missing()
            approve = partial(
                approving.approve,
                owners=owners,
                owner=self._owner,
                request=request,
                limits=self._limits,
                problem=problem,
            )
            reserved = await self._write(approve)
            if isinstance(reserved, GatewayError):
                raise reserved
            return await self._carry_out_approved(reserved, order)
        finally:
            if attempt.id not in self.resending.tasks:
                owners.running.discard(attempt.id)
            self._sent.discard(attempt.id)

    async def _carry_out_approved(self, attempt: Attempt, order: TransferOrder) -> CompletedTransfer:
        try:
            return await self._carry_out(attempt, order)
        except (SafeguardError, SequenceError) as error:
            if attempt.id not in self._sent:
                error.advice = f"{error.advice} {NOT_SENT}".strip()
            raise

    async def _problem_of(self, attempt: Attempt, order: TransferOrder) -> SafeguardError | InvalidRequestError | None:
        """Say what speaks against a transfer that the owner approves, as Sequence shows the account now.

        Raises:
            SequenceError: the account cannot be read. Nothing was sent.
        """
        accounts = await self._client.accounts(urgent=True)
        source = accounts.find(order.source_type, order.source_id)
        destination = accounts.find(order.destination_type, order.destination_id)
        if source is None or destination is None or attempt.organization_id not in {None, source.organization_id}:
            return InvalidRequestError(
                "This process uses another account than the request, or Sequence left out a part of it. It still waits."
            )
        if source.balance_cents is not None and source.balance_cents < order.amount_cents:
            return LowBalanceError(
                f"The balance of the source is {format_cents(source.balance_cents)}, which is too low. It still waits."
            )
        return None

    async def _carry_out(self, attempt: Attempt, order: TransferOrder) -> CompletedTransfer:
        try:
            prepared = await self._prepare(attempt, order)
            attempt = await self._announce(attempt)
            age = Age(attempt.sent_at, self._clock)
            self._sent.add(attempt.id)
            receipt = await self._send(prepared, attempt)
        except BaseException as error:
            lost = await self._end_failed(attempt, error)
            if lost is None:
                raise
            answer = await self.resending.wait_for(attempt, age) if self._is_resent(error) else None
            if answer is None:
                raise lost from error
            return answer
        return await self._end_accepted(attempt, receipt)

    async def _prepare(self, attempt: Attempt, order: TransferOrder) -> PreparedTransfer:
        """Wait for a turn, unless the program stops or transfers are frozen meanwhile.

        Raises:
            StoppingError: the program stops.
            FrozenError: transfers were frozen.
        """
        waiting = self._client.prepare_transfer(order, attempt_id=attempt.id, caller=attempt.caller)
        task = asyncio.ensure_future(waiting)
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while not task.done():
                if self._stopping.is_set():
                    raise StoppingError("The server stops; nothing was sent. Request the transfer again later.")
                await asyncio.wait({task, stopping}, timeout=FREEZE_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                self.check_stopped(attempt)
            return task.result()
        finally:
            stopping.cancel()
            task.cancel()
            await asyncio.wait({task, stopping})
            if not task.cancelled():
                task.exception()

    async def _announce(self, attempt: Attempt) -> Attempt:
        if self._stopping.is_set():
            raise StoppingError("The server stops; nothing was sent. Request the transfer again later.")
        if self._clock_is_wrong():
            raise self._wrong_clock()
        announce = partial(decide.announce, owners=self._records.owners, attempt=attempt, limits=self._limits)
        announced = await self._write(announce, needs_trail=True)
        if isinstance(announced, GatewayError):
            raise announced
        return announced

    async def _send(self, prepared: PreparedTransfer, attempt: Attempt) -> TransferReceipt:
        try:
            return await prepared.send()
        except NotAuthorizedError:
            await prepared.renew()
        await self._check_again(attempt, State.SENDING)
        return await prepared.send()

    async def _check_again(self, attempt: Attempt, state: State) -> None:
        check = partial(
            decide.check_again, owners=self._records.owners, attempt=attempt, limits=self._limits, state=state
        )
        rejection = await self._write(check)
        if rejection is not None:
            raise rejection

    async def _end_failed(self, attempt: Attempt, error: BaseException) -> OutcomeUnknownError | None:
        """Record the end, and return what the caller should know, if that is not the error itself."""
        text = str(error) if isinstance(error, GatewayError) else type(error).__name__
        unsent = attempt.id not in self._sent
        certain = (
            unsent or isinstance(error, SafeguardError) or (isinstance(error, SequenceError) and error.nothing_moved)
        )
        state = State.UNKNOWN
        if certain:
            state = State.REFUSED if isinstance(error, RefusedError) else State.FAILED
            state = State.CANCELLED if isinstance(error, STOPS) and unsent else state
        code = error.code.value if isinstance(error, GatewayError) else None
        if isinstance(error, GatewayError):
            error.attempt_id = attempt.id
        is_resent = self._is_resent(error)

        def end(writer: Writer, current: Attempt) -> Attempt:
            ended = decide.end(writer, current, state, error=text, code=code, is_resent=is_resent)
            trip(writer, self._records.owners, attempt.caller)
            return ended

        with anyio.CancelScope(shield=True):
            await self._record_end(attempt, end)
            if isinstance(error, KeyMismatchError):
                await self.resending.freeze(attempt, error)
        if certain or not isinstance(error, Exception):
            return None
        self._on_open()
        return unknown_outcome(text, attempt.id)

    def _is_resent(self, error: BaseException) -> bool:
        """Say whether a transfer whose answer this is, and whose outcome is unknown, is sent again."""
        is_lost = isinstance(error, SequenceError) and not isinstance(error, KeyMismatchError)
        return is_lost and self._client.capabilities.resend

    # What sending a transfer again needs; see `Resending`.

    async def prepare(self, attempt: Attempt) -> PreparedTransfer:
        """Wait for a turn, unless the program stops or transfers are frozen meanwhile."""
        return await self._prepare(attempt, order_of(attempt))

    async def is_open(self, attempt: Attempt) -> bool:
        """Say whether the outcome is still unknown, and make the checks of announcing again."""
        await self._check_clock()
        current = self._records.read(lambda reader: reader.attempt(attempt.id))
        if current is None or current.state is not State.UNKNOWN:
            return False
        await self._check_again(attempt, State.UNKNOWN)
        return True

    def check_stopped(self, attempt: Attempt) -> None:
        """Raise if a transfer that waits has to stop; see `decide.stopped_by`."""
        error = self._records.read(lambda reader: decide.waiting_stopped_by(reader, attempt))
        if error is not None:
            raise error

    async def end_resending(self, attempt: Attempt, receipt: TransferReceipt | None) -> CompletedTransfer | None:
        """Record what came of sending a transfer again. Without a receipt, leave it to the lookups."""

        def release(writer: Writer) -> None:
            current = writer.attempt(attempt.id)
            if current is not None and current.state is State.UNKNOWN:
                writer.update(current, owner=None)
                trip(writer, self._records.owners, attempt.caller)

        try:
            if receipt is not None:
                return await self._end_accepted(attempt, receipt)
            with anyio.CancelScope(shield=True), suppress(SafeguardsUnavailableError):  # then it ends with the process
                await self._write(release)
            return None
        finally:
            self._records.owners.running.discard(attempt.id)
            self._on_open()

    async def _end_accepted(self, attempt: Attempt, receipt: TransferReceipt) -> CompletedTransfer:
        candidates = self._matches(attempt, receipt.transfers) if receipt.transfer is None else (receipt.transfer,)
        if not await self._has_free(candidates):
            candidates = await self._look(attempt, receipt.organization_id)
        accepted: list[tuple[Attempt, Transfer | None]] = []

        def accept(writer: Writer, current: Attempt) -> Attempt:
            transfer = next((one for one in candidates if not writer.is_claimed(one.id)), None)
            changed = decide.accept_attempt(writer, current, transfer, organization_id=receipt.organization_id)
            accepted.append((changed, transfer))
            return changed

        with anyio.CancelScope(shield=True):
            await self._record_end(attempt, accept)
        done, transfer = accepted[-1] if accepted else (replace(attempt, state=State.ACCEPTED), None)
        if done.transfer_id is None:
            self._on_open()
        return self._completed(done, transfer)

    async def _record_end(self, attempt: Attempt, change: Callable[[Writer, Attempt], Attempt]) -> None:
        def record(writer: Writer) -> None:
            current = writer.attempt(attempt.id)
            if current is not None and current.state in {State.RESERVED, State.SENDING, State.UNKNOWN}:
                change(writer, current)

        try:
            await self._write(record, END_LOCK_TIMEOUT_SECONDS)
        except SafeguardsUnavailableError as error:
            # It stays as it is, and counts; the next decision takes it for a dead process's.
            log.critical("the end of attempt %s cannot be recorded (%s)", attempt.id, error)

    async def _has_free(self, candidates: tuple[Transfer, ...]) -> bool:
        with suppress(SafeguardsUnavailableError):
            return self._records.read(lambda reader: any(not reader.is_claimed(one.id) for one in candidates))
        return False

    async def _look(self, attempt: Attempt, organization_id: str | None) -> tuple[Transfer, ...]:
        organization_id = organization_id or self._organization_id
        if organization_id is None:
            return ()
        day, sent_at = timedelta(days=1), attempt.sent_at
        about_then = ActivityFilter(date_start=(sent_at - day).date(), date_end=(sent_at + day).date())
        with anyio.move_on_after(IDENTIFY_TIMEOUT_SECONDS):
            try:
                page = await self._client.activity(
                    organization_id, first=IDENTIFY_PAGE_TRANSFERS, only=about_then, urgent=True
                )
                return self._matches(attempt, page.transfers)
            except GatewayError as error:
                log.warning("the id of attempt %s cannot be looked up: %s", attempt.id, error)
        return ()

    def _matches(self, attempt: Attempt, transfers: tuple[Transfer, ...]) -> tuple[Transfer, ...]:
        found = matches(attempt.order, transfers, attempt.sent_at, self._client.clock_offset_seconds)
        return tuple(one for one in found if describes(attempt, one))

    def _answer(self, attempt: Attempt, *, replayed: bool) -> CompletedTransfer | PendingTransfer:
        if attempt.state is not State.AWAITING_APPROVAL:
            return self._completed(attempt, replayed=replayed)
        approval = self._records.read(lambda reader: reader.approval(attempt.id))
        assert approval is not None
        return PendingTransfer(
            attempt_id=attempt.id,
            amount_cents=attempt.amount_cents,
            rule=attempt.rule,
            expires_at=approval.expires_at,
            detail=(
                "The owner has to approve this transfer; nothing was sent. Once approved, it is sent: do not request it"
                f" again. GET /api/attempts/{attempt.id} says what became of it."
            ),
            replayed=replayed,
        )

    def _completed(
        self, attempt: Attempt, transfer: Transfer | None = None, *, replayed: bool = False
    ) -> CompletedTransfer:
        left_cents = 0
        names = self._names.all()
        with suppress(SafeguardsUnavailableError):
            left_cents = self._records.read(lambda reader: self._remaining_cents(reader, attempt.caller))
        source = Party(id=attempt.source_id, type=attempt.source_type, name=names.get(attempt.source_id or ""))
        destination = Party(
            id=attempt.destination_id, type=attempt.destination_type, name=names.get(attempt.destination_id or "")
        )
        has_returned = attempt.state is State.RETURNED
        return CompletedTransfer(
            id=attempt.transfer_id,
            status=attempt.upstream_status,
            state=attempt.state,
            amount_cents=attempt.amount_cents,
            source=transfer.source if transfer else source,
            destination=transfer.destination if transfer else destination,
            created_at=transfer.created_at if transfer else attempt.upstream_created_at,
            attempt_id=attempt.id,
            daily_remaining_cents=left_cents,
            reason=attempt.error if has_returned else None,
            retry=Retry.NEVER if has_returned else None,
            replayed=replayed,
        )

    def _remaining_cents(self, reader: Reader, caller: str) -> int:
        return decide.remaining_cents(reader, self._limits.lowered_by(reader.recorded_limits()), caller)

    # Clocks, and the way to the records.

    async def _check_clock(self) -> None:
        if self._clock_is_wrong() is not False:
            # Nothing is known yet, or the clock may have been corrected since: Sequence's next answer tells.
            with suppress(SequenceError):
                await self._client.read_clock()
        if self._clock_is_wrong():
            raise self._wrong_clock()

    def _clock_is_wrong(self) -> bool | None:
        offset_seconds = self._client.clock_offset_seconds
        return None if offset_seconds is None else abs(offset_seconds) > MAX_CLOCK_OFFSET_SECONDS

    def _wrong_clock(self) -> ClockError:
        return ClockError(
            f"No transfer is possible: Sequence's clock is {self._client.clock_offset_seconds or 0:+.0f} seconds from"
            " this machine's, so the UTC day is uncertain. Correct this machine's clock. Reads go on."
        )

    async def _write(
        self,
        decide_on: Callable[[Writer], T],
        timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
        *,
        needs_trail: bool = False,
    ) -> T:
        write = partial(self._records.write, decide_on, timeout_seconds, needs_trail=needs_trail)
        return await anyio.to_thread.run_sync(write)

    def _new_attempt(self, order: TransferOrder, channel: Channel, key: str | None, caller: Caller) -> Attempt:
        attempt = new_attempt(order, channel, key, caller, self._clock())
        return replace(attempt, upstream=self._client.capabilities.upstream.value)

    def _done(self, attempt: Attempt, task: asyncio.Task[CompletedTransfer | PendingTransfer]) -> None:
        """Count how the request ended, and log it, also where the client has disconnected and would not see it."""
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        attempt_id = attempt.id
        if task.cancelled():
            end, why = State.UNKNOWN.value, "it was interrupted"
        elif error is None:
            answer = task.result()
            attempt_id = answer.attempt_id
            end, why = "replayed" if answer.replayed else answer.state.value, ""
        elif isinstance(error, GatewayError):
            attempt_id = error.attempt_id or attempt_id
            end, why = "replayed" if getattr(error, "replayed", False) else error.code.value, str(error)
        else:
            end, why = Code.INTERNAL_ERROR.value, str(error)
        self.ends[attempt.caller, end] += 1
        fields = {
            "attempt_id": attempt_id,
            "amount_cents": attempt.amount_cents,
            "source_id": attempt.source_id,
            "destination_id": attempt.destination_id,
            "via": attempt.channel,
            "caller": attempt.caller,
            "result": end,
        }
        amount, why = format_cents(attempt.amount_cents), f": {why}" if why else ""
        text = "transfer of %s from %s to %s: %s (attempt %s)%s"
        parties = attempt.source_id, attempt.destination_id
        log.info(text, amount, *parties, end, attempt_id, why, extra={"fields": fields})


def new_attempt(order: TransferOrder, channel: Channel, key: str | None, caller: Caller, now: datetime) -> Attempt:
    """Make a new attempt from an order, as it would be reserved."""
    canonical = json.dumps(order.model_dump(mode="json"), sort_keys=True)
    return Attempt(
        id=str(uuid4()),
        caller=caller.name,
        caller_key_sha256=caller.key_sha256,
        channel=channel.value,
        state=State.RESERVED,
        amount_cents=order.amount_cents,
        created_at=now,
        source_type=order.source_type.value,
        source_id=order.source_id,
        destination_type=order.destination_type.value,
        destination_id=order.destination_id,
        kyc_id=order.kyc_id,
        description=order.description or None,
        instant=order.instant,
        request_sha256=hashlib.sha256(canonical.encode()).digest(),
        key_sha256=None if key is None else hashlib.sha256(key.encode()).digest(),
    )
