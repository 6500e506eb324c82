"""Previews of transfers: `TransferService` decides, and the caller sees only what it may see of the account.

Nothing is reserved, sent or recorded. A preview reads the list of the account and `MAX_PAGES` of activity at most.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, computed_field

from pysequence_api.account.names import Counterparty, find_listed
from pysequence_api.account.scoped import View
from pysequence_api.errors import Code, GatewayError, NotFoundError, Retry, SequenceError
from pysequence_api.models import (
    FROM_OTHERS,
    Accounts,
    AccountType,
    ActivityFilter,
    ActivityType,
    Cents,
    Moment,
    OthersText,
    Party,
    Transfer,
    TransferOrder,
    TransferStatus,
)
from pysequence_api.money import format_cents
from pysequence_api.records.attempts import Attempt, Reader
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import Caller
from pysequence_api.records.database import Database
from pysequence_api.records.states import State
from pysequence_api.safeguards.caller_status import CallerWindow, caller_windows
from pysequence_api.safeguards.decide import remaining_cents
from pysequence_api.safeguards.judge import Check, is_free
from pysequence_api.safeguards.matching import ONE_TIME
from pysequence_api.safeguards.now import MaxCents
from pysequence_api.safeguards.policy import Policy, Scope
from pysequence_api.safeguards.scopes import missing_scope
from pysequence_api.safeguards.transfers import Decision, TransferService
from pysequence_api.sequence.client import SequenceClient

SIMILAR_DAYS = 35
"""A month and some days, so a monthly payment was made within it."""
SIMILAR_PERCENT = 5
SIMILAR_CENTS = 100
"""Similar amounts differ by at most this, or by `SIMILAR_PERCENT` if that is more."""
PAGE_TRANSFERS = 100
MAX_PAGES = 2
CAME_TO_NOTHING = {"FAILED", "CANCELLED"}
STILL_COUNTS = {State.SENDING, State.UNKNOWN, State.ACCEPTED}
"""States in which a transfer may move money before the activity shows it."""


class Verdict(StrEnum):
    """What `POST /api/transfers` would do now."""

    ALLOWED = "allowed"
    NEEDS_APPROVAL = "needs_approval"
    REFUSED = "refused"
    REPLAYED = "replayed"


class _Shown(BaseModel):
    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True, defer_build=True)


class PreviewParty(_Shown):
    """The source or the destination. Name and balances are null for who may not see them."""

    id: str
    type: AccountType
    name: OthersText = None
    balance_cents: Cents | None = Field(None, description="The balance now, in cents")
    balance_after_cents: Cents | None = Field(
        None, description="After this transfer, in cents; null if it would not be sent"
    )


class PreviewCheck(_Shown):
    """One check of the policy or the limits."""

    name: str = Field(description="What is checked, such as scope, pair, maximum or rule day_cents")
    passed: bool
    text: str = Field(description="The result in one line, for people")
    code: Code | None = Field(None, description="Why it failed; null if it passed")
    limit: int | None = Field(None, description="In cents, or in transfers, if there is a limit")
    left: int | None = Field(None, description="What was left of the limit before this transfer")


class SimilarTransfer(_Shown):
    """A transfer that is similar to the previewed one."""

    id: str | None = Field(description="Null if Sequence does not show it yet")
    attempt_id: str | None = Field(None, description="The attempt, if Sequence does not show it yet and it is your own")
    amount_cents: Cents
    status: TransferStatus | None
    created_at: Moment | None
    activity_type: ActivityType | None = Field(
        description="What made it: RULE, a rule at Sequence; ONE_TIME_TRANSFER; others"
    )
    source: Party

    @computed_field(description="Amount for people")  # type: ignore[prop-decorator]
    @property
    def amount(self) -> str:
        """The amount for people."""
        return format_cents(self.amount_cents)


class Preview(_Shown):
    """What a transfer would do. Nothing was reserved, sent or recorded."""

    verdict: Verdict = Field(
        description=(
            "allowed: it would be sent now; needs_approval: the owner would be asked first; refused: see code and"
            " detail; replayed: this idempotency key has an answer already, which would be given again"
        )
    )
    code: Code | None = Field(None, description="Why it would be refused, or why it needs approval")
    detail: str | None = Field(None, description="The same for people")
    retry: Retry | None = Field(None, description="What the refusal would say about requesting it again")
    retry_after_seconds: int | None = Field(None, description="When it would be allowed, where that is known")
    attempt_id: str | None = Field(None, description="The earlier attempt that this is about")
    amount_cents: Cents
    source: PreviewParty
    destination: PreviewParty
    checks: tuple[PreviewCheck, ...] = Field(
        description=(
            "Every check that applies, none if replayed. The first that failed decides; if one did, those of the"
            " gateway's own limits are left out"
        )
    )
    warnings: tuple[str, ...] = Field(description=f"Why Sequence would refuse it. {FROM_OTHERS}")
    daily_remaining_cents: int = Field(
        description="What is left of your daily limit, in cents: after this transfer, if it would be sent"
    )
    windows: tuple[CallerWindow, ...] = Field(description="The limits that the policy sets you, before this transfer")
    similar: tuple[SimilarTransfer, ...] | None = Field(
        description=(
            "Transfers to the same destination within 35 days whose amount differs by at most 5% or $1, newest first,"
            " also those that a rule at Sequence made. Was it paid already? Null if you may not read them, or if they"
            " cannot be read now"
        )
    )
    complete: bool = Field(
        description="False if something is missing: balances, names, or transfers that could be similar"
    )
    _error: GatewayError | None = PrivateAttr(None)

    @computed_field(description="Amount for people")  # type: ignore[prop-decorator]
    @property
    def amount(self) -> str:
        """The amount for people."""
        return format_cents(self.amount_cents)

    @property
    def error(self) -> GatewayError | None:
        """The error that the transfer itself would end with."""
        return self._error


@dataclass(frozen=True, slots=True)
class Sight:
    """What a caller may see in a preview beside the decision.

    Attributes:
        view: which accounts.
        accounts: whether it may read names and balances at all.
        activity: whether it may read transfers at all.
        is_free: whether it may see the global limits.
    """

    view: View
    accounts: bool
    activity: bool
    is_free: bool

    @classmethod
    def of(cls, policy: Policy | None, caller: Caller, view: View) -> "Sight":
        """Return what a policy allows a caller to see."""

        def has(scope: Scope) -> bool:
            return missing_scope(policy, caller.name, scope) is None

        return cls(view, has(Scope.READ_ACCOUNTS), has(Scope.READ_ACTIVITY), is_free(policy, caller.name))


@dataclass(frozen=True, slots=True)
class Previewer:
    """Previews transfers.

    Attributes:
        client: the account at Sequence.
        transfers: decides.
        records: the database.
        limits: the limits of this process.
        organization_id: where to look for similar transfers if the organization of the destination is not known.
    """

    client: SequenceClient
    transfers: TransferService
    records: Database
    limits: MaxCents
    organization_id: str | None

    async def preview(
        self,
        order: TransferOrder,
        channel: Channel,
        key: str | None,
        *,
        caller: Caller,
        sight: Sight,
        accounts: Accounts | None = None,
    ) -> Preview:
        """Show what a transfer would do; see `Gateway.preview`."""
        ids = (order.source_type, order.source_id), (order.destination_type, order.destination_id)
        seen = [sight.accounts and sight.view.has(kind, party_id) for kind, party_id in ids]
        if accounts is None and any(seen):
            accounts = await self._read_accounts()
        decision = await self.transfers.preview(order, channel, key, caller=caller, accounts=accounts)
        source, destination = (
            find_listed(party_id, accounts, kind) if is_seen and accounts is not None else None
            for (kind, party_id), is_seen in zip(ids, seen, strict=True)
        )
        similar = await self._similar(order, destination, sight, caller)
        moved_cents = order.amount_cents if decision.would_move else None
        preview = Preview(
            **_verdict(decision),
            amount_cents=order.amount_cents,
            source=_party(*ids[0], source, None if moved_cents is None else -moved_cents),
            destination=_party(*ids[1], destination, moved_cents),
            checks=tuple(_shown(decision.checks, is_free=sight.is_free)),
            warnings=tuple(sequence_refusals(order.amount_cents, source, destination)),
            **self.records.read(lambda reader: self._left(reader, caller.name, moved_cents or 0)),
            similar=similar.found,
            complete=similar.is_complete and (accounts.complete if accounts is not None else not any(seen)),
        )
        preview._error = decision.error
        return preview

    async def _read_accounts(self) -> Accounts | None:
        """Read the account; ``None`` if that fails, which stops only a transfer that would be sent."""
        try:
            return await self.client.accounts()
        except SequenceError:
            return None

    async def _similar(
        self, order: TransferOrder, destination: Counterparty | None, sight: Sight, caller: Caller
    ) -> "_Similar":
        if not (sight.activity and sight.view.has(order.destination_type, order.destination_id)):
            return _Similar(None)
        known = None if destination is None else destination.organization_id
        organization_id = known or self.organization_id
        if organization_id is None:
            return _Similar(None, is_complete=False)
        only = ActivityFilter(date_start=(self.records.now() - timedelta(days=SIMILAR_DAYS)).date())
        name = None if destination is None else destination.name
        found = self._not_shown_yet(order, sight, caller)
        after, is_complete = "", True
        for _ in range(MAX_PAGES):
            try:
                page = await self.client.activity(organization_id, first=PAGE_TRANSFERS, after=after, only=only)
            except (SequenceError, NotFoundError):
                return _Similar(tuple(found) or None, is_complete=False)
            found += [_as_similar(sight.view.transfer(one)) for one in page.transfers if is_similar(order, name, one)]
            is_complete = is_complete and page.complete
            if not page.page_info.has_next_page:
                return _Similar(tuple(found), is_complete=is_complete)
            after = page.page_info.end_cursor
        return _Similar(tuple(found), is_complete=False)

    def _not_shown_yet(self, order: TransferOrder, sight: Sight, caller: Caller) -> list[SimilarTransfer]:
        """List attempts that may have moved money and are not in the activity yet, newest first."""

        def ask(reader: Reader) -> tuple[list[Attempt], dict[str, str]]:
            attempts = reader.open_attempts() + reader.followed_attempts()
            return [one for one in attempts if one.transfer_id is None and one.state in STILL_COUNTS], reader.names()

        def shown(attempt: Attempt, transfer: Transfer) -> SimilarTransfer:
            is_told = sight.is_free or attempt.caller == caller.name  # it must not see the attempts of others
            ids = {"id": None, "attempt_id": attempt.id if is_told else None}
            return _as_similar(sight.view.transfer(transfer)).model_copy(update=ids)

        attempts, names = self.records.read(ask)
        newest_first = sorted(attempts, key=lambda one: one.sent_at, reverse=True)
        known = [(one, _as_transfer(one, names)) for one in newest_first]
        return [shown(attempt, transfer) for attempt, transfer in known if is_similar(order, None, transfer)]

    def _left(self, reader: Reader, caller: str, amount_cents: int) -> dict[str, Any]:
        limits = self.limits.lowered_by(reader.recorded_limits())
        left_cents = max(0, remaining_cents(reader, limits, caller) - amount_cents)
        return {"daily_remaining_cents": left_cents, "windows": caller_windows(reader, caller)}


@dataclass(frozen=True, slots=True)
class _Similar:
    found: tuple[SimilarTransfer, ...] | None
    is_complete: bool = True


def is_similar(order: TransferOrder, name: str | None, transfer: Transfer) -> bool:
    """Return whether a transfer has the destination and about the amount of an order, and did not fail.

    Args:
        order: the order.
        name: the name of its destination, if the caller may see it. The activity can show an account without its id.
        transfer: from the activity.
    """
    party, amount_cents = transfer.destination, transfer.amount_cents
    is_same = party.id == order.destination_id or (party.id is None and name is not None and party.name == name)
    if not is_same or amount_cents is None or transfer.status in CAME_TO_NOTHING:
        return False
    margin_cents = max(SIMILAR_CENTS, order.amount_cents * SIMILAR_PERCENT // 100)
    return abs(amount_cents - order.amount_cents) <= margin_cents


def sequence_refusals(amount_cents: int, source: Counterparty | None, destination: Counterparty | None) -> list[str]:
    """List why Sequence will refuse a transfer, by what the caller may see of its two parties."""
    refusals = []
    if source is not None and source.balance_cents is not None and source.balance_cents < amount_cents:
        refusals.append(f"The balance of {source.shown_name!r} is too low.")
    if source is not None and source.can_be_source is False:
        refusals.append(f"Sequence does not allow transfers from {source.shown_name!r}.")
    organizations = {party.organization_id for party in (source, destination) if party is not None} - {None}
    if source is not None and destination is not None and len(organizations) > 1:
        refusals.append(f"{source.shown_name!r} and {destination.shown_name!r} belong to two organizations.")
    return refusals


def _verdict(decision: Decision) -> dict[str, Any]:
    error = decision.error
    if decision.replayed is not None:
        text = "This idempotency key was used before. Nothing would be sent; the original answer would be given again."
        return {"verdict": Verdict.REPLAYED, "detail": text, "attempt_id": decision.replayed.attempt_id}
    if decision.needs_approval:
        asks = next(one for one in decision.checks if not one.passed)
        return {"verdict": Verdict.NEEDS_APPROVAL, "code": Code.NEEDS_APPROVAL, "detail": asks.text}
    if error is None:
        return {"verdict": Verdict.ALLOWED}
    return {
        "verdict": Verdict.REFUSED,
        "code": error.code,
        "detail": error.detail,
        "retry": error.retry,
        "retry_after_seconds": error.retry_after_seconds,
        "attempt_id": error.attempt_id,
    }


def _party(kind: AccountType, party_id: str, found: Counterparty | None, change_cents: int | None) -> PreviewParty:
    if found is None:
        return PreviewParty(id=party_id, type=kind)
    before_cents = found.balance_cents
    after_cents = None if before_cents is None or change_cents is None else before_cents + change_cents
    return PreviewParty(
        id=party_id, type=kind, name=found.name, balance_cents=before_cents, balance_after_cents=after_cents
    )


def _shown(checks: Iterable[Check], *, is_free: bool) -> Iterator[PreviewCheck]:
    """Show the checks, but of the global limits, which tell what other callers spent, no more than a transfer would."""
    has_failed = False
    for check in checks:
        is_hidden = check.is_global and not is_free
        if not (is_hidden and has_failed):
            yield PreviewCheck(
                name=check.name,
                passed=check.passed,
                text=check.text,
                code=None if check.code is None else Code(check.code.value),
                limit=None if is_hidden else check.limit,
                left=None if is_hidden else check.left,
            )
        has_failed = has_failed or not check.passed


def _as_transfer(attempt: Attempt, names: Mapping[str, str]) -> Transfer:
    source_name = names.get(attempt.source_id or "")
    return Transfer(
        id=attempt.id,
        amount_cents=attempt.amount_cents,
        created_at=attempt.sent_at,
        activity_type=ONE_TIME,
        source=Party(id=attempt.source_id, type=attempt.source_type, name=source_name),
        destination=Party(id=attempt.destination_id, type=attempt.destination_type),
    )


def _as_similar(transfer: Transfer) -> SimilarTransfer:
    names = ("id", "amount_cents", "status", "created_at", "activity_type", "source")
    return SimilarTransfer.model_validate({name: getattr(transfer, name) for name in names})
