"""From an answer of the Platform API to models, in the words that both upstreams have in common.

The tables are in docs/upstream-platform.md. Data that Sequence leaves out becomes ``None``. What cannot be read does
too, and sets ``complete=False``, as does a missing list or entry.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from pysequence_api.models import (
    AccountType,
    ExternalAccount,
    Liability,
    Moment,
    Party,
    PaymentStatus,
    Pod,
    PodDetail,
    Port,
    SimpleDetails,
    Transfer,
    TransferDetail,
    TransferOrder,
    TransferReceipt,
)
from pysequence_api.sequence.nodes import Node, unreadable
from pysequence_api.sequence.platform.answers import Answer
from pysequence_api.text import SHOWN_CHARACTERS

RECOGNIZED_BY = ("source", "destination", "amountInCents", "createdAt", "origin")
"""The fields by which the transfer of an attempt is recognized."""
ACCOUNT_TYPES = {
    "POD": AccountType.POD,
    "INCOME_SOURCE": AccountType.PORT,
    "EXTERNAL_ACCOUNT": AccountType.ACCOUNT,
}
PARTY_TYPES = {**ACCOUNT_TYPES, "EXTERNAL_ENTITY": "EXTERNAL_ENTITY"}
STATUSES = {
    "PENDING": "PENDING",
    "PENDING_APPROVAL": "PENDING",
    "PROCESSING": "PROCESSING",
    "INCOMPLETE": "PROCESSING",
    "COMPLETE": "COMPLETE",
    "ERROR": "FAILED",
    "CANCELLED": "CANCELLED",
}
"""``INCOMPLETE`` is not known to be an end."""
DIRECTIONS = {"MONEY_IN": "INCOMING", "MONEY_OUT": "OUTGOING", "INTERNAL": "INTERNAL"}
ORIGINS = {
    "USER": "ONE_TIME_TRANSFER",
    "USER_PULL": "ONE_TIME_TRANSFER",
    "RULE": "RULE",
    "DIRECT_DEPOSIT": "DIRECT_DEPOSIT",
    "EXTERNAL_PULL": "ACH",
    "CHECK_DEPOSIT": "CHECK_DEPOSIT",
    "CASHBACK": "CASHBACK",
    "UNKNOWN": None,
}
SIMULATION = "SIMULATION"
NO_BALANCE = "Sequence has no balance of this account"
UNREADABLE_BALANCE = "Sequence's answer has no balance that can be read"


@dataclass(frozen=True, slots=True)
class Summary:
    """An account in the list of accounts.

    Attributes:
        id: its id.
        kind: its type.
        node: the rest.
    """

    id: str
    kind: AccountType
    node: Node


@dataclass(frozen=True, slots=True)
class Unread:
    """Why the full account could not be read."""

    reason: str


class _Balance(TypedDict):
    balance_cents: int | None
    balance_error: str | None
    balance_updated_at: Moment | None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list.

    Attributes:
        items: its entries, without those that are missing, which are gaps.
        has_next_page: whether there are more; ``False`` if the answer does not say, which is a gap.
    """

    items: tuple[Node, ...]
    has_next_page: bool


def read_page(answer: Answer) -> Page:
    """Read a list of an answer."""
    node = answer.node
    items = node.children("items")
    pagination = node.child("pagination")
    has_next_page = pagination.flag("hasNextPage")
    # A missing end must not look like the last page to a search for a transfer.
    if has_next_page is None:
        pagination.gap("hasNextPage", "missing")
    if has_next_page and not items:
        node.gap("items", "a page without entries that is not the last")
    return Page(tuple(items), bool(has_next_page) and bool(items))


def read_summaries(answer: Answer) -> tuple[tuple[Summary, ...], bool]:
    """Read ``GET /accounts``: the accounts of one page, and whether there are more."""
    page = read_page(answer)
    summaries = []
    for node in page.items:
        identifier, kind = node.required_identifier(), ACCOUNT_TYPES.get(node.text("type") or "")
        if kind is None:
            node.gap("type", "unknown")
        elif identifier is not None:
            summaries.append(Summary(identifier, kind, node))
    return tuple(summaries), page.has_next_page


def read_account(summary: Summary, full: Node | Unread | None, organization_id: str) -> Pod | Port | ExternalAccount:
    """Put an account together.

    Args:
        summary: from the list of accounts.
        full: the account itself, or why it could not be read; ``None`` if its balance is not needed.
        organization_id: the organization.
    """
    balance, name = _read_balance(full), summary.node.text("name")
    if summary.kind is AccountType.POD:
        return Pod(id=summary.id, name=name, organization_id=organization_id, **balance)
    if summary.kind is AccountType.PORT:
        return Port(id=summary.id, name=name, organization_id=organization_id, **balance)
    numbers = full if isinstance(full, Node) else summary.node
    return ExternalAccount(
        id=summary.id,
        name=name,
        organization_id=organization_id,
        type=summary.node.text("externalAccountType"),
        institution=summary.node.text("institutionName"),
        can_be_source=summary.node.flag("canBeSource"),
        account_number=numbers.masked_number("bankAccountNumber"),
        routing_number=numbers.masked_number("routingNumber"),
        **balance,
    )


def read_pod_detail(
    pod: Answer, pod_id: str, organization_id: str, linked: Answer | None, transfers: Answer | None
) -> PodDetail:
    """Read a pod with its own page's contents.

    Args:
        pod: the pod.
        pod_id: its id, as it was asked for.
        organization_id: the organization.
        linked: the account that the pod pays off, if it could be read.
        transfers: its newest transfers, if they could be read.
    """
    node = pod.node
    recent = () if transfers is None else read_transfers(read_page(transfers).items)
    fields = {
        "id": node.identifier() or pod_id,
        "name": node.text("name"),
        "goal_cents": node.integer("savingsTargetInCents"),
        "account_number": node.masked_number("bankAccountNumber"),
        "routing_number": node.masked_number("routingNumber"),
        "liability": None if linked is None else _read_liability(linked.node),
    }
    balance = _read_balance(node)
    gaps = [answer.gaps for answer in (pod, linked, transfers) if answer is not None]
    has_all = transfers is not None and (linked is not None or linked_account_id(pod) is None)
    complete = has_all and not any(gaps)
    return PodDetail(**fields, **balance, organization_id=organization_id, recent_transfers=recent, complete=complete)


def is_pod(account: Answer) -> bool:
    """Say whether an account is a pod."""
    return account.node.text("type") == "POD"


def linked_account_id(account: Answer) -> str | None:
    """Return the id of the account that a pod pays off, if there is one."""
    return account.node.child("linkedAccount").identifier()


def read_transfers(items: tuple[Node, ...]) -> tuple[Transfer, ...]:
    """Read entries of a list of transfers, without simulated ones, which move nothing."""
    found = (read_transfer(node) for node in items if not is_simulated(node))
    return tuple(transfer for transfer in found if transfer is not None)


def is_simulated(node: Node) -> bool:
    """Say whether a transfer is a simulation."""
    return node.text("executionMode") == SIMULATION


def read_transfer(node: Node) -> Transfer | None:
    """Read a transfer; ``None`` if it has no id."""
    identifier = node.required_identifier()
    if identifier is None:
        return None
    status, direction, origin = (node.text(key) for key in ("status", "direction", "origin"))
    return Transfer(
        id=identifier,
        status=_word(STATUSES, status),
        error_reason=node.plain("errorCode"),
        created_at=node.moment("createdAt"),
        amount_cents=node.integer("amountInCents"),
        source=_read_party(node.child("source")),
        destination=_read_party(node.child("destination")),
        direction=_word(DIRECTIONS, direction),
        activity_type=_word(ORIGINS, origin),
        upstream_status=status,
        upstream_direction=direction,
        upstream_activity_type=origin,
        is_recognizable=node.is_readable(*RECOGNIZED_BY),
    )


def read_transfer_detail(answer: Answer, transfer_id: str) -> TransferDetail:
    """Read ``GET /transfers/{id}``.

    Raises:
        UnreadableAnswerError: it is not a transfer.
    """
    node = answer.node
    transfer = read_transfer(node)
    if transfer is None:
        raise unreadable(f"{answer.operation}.data.id", "missing")
    if transfer.id != transfer_id:
        raise unreadable(f"{answer.operation}.data.id", "another one than was asked for")
    payment = PaymentStatus(
        status=transfer.status, created_at=transfer.created_at, completed_at=node.moment("completedAt")
    )
    return TransferDetail(**dict(transfer), details=SimpleDetails(**dict(payment)), complete=not answer.gaps)


def read_created(answer: Answer, order: TransferOrder, organization_id: str) -> TransferReceipt:
    """Read ``POST /transfers``.

    Raises:
        UnreadableAnswerError: the answer does not name what was ordered. The money may have moved.
    """
    node = answer.node
    transfer = read_transfer(node)
    if transfer is None or is_simulated(node):
        raise unreadable(answer.operation, "not a transfer with an id that moves money")
    named = (transfer.source.id, transfer.destination.id, transfer.amount_cents)
    if named != (order.source_id, order.destination_id, order.amount_cents):
        raise unreadable(answer.operation, "about another transfer than the one that was ordered")
    return TransferReceipt(organization_id=organization_id, transfers=(transfer,), transfer=transfer)


def created_at(node: Node) -> datetime | None:
    """Return the time at which a transfer was created, without noting a gap if it cannot be read."""
    moment = node.quiet().moment("createdAt")
    return moment if isinstance(moment, datetime) else None


def index_of(node: Node) -> int:
    """Return where in its list an entry is, also if others are missing."""
    return int(node.path[-1])


def party_ids(node: Node) -> set[str]:
    """Return the ids of the accounts that a transfer names, without noting gaps."""
    quiet = node.quiet()
    parties = (quiet.child("source"), quiet.child("destination"))
    return {one.identifier() or "" for one in parties if one.text("type") in ACCOUNT_TYPES} - {""}


def _word(words: dict[str, str] | dict[str, str | None], own: str | None) -> str | None:
    """Return the word that both upstreams have in common; an unknown one is passed on."""
    return None if own is None else words.get(own, own)


def _read_party(node: Node) -> Party:
    return Party(id=node.identifier(), name=node.text("name"), type=PARTY_TYPES.get(node.text("type") or ""))


def _read_balance(full: Node | Unread | None) -> _Balance:
    if not isinstance(full, Node):
        reason = None if full is None else full.reason
        return _Balance(balance_cents=None, balance_error=reason, balance_updated_at=None)
    node = full.child("balance")
    error, cents = node.plain("error"), node.integer("balanceInCents")
    if not error and cents is None:
        error = NO_BALANCE if full.is_readable("balance") else UNREADABLE_BALANCE
    return _Balance(
        balance_cents=None if error else cents,
        balance_error=error or None,
        balance_updated_at=node.moment("balanceLastUpdatedAt"),
    )


def _read_liability(account: Node) -> Liability:
    balance, number = account.child("balance"), account.text("bankAccountNumber")
    error = balance.plain("error")
    return Liability(
        name=account.text("name"),
        mask=number[-SHOWN_CHARACTERS:] if number and len(number) > SHOWN_CHARACTERS else None,
        subtype=account.text("externalAccountType"),
        balance_cents=None if error else balance.integer("balanceInCents"),
        last_statement_balance_cents=balance.integer("lastStatementBalanceInCents"),
        next_payment_minimum_cents=balance.integer("nextPaymentMinimumInCents"),
        next_payment_due_date=balance.moment("nextPaymentDueDate"),
        balance_updated_at=balance.moment("balanceLastUpdatedAt"),
        interest_rate_percentage=balance.number("interestRatePercentage"),
        error_code=error,
    )
