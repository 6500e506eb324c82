"""What is known of the attempts, whoever made them: the limits of today, and one attempt. Needs no policy."""

from collections.abc import Callable
from datetime import date
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from pysequence_api.errors import NotFoundError
from pysequence_api.models import FROM_OTHERS, OthersText, Timestamp, TransferStatus
from pysequence_api.records.attempts import OWNER, Attempt, Reader
from pysequence_api.records.database import Database
from pysequence_api.records.owners import Owners
from pysequence_api.records.states import State
from pysequence_api.safeguards.now import MaxCents, day_begin, frozen_callers, state_now


class Result(BaseModel):
    """The base of what is told."""

    # Every field is in every answer, also one that is null.
    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True, defer_build=True)

    @cached_property
    def encoded(self) -> bytes:
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
        used_cents, unsettled = used_today(reader, records)
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


def read_attempt(
    records: Database, attempt_id: str, may_see: Callable[[Reader, Attempt], bool] = lambda *_: True
) -> AttemptStatus:
    """Say what is known of an attempt.

    Args:
        records: the database.
        attempt_id: the attempt.
        may_see: says whether the attempt may be told. See `caller_status.read_attempt_of`.

    Raises:
        NotFoundError: there is no such attempt, or not one that may be told.
        SafeguardsUnavailableError: the records cannot be read.
    """

    def ask(reader: Reader) -> AttemptStatus | None:
        found = reader.attempt(attempt_id)
        if found is None or not may_see(reader, found):
            return None
        return status_of(reader, found, records.owners)

    status = records.read(ask)
    if status is None:
        raise NotFoundError(f"There is no attempt {attempt_id[:100]!r}.")
    return status


def status_of(reader: Reader, attempt: Attempt, owners: Owners) -> AttemptStatus:
    """Say what is known of an attempt that was read."""
    approval = reader.approval(attempt.id)
    state = state_now(attempt, owners, reader.overdue_approvals())
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


def used_today(
    reader: Reader, records: Database, caller: str | None = None
) -> tuple[int, tuple[UnsettledAttempt, ...]]:
    """Return what counts today in cents, and what is open, of one caller or of all."""
    opened = [one for one in reader.open_attempts() if caller in {None, one.caller}]
    unsettled = [one for one in opened if state_now(one, records.owners) is not State.FAILED]
    never_sent_cents = sum(one.amount_cents for one in opened if one not in unsettled)
    used_cents = reader.used_cents(day_begin(reader.now), caller) - never_sent_cents
    return used_cents, tuple(_unsettled(one, records) for one in unsettled)


def _unsettled(attempt: Attempt, records: Database) -> UnsettledAttempt:
    running = records.owners.is_running(attempt.owner, attempt.id)
    state = state_now(attempt, records.owners)
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
