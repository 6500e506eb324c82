"""Approve, deny and cancel transfers that wait for the owner. Each decision is one transaction."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, computed_field

from pysequence_api.errors import ApprovalOverError, Code, GatewayError, NotFoundError, SafeguardError
from pysequence_api.models import Accounts, AccountType, Party
from pysequence_api.money import format_cents
from pysequence_api.records.approvals import Approval
from pysequence_api.records.attempts import Attempt, Reader, Writer
from pysequence_api.records.audit import Channel, EventType
from pysequence_api.records.owners import Owners
from pysequence_api.records.states import State
from pysequence_api.safeguards import decide
from pysequence_api.safeguards.asking import bound_sha256
from pysequence_api.safeguards.enforce import trip
from pysequence_api.safeguards.now import MaxCents
from pysequence_api.safeguards.owner import Owner

REJECTING = {
    Code.NEVER_ALLOWED,
    Code.PAIR_NOT_ALLOWED,
    Code.SCOPE_MISSING,
    Code.OVER_MAX,
    Code.KEY_REVOKED,
    Code.CALLER_EXPIRED,
}
"""Refusals that end an attempt when the owner approves it. After any other, it still waits."""
NOT_THAT = "The transfer is not the one that you were shown. Look at it again, and then decide. Nothing was sent."


class PendingApproval(BaseModel):
    """A transfer that waits for the owner, as it is stored, with names as Sequence has them now."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    attempt_id: str
    caller: str
    rule: str | None = Field(description="The rule of the policy that asks")
    amount_cents: int
    source: Party = Field(description="The name is null if Sequence cannot be asked, or has no such account")
    destination: Party
    description: str | None
    instant: bool
    kyc_id: str | None
    organization_id: str | None
    created_at: datetime
    expires_at: datetime
    caller_says: str | None = Field(description="Why, in the caller's own words, which are not checked")
    bound_sha256: str = Field(description="What is decided about: attempt, caller, rule, expiry and the whole order")

    @computed_field(description="Amount for people")  # type: ignore[prop-decorator]
    @property
    def amount(self) -> str:
        """The amount for people."""
        return format_cents(self.amount_cents)


@dataclass(frozen=True, slots=True)
class Request:
    """What the owner approves.

    Attributes:
        attempt_id: the attempt.
        bound_sha256: what the owner was shown, in hexadecimal.
        code: of the owner's authenticator.
        channel: how.
    """

    attempt_id: str
    bound_sha256: str
    code: str
    channel: Channel


def pending(reader: Reader) -> list[tuple[Attempt, Approval]]:
    """List what waits for the owner, oldest first."""
    overdue = reader.overdue_approvals()
    found = [(one, reader.approval(one.id)) for one in reader.awaiting() if one.id not in overdue]
    return [(attempt, approval) for attempt, approval in found if approval is not None]


def require_pending(reader: Reader, attempt_id: str) -> tuple[Attempt, Approval]:
    """Return an attempt that waits for the owner.

    Raises:
        NotFoundError: there is no such attempt.
        ApprovalOverError: it does not wait.
    """
    attempt, approval = reader.attempt(attempt_id), reader.approval(attempt_id)
    if attempt is None:
        raise NotFoundError(
            f"There is no attempt {attempt_id[:100]!r}. List those that wait: pysequence-api approvals list"
        )
    is_over = attempt.state is State.AWAITING_APPROVAL and attempt.id in reader.overdue_approvals()
    if attempt.state is not State.AWAITING_APPROVAL or approval is None or is_over:
        state = State.EXPIRED if is_over else attempt.state
        raise ApprovalOverError(
            f"This transfer does not wait for approval: its state is {state}.", attempt_id=attempt_id
        )
    return attempt, approval


def shown(attempt: Attempt, approval: Approval, accounts: Accounts | None) -> PendingApproval:
    """Describe an attempt that waits for the owner.

    Args:
        attempt: the attempt.
        approval: what the owner is asked.
        accounts: the account as Sequence has it now; ``None`` if it cannot be read.
    """

    def party(kind: str | None, party_id: str | None) -> Party:
        found = None if accounts is None else accounts.find(AccountType(str(kind)), party_id or "")
        return Party(id=party_id, type=kind, name=None if found is None else found.name)

    return PendingApproval(
        attempt_id=attempt.id,
        caller=attempt.caller,
        rule=attempt.rule,
        amount_cents=attempt.amount_cents,
        source=party(attempt.source_type, attempt.source_id),
        destination=party(attempt.destination_type, attempt.destination_id),
        description=attempt.description,
        instant=attempt.instant,
        kyc_id=attempt.kyc_id,
        organization_id=attempt.organization_id,
        created_at=attempt.created_at,
        expires_at=approval.expires_at,
        caller_says=attempt.reason,
        bound_sha256=approval.bound_sha256.hex(),
    )


def check_bound(reader: Reader, request: Request) -> Attempt:
    """Return the attempt that the owner approves, if it still waits and is the one that the owner was shown.

    Raises:
        NotFoundError: there is no such attempt.
        ApprovalOverError: it does not wait, or differs from what the owner was shown.
    """
    attempt, approval = require_pending(reader, request.attempt_id)
    bound = bound_sha256(attempt, approval.expires_at)
    if bound != approval.bound_sha256 or bound.hex() != request.bound_sha256:
        raise ApprovalOverError(NOT_THAT, attempt_id=attempt.id)
    return attempt


def approve(
    writer: Writer,
    owners: Owners,
    owner: Owner,
    request: Request,
    *,
    limits: MaxCents,
    problem: GatewayError | None,
) -> Attempt | GatewayError:
    """Use the owner's code, decide, and reserve the amount. If refused, only the code is used up.

    Args:
        writer: the transaction.
        owners: which processes are alive.
        owner: checks the code.
        request: what the owner approves.
        limits: the limits of this process.
        problem: why it must not be sent, by the account as Sequence shows it now.

    Returns:
        The attempt, reserved by this process; or why it is not.

    Raises:
        SafeguardsUnavailableError: the files cannot be trusted with another transfer.
    """
    decide.fail_dead(writer, owners)
    decide.require_trust(writer)
    try:
        attempt = check_bound(writer, request)
    except ApprovalOverError as over:
        return over  # raising it would roll back the changes of `fail_dead`
    if (wrong := owner.take_code(writer, request.code)) is not None:
        return wrong
    trip(writer, owners, attempt.caller)
    judged, rejection = decide.decided(writer, owners, attempt, limits, is_approved=True)
    if rejection is not None and rejection.code in REJECTING:
        _reject(writer, attempt, rejection)
    elif rejection is None and problem is None and writer.must_count_missing():
        problem = decide.missing_error("they have not been counted yet")
    error = rejection or problem
    if error is not None:
        error.attempt_id = error.attempt_id or attempt.id
        return error
    writer.decide_approval(attempt.id, "approved", request.channel)
    reserved = writer.move(
        attempt, State.RESERVED, owner=owners.own_id(), rule=judged.rule, policy_version=judged.policy_version
    )
    granted = reserved.event(EventType.APPROVAL_GRANTED, writer.now)
    writer.add_event(granted.model_copy(update={"via": request.channel}))
    return reserved


def deny(writer: Writer, attempt_id: str, channel: Channel) -> None:
    """Deny an attempt that waits. Denying it again changes nothing.

    Raises:
        NotFoundError: there is no such attempt.
        ApprovalOverError: it does not wait.
    """
    found = writer.attempt(attempt_id)
    if found is not None and found.state is State.DENIED:
        return
    attempt, _ = require_pending(writer, attempt_id)
    writer.decide_approval(attempt.id, "denied", channel)
    error = "the owner denied it"
    denied = writer.move(attempt, State.DENIED, ended_at=writer.now, code=Code.DENIED.value, error=error)
    event = denied.event(EventType.APPROVAL_DENIED, writer.now, error=error, code=denied.code)
    writer.add_event(event.model_copy(update={"via": channel}))


def to_cancel(reader: Reader, attempt_id: str, caller: str | None) -> Attempt | None:
    """Return the attempt that `cancel` ends; ``None`` if it is canceled already.

    Args:
        reader: the records.
        attempt_id: the attempt.
        caller: who cancels it, if that must be the attempt's caller; ``None`` for the owner.

    Raises:
        NotFoundError: there is no such attempt, or not one of this caller.
        ApprovalOverError: it does not wait.
    """
    attempt = reader.attempt(attempt_id)
    if attempt is None or caller not in {None, attempt.caller}:
        raise NotFoundError(f"There is no attempt {attempt_id[:100]!r}.")
    if attempt.state is State.CANCELLED:
        return None
    waits = attempt.state is State.AWAITING_APPROVAL or (caller is None and attempt.state is State.RESERVED)
    if not waits:
        raise ApprovalOverError(
            f"This transfer cannot be canceled: its state is {attempt.state}.", attempt_id=attempt_id
        )
    return attempt


def cancel(writer: Writer, owners: Owners, attempt_id: str, *, caller: str | None, channel: Channel) -> None:
    """Cancel an attempt that waits for the owner. The owner can also cancel one that waits to be sent.

    Canceling it again changes nothing.

    Args:
        writer: the transaction.
        owners: which processes are alive.
        attempt_id: the attempt.
        caller: who cancels it, if that must be the attempt's caller; ``None`` for the owner.
        channel: how.

    Raises:
        NotFoundError: there is no such attempt, or not one of this caller.
        ApprovalOverError: it does not wait.
    """
    decide.fail_dead(writer, owners)
    attempt = to_cancel(writer, attempt_id, caller)
    if attempt is None:
        return
    error = "the owner canceled it" if caller is None else "its caller canceled it"
    ended = writer.move(
        attempt, State.CANCELLED, ended_at=writer.now, owner=None, code=Code.CANCELLED.value, error=error
    )
    event = ended.event(EventType.CANCELLED, writer.now, error=error, code=ended.code)
    writer.add_event(event.model_copy(update={"via": channel}))


def _reject(writer: Writer, attempt: Attempt, rejection: SafeguardError) -> None:
    error, code = str(rejection), rejection.code.value
    rejected = writer.move(attempt, State.REJECTED, ended_at=writer.now, code=code, error=error)
    writer.add_event(rejected.event(EventType.REJECTED, writer.now, error=error, code=code))
