"""What is known of the attempts, for people and programs: the limits of today, and one attempt."""

from datetime import date
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from pysequence_api.errors import InvalidRequestError, NotFoundError
from pysequence_api.models import FROM_OTHERS, OthersText, PageInfo, Timestamp, TransferStatus
from pysequence_api.records.attempts import OWNER, Attempt, Reader
from pysequence_api.records.control import frozen_callers
from pysequence_api.records.database import Database
from pysequence_api.records.keys import sha256_of
from pysequence_api.records.owners import Owners
from pysequence_api.records.states import State
from pysequence_api.safeguards import decide
from pysequence_api.safeguards.decide import MaxCents
from pysequence_api.safeguards.judge import WINDOW_LIMITS, Window, is_free
from pysequence_api.safeguards.policies import policy_in_force
from pysequence_api.safeguards.policy import Caller, Pairs, Scope, Windows
from pysequence_api.safeguards.scopes import sees_everything
from pysequence_api.sequence.client import NOT_A_CURSOR

MAX_ATTEMPTS_READ = 1000
"""For one page of a list of attempts. This runs on the event loop."""
_ROLLING = {name for name, window, _, _ in WINDOW_LIMITS if window is Window.HOUR}
"""The limits whose windows begin later with every moment."""


class Result(BaseModel):
    """The base of what is told."""

    # Every field is in every answer, also one that is null.
    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True, defer_build=True)

    @cached_property
    def as_json(self) -> bytes:
        """This as JSON, encoded once."""
        return self.model_dump_json().encode()


class UnsettledAttempt(Result):
    """An attempt that counts in full, because it has not ended."""

    attempt_id: str
    state: State = Field(description="reserved or sending: in flight; unknown: it was sent, and the outcome is unknown")
    amount_cents: int
    source_id: str | None
    destination_id: str | None
    since: Timestamp
    running: bool = Field(description="Whether a process works on it now")
    reason: str | None = Field(description=f"Why it has not ended. {FROM_OTHERS}")


class FrozenCaller(Result):
    """A caller whose own transfers are frozen."""

    caller: str
    since: Timestamp
    reason: str


class Limits(Result):
    """Both limits, and what is used and left of this UTC day."""

    frozen: bool = Field(description="Whether transfers are frozen")
    frozen_reason: str | None = Field(description="Why transfers are frozen")
    frozen_since: Timestamp | None = Field(description="Since when transfers are frozen")
    frozen_callers: tuple[FrozenCaller, ...] = Field(description="The callers that are frozen themselves")
    max_transfer_cents: int
    max_daily_cents: int
    used_cents: int = Field(description="What counts today, with everything that has not ended")
    remaining_cents: int
    date: date
    unsettled: tuple[UnsettledAttempt, ...]
    audit_head: str | None = Field(description="The hash of the newest line of the audit trail; note it elsewhere")


class CallerWindow(Result):
    """One limit of the policy, and what a caller has used of it."""

    rule: str | None = Field(description="The rule that it belongs to; null for the caller's own limit")
    name: str = Field(description="Such as day_cents or hour_count: rolling hours, UTC days, UTC months")
    limit: int = Field(description="In cents, or in transfers")
    used: int
    left: int


class CallerLimits(Result):
    """What a caller has used of this UTC day, and of the limits that the policy sets it."""

    caller: str
    frozen: bool = Field(description="Whether transfers of this caller are frozen")
    frozen_reason: str | None = Field(description="Why they are frozen")
    frozen_since: Timestamp | None = Field(description="Since when they are frozen")
    used_cents: int = Field(description="What of this caller counts today, with everything that has not ended")
    windows: tuple[CallerWindow, ...] = Field(description="The caller's own limits, then those of its rules")
    date: date
    unsettled: tuple[UnsettledAttempt, ...]


class AttemptStatus(Result):
    """What is known of one attempt."""

    attempt_id: str
    state: State
    code: str | None = Field(None, description="Why it was rejected or failed, for programs")
    error: OthersText = None
    amount_cents: int
    source_id: str | None
    destination_id: str | None
    transfer_id: str | None = None
    transfer_status: TransferStatus | None = Field(
        None, description="The newest status of the transfer known from Sequence"
    )
    description: OthersText = None
    reason: str | None = Field(None, description=f"What the caller said it is for. {FROM_OTHERS}")
    created_at: Timestamp
    announced_at: Timestamp | None = Field(None, description="When it was sent")
    ended_at: Timestamp | None = Field(None, description="When its outcome was known")
    followed_until: Timestamp | None = Field(None, description="It is looked up at Sequence until then")
    expires_at: Timestamp | None = Field(None, description="If the owner has not approved it by then, it expires")
    decided_at: Timestamp | None = Field(None, description="When the owner approved or denied it")


class AttemptList(Result):
    """Attempts of one caller, newest first."""

    attempts: tuple[AttemptStatus, ...]
    page_info: PageInfo


def read_limits(records: Database, limits: MaxCents, caller: str = OWNER) -> Limits:
    """Say what is used and left today.

    Args:
        records: the database.
        limits: the limits of this process.
        caller: who asks, and may see everything: `frozen` is also about a freeze of this caller.

    Raises:
        SafeguardsUnavailableError: the records cannot be read.
    """

    def ask(reader: Reader) -> Limits:
        lowered = limits.lowered_by(reader.recorded_limits())
        used_cents, unsettled = _used_today(reader, records)
        frozen = reader.freeze() or reader.freeze_of(caller)
        return Limits(
            frozen=frozen is not None,
            frozen_reason=frozen.reason if frozen else None,
            frozen_since=frozen.since if frozen else None,
            frozen_callers=tuple(
                FrozenCaller(caller=str(one.caller), since=one.since, reason=one.reason)
                for one in frozen_callers(reader)
            ),
            max_transfer_cents=lowered.per_transfer,
            max_daily_cents=lowered.per_day,
            used_cents=used_cents,
            remaining_cents=max(0, lowered.per_day - used_cents),
            date=reader.now.date(),
            unsettled=unsettled,
            audit_head=reader.audit_head(),
        )

    return records.read_kept(("limits", limits, caller, records.now().date()), ask, lambda answer: not answer.unsettled)


def read_caller_limits(records: Database, caller: str) -> CallerLimits:
    """Say what a caller has used today, and nothing of others.

    Raises:
        SafeguardsUnavailableError: the records cannot be read.
    """

    def ask(reader: Reader) -> CallerLimits:
        used_cents, unsettled = _used_today(reader, records, caller)
        frozen = decide.frozen_for(reader, caller)
        return CallerLimits(
            caller=caller,
            frozen=frozen is not None,
            frozen_reason=frozen.reason if frozen else None,
            frozen_since=frozen.since if frozen else None,
            used_cents=used_cents,
            windows=caller_windows(reader, caller),
            date=reader.now.date(),
            unsettled=unsettled,
        )

    return records.read_kept(("limits of", caller, records.now().date()), ask, _is_lasting)


def _is_lasting(limits: CallerLimits) -> bool:
    """Say whether only a change of the database, or another day, changes these limits."""
    rolls = any(one.used and one.name in _ROLLING for one in limits.windows)
    return not limits.unsettled and not rolls


def read_attempt(records: Database, attempt_id: str, caller: str | None = None) -> AttemptStatus:
    """Say what is known of an attempt.

    Args:
        records: the database.
        attempt_id: the attempt.
        caller: who asks, if that must be the attempt's caller or one that sees everything.

    Raises:
        NotFoundError: there is no such attempt, or not one that the caller may see.
        SafeguardsUnavailableError: the records cannot be read.
    """

    def ask(reader: Reader) -> AttemptStatus | None:
        found = reader.attempt(attempt_id)
        is_own = found is not None and caller in {None, found.caller}
        if found is None or not (is_own or sees_everything(policy_in_force(reader), str(caller), Scope.READ_ACTIVITY)):
            return None
        return _status_of(reader, found, records.owners)

    status = records.read(ask)
    if status is None:
        raise NotFoundError(f"There is no attempt {attempt_id[:100]!r}.")
    return status


def list_attempts(
    records: Database,
    caller: str,
    *,
    state: State | None = None,
    key: str | None = None,
    limit: int = 10,
    after: str = "",
) -> AttemptList:
    """List the attempts of a caller, newest first.

    At most `MAX_ATTEMPTS_READ` are read for one page. If few of them match, it is short, and has a next one.

    Args:
        records: the database.
        caller: whose attempts.
        state: only those that are in this state now.
        key: only those with this idempotency key.
        limit: how many.
        after: the end cursor of the previous page; empty for the first page.

    Raises:
        InvalidRequestError: ``after`` is not a cursor of this list.
        SafeguardsUnavailableError: the records cannot be read.
    """

    key_sha256 = None if key is None else sha256_of(key.encode())
    # What is recorded as one of the last three can be another state by now.
    recorded = None if state is None else {state, State.RESERVED, State.SENDING, State.AWAITING_APPROVAL}

    def ask(reader: Reader) -> AttemptList:
        before = reader.attempt(after) if after else None
        if after and (before is None or before.caller != caller):
            raise InvalidRequestError(NOT_A_CURSOR)
        overdue = reader.overdue_approvals()
        count = limit + 1 if state is None and key is None else MAX_ATTEMPTS_READ
        listed = reader.outlines_of(caller, count, before)
        # An order that waited for the owner can have more keys than its first one.
        named = None if key_sha256 is None else reader.attempt_by_key(caller, key_sha256)
        found: list[AttemptStatus] = []
        for one in listed:
            has_key = key_sha256 in {None, one.key_sha256} or (named is not None and one.id == named.id)
            if has_key and (recorded is None or one.state in recorded):
                attempt = reader.attempt(one.id)
                if attempt is not None and state in {None, decide.state_now(attempt, records.owners, overdue)}:
                    found.append(_status_of(reader, attempt, records.owners))
            if len(found) > limit:
                break
        end = ""
        if len(found) > limit:
            end = found[limit - 1].attempt_id
        elif len(listed) == MAX_ATTEMPTS_READ:
            end = listed[-1].id
        return AttemptList(attempts=tuple(found[:limit]), page_info=PageInfo(end_cursor=end, has_next_page=bool(end)))

    return records.read(ask)


def _status_of(reader: Reader, attempt: Attempt, owners: Owners) -> AttemptStatus:
    approval = reader.approval(attempt.id)
    state = decide.state_now(attempt, owners, reader.overdue_approvals())
    return AttemptStatus(
        attempt_id=attempt.id,
        state=state,
        code=attempt.code,
        error=attempt.error,
        amount_cents=attempt.amount_cents,
        source_id=attempt.source_id,
        destination_id=attempt.destination_id,
        transfer_id=attempt.transfer_id,
        transfer_status=attempt.upstream_status,
        description=attempt.description,
        reason=attempt.reason,
        created_at=attempt.created_at,
        announced_at=attempt.announced_at,
        ended_at=attempt.ended_at,
        followed_until=attempt.followed_until,
        expires_at=None if approval is None else approval.expires_at,
        decided_at=None if approval is None else approval.decided_at,
    )


def caller_windows(reader: Reader, caller: str) -> tuple[CallerWindow, ...]:
    """Say what a caller has used of the limits that the policy sets it; nothing of one that no policy holds."""
    policy = policy_in_force(reader)
    if policy is None or is_free(policy, caller):
        return ()
    granted: Caller = policy.caller(caller)
    tables: list[tuple[str | None, Windows, Pairs | None]] = [(None, granted, None)]
    tables += [(rule.name, rule, granted.pairs_by_rule[rule.name]) for rule in granted.rules]
    found = []
    for rule, windows, pairs in tables:
        for name, window, unit, _ in WINDOW_LIMITS:
            limit: int | None = getattr(windows, name)
            if limit is not None:
                used = reader.used(caller, pairs, window.begin(reader.now), returned=window.counts_returned)
                count = used.cents if unit == "cents" else used.count
                found.append(CallerWindow(rule=rule, name=name, limit=limit, used=count, left=max(0, limit - count)))
    return tuple(found)


def _used_today(
    reader: Reader, records: Database, caller: str | None = None
) -> tuple[int, tuple[UnsettledAttempt, ...]]:
    """Return what counts today in cents, and what is open, of one caller or of all."""
    opened = [one for one in reader.open_attempts() if caller in {None, one.caller}]
    unsettled = [one for one in opened if decide.state_now(one, records.owners) is not State.FAILED]
    never_sent_cents = sum(one.amount_cents for one in opened if one not in unsettled)
    used_cents = reader.used_cents(decide.day_begin(reader.now), caller) - never_sent_cents
    return used_cents, tuple(_unsettled(one, records) for one in unsettled)


def _unsettled(attempt: Attempt, records: Database) -> UnsettledAttempt:
    running = records.owners.is_running(attempt.owner, attempt.id)
    state = decide.state_now(attempt, records.owners)
    reason = attempt.error or ("in flight" if running else "its process ended, or could not record its end")
    return UnsettledAttempt(
        attempt_id=attempt.id,
        state=state,
        amount_cents=attempt.amount_cents,
        source_id=attempt.source_id,
        destination_id=attempt.destination_id,
        since=attempt.sent_at,
        running=running,
        reason=reason,
    )
