"""Which transfer of the account's activity an attempt could be."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from pysequence_api.models import Party, Transfer
from pysequence_api.records.ledger import Entry

CLOCK_MARGIN_SECONDS = 5.0
"""How far apart two clocks may be that are compared through Sequence's ``Date``."""
UNKNOWN_CLOCK_MARGIN_SECONDS = 120.0
"""The same while Sequence has not told its time: as far apart as the safeguards let a clock be."""
ONE_TIME = "ONE_TIME_TRANSFER"
ONE_DAY = timedelta(days=1)
NEAR = timedelta(seconds=300)
"""More than two clocks are apart that may each be off as far as the safeguards allow."""
ELSEWHERE = {"EXTERNAL_ENTITY", "MERCHANT"}
"""Parties that need no id to be read: no pod or port is one."""

Order = tuple[str | None, str | None, int]
"""Source id, destination id and amount in cents: what makes two attempts alike."""


def matches(
    order: Order, transfers: Iterable[Transfer], sent_at: datetime, clock_offset_seconds: float | None
) -> tuple[Transfer, ...]:
    """Pick the transfers that can be the one that was ordered, oldest first.

    Args:
        order: what was ordered.
        transfers: where to look.
        sent_at: when the request was sent, by our clock.
        clock_offset_seconds: how far Sequence's clock is ahead of ours; ``None`` while that is unknown.
    """
    offset_seconds, margin_seconds = clock_offset_seconds, CLOCK_MARGIN_SECONDS
    if offset_seconds is None:
        offset_seconds, margin_seconds = 0.0, UNKNOWN_CLOCK_MARGIN_SECONDS
    earliest = sent_at + timedelta(seconds=offset_seconds - margin_seconds)
    found = [
        (transfer.created_at, transfer)
        for transfer in transfers
        if isinstance(transfer.created_at, datetime)
        and transfer.created_at >= earliest
        and (transfer.source.id, transfer.destination.id, transfer.amount_cents) == order
        and transfer.activity_type in {None, ONE_TIME}
    ]
    return tuple(transfer for _, transfer in sorted(found, key=lambda match: match[0]))


def cannot_be_ruled_out(entry: Entry, sent_at: datetime, transfer: Transfer, external_ids: frozenset[str]) -> bool:
    """Say whether a transfer that did not match could still be an attempt's.

    Something of it cannot be read, or it differs in nothing but its kind, a description or a time that two clocks may
    explain.

    Args:
        entry: the attempt.
        sent_at: when it was sent, by our clock.
        transfer: from the activity.
        external_ids: the connected accounts, which can be shown as where they are.
    """
    if transfer.amount_cents not in {None, entry.amount_cents}:
        return False
    parties = ((transfer.source, entry.source_id), (transfer.destination, entry.destination_id))
    if any(_is_other(party, party_id, external_ids) for party, party_id in parties):
        return False
    created = transfer.created_at
    if isinstance(created, datetime):
        readable = transfer.amount_cents is not None and all(party.id is not None for party, _ in parties)
        return created >= sent_at - (NEAR if readable else ONE_DAY)
    return created is None or created >= (sent_at - ONE_DAY).date()


def _is_other(party: Party, party_id: str | None, external_ids: frozenset[str]) -> bool:
    if party.type in ELSEWHERE:
        return party_id not in external_ids
    return party.id is not None and party.id != party_id
