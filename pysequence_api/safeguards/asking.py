"""Make an attempt wait for the owner's approval when its rule asks for one, bound by a hash of the whole order."""

import hashlib
import json
from datetime import datetime, timedelta

from pysequence_api.clock import to_micros
from pysequence_api.errors import DeniedError, SafeguardError, TooManyPendingError
from pysequence_api.records.approvals import Approval
from pysequence_api.records.attempts import FIRST_UPSTREAM, Attempt, Reader, Writer
from pysequence_api.records.audit import EventType
from pysequence_api.records.states import State
from pysequence_api.safeguards.enforce import order_of
from pysequence_api.safeguards.policy import Rule
from pysequence_api.text import bounded

MAX_PENDING = 3
"""How many transfers of one caller may wait for the owner."""
MAX_CANCELLED = 6
"""How many that waited a caller may cancel within `CANCELLED`. Each was a message to the owner."""
CANCELLED = timedelta(hours=1)
DENIED = timedelta(hours=24)
"""How long the same transfer is refused after the owner denied it."""


def bound_sha256(attempt: Attempt, expires_at: datetime) -> bytes:
    """Return the raw SHA-256 that a decision is bound to: attempt, caller, rule, expiry and the whole order."""
    document = {
        "attempt_id": attempt.id,
        "caller": attempt.caller,
        "rule": attempt.rule,
        "upstream": attempt.sent_through,
        "expires_at_micros": to_micros(expires_at),
        "organization_id": attempt.organization_id,
        "order": order_of(attempt).model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).digest()


def equal_pending(reader: Reader, attempt: Attempt) -> Attempt | None:
    """Find the same order of the same caller that waits for the owner."""
    waiting = reader.awaiting(attempt.caller)
    overdue = reader.overdue_approvals() if waiting else frozenset()
    return next((one for one in waiting if one.id not in overdue and is_same_request(one, attempt)), None)


def join(writer: Writer, pending: Attempt, key_sha256: bytes | None) -> None:
    """Bind one more idempotency key of the caller to a pending attempt."""
    if key_sha256 is None:
        return
    named = writer.attempt_by_key(pending.caller, key_sha256)
    if named is None or named.id != pending.id:
        writer.bind_key(pending, key_sha256)
        writer.add_event(pending.event(EventType.APPROVAL_KEY_BOUND, writer.now, key_sha256=key_sha256.hex()))


def denied(reader: Reader, attempt: Attempt) -> DeniedError | None:
    """Return an error if the owner denied this caller the same transfer recently, with any description."""
    for one in reader.denied_since(attempt.caller, reader.now - DENIED):
        if one.order == attempt.order and one.ended_at is not None:
            return DeniedError(
                "The owner denied this transfer. The same amount between the same accounts is refused for 24 hours.",
                retry_after_seconds=int((one.ended_at + DENIED - reader.now).total_seconds()) + 1,
                attempt_id=one.id,
            )
    return None


def too_many_pending(reader: Reader, caller: str) -> SafeguardError | None:
    """Say that too many transfers of a caller wait for the owner already, or did until it canceled them."""
    waiting = {one.id for one in reader.awaiting(caller)} - reader.overdue_approvals()
    if len(waiting) >= MAX_PENDING:
        return TooManyPendingError(
            f"{MAX_PENDING} transfers of this caller wait for the owner's approval already. Wait for them, or cancel"
            " one."
        )
    if reader.count_cancelled_asks(caller, reader.now - CANCELLED) >= MAX_CANCELLED:
        return TooManyPendingError(
            f"Within an hour, this caller canceled {MAX_CANCELLED} transfers that waited for the owner's approval. Ask"
            " later."
        )
    return None


def ask(writer: Writer, attempt: Attempt, rule: Rule) -> Attempt:
    """Make an attempt wait for the owner, with an audit event.

    Args:
        writer: the transaction.
        attempt: with the organization of its source, if that is known.
        rule: the rule that asks.

    Returns:
        The attempt, which waits now.
    """
    waiting = writer.add_attempt(attempt, state=State.AWAITING_APPROVAL, owner=None)
    expires_at = writer.now + timedelta(minutes=rule.approval_minutes)
    approval = Approval(attempt_id=waiting.id, bound_sha256=bound_sha256(waiting, expires_at), expires_at=expires_at)
    writer.add_approval(approval)
    event = waiting.event(
        EventType.APPROVAL_REQUESTED,
        writer.now,
        description=bounded(waiting.description) if waiting.description else None,
        reason=bounded(waiting.reason) if waiting.reason else None,
        request_sha256=None if waiting.request_sha256 is None else waiting.request_sha256.hex(),
        key_sha256=None if waiting.key_sha256 is None else waiting.key_sha256.hex(),
        upstream=None if waiting.sent_through == FIRST_UPSTREAM else waiting.sent_through,
        approval_sha256=approval.bound_sha256.hex(),
        expires_at=expires_at,
    )
    writer.add_event(event)
    return waiting


def expire(writer: Writer) -> None:
    """Expire attempts that the owner did not decide about in time."""
    for attempt_id in sorted(writer.overdue_approvals()):
        attempt = writer.attempt(attempt_id)
        assert attempt is not None
        error = "the owner did not decide in time"
        expired = writer.move(attempt, State.EXPIRED, ended_at=writer.now, error=error)
        writer.add_event(expired.event(EventType.EXPIRED, writer.now, error=error))


def is_same_request(earlier: Attempt, attempt: Attempt) -> bool:
    """Return whether two attempts request the same transfer."""
    if earlier.request_sha256 == attempt.request_sha256:
        return True
    # One upstream has KYC ids, and the other has none: the same request differs in nothing else.
    has_kyc_once = (earlier.kyc_id is None) != (attempt.kyc_id is None)
    return has_kyc_once and _request(earlier) == _request(attempt)


def _request(attempt: Attempt) -> tuple[object, ...]:
    types = attempt.source_type, attempt.destination_type
    return *types, *attempt.order, attempt.description, attempt.instant
