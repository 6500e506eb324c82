"""The decisions about a transfer: plain functions over the records, each run in one transaction."""

from dataclasses import replace
from datetime import datetime, timedelta

from pysequence_api.errors import (
    Code,
    FrozenError,
    GatewayError,
    KeyReusedError,
    KeyRevokedError,
    NotExecutedError,
    OutcomeUnknownError,
    SafeguardError,
    SafeguardsUnavailableError,
    TooManyUnknownError,
    TransferCancelledError,
    TransferPendingError,
)
from pysequence_api.models import Transfer
from pysequence_api.records.attempts import (
    FIRST_UPSTREAM,
    FOLLOWED,
    Attempt,
    Freeze,
    Reader,
    Writer,
)
from pysequence_api.records.audit import Event, EventType
from pysequence_api.records.owners import Owners
from pysequence_api.records.states import RULES, State
from pysequence_api.safeguards import asking
from pysequence_api.safeguards.asking import ask, denied, expire, is_same_request, join
from pysequence_api.safeguards.enforce import AT_ONCE, day_limit, is_resent, judged, refusal, trip
from pysequence_api.safeguards.judge import Judgement, is_free
from pysequence_api.safeguards.now import MaxCents, day_begin, frozen_for, state_now
from pysequence_api.safeguards.policies import policy_in_force
from pysequence_api.safeguards.policy import Rule
from pysequence_api.safeguards.scopes import expired
from pysequence_api.text import bounded

MAX_UNKNOWN = 5
"""With so many transfers of unknown outcome, a caller may not send another one."""
IN_FLIGHT_RETRY_SECONDS = 5
REPEATED = timedelta(minutes=1)
"""Equal rejections within this time after the first one have no audit event of their own."""


def reserve(
    writer: Writer,
    owners: Owners,
    attempt: Attempt,
    limits: MaxCents,
    *,
    is_checked: bool = True,
    organization_id: str | None = None,
) -> Attempt | GatewayError | None:
    """Decide about a new attempt, and reserve its amount, or have it wait for the owner's approval.

    Args:
        writer: the transaction.
        owners: which processes live.
        attempt: as it would be reserved.
        limits: the limits of this process.
        is_checked: whether everything was checked that needs Sequence. If not, nothing is reserved.
        organization_id: of the source, if that is known.

    Returns:
        The new attempt; the earlier one with the same idempotency key, if Sequence took it; the same order, if that
        waits for the owner; or why there is no new one. ``None`` if it has to be checked first.
    """
    fail_dead(writer, owners)
    earlier = replayed(writer, owners, attempt)
    if earlier is not None:
        return earlier
    require_trust(writer)
    # Before the policy: if the rule does not ask any more, the order must not be sent beside the one that waits.
    if (pending := asking.equal_pending(writer, attempt)) is not None:
        join(writer, pending, attempt.key_sha256)
        return pending
    trip(writer, owners, attempt.caller)
    attempt, rejection = decided(writer, owners, replace(attempt, created_at=writer.now), limits)
    rule = asking_rule(writer, attempt) if asks(rejection) else None
    rejection = rejection if rule is None else asking.too_many_pending(writer, attempt.caller)
    if rejection is None and not is_checked:
        return None
    if rejection is None and writer.must_count_missing():
        return missing_error("they have not been counted yet")
    if rejection is not None:
        attempt = _add_rejected(writer, attempt, rejection)
    elif rule is not None:
        attempt = ask(writer, replace(attempt, organization_id=organization_id), rule)
    else:
        attempt = writer.add_attempt(attempt)
    trip(writer, owners, attempt.caller)
    return rejection or attempt


def asks(rejection: GatewayError | None) -> bool:
    """Say whether the owner has to approve a transfer, rather than that it is rejected."""
    return rejection is not None and rejection.code is Code.NEEDS_APPROVAL


def asking_rule(reader: Reader, attempt: Attempt) -> Rule | None:
    """Return the rule of the policy in force that covers an attempt."""
    policy = policy_in_force(reader)
    rules = () if policy is None else policy.caller(attempt.caller).rules
    return next((rule for rule in rules if rule.name == attempt.rule), None)


def _add_rejected(writer: Writer, attempt: Attempt, rejection: SafeguardError) -> Attempt:
    rejected = _as_rejected(attempt, rejection, writer.now)
    is_repeated = writer.is_repeated(rejected, REPEATED)
    if not is_repeated:
        why = {"error": rejected.error, "code": rejected.code, "reason": stated(rejected)}
        writer.add_event(rejected.event(EventType.REJECTED, writer.now, **why))
    writer.add_attempt(rejected)
    rejection.attempt_id = rejection.attempt_id or rejected.id
    return rejected


def replayed(reader: Reader, owners: Owners, attempt: Attempt) -> Attempt | GatewayError | None:
    """Answer a request whose idempotency key names an earlier attempt that keeps it.

    Returns:
        The earlier attempt, if Sequence took it, or if it waits for the owner; what to say of it otherwise; ``None`` if
        the key is free.
    """
    earlier = None if attempt.key_sha256 is None else reader.attempt_by_key(attempt.caller, attempt.key_sha256)
    if earlier is None or not RULES[earlier.state].keeps_key:
        return None
    if not is_same_request(earlier, attempt):
        return KeyReusedError("This idempotency key was used for another transfer. Use a new key for this one.")
    error: GatewayError
    match state_now(earlier, owners, reader.overdue_approvals()):
        case State.RESERVED | State.SENDING:
            error = TransferPendingError(
                "A transfer with this idempotency key is in flight.",
                retry_after_seconds=IN_FLIGHT_RETRY_SECONDS,
                attempt_id=earlier.id,
            )
        case State.UNKNOWN:
            error = unknown_outcome(earlier.error or "the process that sent it ended", earlier.id)
        case State.NOT_EXECUTED:
            error = NotExecutedError(
                "The transfer with this idempotency key was not executed; nothing moved. Use a new key to send it.",
                attempt_id=earlier.id,
            )
        case State.FAILED | State.EXPIRED:
            return None
        case _:
            return earlier
    error.replayed = True
    return error


def rejected_by(
    reader: Reader, owners: Owners, attempt: Attempt, limits: MaxCents, *, own: bool = False
) -> SafeguardError | None:
    """Say what rejects a transfer now; see `decided`."""
    return decided(reader, owners, attempt, limits, own=own)[1]


def judgement_of(reader: Reader, attempt: Attempt, limits: MaxCents) -> Judgement:
    """Make every check of the policy and the limits for an attempt that does not exist yet."""
    limits = limits.lowered_by(reader.recorded_limits())
    return judged(reader, attempt, limits, frozen=frozen_for(reader, attempt.caller), own=False)[1]


def decided(
    reader: Reader,
    owners: Owners,
    attempt: Attempt,
    limits: MaxCents,
    *,
    own: bool = False,
    is_approved: bool = False,
) -> tuple[Attempt, SafeguardError | None]:
    """Check everything that can reject a transfer now: its key, a freeze, the policy, and every limit.

    A transfer that only needs the owner's approval is "rejected" with the code ``needs_approval``; see `asks`.

    Args:
        reader: the records.
        owners: which processes live.
        attempt: the attempt.
        limits: the limits of this process.
        own: whether the attempt's own reservation is among what counts already.
        is_approved: whether the owner approves it now. What the owner approved before is looked up.

    Returns:
        The attempt, with the rule and the version of the policy that decided; and why it is rejected, if it is.
    """
    frozen = frozen_for(reader, attempt.caller)
    limits = limits.lowered_by(reader.recorded_limits())
    is_approved = is_approved or (own and reader.is_approved(attempt.id))
    approved = attempt.rule if is_approved else None
    attempt, judgement = judged(reader, attempt, limits, frozen=frozen, own=own, approved=approved)
    if (error := stopped_by(reader, attempt, frozen)) is not None:
        return attempt, error
    if judgement.code not in AT_ONCE and not own:
        error = _rejected_by_unknown(reader, owners, attempt)
    error = error or refusal(attempt, judgement)
    if not is_approved and not own and (error is None or asks(error)):
        error = denied(reader, attempt) or error
    return attempt, error


def is_refused(reader: Reader, owners: Owners, attempt: Attempt, limits: MaxCents) -> bool:
    """Say whether a caller that a policy holds would be refused, so that nothing about the account may be told."""
    if is_free(policy_in_force(reader), attempt.caller):
        return False
    rejection = rejected_by(reader, owners, attempt, limits)
    return rejection is not None and not asks(rejection)


def announce(writer: Writer, owners: Owners, attempt: Attempt, limits: MaxCents) -> Attempt | GatewayError:
    """Check everything again, and record that the transfer is sent now.

    Returns:
        The attempt in state `sending`, or why it must not be sent.
    """
    require_trust(writer)
    current = writer.attempt(attempt.id)
    if (canceled := cancelled(current)) is not None:
        return canceled
    if current is None or current.state is not State.RESERVED:
        return SafeguardsUnavailableError(
            "The reservation was released before the transfer was sent. Request it again."
        )
    trip(writer, owners, current.caller)
    now, rejection = decided(writer, owners, current, limits, own=True)
    current = writer.update(current, rule=now.rule, policy_version=now.policy_version)
    if rejection is not None:
        return rejection
    sending = writer.move(current, State.SENDING, announced_at=writer.now)
    writer.add_event(requested(sending, writer.now))
    return sending


def check_again(
    writer: Writer, owners: Owners, attempt: Attempt, limits: MaxCents, state: State = State.SENDING
) -> GatewayError | None:
    """Check everything again before a transfer is sent again: after a 401, or when its answer was lost.

    Args:
        writer: the transaction.
        owners: which processes live.
        attempt: the attempt.
        limits: the limits of this process.
        state: in which it has to be.
    """
    require_trust(writer)
    current = writer.attempt(attempt.id)
    if current is None or current.state is not state:
        return SafeguardsUnavailableError("The attempt ended before it was sent again.")
    return rejected_by(writer, owners, current, limits, own=True)


def adopt(writer: Writer, owners: Owners, upstream: str, since: datetime) -> list[Attempt]:
    """Take over the attempts that a process of the past was sending again.

    Args:
        writer: the transaction.
        owners: which processes live.
        upstream: the one that sent them.
        since: only what was announced after that.

    Returns:
        The attempts, which this process now has to send again, or else release.
    """
    fail_dead(writer, owners)
    # What a backup says of an attempt may be older than its end.
    since = max(since, writer.restored_at() or since)
    found = [
        one
        for one in writer.open_attempts()
        if one.state is State.UNKNOWN
        and one.upstream == upstream
        and since < one.sent_at <= writer.now
        and one.code != Code.KEY_MISMATCH  # Sequence would say the same again
        and not is_resent(one, owners)
    ]
    return [writer.update(one, owner=owners.own_id()) for one in found]


def fail_dead(writer: Writer, owners: Owners) -> None:
    """End what a process that has ended left behind: what it did not send failed, what it sent is unknown.

    What the owner did not decide about in time ends, too.
    """
    expire(writer)
    for attempt in writer.open_attempts():
        if attempt.state is not State.UNKNOWN and not owners.is_running(attempt.owner, attempt.id):
            if attempt.state is State.RESERVED:
                end(writer, attempt, State.FAILED, error="its process ended before it was sent")
            else:
                end(writer, attempt, State.UNKNOWN, error="the process that sent it ended")


def end(
    writer: Writer, attempt: Attempt, state: State, *, error: str, code: str | None = None, is_resent: bool = False
) -> Attempt:
    """Record that an attempt failed: certainly, or with an unknown outcome; ``is_resent`` if it is sent again."""
    event_type = EventType.CANCELLED if state is State.CANCELLED else EventType.FAILED
    ended_at, owner = None if state is State.UNKNOWN else writer.now, attempt.owner if is_resent else None
    changed = writer.move(attempt, state, ended_at=ended_at, owner=owner, error=error, code=code)
    outcome = None if state is State.CANCELLED else state.value
    writer.add_event(changed.event(event_type, writer.now, error=bounded(error), code=code, outcome=outcome))
    return changed


def accept_attempt(
    writer: Writer, attempt: Attempt, transfer: Transfer | None, *, organization_id: str | None = None, **marks: bool
) -> Attempt:
    """Record that Sequence took an attempt.

    Args:
        writer: the transaction.
        attempt: the attempt.
        transfer: the transfer that it became, if that is known.
        organization_id: where to look for it.
        **marks: flags of the audit event, such as ``reconciled``.
    """
    created_at = transfer.created_at if transfer else None
    changed = writer.move(
        attempt,
        State.ACCEPTED,
        error=None,
        ended_at=writer.now,
        organization_id=organization_id or attempt.organization_id,
        transfer_id=transfer.id if transfer else attempt.transfer_id,
        upstream_status=transfer.status if transfer else None,
        upstream_created_at=created_at if isinstance(created_at, datetime) else None,
        followed_until=writer.now + FOLLOWED,
    )
    writer.add_event(changed.event(EventType.COMPLETED, writer.now, transfer_id=changed.transfer_id, **marks))
    return changed


def requested(attempt: Attempt, now: datetime, **more: bool) -> Event:
    """Make the event that stands in the audit trail before anything is sent."""
    return attempt.event(
        EventType.REQUESTED,
        now,
        description=bounded(attempt.description) if attempt.description else None,
        reason=stated(attempt),
        request_sha256=None if attempt.request_sha256 is None else attempt.request_sha256.hex(),
        key_sha256=None if attempt.key_sha256 is None else attempt.key_sha256.hex(),
        upstream=None if attempt.sent_through == FIRST_UPSTREAM else attempt.sent_through,
        **more,
    )


def require_trust(writer: Writer) -> None:
    """Check that the files can be trusted with another transfer.

    Raises:
        SafeguardsUnavailableError: they cannot.
    """
    if writer.distrust is not None:
        raise SafeguardsUnavailableError(f"No transfer is possible: {writer.distrust}. Reads go on.")


def missing_error(why: str) -> SafeguardsUnavailableError:
    """Make the error of records that were restored, and may lack transfers."""
    return SafeguardsUnavailableError(
        "No transfer is possible: the records were restored, and transfers of this month that they lack must be counted"
        f" first, but {why.rstrip('.')}. Reads go on."
    )


def must_count_missing(reader: Reader, caller: str) -> bool:
    """Say whether, before a transfer of this caller, it must be counted what restored records lack."""
    return reader.must_count_missing() and frozen_for(reader, caller) is None


def month_begin(now: datetime) -> datetime:
    """Return the beginning of the UTC month."""
    return day_begin(now).replace(day=1)


def waiting_stopped_by(reader: Reader, attempt: Attempt) -> GatewayError | None:
    """Say what stops a transfer that waits for its turn."""
    return cancelled(reader.attempt(attempt.id)) or stopped_by(reader, attempt, frozen_for(reader, attempt.caller))


def cancelled(current: Attempt | None) -> TransferCancelledError | None:
    """Say that the owner canceled a transfer that waits for its turn."""
    if current is None or current.state is not State.CANCELLED:
        return None
    return TransferCancelledError("The owner canceled this transfer. Nothing was sent.")


def stopped_by(reader: Reader, attempt: Attempt, frozen: Freeze | None) -> SafeguardError | None:
    """Say what stops a transfer that waits, too: its key was revoked, its caller expired, or transfers are frozen."""
    key = attempt.caller_key_sha256
    if key is not None and not reader.key_works(key):
        return KeyRevokedError("The key that requested this transfer was revoked.")
    if (error := expired(policy_in_force(reader), attempt.caller, reader.now)) is not None:
        return error
    return None if frozen is None else frozen_error(frozen)


def frozen_error(freeze: Freeze) -> FrozenError:
    """Make the error of frozen transfers."""
    whose = "Transfers" if freeze.caller is None else f"Transfers of the caller {freeze.caller}"
    return FrozenError(f"{whose} are frozen since {freeze.since:%Y-%m-%d %H:%M} UTC ({freeze.reason}).")


def remaining_cents(reader: Reader, limits: MaxCents, caller: str) -> int:
    """Say what is left of the daily limit; for a caller that the policy holds, of its own, by its own spending."""
    policy = policy_in_force(reader)
    whose = None if is_free(policy, caller) else caller
    return max(0, day_limit(policy, caller, limits) - reader.used_cents(day_begin(reader.now), whose))


def unknown_outcome(why: str, attempt_id: str | None) -> OutcomeUnknownError:
    """Make the error of a transfer whose outcome is unknown."""
    return OutcomeUnknownError(
        f"It is unknown whether the money moved: {why.rstrip('.')}. The transfer counts against the limits until its"
        " outcome is known. Do not send it again.",
        attempt_id=attempt_id,
    )


def stated(attempt: Attempt) -> str | None:
    """Return the caller's reason for an attempt, as it goes into the first audit event of the attempt."""
    return bounded(attempt.reason) if attempt.reason else None


def _rejected_by_unknown(reader: Reader, owners: Owners, attempt: Attempt) -> SafeguardError | None:
    unknown = [one for one in reader.open_attempts() if one.caller == attempt.caller and one.state is State.UNKNOWN]
    for one in unknown:
        if is_same_request(one, attempt):
            return TransferPendingError(
                "The outcome of an equal transfer (same accounts, amount and details) is unknown, so this may be the"
                " same one again. Find out what became of it first.",
                code=Code.EQUAL_UNKNOWN,
                attempt_id=one.id,
            )
    if sum(not is_resent(one, owners) for one in unknown) >= MAX_UNKNOWN:
        return TooManyUnknownError(
            f"The outcome of {len(unknown)} transfers is unknown. `pysequence-api limits reconcile` looks them up;"
            " `limits resolve` decides."
        )
    return None


def _as_rejected(attempt: Attempt, rejection: SafeguardError, now: datetime) -> Attempt:
    return replace(
        attempt,
        state=State.REJECTED,
        owner=None,
        key_sha256=None,
        code=rejection.code.value,
        error=str(rejection),
        ended_at=now,
    )
