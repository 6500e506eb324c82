"""What holds now, by the records alone: the two limits, whether transfers are frozen, how far an attempt has come.

Nothing here needs the policy, so that whoever only looks does not load it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, time

from pysequence_api.records.attempts import OWNER, Attempt, Freeze, Reader
from pysequence_api.records.owners import Owners
from pysequence_api.records.states import State
from pysequence_api.settings import Settings


@dataclass(frozen=True, slots=True)
class MaxCents:
    """The two limits, in cents."""

    per_transfer: int
    per_day: int

    @classmethod
    def of(cls, settings: Settings) -> "MaxCents":
        """Return the limits of the settings."""
        return cls(settings.max_transfer_cents, settings.max_daily_transfer_cents)

    def lowered_by(self, recorded: tuple[int | None, int | None]) -> "MaxCents":
        """Return the lower ones of these limits and the recorded ones of the server."""
        per_transfer, per_day = recorded
        return MaxCents(
            self.per_transfer if per_transfer is None else min(self.per_transfer, per_transfer),
            self.per_day if per_day is None else min(self.per_day, per_day),
        )


def frozen_for(reader: Reader, caller: str) -> Freeze | None:
    """Say why a caller's transfers are frozen, if they are."""
    freeze = reader.freeze()
    if freeze is None or (freeze.callers_only and caller == OWNER):
        return reader.freeze_of(caller)
    return freeze


def frozen_callers(reader: Reader) -> tuple[Freeze, ...]:
    """List the callers that are frozen themselves, by name."""
    found = [reader.freeze_of(row.name) for row in reader.callers() if row.removed_at is None]
    return tuple(one for one in found if one is not None)


def state_now(attempt: Attempt, owners: Owners, overdue: Collection[str] = ()) -> State:
    """Return the state of an attempt, as `fail_dead` would leave it.

    Args:
        attempt: the attempt.
        owners: which processes live.
        overdue: the attempts that waited for the owner for too long, by their ids.
    """
    if attempt.state is State.AWAITING_APPROVAL:
        return State.EXPIRED if attempt.id in overdue else attempt.state
    if attempt.state in {State.RESERVED, State.SENDING} and not owners.is_running(attempt.owner, attempt.id):
        return State.FAILED if attempt.state is State.RESERVED else State.UNKNOWN
    return attempt.state


def day_begin(now: datetime) -> datetime:
    """Return the beginning of the UTC day."""
    return datetime.combine(now.date(), time(), UTC)
