"""From a GraphQL answer to models. Data that Sequence leaves out becomes ``None``, or sets ``complete=False``."""

from collections.abc import Callable
from typing import Any, TypeVar

from pysequence_api.errors import NotFoundError, RefusedError, UnreadableAnswerError
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
    TransferReceipt,
)
from pysequence_api.sequence.graphql.answers import Answer, Node, unreadable
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
        data: the ``data`` of the answer.
        organization_id: keep only this organization.

    Raises:
        NotFoundError: the list of memberships is complete and the organization is not in it.
    """
    memberships, complete = data.child("me").children("memberships")
    organizations = [membership.child("organization") for membership in memberships]
    kyc_ids = _read_kyc_ids(organizations) if complete else None
    known = {identifier: node for node in organizations if (identifier := node.identifier())}
    complete = complete and len(known) == len(organizations)
    if organization_id is not None:
        if organization_id not in known and complete:
            raise NotFoundError(f"The account is not a member of organization {quoted(organization_id)}.")
        # Gaps in other organizations do not matter.
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
        kyc_ids=kyc_ids,
    )


def _read_kyc_ids(organizations: list[Node]) -> tuple[str, ...] | None:
    kyc_ids: list[str] = []
    for organization in organizations:
        kycs, complete = organization.children("kycs")
        found = [identifier for kyc in kycs if (identifier := kyc.identifier())]
        if not complete or len(found) != len(kycs):
            return None
        kyc_ids += found
    return tuple(kyc_ids) or None


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
    # A missing page end must not look like the last page to a search for a transfer.
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


def read_payment(answer: Answer) -> TransferReceipt:
    """Read ``CreatePayment``.

    ``ok`` counts even beside GraphQL errors. A refusal counts only if the answer allows no other reading, because a
    refused amount is released from the limit.

    Raises:
        RefusedError: ``error`` is set, ``ok`` is null, and there are no GraphQL errors. Nothing moved.
        InvalidDocumentError: the request was invalid, so that it was not executed. Nothing moved.
        GraphQLError: there are other GraphQL errors and no ``ok``. The money may have moved.
        UnreadableAnswerError: anything else. The money may have moved.
    """
    payment = _object(_object(answer.data, "forKYC"), "createPayment")
    ok, error = payment.get("ok"), payment.get("error")
    if isinstance(ok, dict) and error is None:
        return _read_ok(Node(ok, f"{answer.operation}.ok"))
    if answer.errors:
        answer.fail()
    if isinstance(error, dict) and "ok" in payment and ok is None:
        message = error.get("message")
        reason = answer.plain(message) if isinstance(message, str) else "no reason given"
        raise RefusedError(f"Sequence refused the transfer: {reason}")
    raise unreadable(answer.operation, "neither accepted nor refused")


def _read_list(
    parent: Node, key: str, read: Callable[[Node, str, str], T], organization_id: str, into: list[T]
) -> bool:
    """Add the entries of a list to ``into``; return whether they are complete."""
    nodes, complete = parent.children(key)
    entries = [read(node, identifier, organization_id) for node in nodes if (identifier := node.identifier())]
    into.extend(entries)
    return complete and len(entries) == len(nodes)


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
            return SimpleDetails(**dict(_read_payment_status(node.child("status")) or PaymentStatus()))
        case "CompoundTransferDetails":
            return CompoundDetails(
                pull=_read_payment_status(node.child("pullPaymentStatus")),
                push=_read_payment_status(node.child("pushPaymentStatus")),
                reversal=_read_payment_status(node.child("reversalPaymentStatus")),
            )
    return None  # missing, or a kind that this version does not know


def _read_payment_status(node: Node) -> PaymentStatus | None:
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
    # Sequence sends the last digits. A longer value would show too much of the number.
    if mask is None or len(mask) <= SHOWN_CHARACTERS:
        return mask
    return MASK + mask[-SHOWN_CHARACTERS:]


def _plain(node: Node, key: str) -> str | None:
    text = node.text(key)
    return plain_text(text) if text else text


def _read_ok(ok: Node) -> TransferReceipt:
    organization_id = None
    try:
        organization = ok.child("organization")
        organization_id = organization.identifier()
        transfers, _ = _read_edges(organization.child("transferReferences"))
        return TransferReceipt(organization_id=organization_id, transfers=transfers)
    except UnreadableAnswerError:
        # The transfer was accepted. Its id can be looked up later.
        return TransferReceipt(organization_id=organization_id, transfers=())


def _object(value: dict[str, Any] | None, key: str) -> dict[str, Any]:
    below = (value or {}).get(key)
    return below if isinstance(below, dict) else {}
