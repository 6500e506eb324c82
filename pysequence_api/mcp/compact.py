"""The answers of the tools: those of the HTTP API without nulls, icons and duplicates, because an agent pays by length.

Usual values are left out: a list is complete unless `complete` is false, and an account can be a source unless
`can_be_source` is false.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pysequence_api.account.preview import Preview, SimilarTransfer
from pysequence_api.models import (
    Accounts,
    AccountType,
    ActivityPage,
    ActivityTotals,
    ExternalAccount,
    FoundAccounts,
    Moment,
    Party,
    Pod,
    Port,
    Transfer,
)
from pysequence_api.records.attempts import Freeze
from pysequence_api.safeguards.caller_status import CallerLimits
from pysequence_api.safeguards.status import AttemptStatus, Limits
from pysequence_api.safeguards.transfers import CompletedTransfer, PendingTransfer

Answer = dict[str, Any]
UNNAMED = "(no name)"


def compact_accounts(accounts: Accounts, organization_id: str | None) -> Answer:
    """List everything that can hold money. Without a balance, it is unknown.

    Args:
        accounts: what to list.
        organization_id: the default organization, which is not named.
    """

    def listed(members: Sequence[Pod | Port | ExternalAccount]) -> list[Answer]:
        return [
            _known(
                id=one.id,
                name=one.name,
                balance_cents=one.balance_cents,
                balance_error=one.balance_error,
                can_be_source=False if getattr(one, "can_be_source", None) is False else None,
                organization_id=None if one.organization_id == organization_id else one.organization_id,
            )
            for one in members
        ]

    groups = {"pods": listed(accounts.pods), "ports": listed(accounts.ports), "accounts": listed(accounts.accounts)}
    return groups | _incomplete(accounts.complete)


def compact_found(found: FoundAccounts) -> Answer:
    """List what a name can mean. Without `match`, these are suggestions."""
    candidates = [
        _known(
            id=one.id,
            type=one.type.value,
            name=one.name,
            balance_cents=one.balance_cents,
            balance_error=one.balance_error,
            can_be_source=False if one.can_be_source is False else None,
            matched=one.matched.value,
        )
        for one in found.candidates
    ]
    return _known(match=found.match) | {"candidates": candidates} | _incomplete(found.complete)


def compact_totals(totals: ActivityTotals) -> Answer:
    """Add up what came in and went out, by counterparty, biggest first."""

    def by(direction: str) -> list[Answer]:
        return [
            _known(
                name=_label(Party(name=one.name, type=one.type), {}),
                id=one.id if one.type == AccountType.ACCOUNT else None,
                amount_cents=one.amount_cents,
                transfers=one.transfer_count if one.transfer_count > 1 else None,
            )
            for one in totals.counterparties
            if one.direction == direction
        ]

    left_out = {name: count for name, count in totals.left_out.model_dump().items() if count}
    return {
        "from": totals.date_start.isoformat(),
        "to": totals.date_end.isoformat(),
        "incoming_cents": totals.incoming_cents,
        "outgoing_cents": totals.outgoing_cents,
        "incoming": by("INCOMING"),
        "outgoing": by("OUTGOING"),
        **({"left_out": left_out} if left_out else {}),
        **_incomplete(totals.complete),
    }


def compact_activity(page: ActivityPage) -> Answer:
    """List transfers. Accounts are named, and listed once with their ids; the name of an outsider has its type.

    The ids of transfers are left out, because no tool takes one.
    """
    labels = _labels(page.transfers)
    transfers = [_transfer(one, labels) for one in page.transfers]
    accounts = {
        label: {"id": identifier} | ({} if kind == AccountType.POD else {"type": kind})
        for (kind, identifier), label in labels.items()
    }
    answer: Answer = {"transfers": transfers, "accounts": accounts}
    if page.page_info.has_next_page:
        answer["next"] = page.page_info.end_cursor
    return answer | _incomplete(page.complete)


def compact_limits(limits: Limits | CallerLimits) -> Answer:
    """Show what is used and left, without the hash of the audit trail, which is for the owner."""
    return _without_nothing(limits.model_dump(mode="json", exclude={"audit_head"}))


def compact_attempt(attempt: AttemptStatus) -> Answer:
    """Show an attempt, without how long it is followed, which is for the owner."""
    times = _known(created_at=_seconds(attempt.created_at), ended_at=_seconds(attempt.ended_at))
    return _without_nothing(attempt.model_dump(mode="json", exclude={"announced_at", "followed_until"})) | times


def compact_transfer(completed: CompletedTransfer) -> Answer:
    """Show the result of a transfer. Of the order, which the caller knows, only the names are repeated."""
    return _known(
        state=completed.state.value,
        attempt_id=completed.attempt_id,
        transfer_id=completed.id,
        status=completed.status,
        **{"from": completed.source.name, "to": completed.destination.name},
        daily_remaining_cents=completed.daily_remaining_cents,
        reason=completed.reason,
        retry=completed.retry and completed.retry.value,
        replayed=completed.replayed or None,
    )


def compact_pending(pending: PendingTransfer) -> Answer:
    """Say that a transfer waits for the owner."""
    return _known(
        state=pending.state.value,
        attempt_id=pending.attempt_id,
        expires_at=_seconds(pending.expires_at),
        detail="The owner has to approve it. Nothing was sent. Once approved, it is sent. get_attempt shows its state.",
        replayed=pending.replayed or None,
    )


def compact_freeze(caller: str, frozen: Freeze) -> Answer:
    """Say that the transfers of a caller are frozen."""
    return {"caller": caller, "frozen_since": _seconds(frozen.since), "frozen_reason": frozen.reason}


def compact_preview(preview: Preview) -> Answer:
    """Show what a transfer would do, without checks that passed, and without `similar` if that is unknown."""
    document = preview.model_dump(mode="json")
    kept = ("verdict", "code", "detail", "retry", "retry_after_seconds", "attempt_id")
    answer: Answer = _without_nothing({name: document[name] for name in kept})
    for side in ("source", "destination"):
        answer[side] = _known(
            **{name: document[side][name] for name in ("name", "balance_cents", "balance_after_cents")}
        )
    failed = [check.text for check in preview.checks if not check.passed]
    answer |= _without_nothing({"failed": failed, "warnings": [*preview.warnings]})
    answer["daily_remaining_cents"] = preview.daily_remaining_cents
    if preview.similar is not None:
        answer["similar"] = [*map(_similar, preview.similar)]
    return answer | _incomplete(preview.complete)


def _similar(transfer: SimilarTransfer) -> Answer:
    return _known(
        at=_seconds(transfer.created_at),
        amount_cents=transfer.amount_cents,
        status=transfer.status,
        kind=transfer.activity_type,
        **{"from": transfer.source.name},
    )


def _without_nothing(fields: Answer) -> Answer:
    """Leave out nulls and empty lists, also in the entries of lists."""

    def kept(one: Any) -> Any:
        return _without_nothing(one) if isinstance(one, dict) else one

    short = {name: [*map(kept, one)] if isinstance(one, list) else one for name, one in fields.items()}
    return {name: one for name, one in short.items() if one is not None and one != []}


def _labels(transfers: tuple[Transfer, ...]) -> dict[tuple[str, str], str]:
    """Name each account of some transfers, by type and id. If several have the same name, their ids are added."""
    names: dict[tuple[str, str], str] = {}
    for party in (party for one in transfers for party in (one.source, one.destination)):
        if party.id is not None and party.type in set(AccountType):
            names[str(party.type), party.id] = party.name or UNNAMED
    counts = Counter(names.values())
    return {
        (kind, identifier): name if counts[name] == 1 and name != UNNAMED else f"{name} {identifier}"
        for (kind, identifier), name in names.items()
    }


def _label(party: Party, labels: dict[tuple[str, str], str]) -> str:
    # An outsider chooses its name: the type beside it shows that it is not the account of that name.
    own = labels.get((str(party.type), party.id or ""))
    return own or f"{party.name or UNNAMED} ({party.type or 'unknown'})"


def _transfer(transfer: Transfer, labels: dict[tuple[str, str], str]) -> Answer:
    return _known(
        at=_seconds(transfer.created_at),
        amount_cents=transfer.amount_cents,
        status=transfer.status,
        direction=transfer.direction,
        kind=transfer.activity_type,
        **{"from": _label(transfer.source, labels), "to": _label(transfer.destination, labels)},
        description=transfer.description or None,
        error=transfer.error_reason,
    )


def _seconds(moment: Moment | None) -> str | None:
    """Write a time in UTC to the second, or a date."""
    if moment is None:
        return None
    return moment.isoformat().partition(".")[0].partition("+")[0] + ("Z" if hasattr(moment, "hour") else "")


def _incomplete(complete: bool) -> Answer:
    return {} if complete else {"complete": False}


def _known(**fields: Any) -> Answer:
    return {name: value for name, value in fields.items() if value is not None}
