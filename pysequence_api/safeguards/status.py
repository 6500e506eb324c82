"""What is known of the attempts, for people and programs: the limits of today, and one attempt."""

from datetime import date, datetime

from pydantic import BaseModel, ConfigDict, Field

from pysequence_api.errors import NotFoundError
from pysequence_api.records.attempts import Attempt, Reader
from pysequence_api.records.database import Database
from pysequence_api.records.states import State
from pysequence_api.safeguards import decide
from pysequence_api.safeguards.decide import MaxCents


class Result(BaseModel):
    """The base of what is told."""

    model_config = ConfigDict(frozen=True)


class UnsettledAttempt(Result):
    """An attempt that counts in full, because it has not ended."""

    attempt_id: str
    state: State = Field(description="reserved or sending: in flight; unknown: it was sent, and the outcome is unknown")
    amount_cents: int
    source_id: str | None
    destination_id: str | None
    since: datetime
    running: bool = Field(description="Whether a process works on it now")
    reason: str | None = Field(description="Why it has not ended")


class Limits(Result):
    """Both limits, and what is used and left of this UTC day."""

    frozen: bool = Field(description="Whether transfers are frozen")
    frozen_reason: str | None = Field(description="Why transfers are frozen")
    frozen_since: datetime | None = Field(description="Since when transfers are frozen")
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
    error: str | None = None
    amount_cents: int
    source_id: str | None
    destination_id: str | None
    transfer_id: str | None = None
    transfer_status: str | None = Field(None, description="The newest status of the transfer that Sequence told")
    description: str | None = None
    created_at: datetime
    announced_at: datetime | None = Field(None, description="When it was sent")
    ended_at: datetime | None = Field(None, description="When its outcome was known")
    followed_until: datetime | None = Field(None, description="It is looked up at Sequence until then")


def read_limits(records: Database, limits: MaxCents) -> Limits:
    """Say what is used and left today.

    Raises:
        SafeguardsUnavailableError: the records cannot be read.
    """

    def ask(reader: Reader) -> Limits:
        lowered = limits.lowered_by(reader.recorded_limits())
        open_attempts = reader.open_attempts()
        unsettled = [one for one in open_attempts if decide.state_now(one, records.owners) is not State.FAILED]
        never_sent_cents = sum(one.amount_cents for one in open_attempts if one not in unsettled)
        used_cents = reader.used_cents(decide.day_begin(reader.now)) - never_sent_cents
        frozen = reader.freeze()
        return Limits(
            frozen=frozen is not None,
            frozen_reason=frozen.reason if frozen else None,
            frozen_since=frozen.since if frozen else None,
            max_transfer_cents=lowered.per_transfer,
            max_daily_cents=lowered.per_day,
            used_cents=used_cents,
            remaining_cents=max(0, lowered.per_day - used_cents),
            date=reader.now.date(),
            unsettled=tuple(_unsettled(one, records) for one in unsettled),
            audit_head=reader.audit_head(),
        )

    return records.read(ask)


def read_attempt(records: Database, attempt_id: str) -> AttemptStatus:
    """Say what is known of an attempt.

    Raises:
        NotFoundError: there is no such attempt.
        SafeguardsUnavailableError: the records cannot be read.
    """
    attempt = records.read(lambda reader: reader.attempt(attempt_id))
    if attempt is None:
        raise NotFoundError(f"There is no attempt {attempt_id[:100]!r}.")
    return AttemptStatus(
        attempt_id=attempt.id,
        state=decide.state_now(attempt, records.owners),
        code=attempt.code,
        error=attempt.error,
        amount_cents=attempt.amount_cents,
        source_id=attempt.source_id,
        destination_id=attempt.destination_id,
        transfer_id=attempt.transfer_id,
        transfer_status=attempt.upstream_status,
        description=attempt.description,
        created_at=attempt.created_at,
        announced_at=attempt.announced_at,
        ended_at=attempt.ended_at,
        followed_until=attempt.followed_until,
    )


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
