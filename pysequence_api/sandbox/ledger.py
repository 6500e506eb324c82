"""The money of the sandbox: balances, transfers, and the one function that moves money.

A `Ledger` is for one operation in one worker thread. Amounts are whole cents, times are whole milliseconds.
"""

import base64
import binascii
import re
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from pysequence_api.sandbox.database import connected, writing
from pysequence_api.sandbox.household import (
    HOLDERS,
    PARTIES,
    Account,
    AccountType,
    Holder,
    Organization,
    Party,
    Pod,
    Port,
    account_type,
)

PROCESSING_AFTER_SECONDS = 2
"""A new transfer is ``PENDING`` for this long."""
COMPLETE_AFTER_SECONDS = 10
"""A new transfer is ``COMPLETE`` after this long. Before, it is ``PROCESSING``."""
PROCESSING_AFTER_MS = PROCESSING_AFTER_SECONDS * 1000
COMPLETE_AFTER_MS = COMPLETE_AFTER_SECONDS * 1000
DEFAULT_PAGE_SIZE = 10
MAX_PAGE_SIZE = 100
MAX_DESCRIPTION_CHARACTERS = 1000
INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
"""The error reason of a transfer that the source cannot pay."""
MIN_PLATFORM_CENTS = 100
"""The Platform API moves no less."""
LESS_THAN_ONE_DOLLAR = "TRANSFER_AMOUNT_LESS_THAN_ONE_DOLLAR"
"""The error reason of an execution of a rule that would move less."""

_CURSOR = re.compile(r"t:(-?[0-9]{1,15}):([0-9]{1,15})", re.ASCII)
_IS_REVERSED = "coalesce(reverses_at_ms <= :now_ms, 0)"
_STATUS = f"""CASE WHEN status IS NOT NULL THEN status
    WHEN {_IS_REVERSED} THEN reversed_status
    WHEN :now_ms - created_at_ms < {PROCESSING_AFTER_MS} AND NOT starts_processing THEN 'PENDING'
    WHEN :now_ms - created_at_ms < {COMPLETE_AFTER_MS} OR NOT completes THEN 'PROCESSING'
    ELSE 'COMPLETE' END"""
_SELECT = f"SELECT *, {_STATUS} AS current_status, {_IS_REVERSED} AS is_reversed FROM transfer"
_IS_VISIBLE = "visible_from_ms <= :now_ms - :lag_ms"
_IS_LIVE = "NOT is_simulation"
# Reversals are not written to the balances, so that they take effect by the clock.
_BALANCE = """cents + coalesce((
    SELECT sum(CASE holder_id WHEN source_id THEN amount_cents - fee_cents ELSE fee_cents - amount_cents END)
    FROM transfer WHERE reverses_at_ms <= :now_ms AND moves_money AND holder_id IN (source_id, destination_id)), 0)"""


class Status(StrEnum):
    """The status of a transfer."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETE = "COMPLETE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Direction(StrEnum):
    """The direction of a transfer, as seen from the pods."""

    INTERNAL = "INTERNAL"
    INCOMING = "INCOMING"
    OUTGOING = "OUTGOING"


class ActivityType(StrEnum):
    """The cause of a transfer."""

    ONE_TIME_TRANSFER = "ONE_TIME_TRANSFER"
    RULE = "RULE"
    DIRECT_DEPOSIT = "DIRECT_DEPOSIT"
    ACH = "ACH"


class PaymentRefusedError(Exception):
    """Sequence refuses the payment. No money moved. The message becomes ``createPayment.error.message``."""


class InvalidQueryError(Exception):
    """A cursor, page size or date is not valid. The message becomes a GraphQL error."""


@dataclass(frozen=True, slots=True)
class NewTransfer:
    """A row to insert into the table of transfers."""

    id: str
    organization_id: str
    source_id: str
    destination_id: str
    amount_cents: int
    direction: Direction
    activity_type: ActivityType
    created_at_ms: int
    status: Status | None = None
    error_reason: str | None = None
    description: str | None = None
    is_compound: bool = False
    rule_trigger_type: str | None = None
    rule_trigger_cron: str | None = None
    visible_from_ms: int = 0
    is_payment: bool = False
    fee_cents: int = 0
    reverses_at_ms: int | None = None
    reversed_status: Status | None = None
    completes: bool = True
    is_simulation: bool = False
    moves_money: bool = True
    starts_processing: bool = False
    readable_from_ms: int = 0


TransferColumns = tuple[object, ...]
"""The columns of a transfer, in the order of the fields of `NewTransfer`."""


@dataclass(frozen=True, slots=True)
class TransferRow:
    """A transfer with its current status."""

    id: str
    sequence: int
    organization_id: str
    source: Party
    destination: Party
    amount_cents: int
    """What left the source."""
    fee_cents: int
    direction: str
    activity_type: str
    status: str
    error_reason: str | None
    description: str | None
    is_compound: bool
    rule_trigger_type: str | None
    rule_trigger_cron: str | None
    created_at_ms: int
    reversed_at_ms: int | None
    """When the money went back; ``None`` if it has not."""
    is_returned: bool
    """Whether the money went back after the transfer was ``COMPLETE``."""
    is_simulation: bool
    starts_processing: bool
    """Whether it is ``PROCESSING`` from the beginning, because the Platform API made it."""

    @property
    def cursor(self) -> str:
        """Return the position in the list. Later transfers do not change it."""
        return base64.urlsafe_b64encode(f"t:{self.created_at_ms}:{self.sequence}".encode()).decode()

    @property
    def updated_at_ms(self) -> int:
        """Return when the status last changed."""
        if self.reversed_at_ms is not None:
            return self.reversed_at_ms
        after_ms = {Status.PENDING: 0, Status.PROCESSING: 0 if self.starts_processing else PROCESSING_AFTER_MS}
        return self.created_at_ms + after_ms.get(Status(self.status), COMPLETE_AFTER_MS)


@dataclass(frozen=True, slots=True)
class TransferQuery:
    """Which transfers to list. All conditions must hold."""

    created_from_ms: int | None = None
    created_until_ms: int | None = None
    statuses: Sequence[str] = ()
    directions: Sequence[str] = ()
    activity_types: Sequence[str] = ()
    hide_internal: bool = False
    name: str = ""
    party_id: str | None = None
    exclude_id: str | None = None
    source_ids: Sequence[str] = ()
    """Together with ``destination_ids``: the source is one of these, or the destination is one of those."""
    destination_ids: Sequence[str] = ()
    between: tuple[str, str] | None = None
    """The source and the destination."""
    only_id: str | None = None
    simulations: bool | None = False
    """``None`` means both real and simulated transfers."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of transfers, newest first."""

    rows: tuple[TransferRow, ...]
    has_next_page: bool


@dataclass(frozen=True, slots=True)
class PaymentParty:
    """A party of a payment, as the client names it."""

    id: str
    type: str


@dataclass(frozen=True, slots=True)
class PaymentOrder:
    """What ``createPayment`` is asked to do."""

    source: PaymentParty
    destination: PaymentParty
    amount_cents: int
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Movement:
    """Two parties that exist, and what moves between them."""

    source: Holder
    destination: Holder
    amount_cents: int
    description: str | None = None
    rule_trigger_type: str | None = None
    """What triggered the rule that moves the money; ``None``: no rule does."""


@dataclass(frozen=True, slots=True)
class Reversal:
    """A transfer that fails or is returned later, so that its money goes back to the source."""

    after_seconds: float
    """Counted from the creation of the transfer."""
    status: Status
    error_reason: str | None
    is_return: bool = False
    """Whether the transfer is ``COMPLETE`` before; if not, it is ``PROCESSING``."""


@dataclass(slots=True)
class PaymentFaults:
    """What goes wrong with a payment that ``createPayment`` accepts."""

    invisible_seconds: float = 0
    """How long the activity does not show the transfer."""
    fee_cents: int = 0
    """What the destination does not receive. At least one cent arrives."""
    reversal: Reversal | None = None
    unreadable_seconds: float = 0
    """How long the transfer cannot be read by its id, although lists show it."""


@dataclass(frozen=True, slots=True)
class MonthSummary:
    """The totals of a month."""

    transfer_count: int
    rule_count: int
    incoming_cents: int


@dataclass(slots=True)
class _Conditions:
    """SQL conditions and their values."""

    values: dict[str, object]
    texts: list[str] = field(default_factory=list)

    def add(self, text: str, **values: object) -> None:
        self.texts.append(text)
        self.values.update(values)

    def any_of(self, expression: str, name: str, options: Sequence[str]) -> None:
        """Require the expression to be one of the options."""
        names = [f"{name}_{number}" for number in range(len(options))]
        marks = ", ".join(f":{one}" for one in names)
        self.add(f"{expression} IN ({marks})", **dict(zip(names, options, strict=True)))


class Ledger:
    """Reads and moves money over one connection."""

    activity_lag_seconds: float = 0
    """How much later than usual new transfers are shown."""

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock

    def now_ms(self) -> int:
        """Return the time by the clock of the sandbox, in milliseconds since 1970."""
        return int(self._clock() * 1000)

    def hold_snapshot(self) -> None:
        """From the next read on, read from one snapshot, whatever other connections write."""
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN")

    def _drop_snapshot(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def balance_cents(self, holder_id: str) -> int:
        """Return the balance of a pod, port or account; negative for money that is owed."""
        row = self._connection.execute(
            f"SELECT {_BALANCE} FROM balance WHERE holder_id = :holder_id",
            {"now_ms": self.now_ms(), "holder_id": holder_id},
        ).fetchone()
        return int(row[0])

    def all_balances_cents(self) -> dict[str, int]:
        """Return all balances by the id of their holder."""
        rows = self._connection.execute(f"SELECT holder_id, {_BALANCE} FROM balance", {"now_ms": self.now_ms()})
        return dict(rows.fetchall())

    def transfer(self, organization_id: str, transfer_id: str) -> TransferRow | None:
        """Return one transfer of an organization; ``None`` if there is none with this id."""
        row = self._connection.execute(
            f"{_SELECT} WHERE {_IS_VISIBLE} AND {_IS_LIVE} AND organization_id = :organization_id AND id = :id",
            {**self._times(), "organization_id": organization_id, "id": transfer_id},
        ).fetchone()
        return None if row is None else _read(row)

    def readable_transfer(self, organization_id: str, transfer_id: str) -> TransferRow | None:
        """Return one transfer or simulation as the Platform API does: a new one can be unknown for a short time."""
        row = self._connection.execute(
            f"""{_SELECT} WHERE {_IS_VISIBLE} AND organization_id = :organization_id AND id = :id
            AND readable_from_ms <= :now_ms""",
            {**self._times(), "organization_id": organization_id, "id": transfer_id},
        ).fetchone()
        return None if row is None else _read(row)

    def transfers(self, organization_id: str, query: TransferQuery, *, after: str, first: int) -> Page:
        """List transfers, newest first.

        Args:
            organization_id: the organization.
            query: which of its transfers.
            after: the cursor of the last transfer before the page; empty for the first page.
            first: the size of the page, at most `MAX_PAGE_SIZE`.

        Raises:
            InvalidQueryError: the cursor is not valid, or ``first`` is less than 1.
        """
        if first < 1:
            raise InvalidQueryError("first must be at least 1")
        size = min(first, MAX_PAGE_SIZE)
        conditions = _conditions(organization_id, query, self._times())
        if after:
            created_at_ms, sequence = _read_cursor(after)
            conditions.add(
                "(created_at_ms, sequence) < (:after_ms, :after_sequence)",
                after_ms=created_at_ms,
                after_sequence=sequence,
            )
        return self._page(conditions, size)

    def numbered_page(self, organization_id: str, query: TransferQuery, *, number: int, size: int) -> Page:
        """List transfers by page number, newest first. Transfers made meanwhile move the others to later pages.

        Args:
            organization_id: the organization.
            query: which of its transfers.
            number: the number of the page, from 1.
            size: how many transfers a page has.
        """
        conditions = _conditions(organization_id, query, self._times())
        return self._page(conditions, size, (number - 1) * size)

    def _page(self, conditions: _Conditions, size: int, offset: int = 0) -> Page:
        found = self._connection.execute(
            f"""{_SELECT} WHERE {" AND ".join(conditions.texts)}
            ORDER BY created_at_ms DESC, sequence DESC LIMIT :size OFFSET :offset""",
            {**conditions.values, "size": size + 1, "offset": offset},
        ).fetchall()
        return Page(tuple(_read(row) for row in found[:size]), has_next_page=len(found) > size)

    def first_transfer_ms(self, organization_id: str) -> int | None:
        """Return when the oldest transfer of the organization was made."""
        value: int | None = self._connection.execute(
            f"SELECT min(created_at_ms) FROM transfer WHERE organization_id = ? AND {_IS_LIVE}", (organization_id,)
        ).fetchone()[0]
        return value

    def summary(self, since_ms: int) -> MonthSummary:
        """Return the totals since a time, over all organizations."""
        row = self._connection.execute(
            f"""SELECT count(*) AS transfers, coalesce(sum(activity_type = 'RULE'), 0) AS rules,
                coalesce(sum(CASE WHEN direction = 'INCOMING' THEN amount_cents - fee_cents END), 0) AS incoming_cents
            FROM transfer WHERE created_at_ms >= :since_ms AND {_IS_VISIBLE} AND {_IS_LIVE}""",
            {**self._times(), "since_ms": since_ms},
        ).fetchone()
        return MonthSummary(row["transfers"], row["rules"], row["incoming_cents"])

    def payments(self) -> tuple[TransferRow, ...]:
        """Return what clients moved, oldest first, also what the activity does not show yet."""
        rows = self._connection.execute(f"{_SELECT} WHERE is_payment ORDER BY sequence", {"now_ms": self.now_ms()})
        return tuple(_read(row) for row in rows)

    def create_payment(
        self, organization: Organization, order: PaymentOrder, faults: PaymentFaults | None = None
    ) -> str:
        """Move money, in one transaction.

        Args:
            organization: the organization of the KYC id. Both parties must belong to it.
            order: what to move.
            faults: what goes wrong with the transfer.

        Returns:
            The id of the new transfer.

        Raises:
            PaymentRefusedError: no money moved. The message says why.
        """
        if order.amount_cents <= 0:
            raise PaymentRefusedError("Amount must be greater than zero")
        source = _payment_party("Source", order.source, organization)
        destination = _payment_party("Destination", order.destination, organization)
        check_route(source, destination)
        with self.writing():
            # The time is read under the lock, so that transfers are in the order of their times.
            movement = Movement(source, destination, order.amount_cents, order.description)
            transfer = _new_transfer(movement, faults or PaymentFaults(), self.now_ms())
            if not self._move(transfer):
                raise PaymentRefusedError("Insufficient funds")
            insert_transfers(self._connection, [columns_of(transfer)])
        return transfer.id

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Run one transaction under the write lock of the file."""
        self._drop_snapshot()
        with writing(self._connection):
            yield

    def add_transfer(self, movement: Movement, faults: PaymentFaults, *, simulation: bool = False) -> TransferRow:
        """Move money as the Platform API does, in the caller's transaction.

        A transfer that the source cannot pay is accepted, moves nothing, and fails after `PROCESSING_AFTER_SECONDS`.

        Args:
            movement: what to move. `check_route` has accepted it.
            faults: what goes wrong with the transfer.
            simulation: move nothing, and show the transfer in the Platform API only.
        """
        transfer = replace(
            _new_transfer(movement, faults, self.now_ms()),
            is_simulation=simulation,
            starts_processing=True,
        )
        if simulation:
            transfer = replace(transfer, moves_money=False, is_payment=False)
        reason = self._failure_reason(transfer)
        if reason is not None:
            transfer = replace(
                transfer,
                moves_money=False,
                is_payment=False,
                error_reason=reason,
                reverses_at_ms=transfer.created_at_ms + PROCESSING_AFTER_MS,
                reversed_status=Status.FAILED,
                completes=False,
            )
        insert_transfers(self._connection, [columns_of(transfer)])
        row = self._connection.execute(f"{_SELECT} WHERE id = :id", {"now_ms": self.now_ms(), "id": transfer.id})
        return _read(row.fetchone())

    def _times(self) -> dict[str, int]:
        return {"now_ms": self.now_ms(), "lag_ms": _ms(self.activity_lag_seconds)}

    def _failure_reason(self, transfer: NewTransfer) -> str | None:
        """Move the money of a transfer that moves any; return why it cannot."""
        if transfer.amount_cents < MIN_PLATFORM_CENTS:
            return LESS_THAN_ONE_DOLLAR
        if transfer.moves_money:
            return None if self._move(transfer) else INSUFFICIENT_FUNDS
        is_covered = self.balance_cents(transfer.source_id) >= transfer.amount_cents
        return None if is_covered else INSUFFICIENT_FUNDS

    def _move(self, transfer: NewTransfer) -> bool:
        """Move the money; return whether the source has enough."""
        taken = self._connection.execute(
            f"""UPDATE balance SET cents = cents - :amount_cents
            WHERE holder_id = :holder_id AND {_BALANCE} >= :amount_cents""",
            {
                "now_ms": transfer.created_at_ms,
                "amount_cents": transfer.amount_cents,
                "holder_id": transfer.source_id,
            },
        )
        if taken.rowcount != 1:
            return False
        self._connection.execute(
            "UPDATE balance SET cents = cents + ? WHERE holder_id = ?",
            (transfer.amount_cents - transfer.fee_cents, transfer.destination_id),
        )
        return True


@contextmanager
def open_ledger(path: Path, clock: Callable[[], float]) -> Iterator[Ledger]:
    """Open the ledger for one operation.

    Args:
        path: the SQLite file.
        clock: Unix time in seconds.
    """
    with connected(path) as connection:
        yield Ledger(connection, clock)


def columns_of(transfer: NewTransfer) -> TransferColumns:
    """Return what `insert_transfers` inserts for a transfer."""
    return tuple(getattr(transfer, column) for column in NewTransfer.__slots__)


def insert_transfers(connection: sqlite3.Connection, transfers: Iterable[TransferColumns]) -> None:
    """Insert transfers, in the transaction of the caller."""
    columns = NewTransfer.__slots__
    connection.executemany(
        f"INSERT INTO transfer ({', '.join(columns)}) VALUES ({', '.join('?' for _ in columns)})",
        transfers,
    )


def direction(source: Party, destination: Party) -> Direction:
    """Return the direction of a transfer, as seen from the pods.

    A transfer between pods is internal. One from a port or an account to a pod is incoming.
    """
    if not isinstance(destination, Pod | Port):
        return Direction.OUTGOING
    if isinstance(source, Pod) or (isinstance(source, Port) and isinstance(destination, Port)):
        return Direction.INTERNAL
    return Direction.INCOMING


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _payment_party(role: str, named: PaymentParty, organization: Organization) -> Holder:
    holder = HOLDERS.get(named.id)
    if holder is None or holder.organization_id != organization.id:
        raise PaymentRefusedError(f"{role} not found")
    if account_type(holder) is not AccountType(named.type):
        raise PaymentRefusedError(f"{role} is not of type {named.type}")
    return holder


def check_route(source: Holder, destination: Holder) -> None:
    """Check whether money can move between two parties.

    Raises:
        PaymentRefusedError: it cannot. The message says why.
    """
    if source.id == destination.id:
        raise PaymentRefusedError("Source and destination must be different")
    if isinstance(source, Account):
        if not source.can_be_source_of_transfer:
            raise PaymentRefusedError("This account cannot be the source of a transfer")
        if isinstance(destination, Account):
            raise PaymentRefusedError("Transfers between two external accounts are not possible")


def _new_transfer(movement: Movement, faults: PaymentFaults, now_ms: int) -> NewTransfer:
    source, destination = movement.source, movement.destination
    reversal = faults.reversal
    is_return = reversal is not None and reversal.is_return
    return NewTransfer(
        id=str(uuid.uuid4()),
        organization_id=source.organization_id,
        source_id=source.id,
        destination_id=destination.id,
        amount_cents=movement.amount_cents,
        direction=direction(source, destination),
        activity_type=ActivityType.RULE if movement.rule_trigger_type else ActivityType.ONE_TIME_TRANSFER,
        created_at_ms=now_ms,
        error_reason=reversal.error_reason if reversal else None,
        description=movement.description and movement.description[:MAX_DESCRIPTION_CHARACTERS],
        # Only compound details have a reversal payment.
        is_compound=is_return or isinstance(source, Account) or isinstance(destination, Account),
        visible_from_ms=now_ms + _ms(faults.invisible_seconds),
        is_payment=True,
        fee_cents=min(faults.fee_cents, movement.amount_cents - 1),
        reverses_at_ms=now_ms + _ms(reversal.after_seconds) if reversal else None,
        reversed_status=reversal.status if reversal else None,
        completes=reversal is None or is_return,
        readable_from_ms=now_ms + _ms(faults.unreadable_seconds),
        rule_trigger_type=movement.rule_trigger_type,
    )


def _conditions(organization_id: str, query: TransferQuery, times: dict[str, int]) -> _Conditions:
    conditions = _Conditions({**times}, [_IS_VISIBLE])
    conditions.add("organization_id = :organization_id", organization_id=organization_id)
    if query.created_from_ms is not None:
        conditions.add("created_at_ms >= :from_ms", from_ms=query.created_from_ms)
    if query.created_until_ms is not None:
        conditions.add("created_at_ms <= :until_ms", until_ms=query.created_until_ms)
    for expression, name, options in (
        (_STATUS, "status", query.statuses),
        ("direction", "direction", query.directions),
        ("activity_type", "activity_type", query.activity_types),
    ):
        if options:
            conditions.any_of(expression, name, options)
    if query.hide_internal:
        conditions.add("direction != 'INTERNAL'")
    if query.party_id is not None:
        conditions.add(":party_id IN (source_id, destination_id)", party_id=query.party_id)
    if query.exclude_id is not None:
        conditions.add("id != :exclude_id", exclude_id=query.exclude_id)
    if query.only_id is not None:
        conditions.add("id = :only_id", only_id=query.only_id)
    if query.between is not None:
        source_id, destination_id = query.between
        conditions.add("source_id = :from_id AND destination_id = :to_id", from_id=source_id, to_id=destination_id)
    if query.simulations is not None:
        conditions.add("is_simulation = :is_simulation", is_simulation=query.simulations)
    if query.source_ids or query.destination_ids:
        _add_parties(conditions, query.source_ids, query.destination_ids)
    if query.name:
        _add_name(conditions, query.name)
    return conditions


def _add_name(conditions: _Conditions, name: str) -> None:
    # SQLite ignores case in ASCII only, so the names are compared here. There are few parties.
    wanted = name.casefold()
    matching = [party.id for party in PARTIES.values() if wanted in party.name.casefold()]
    _add_parties(conditions, matching, matching)


def _add_parties(conditions: _Conditions, source_ids: Sequence[str], destination_ids: Sequence[str]) -> None:
    marks = _Conditions({})
    marks.any_of("source_id", "source", source_ids)
    marks.any_of("destination_id", "destination", destination_ids)
    conditions.add(f"({' OR '.join(marks.texts)})", **marks.values)


def _read_cursor(cursor: str) -> tuple[int, int]:
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii")).decode("ascii")
    except (binascii.Error, UnicodeError):
        text = ""
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise InvalidQueryError("Invalid cursor")
    return int(match[1]), int(match[2])


def _read(row: sqlite3.Row) -> TransferRow:
    is_reversed = bool(row["is_reversed"])
    is_still_ahead = row["reverses_at_ms"] is not None and not is_reversed
    return TransferRow(
        id=row["id"],
        sequence=row["sequence"],
        organization_id=row["organization_id"],
        source=PARTIES[row["source_id"]],
        destination=PARTIES[row["destination_id"]],
        amount_cents=row["amount_cents"],
        fee_cents=row["fee_cents"],
        direction=row["direction"],
        activity_type=row["activity_type"],
        status=row["current_status"],
        error_reason=None if is_still_ahead else row["error_reason"],
        description=row["description"],
        is_compound=bool(row["is_compound"]),
        rule_trigger_type=row["rule_trigger_type"],
        rule_trigger_cron=row["rule_trigger_cron"],
        created_at_ms=row["created_at_ms"],
        reversed_at_ms=row["reverses_at_ms"] if is_reversed else None,
        is_returned=is_reversed and bool(row["completes"]),
        is_simulation=bool(row["is_simulation"]),
        starts_processing=bool(row["starts_processing"]),
    )
