"""What Sequence answers, made into models. Where it leaves something out, ``None`` or ``complete=False`` says so."""

from collections.abc import Callable
from typing import TypeVar

from pysequence_api.errors import NotFoundError
from pysequence_api.models import (
    Accounts,
    ActivityPage,
    ActivitySummary,
    CompoundDetails,
    ExternalAccount,
    Liability,
    PageInfo,
    Party,
    PaymentStatus,
    Pod,
    PodDetail,
    Port,
    Rule,
    SimpleDetails,
    Transfer,
    TransferDetail,
)
from pysequence_api.sequence.graphql.node import Node
from pysequence_api.text import MASK, SHOWN_CHARACTERS, mask_number, plain_text, quoted

T = TypeVar("T")

PARTY_TYPES = {
    "Pod": "POD",
    "Port": "PORT",
    "Account": "ACCOUNT",
    "Merchant": "MERCHANT",
    "ExternalEntity": "EXTERNAL_ENTITY",
}


def read_accounts(data: Node, organization_id: str | None) -> Accounts:
    """Read ``SelectSourceAndDestination``.

    Args:
        data: the answer.
        organization_id: only what belongs to this organization.

    Raises:
        NotFoundError: all memberships are there, and none is of that organization.
    """
    memberships, complete = data.child("me").children("memberships")
    organizations = [membership.child("organization") for membership in memberships]
    known = {identifier: node for node in organizations if (identifier := node.identifier())}
    complete = complete and len(known) == len(organizations)
    if organization_id is not None:
        if organization_id not in known and complete:
            raise NotFoundError(f"The account is not a member of organization {quoted(organization_id)}.")
        # If it is there, what is missing elsewhere does not matter.
        complete = organization_id in known
        known = {identifier: node for identifier, node in known.items() if identifier == organization_id}
    pods: list[Pod] = []
    ports: list[Port] = []
    accounts: list[ExternalAccount] = []
    for identifier, organization in known.items():
        complete &= _read_list(organization, "pods", _read_pod, identifier, pods)
        complete &= _read_list(organization, "ports", _read_port, identifier, ports)
        complete &= _read_list(organization, "accounts", _read_account, identifier, accounts)
    return Accounts(
        pods=tuple(pods),
        ports=tuple(ports),
        accounts=tuple(accounts),
        organization_ids=tuple(known),
        complete=complete,
    )


def read_summary(data: Node) -> ActivitySummary:
    """Read ``ActivitySummary``."""
    summary = data.child("activitySummary")
    return ActivitySummary(
        transfer_count=summary.integer("transferReferencesCount"),
        rule_executions=summary.integer("ruleExecutionsCount"),
        total_incoming_cents=summary.cents("totalIncomingFundsInCents"),
    )


def read_pod_detail(data: Node, organization_id: str, pod_id: str) -> PodDetail:
    """Read ``PodDrawerContent``.

    Raises:
        NotFoundError: the pod or the organization is null.
    """
    pod = data.child("organization").child("pod")
    if not pod.exists:
        raise NotFoundError(f"No pod {quoted(pod_id)} in organization {quoted(organization_id)}.")
    transfers, _ = _read_edges(pod.child("transferReferences"))
    return PodDetail(
        id=pod.identifier() or pod_id,
        name=pod.text("name"),
        organization_id=organization_id,
        balance_cents=pod.child("metadata").cents("balance"),
        goal_cents=pod.integer("goalAmountInCents"),
        account_number=_masked(pod, "bankAccountNumber"),
        routing_number=_masked(pod, "routingNumber"),
        liability=_read_liability(pod.child("liabilityMetadata")),
        recent_transfers=transfers,
    )


def read_activity(data: Node, organization_id: str) -> ActivityPage:
    """Read ``ActivityLogV2Transfers``.

    Raises:
        NotFoundError: the organization is null.
    """
    organization = data.child("organization")
    if not organization.exists:
        raise NotFoundError(f"No organization {quoted(organization_id)}.")
    connection = organization.child("transferReferences")
    transfers, complete = _read_edges(connection)
    page = connection.child("pageInfo")
    end_cursor, has_next_page = page.text("endCursor"), page.flag("hasNextPage")
    # Whoever looks for a transfer must not take for the end of the list what is only not known to go on.
    end_known = has_next_page is False or (has_next_page is True and bool(end_cursor))
    return ActivityPage(
        transfers=transfers,
        page_info=PageInfo(end_cursor=end_cursor or "", has_next_page=bool(has_next_page)),
        complete=complete and end_known,
    )


def read_transfer_detail(data: Node, organization_id: str, transfer_id: str) -> TransferDetail:
    """Read ``TransferReferenceDrawerContentV2``.

    Raises:
        NotFoundError: the transfer or the organization is null.
    """
    node = data.child("organization").child("transferReference")
    if not node.exists:
        raise NotFoundError(f"No transfer {quoted(transfer_id)} in organization {quoted(organization_id)}.")
    transfer = _read_transfer(node, node.identifier() or transfer_id)
    return TransferDetail(
        **dict(transfer),
        details=_read_details(node.child("details")),
        rule=_read_rule(node.child("ruleDetails")),
    )


def read_transfers(organization: Node) -> tuple[Transfer, ...]:
    """Read the transfers that come with an organization, without those that have no id."""
    return _read_edges(organization.child("transferReferences"))[0]


def _read_list(parent: Node, key: str, read: Callable[[Node, str, str], T], owner: str, into: list[T]) -> bool:
    nodes, complete = parent.children(key)
    read_ones = [read(node, identifier, owner) for node in nodes if (identifier := node.identifier())]
    into.extend(read_ones)
    return complete and len(read_ones) == len(nodes)


def _read_pod(node: Node, identifier: str, organization_id: str) -> Pod:
    return Pod(
        id=identifier,
        name=node.text("name"),
        organization_id=organization_id,
        type=node.text("type"),
        balance_cents=node.child("metadata").cents("balance"),
    )


def _read_port(node: Node, identifier: str, organization_id: str) -> Port:
    return Port(
        id=identifier,
        name=node.text("name"),
        organization_id=organization_id,
        balance_cents=node.child("metadata").cents("balance"),
    )


def _read_account(node: Node, identifier: str, organization_id: str) -> ExternalAccount:
    return ExternalAccount(
        id=identifier,
        name=node.text("name"),
        organization_id=organization_id,
        type=node.text("type"),
        provider_type=node.text("providerType"),
        institution=node.text("institutionName"),
        can_be_source=node.flag("canBeSourceOfTransfer"),
        account_number=_masked(node, "bankAccountNumber"),
        routing_number=_masked(node, "routingNumber"),
        balance_cents=node.child("metadata").cents("balance"),
    )


def _read_edges(connection: Node) -> tuple[tuple[Transfer, ...], bool]:
    edges, complete = connection.children("edges")
    nodes = [edge.child("node") for edge in edges]
    transfers = tuple(_read_transfer(node, identifier) for node in nodes if (identifier := node.identifier()))
    return transfers, complete and len(transfers) == len(nodes)


def _read_transfer(node: Node, identifier: str) -> Transfer:
    return Transfer(
        id=identifier,
        type=node.text("type"),
        status=node.text("status"),
        error_reason=_plain(node, "errorReason"),
        created_at=node.moment("createdAt"),
        updated_at=node.moment("updatedAt"),
        amount_cents=node.cents("amount"),
        source=_read_party(node.child("source")),
        destination=_read_party(node.child("destination")),
        direction=node.text("direction"),
        activity_type=node.text("activityType"),
        description=_plain(node, "description"),
    )


def _read_party(node: Node) -> Party:
    return Party(
        id=node.identifier(),
        name=node.text("name"),
        type=PARTY_TYPES.get(node.text("__typename") or ""),
        icon=node.text("icon"),
    )


def _read_details(node: Node) -> SimpleDetails | CompoundDetails | None:
    match node.text("__typename"):
        case "SimpleTransferDetails":
            return SimpleDetails(**dict(_read_payment(node.child("status")) or PaymentStatus()))
        case "CompoundTransferDetails":
            return CompoundDetails(
                pull=_read_payment(node.child("pullPaymentStatus")),
                push=_read_payment(node.child("pushPaymentStatus")),
                reversal=_read_payment(node.child("reversalPaymentStatus")),
            )
    return None  # not said, or of a kind that nobody knew of


def _read_payment(node: Node) -> PaymentStatus | None:
    if not node.exists:
        return None
    return PaymentStatus(
        status=node.text("status"),
        created_at=node.moment("createdAt"),
        completed_at=node.moment("completedAt"),
        expected_completion=node.moment("expectedCompletionDate"),
    )


def _read_rule(node: Node) -> Rule | None:
    if not node.exists:
        return None
    return Rule(trigger_type=node.text("triggerType"), trigger_cron=node.text("triggerCron"))


def _read_liability(node: Node) -> Liability | None:
    match node.text("__typename"):
        case "LiabilityMetadata":
            return Liability(
                name=node.text("name"),
                mask=_short_mask(node.text("mask")),
                subtype=node.text("subtype"),
                balance_cents=node.cents("balance"),
                last_statement_balance_cents=node.cents("lastStatementBalance"),
                next_payment_minimum_cents=node.cents("nextPaymentMinimumAmount"),
                next_payment_due_date=node.moment("nextPaymentDueDate"),
                balance_updated_at=node.moment("balanceLastUpdated"),
                interest_rate_percentage=node.number("interestRatePercentage"),
            )
        case "ErrorMetadata":
            return Liability(error_code=node.text("errorCode"), error_message=_plain(node, "displayMessage"))
    return None


def _masked(node: Node, key: str) -> str | None:
    number = node.text(key)
    return None if number is None else mask_number(number)


def _short_mask(mask: str | None) -> str | None:
    # Sequence's own mask is the last digits already; a longer one would be too much of the number.
    if mask is None or len(mask) <= SHOWN_CHARACTERS:
        return mask
    return MASK + mask[-SHOWN_CHARACTERS:]


def _plain(node: Node, key: str) -> str | None:
    text = node.text(key)
    return plain_text(text) if text else text
