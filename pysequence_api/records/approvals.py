"""What the owner was asked, what was decided, and how the owner proves who it is, as the database keeps that."""

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Self

from pysequence_api.clock import from_micros, to_micros
from pysequence_api.records.audit import Decision
from pysequence_api.records.grants import GrantReader

_TIMES = {"expires_at", "decided_at", "totp_set_at", "totp_not_before", "password_set_at", "password_not_before"}
LONG_AGO = from_micros(0)
TOTP_STEP_SECONDS = 30
"""How long the owner's authenticator shows a code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """What the owner was asked. Times are aware, in UTC.

    Attributes:
        bound_sha256: the raw SHA-256 of what the owner is shown, and decides about.
        expires_at: from then on nothing can be decided.
        decided_via: the channel on which the owner decided.
    """

    attempt_id: str
    bound_sha256: bytes
    expires_at: datetime
    decided_at: datetime | None = None
    decision: Decision | None = None
    decided_via: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerSecrets:
    """How the owner proves who it is. Times are aware, in UTC.

    Attributes:
        totp_secret: of the owner's authenticator, in base32; ``None`` if there is none in the database.
        totp_step: of the newest code that was used: `TOTP_STEP_SECONDS` each, since 1970.
        totp_failures: wrong codes since the last right one.
        totp_not_before: the next code is looked at then.
        password_hash: of the password of the owner's page: ``scrypt$n$r$p$salt$hash``.
        session_secret: signs the cookies of the page.
        session_generation: cookies of an earlier one are signed out.
    """

    totp_secret: str | None = field(default=None, repr=False)
    totp_set_at: datetime | None = None
    totp_step: int = 0
    totp_failures: int = 0
    totp_not_before: datetime = LONG_AGO
    password_hash: str | None = field(default=None, repr=False)
    password_set_at: datetime | None = None
    password_failures: int = 0
    password_not_before: datetime = LONG_AGO
    session_secret: bytes | None = field(default=None, repr=False)
    session_generation: int = 0

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        """Read a row of `OWNER_COLUMNS`."""
        return cls(**_read(OWNER_COLUMNS, row))


APPROVAL_COLUMNS = tuple(one.name for one in fields(Approval))
OWNER_COLUMNS = tuple(one.name for one in fields(OwnerSecrets))


class ApprovalReader(GrantReader):
    """Questions about approvals, and about the owner."""

    def approval(self, attempt_id: str) -> Approval | None:
        """Find what the owner was asked about an attempt."""
        question = f"SELECT {', '.join(APPROVAL_COLUMNS)} FROM approval WHERE attempt_id = ?"
        row = self._connection.execute(question, (attempt_id,)).fetchone()
        return None if row is None else Approval(**_read(APPROVAL_COLUMNS, row))

    def is_approved(self, attempt_id: str) -> bool:
        """Say whether the owner approved an attempt."""
        approval = self.approval(attempt_id)
        return approval is not None and approval.decision == "approved"

    def overdue_approvals(self) -> frozenset[str]:
        """Return the attempts that wait for the owner although their time is over, by their ids."""
        rows = self._connection.execute(
            "SELECT id FROM attempt JOIN approval ON attempt_id = id"
            " WHERE state = 'awaiting_approval' AND expires_at <= ?",
            (to_micros(self.now),),
        )
        return frozenset(attempt_id for (attempt_id,) in rows)

    def asked_attempts(self) -> frozenset[str]:
        """Return the attempts that the owner was asked about, by their ids."""
        return frozenset(attempt_id for (attempt_id,) in self._connection.execute("SELECT attempt_id FROM approval"))

    def count_cancelled_asks(self, caller: str, since: datetime) -> int:
        """Count the transfers that a caller requested since a time, and that were canceled while they waited."""
        question = (
            "SELECT count(*) FROM attempt JOIN approval ON attempt_id = id"
            " WHERE caller = ? AND created_at > ? AND state = 'cancelled' AND decision IS NULL"
        )
        (count,) = self._connection.execute(question, (caller, to_micros(since))).fetchone()
        return int(count)

    def owner_secrets(self) -> OwnerSecrets:
        """Return how the owner proves who it is."""
        row = self._connection.execute(f"SELECT {', '.join(OWNER_COLUMNS)} FROM owner").fetchone()
        return OwnerSecrets() if row is None else OwnerSecrets.from_row(row)


def stored(value: object) -> object:
    """Return a value as a column has it."""
    return to_micros(value) if isinstance(value, datetime) else value


def _read(names: tuple[str, ...], row: tuple[Any, ...]) -> dict[str, Any]:
    values = dict(zip(names, row, strict=True))
    return {
        name: from_micros(value) if name in _TIMES and value is not None else value for name, value in values.items()
    }
