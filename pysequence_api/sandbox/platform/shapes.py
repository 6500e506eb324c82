"""The shapes of the Platform API, and how the household and the ledger fill them (docs/upstream-platform.md)."""

from datetime import timedelta

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from pysequence_api.sandbox.household import (
    DELETED_AFTER_DAYS,
    DELETED_PODS,
    HOLDERS,
    Account,
    Holder,
    Party,
    Pod,
    Port,
)
from pysequence_api.sandbox.ledger import ActivityType, Direction, Ledger, Status, TransferRow
from pysequence_api.sandbox.platform.rules import Rule, execution_id, rule_of
from pysequence_api.sandbox.timestamps import DAY_MS, from_ms, write_time

POD, INCOME_SOURCE, EXTERNAL_ACCOUNT, EXTERNAL_ENTITY = "POD", "INCOME_SOURCE", "EXTERNAL_ACCOUNT", "EXTERNAL_ENTITY"
DIRECTIONS = {
    "MONEY_IN": Direction.INCOMING,
    "MONEY_OUT": Direction.OUTGOING,
    "INTERNAL": Direction.INTERNAL,
}
"""The directions of the Platform API, and the ledger's."""
STATUSES: dict[str, Status | None] = {
    "PENDING_APPROVAL": None,
    "PROCESSING": Status.PROCESSING,
    "PENDING": Status.PENDING,
    "COMPLETE": Status.COMPLETE,
    "INCOMPLETE": None,
    "ERROR": Status.FAILED,
    "CANCELLED": Status.CANCELLED,
}
"""The statuses of the Platform API, and the ledger's; ``None``: the ledger has no such transfer."""
ORIGINS: dict[str, tuple[ActivityType, tuple[Direction, ...]] | None] = {
    "DIRECT_DEPOSIT": (ActivityType.DIRECT_DEPOSIT, tuple(Direction)),
    "CHECK_DEPOSIT": None,
    "CASHBACK": None,
    "USER_PULL": None,
    "RULE": (ActivityType.RULE, tuple(Direction)),
    "USER": (ActivityType.ONE_TIME_TRANSFER, tuple(Direction)),
    "EXTERNAL_PULL": (ActivityType.ACH, (Direction.OUTGOING,)),
    "UNKNOWN": (ActivityType.ACH, (Direction.INCOMING, Direction.INTERNAL)),
}
"""The origins of the Platform API, and the ledger's activity type with directions; ``None`` as above."""
DISCONNECTED = "DISCONNECTED_ACCOUNT"
_BANKS_REPORT_HOUR = 11
_SATURDAY = 5


class _Shape(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, defer_build=True)


class LinkedAccount(_Shape):
    """The account that a pod pays off."""

    id: str
    name: str


class AccountSummary(_Shape):
    """An account in a list, without its balance."""

    id: str
    name: str
    type: str
    description: str | None
    external_account_type: str | None
    beneficiary_name: str | None
    institution_name: str | None
    can_be_source: bool
    can_be_destination: bool
    linked_account: LinkedAccount | None
    created_at: str
    updated_at: str
    deleted_at: str | None


class Balance(_Shape):
    """What Sequence knows about the money in an account. Money that is owed is positive."""

    balance_in_cents: int | None = None
    available_balance_in_cents: int | None = None
    last_statement_balance_in_cents: int | None = None
    last_statement_date: str | None = None
    next_payment_minimum_in_cents: int | None = None
    next_payment_due_date: str | None = None
    balance_last_updated_at: str | None = None
    error: str | None = None
    interest_rate_percentage: float | None = None
    original_loan_amount_in_cents: int | None = None


class FullAccount(AccountSummary):
    """One account, with its balance."""

    routing_number: str | None
    bank_account_number: str | None
    savings_target_in_cents: int | None
    balance: Balance | None


class TransferParty(_Shape):
    """The source or the destination of a transfer."""

    id: str | None
    name: str
    type: str
    is_deleted: bool


class Transfer(_Shape):
    """A transfer."""

    id: str
    amount_in_cents: int
    direction: str
    origin: str
    source: TransferParty | None
    destination: TransferParty | None
    status: str
    execution_mode: str
    rule_id: str | None
    rule_execution_id: str | None
    error_code: str | None
    created_at: str
    completed_at: str | None


class RuleShape(_Shape):
    """A rule. docs/upstream-platform.md does not have its fields; these are the sandbox's own."""

    id: str
    name: str
    is_active: bool
    trigger_type: str
    trigger_cron: str | None


class Execution(_Shape):
    """One execution of a rule. Its fields, too, are the sandbox's own."""

    id: str
    rule_id: str
    status: str
    execution_mode: str
    created_at: str
    completed_at: str | None


class Pagination(_Shape):
    """Which page this is."""

    page: int
    page_size: int
    has_next_page: bool


def account_type(party: Party) -> str:
    """Return the type of a party."""
    if isinstance(party, Pod):
        return POD
    if isinstance(party, Port):
        return INCOME_SOURCE
    return EXTERNAL_ACCOUNT if isinstance(party, Account) else EXTERNAL_ENTITY


def can_be_source(holder: Holder) -> bool:
    """Return whether transfers can start here."""
    return not isinstance(holder, Account) or holder.can_be_source_of_transfer


def can_be_destination(holder: Holder) -> bool:
    """Return whether transfers can end here."""
    return not isinstance(holder, Account) or "RECEIVE" in holder.capabilities


def summary(holder: Holder, ledger: Ledger) -> AccountSummary:
    """Return an account as lists show it."""
    deleted_at = _deleted_at(holder, ledger)
    linked = HOLDERS[holder.linked_account_id] if isinstance(holder, Pod) and holder.linked_account_id else None
    return AccountSummary(
        id=holder.id,
        name=holder.name,
        type=account_type(holder),
        description=holder.description,
        external_account_type=_external_type(holder) if isinstance(holder, Account) else None,
        beneficiary_name=holder.beneficiary_name,
        institution_name=holder.institution_name if isinstance(holder, Account) else None,
        can_be_source=deleted_at is None and can_be_source(holder),
        can_be_destination=deleted_at is None and can_be_destination(holder),
        linked_account=LinkedAccount(id=linked.id, name=linked.name) if linked else None,
        created_at=holder.created_at,
        updated_at=deleted_at or holder.created_at,
        deleted_at=deleted_at,
    )


def full_account(holder: Holder, ledger: Ledger) -> FullAccount:
    """Return an account with its balance."""
    return FullAccount(
        **summary(holder, ledger).model_dump(),
        routing_number=holder.routing_number,
        bank_account_number=holder.bank_account_number,
        savings_target_in_cents=holder.goal_amount_in_cents if isinstance(holder, Pod) else None,
        balance=_balance(holder, ledger),
    )


def transfer(row: TransferRow) -> Transfer:
    """Return a transfer."""
    rule = rule_of(row)
    return Transfer(
        id=row.id,
        amount_in_cents=row.amount_cents - row.fee_cents,
        direction=next(name for name, one in DIRECTIONS.items() if one == row.direction),
        origin=_origin(row),
        source=_party(row.source),
        destination=_party(row.destination),
        status=next(name for name, one in STATUSES.items() if one == row.status),
        execution_mode="SIMULATION" if row.is_simulation else "LIVE",
        rule_id=rule.id if rule else None,
        rule_execution_id=execution_id(row) if rule else None,
        error_code=row.error_reason,
        created_at=write_time(row.created_at_ms),
        completed_at=write_time(row.updated_at_ms) if row.status == Status.COMPLETE else None,
    )


def rule_shape(rule: Rule) -> RuleShape:
    """Return a rule."""
    return RuleShape(
        id=rule.id,
        name=rule.name,
        is_active=rule.is_active,
        trigger_type=rule.trigger_type,
        trigger_cron=rule.trigger_cron,
    )


def execution(row: TransferRow, rule: Rule) -> Execution:
    """Return the execution of a rule that made a transfer."""
    made = transfer(row)
    return Execution(
        id=execution_id(row),
        rule_id=rule.id,
        status=made.status,
        execution_mode=made.execution_mode,
        created_at=made.created_at,
        completed_at=made.completed_at,
    )


def _origin(row: TransferRow) -> str:
    for name, meaning in ORIGINS.items():
        if meaning and row.activity_type == meaning[0] and row.direction in meaning[1]:
            return name
    return "UNKNOWN"


def _party(party: Party) -> TransferParty:
    kind = account_type(party)
    return TransferParty(
        id=None if kind == EXTERNAL_ENTITY else party.id,
        name=party.name,
        type=kind,
        is_deleted=party.id in DELETED_PODS,
    )


def _external_type(account: Account) -> str:
    return "DEPOSITORY" if account.type == "DEPOSITORY_ACCOUNT" else "LIABILITY"


def _deleted_at(holder: Holder, ledger: Ledger) -> str | None:
    if holder.id not in DELETED_PODS:
        return None
    first_ms = ledger.first_transfer_ms(holder.organization_id) or 0
    return write_time(first_ms + DELETED_AFTER_DAYS * DAY_MS)


def _balance(holder: Holder, ledger: Ledger) -> Balance | None:
    if holder.id in DELETED_PODS:
        return Balance(balance_in_cents=0, available_balance_in_cents=0)
    if not isinstance(holder, Account):
        cents = ledger.balance_cents(holder.id)
        return Balance(
            balance_in_cents=cents,
            available_balance_in_cents=cents,
            balance_last_updated_at=write_time(ledger.now_ms()),
        )
    if not holder.has_metadata:
        return None
    if holder.opening_cents is None:
        return Balance(error=DISCONNECTED if holder.pending_disconnect_code else None)
    cents = ledger.balance_cents(holder.id)
    updated_at = _last_banking_day(ledger.now_ms())
    details = holder.liability
    if details is None:
        return Balance(balance_in_cents=cents, available_balance_in_cents=cents, balance_last_updated_at=updated_at)
    return Balance(
        balance_in_cents=-cents,
        last_statement_balance_in_cents=details.last_statement and details.last_statement.cents,
        last_statement_date=details.last_statement_date,
        next_payment_minimum_in_cents=details.minimum_payment and details.minimum_payment.cents,
        next_payment_due_date=details.due_date,
        balance_last_updated_at=updated_at,
        interest_rate_percentage=details.interest_rate_percentage,
        original_loan_amount_in_cents=details.original_loan_cents,
    )


def _last_banking_day(now_ms: int) -> str:
    """Return when the banks last reported. The sandbox shows the money of now with it."""
    now = from_ms(now_ms)
    day = now.replace(hour=_BANKS_REPORT_HOUR, minute=0, second=0, microsecond=0)
    while day > now or day.weekday() >= _SATURDAY:
        day -= timedelta(days=1)
    return day.isoformat(timespec="milliseconds").replace("+00:00", "Z")
