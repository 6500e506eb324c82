"""The first contents of the file: a year of activity that ends when the file is created. Only the dates differ."""

import random
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from pysequence_api.sandbox.household import EXTERNAL_ENTITIES, HOLDERS, MERCHANTS, ORGANIZATIONS, Organization, Party
from pysequence_api.sandbox.ids import stable_id
from pysequence_api.sandbox.ledger import (
    ActivityType,
    NewTransfer,
    Status,
    TransferColumns,
    columns_of,
    direction,
    insert_transfers,
)
from pysequence_api.sandbox.timestamps import DAY_MS

_HISTORY_DAYS = 365
_HOUR_MS = DAY_MS // 24
_RANDOM_SEED = 20_250_101
_STILL_PENDING_DAYS = 1
_STILL_PROCESSING_DAYS = 3
_FAILURES = ("INSUFFICIENT_FUNDS", "ACCOUNT_CLOSED", "RETURNED_BY_BANK")
_FAILED_SHARE = 0.05
_CANCELLED_SHARE = 0.03
_WEEKLY_CRON = "0 9 * * 1"
_MONTHLY_CRON = "0 9 1 * *"
JWT_SECRET = "jwt_secret"


@dataclass(frozen=True, slots=True)
class _Stream:
    """A transfer that repeats."""

    source: str
    destination: str
    activity_type: ActivityType
    every_days: int
    from_cents: int
    to_cents: int
    description: str | None = None
    is_compound: bool = False
    trigger: tuple[str, str | None] | None = None
    is_active: bool = True
    """Whether its rule is active. A rule is in the history even if it is not."""
    newest_hours: int | None = None
    """How long ago the newest one was; ``None``: random."""


_ON_DEPOSIT = ("INCOMING_FUNDS", None)
_WEEKLY = ("SCHEDULED", _WEEKLY_CRON)
_MONTHLY = ("SCHEDULED", _MONTHLY_CRON)
_DEPOSIT, _RULE = ActivityType.DIRECT_DEPOSIT, ActivityType.RULE
_ACH, _ONCE = ActivityType.ACH, ActivityType.ONE_TIME_TRANSFER

_HOUSEHOLD = (
    _Stream("Acme Payroll Inc.", "Salary", _DEPOSIT, 14, 312_450, 329_900, "ACME PAYROLL DIRECT DEP"),
    _Stream("Salary", "Rent", _RULE, 14, 90_000, 90_000, None, False, _ON_DEPOSIT),
    _Stream("Salary", "Groceries", _RULE, 14, 25_000, 25_000, None, False, _ON_DEPOSIT),
    _Stream("Salary", "Emergency Fund", _RULE, 14, 40_000, 60_000, None, False, _ON_DEPOSIT),
    _Stream("Salary", "Taxes 2025", _RULE, 14, 20_000, 20_000, None, False, _ON_DEPOSIT, is_active=False),
    _Stream("50% Rule", "House Down Payment", _RULE, 7, 12_500, 12_500, None, False, _WEEKLY),
    _Stream("Emergency Fund", "Harbor Card Payoff", _RULE, 30, 30_000, 80_000, None, False, _MONTHLY),
    _Stream("Rent", "Landlord", _RULE, 30, 180_000, 180_000, "Rent", True, _MONTHLY),
    _Stream("Harbor Card Payoff", "Harbor Rewards Card", _RULE, 30, 20_000, 90_000, None, True, _MONTHLY),
    _Stream("House Down Payment", "Car Loan", _ACH, 30, 38_900, 38_900, "Car payment", True),
    _Stream("Groceries", "Green Grocer", _ACH, 6, 2_150, 17_890),
    _Stream("Café ☕", "Blue Bottle Café", _ACH, 9, 450, 1_890),
    _Stream("Vacation / Travel", "Trattoria Nonna", _ACH, 40, 4_300, 12_700, "Dinner"),
    _Stream("50% Rule", "Power & Light Co.", _ACH, 30, 7_100, 15_400, "Electricity"),
    _Stream("50% Rule", "Bücherei & Söhne", _ACH, 60, 1_200, 4_800),
    _Stream("Everyday Checking", "House Down Payment", _ONCE, 20, 25_000, 100_000, "Savings", True, newest_hours=30),
    _Stream("Vacation / Travel", "Groceries", _ONCE, 24, 1_000, 8_000),
    _Stream("Groceries", "Vacation / Travel", _ONCE, 19, 1_000, 8_000, "Left over"),
    _Stream("Taxes 2025", "Taxes 2026", _ONCE, 60, 10_000, 30_000),
    _Stream("Etsy Payouts", "Side Income", _ACH, 21, 3_499, 41_250, "ETSY PAYOUT", newest_hours=2),
    _Stream("Side Income", "Vacation / Travel", _RULE, 21, 3_000, 40_000, None, False, _ON_DEPOSIT),
    _Stream("State Tax Refund", "Taxes 2025", _ACH, 200, 61_200, 61_200, "TAX REFUND"),
    _Stream("Jordan Lee", "Café ☕", _ACH, 75, 1_500, 4_000, "Thanks!"),
    _Stream("Vacation / Travel", "Jordan Lee", _ACH, 50, 5_000, 20_000, "Cabin share", True),
)
_STUDIO = (
    _Stream("Northwind Design Client", "Client Payments", _ACH, 45, 250_000, 900_000, "INVOICE"),
    _Stream("Client Payments", "Operating", _RULE, 45, 200_000, 700_000, None, False, _ON_DEPOSIT),
    _Stream("Operating", "Sales Tax", _ONCE, 60, 8_000, 30_000),
    _Stream("Operating", "Payroll Reserve", _RULE, 60, 100_000, 100_000, None, False, _MONTHLY),
    _Stream("Operating", "Business Checking", _ONCE, 55, 40_000, 90_000, "Owner draw", True),
)
_DELETED = (_Stream("Ski Trip", "Vacation / Travel", _RULE, 7, 2_500, 2_500, None, False, _WEEKLY),)
"""Rules of pods that are deleted now. They ran `_DELETED_RUNS` times, when the history began."""
_DELETED_RUNS = 4
RULES = {ORGANIZATIONS[0].id: (*_HOUSEHOLD, *_DELETED), ORGANIZATIONS[1].id: _STUDIO}
"""The streams with the rules of each organization."""


def seed(connection: sqlite3.Connection, now_ms: int) -> None:
    """Fill an empty ledger, in the caller's transaction.

    Args:
        connection: to a file whose tables are empty.
        now_ms: when the activity ends.
    """
    connection.execute("INSERT INTO setting VALUES (?, ?)", (JWT_SECRET, secrets.token_hex(32)))
    connection.executemany(
        "INSERT INTO balance VALUES (?, ?)", [(holder.id, holder.opening_cents or 0) for holder in HOLDERS.values()]
    )
    insert_transfers(connection, _year())
    connection.execute("UPDATE transfer SET created_at_ms = created_at_ms + ?", (now_ms,))


@cache
def _year() -> tuple[TransferColumns, ...]:
    """Make the activity of a year that ends at 0, oldest first. It is the same each time, and takes a while."""
    generator = random.Random(_RANDOM_SEED)
    household, studio = ORGANIZATIONS
    history = [
        *_history(household, _HOUSEHOLD, generator),
        *_history(studio, _STUDIO, generator),
        *_deleted_history(household),
    ]
    return tuple(columns_of(transfer) for transfer in sorted(history, key=lambda one: one.created_at_ms))


def _history(
    organization: Organization, streams: tuple[_Stream, ...], generator: random.Random
) -> Iterator[NewTransfer]:
    parties = parties_by_name(organization)
    for stream in streams:
        start_ms = generator.randrange(1, stream.every_days * DAY_MS)
        if stream.newest_hours is not None:
            start_ms = stream.newest_hours * _HOUR_MS
        for number, least_ms in enumerate(range(start_ms, _HISTORY_DAYS * DAY_MS, stream.every_days * DAY_MS)):
            age_ms = least_ms + generator.randrange(0, DAY_MS // 4)
            name = f"{organization.id}/{stream.source}/{stream.destination}/{number}"
            between = parties[stream.source], parties[stream.destination]
            outcome = _outcome(stream, age_ms, generator)
            amount_cents = generator.randint(stream.from_cents, stream.to_cents)
            yield _transfer(
                stream,
                between,
                outcome,
                organization_id=organization.id,
                transfer_id=stable_id("transfer", name),
                amount_cents=amount_cents,
                created_at_ms=-age_ms,
            )


def _deleted_history(organization: Organization) -> Iterator[NewTransfer]:
    parties = parties_by_name(organization)
    for stream in _DELETED:
        for number in range(_DELETED_RUNS):
            yield _transfer(
                stream,
                (parties[stream.source], parties[stream.destination]),
                (Status.COMPLETE, None),
                organization_id=organization.id,
                transfer_id=stable_id("transfer", f"{organization.id}/{stream.source}/{number}"),
                amount_cents=stream.to_cents,
                created_at_ms=-(_HISTORY_DAYS - stream.every_days * number) * DAY_MS,
            )


def parties_by_name(organization: Organization) -> dict[str, Party]:
    """Return everything that can be a party of a transfer in the history of an organization."""
    everyone = (*MERCHANTS, *EXTERNAL_ENTITIES, *organization.deleted_pods, *organization.holders)
    return {party.name: party for party in everyone}


def _transfer(
    stream: _Stream,
    between: tuple[Party, Party],
    outcome: tuple[Status, str | None],
    *,
    organization_id: str,
    transfer_id: str,
    amount_cents: int,
    created_at_ms: int,
) -> NewTransfer:
    source, destination = between
    status, error_reason = outcome
    trigger_type, trigger_cron = stream.trigger or (None, None)
    return NewTransfer(
        id=transfer_id,
        organization_id=organization_id,
        source_id=source.id,
        destination_id=destination.id,
        amount_cents=amount_cents,
        direction=direction(source, destination),
        activity_type=stream.activity_type,
        created_at_ms=created_at_ms,
        status=status,
        error_reason=error_reason,
        description=stream.description,
        is_compound=stream.is_compound,
        rule_trigger_type=trigger_type,
        rule_trigger_cron=trigger_cron,
    )


def _outcome(stream: _Stream, age_ms: int, generator: random.Random) -> tuple[Status, str | None]:
    chance, reason = generator.random(), generator.choice(_FAILURES)
    if stream.activity_type is not ActivityType.DIRECT_DEPOSIT:
        if chance < _FAILED_SHARE:
            return Status.FAILED, reason
        if chance < _FAILED_SHARE + _CANCELLED_SHARE:
            return Status.CANCELLED, None
    if age_ms < _STILL_PENDING_DAYS * DAY_MS:
        return Status.PENDING, None
    if stream.is_compound and age_ms < _STILL_PROCESSING_DAYS * DAY_MS:
        return Status.PROCESSING, None
    return Status.COMPLETE, None
