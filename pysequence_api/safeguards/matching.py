"""Which transfer of the account's activity an attempt could be."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta

from pysequence_api.models import Party, Transfer
from pysequence_api.records.attempts import Attempt, Order
from pysequence_api.text import plain_text

CLOCK_MARGIN_SECONDS = 5.0
"""How far apart two clocks may be that are compared through Sequence's ``Date``."""
UNKNOWN_CLOCK_MARGIN_SECONDS = 120.0
"""The same while Sequence has not told its time: as far apart as the safeguards let a clock be."""
ONE_TIME = "ONE_TIME_TRANSFER"
RULE = "RULE"
NEAR_BEFORE = timedelta(minutes=5)
"""More than two clocks are apart that may each be off as far as the safeguards allow."""
NEAR_AFTER = timedelta(hours=1)
"""A transfer that Sequence created later than this is not the one that was sent."""
ONE_DAY = timedelta(days=1)
ELSEWHERE = {"EXTERNAL_ENTITY", "MERCHANT"}
"""Parties that have no id: no pod or port is one."""


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
        and transfer.is_recognizable
    ]
    return tuple(transfer for _, transfer in sorted(found, key=lambda match: match[0]))


def describes(attempt: Attempt, transfer: Transfer) -> bool:
    """Say whether the description of a transfer, where Sequence shows one, can be an attempt's."""
    wanted = attempt.description
    return not wanted or transfer.description in {None, plain_text(wanted)}


def speaks_against_absence(attempt: Attempt, transfer: Transfer, external_ids: frozenset[str]) -> bool:
    """Say whether a transfer that does not match keeps an attempt from being taken for not executed.

    A rule for matches says nothing about absence: fees make amounts smaller, and connected accounts are shown as what
    they are elsewhere. So this is wider: a transfer near that time that is not a rule's, with the same two parties
    whatever its amount, or with the amount and one party.

    Args:
        attempt: the attempt.
        transfer: from the activity, of no other attempt.
        external_ids: the connected accounts, which can be shown without their id.
    """
    if transfer.activity_type == RULE or not _is_near(attempt.sent_at, transfer.created_at):
        return False
    source = _can_be(transfer.source, attempt.source_id, external_ids)
    destination = _can_be(transfer.destination, attempt.destination_id, external_ids)
    same_amount = transfer.amount_cents in {None, attempt.amount_cents}
    return (source and destination) or (same_amount and (source or destination))


def _can_be(party: Party, party_id: str | None, external_ids: frozenset[str]) -> bool:
    if party.type in ELSEWHERE:
        return party_id in external_ids
    return party.id is None or party.id == party_id


def _is_near(sent_at: datetime, created: datetime | date | None) -> bool:
    if isinstance(created, datetime):
        return sent_at - NEAR_BEFORE <= created <= sent_at + NEAR_AFTER
    return created is None or (sent_at - ONE_DAY).date() <= created <= (sent_at + ONE_DAY).date()
