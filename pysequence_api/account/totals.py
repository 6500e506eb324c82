"""Totals: what all pods hold, and what came in and went out."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date

from pysequence_api.models import (
    Accounts,
    AccountType,
    ActivityPage,
    ActivityTotals,
    CounterpartyTotal,
    LeftOut,
    Party,
    PodReference,
    TotalBalance,
    Transfer,
)

COMPLETED = "COMPLETE"
INTERNAL, INCOMING, OUTGOING = "INTERNAL", "INCOMING", "OUTGOING"
OWN = {AccountType.POD.value, AccountType.PORT.value}


def total_of(accounts: Accounts) -> TotalBalance:
    """Add up the balances of all pods, and list the pods that the total leaves out."""
    known = [pod.balance_cents for pod in accounts.pods if pod.balance_cents is not None]
    left_out = tuple(PodReference(id=pod.id, name=pod.name) for pod in accounts.pods if pod.balance_cents is None)
    return TotalBalance(
        # Where pods may be missing, a total of nothing is unknown, not 0.
        total_balance_cents=sum(known) if known or (accounts.complete and not left_out) else None,
        pod_count=len(accounts.pods),
        left_out=left_out,
        complete=accounts.complete and not left_out,
    )


def total_activity(
    transfers: Iterable[Transfer], end: ActivityPage, organization_id: str, date_start: date, date_end: date
) -> ActivityTotals:
    """Add up what was completed with third parties, by direction and counterparty.

    Args:
        transfers: everything that was read, newest first.
        end: the page that ended the reading: whether it was complete, and whether there is more.
        organization_id: whose transfers these are.
        date_start: the first day.
        date_end: the last day.
    """
    sums: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
    parties: dict[tuple[str, str, str], Party] = {}
    not_complete = unreadable = 0
    for transfer in transfers:
        party = _counterparty(transfer)
        if party is None or party.type in OWN:
            unreadable += party is None and transfer.direction != INTERNAL
        elif transfer.status != COMPLETED:
            not_complete += 1
        elif transfer.amount_cents is None:
            unreadable += 1
        else:
            key = str(transfer.direction), str(party.type), party.id or (party.name or "").casefold()
            sums[key].append(transfer.amount_cents)
            parties.setdefault(key, party)
    totals = [_total(key[0], parties[key], cents) for key, cents in sums.items()]
    has_older = end.page_info.has_next_page
    return ActivityTotals(
        organization_id=organization_id,
        date_start=date_start,
        date_end=date_end,
        incoming_cents=sum(one.amount_cents or 0 for one in totals if one.direction == INCOMING),
        outgoing_cents=sum(one.amount_cents or 0 for one in totals if one.direction == OUTGOING),
        counterparties=tuple(sorted(totals, key=lambda one: one.amount_cents or 0, reverse=True)),
        left_out=LeftOut(not_complete=not_complete, unreadable=unreadable, has_older=has_older),
        complete=end.complete and not has_older and not unreadable,
    )


def _counterparty(transfer: Transfer) -> Party | None:
    """Return the other side of a transfer; ``None`` if it has none, or cannot be read."""
    party = {INCOMING: transfer.source, OUTGOING: transfer.destination}.get(transfer.direction or "")
    return None if party is None or party.type is None else party


def _total(direction: str, party: Party, cents: list[int]) -> CounterpartyTotal:
    return CounterpartyTotal(
        direction=direction,
        id=party.id,
        type=str(party.type),
        name=party.name,
        amount_cents=sum(cents),
        transfer_count=len(cents),
    )
