"""From a GraphQL answer to models.

Data that Sequence leaves out becomes ``None``. What cannot be read does too, and sets ``complete=False``, as does a
missing list or entry.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from pysequence_api.errors import NotFoundError, RefusedError
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
from pysequence_api.sequence.graphql.answers import Answer
from pysequence_api.sequence.nodes import Node, Path, unreadable
from pysequence_api.text import MASK, SHOWN_CHARACTERS, quoted

T = TypeVar("T")

MEMBERSHIPS = ("me", "memberships")
RECOGNIZED_BY = ("source", "destination", "amount", "createdAt", "activityType", "description")
"""The fields by which the transfer of an attempt is recognized."""
PARTY_TYPES = {
    "Pod": "POD",
    "Port": "PORT",
    "Account": "ACCOUNT",
    "Merchant": "MERCHANT",
    "ExternalEntity": "EXTERNAL_ENTITY",
}


def read_accounts(answer: Answer, organization_id: str | None) -> Accounts:
    """Read ``SelectSourceAndDestination``.

    Args:
        answer: the answer.
        organization_id: keep only this organization.

    Raises:
        NotFoundError: the list of memberships is complete and the organization is not in it.
        SequenceError: the answer is unusable; see `Answer.node`.
    """
    memberships = answer.node(*MEMBERSHIPS, is_list=True).child("me").children("memberships")
    organizations = [membership.child("organization") for membership in memberships]
    known: dict[str, Node] = {}
    for node in organizations:
        identifier = node.required_identifier()
        if identifier in known:
            node.gap("id", "listed twice")
        elif identifier is not None:
            known[identifier] = node
    if not known and answer.errors:
        answer.fail()
    kyc_ids = _read_kyc_ids(answer, organizations)
    if organization_id is not None:
        if organization_id not in known and not any(_hides_organization(path) for path in answer.gaps.paths):
            raise NotFoundError(f"The account is not a member of organization {quoted(organization_id)}.")
        known = {identifier: node for identifier, node in known.items() if identifier == organization_id}
    pods: list[Pod] = []
    ports: list[Port] = []
    accounts: list[ExternalAccount] = []
    for identifier, organization in known.items():
        pods += _read_list(organization, "pods", _read_pod, identifier)
        ports += _read_list(organization, "ports", _read_port, identifier)
        accounts += _read_list(organization, "accounts", _read_account, identifier)
    return Accounts(
        pods=tuple(pods),
        ports=tuple(ports),
        accounts=tuple(accounts),
        organization_ids=tuple(known),
        complete=_is_complete(answer, None if organization_id is None else known.get(organization_id)),
        kyc_ids=kyc_ids,
    )


def _is_complete(answer: Answer, only: Node | None) -> bool:
    """Say whether nothing is missing, as far as it is shown: in all organizations, or in one."""
    shown = [path for path in answer.gaps.paths if "kycs" not in path]
    if only is None:
        return not shown
    own, length = only.path, len(MEMBERSHIPS) + 1
    # Gaps in other organizations do not matter.
    elsewhere = [path for path in shown if len(path) >= length and path[:length] != own[:length]]
    return len(elsewhere) == len(shown)


def _hides_organization(path: Path) -> bool:
    """Say whether a gap at this path can hide an organization, and not only something in one."""
    inside = path[len(MEMBERSHIPS) + 1 :]
    return inside in {(), ("organization",), ("organization", "id")}


def _read_kyc_ids(answer: Answer, organizations: list[Node]) -> tuple[str, ...] | None:
    kyc_ids = [
        identifier
        for organization in organizations
        for kyc in organization.children("kycs")
        if (identifier := kyc.required_identifier())
    ]
    if any("kycs" in path or _hides_organization(path) for path in answer.gaps.paths):
        return None
    return tuple(kyc_ids) or None


def read_summary(answer: Answer) -> ActivitySummary:
    """Read ``ActivitySummary``.

    Raises:
        SequenceError: the answer is unusable; see `Answer.node`.
    """
    summary = answer.node("activitySummary").child("activitySummary")
    return ActivitySummary(
        transfer_count=summary.integer("transferReferencesCount"),
        rule_executions=summary.integer("ruleExecutionsCount"),
        total_incoming_cents=summary.cents("totalIncomingFundsInCents"),
        complete=summary.exists and not answer.gaps,
    )


def read_pod_detail(answer: Answer, organization_id: str, pod_id: str) -> PodDetail:
    """Read ``PodDrawerContent``.

    Raises:
        NotFoundError: the pod or the organization does not exist.
        SequenceError: the answer is unusable; see `Answer.node`.
    """
    not_found = f"No pod {quoted(pod_id)} in organization {quoted(organization_id)}."
    pod = answer.node("organization", "pod", not_found=not_found).child("organization").child("pod")
    if not pod.exists:
        raise NotFoundError(not_found)
    balance_cents = pod.child("metadata").cents("balance")
    fields = {
        "id": pod.identifier() or pod_id,
        "name": pod.text("name"),
        "goal_cents": pod.integer("goalAmountInCents"),
        "account_number": pod.masked_number("bankAccountNumber"),
        "routing_number": pod.masked_number("routingNumber"),
        "liability": _read_liability(pod.child("liabilityMetadata")),
        "recent_transfers": _read_edges(pod.child("transferReferences")),
    }
    return PodDetail(**fields, organization_id=organization_id, balance_cents=balance_cents, complete=not answer.gaps)


def read_activity(answer: Answer, organization_id: str) -> ActivityPage:
    """Read ``ActivityLogV2Transfers``.

    Raises:
        NotFoundError: the organization does not exist.
        SequenceError: the answer is unusable; see `Answer.node`.
    """
    not_found = f"No organization {quoted(organization_id)}."
    data = answer.node("organization", "transferReferences", "edges", is_list=True, not_found=not_found)
    organization = data.child("organization")
    if not organization.exists:
        raise NotFoundError(not_found)
    connection = organization.child("transferReferences")
    transfers = _read_edges(connection)
    page = connection.child("pageInfo")
    end_cursor, has_next_page = page.text("endCursor"), page.flag("hasNextPage")
    # A missing page end must not look like the last page to a search for a transfer.
    if has_next_page is None or (has_next_page and not end_cursor):
        page.gap("hasNextPage" if has_next_page is None else "endCursor", "missing")
    return ActivityPage(
        transfers=transfers,
        page_info=PageInfo(end_cursor=end_cursor or "", has_next_page=bool(has_next_page)),
        complete=not answer.gaps,
    )


def read_cursors(answer: Answer) -> dict[str, str]:
    """Read the cursor after each transfer of ``ActivityLogV2Transfers``, by the transfer's id. Notes no gaps."""
    data = answer.node("organization", "transferReferences", "edges", is_list=True)
    edges = data.quiet().child("organization").child("transferReferences").children("edges")
    found = ((edge.child("node").identifier(), edge.text("cursor")) for edge in edges)
    return {identifier: cursor for identifier, cursor in found if identifier and cursor}


def read_transfer_detail(answer: Answer, organization_id: str, transfer_id: str) -> TransferDetail:
    """Read ``TransferReferenceDrawerContentV2``.

    Raises:
        NotFoundError: the transfer or the organization does not exist.
        SequenceError: the answer is unusable; see `Answer.node`.
    """
    not_found = f"No transfer {quoted(transfer_id)} in organization {quoted(organization_id)}."
    data = answer.node("organization", "transferReference", not_found=not_found)
    node = data.child("organization").child("transferReference")
    if not node.exists:
        raise NotFoundError(not_found)
    transfer = _read_transfer(node, node.identifier() or transfer_id)
    details, rule = _read_details(node.child("details")), _read_rule(node.child("ruleDetails"))
    return TransferDetail(**dict(transfer), details=details, rule=rule, complete=not answer.gaps)


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
        return _read_ok(Node(ok, answer.gaps, ("forKYC", "createPayment", "ok")))
    if answer.errors:
        answer.fail()
    if isinstance(error, dict) and "ok" in payment and ok is None:
        message = error.get("message")
        reason = answer.plain(message) if isinstance(message, str) else "no reason given"
        raise RefusedError(f"Sequence refused the transfer: {reason}")
    raise unreadable(answer.operation, "neither accepted nor refused")


def _read_list(parent: Node, key: str, read: Callable[[Node, str, str], T], organization_id: str) -> list[T]:
    nodes = parent.children(key)
    return [read(node, identifier, organization_id) for node in nodes if (identifier := node.required_identifier())]


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
        account_number=node.masked_number("bankAccountNumber"),
        routing_number=node.masked_number("routingNumber"),
        balance_cents=node.child("metadata").cents("balance"),
    )


def _read_edges(connection: Node) -> tuple[Transfer, ...]:
    nodes = [edge.child("node") for edge in connection.children("edges")]
    return tuple(_read_transfer(node, identifier) for node in nodes if (identifier := node.required_identifier()))


def _read_transfer(node: Node, identifier: str) -> Transfer:
    status, direction, activity_type = (node.text(key) for key in ("status", "direction", "activityType"))
    return Transfer(
        id=identifier,
        type=node.text("type"),
        status=status,
        error_reason=node.plain("errorReason"),
        created_at=node.moment("createdAt"),
        updated_at=node.moment("updatedAt"),
        amount_cents=node.cents("amount"),
        source=_read_party(node.child("source")),
        destination=_read_party(node.child("destination")),
        direction=direction,
        activity_type=activity_type,
        upstream_status=status,
        upstream_direction=direction,
        upstream_activity_type=activity_type,
        description=node.plain("description"),
        is_recognizable=node.is_readable(*RECOGNIZED_BY),
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
            return Liability(error_code=node.text("errorCode"), error_message=node.plain("displayMessage"))
    return None


def _short_mask(mask: str | None) -> str | None:
    # Sequence sends the last digits. A longer value would show too much of the number.
    if mask is None or len(mask) <= SHOWN_CHARACTERS:
        return mask
    return MASK + mask[-SHOWN_CHARACTERS:]


def _read_ok(ok: Node) -> TransferReceipt:
    # Whatever is missing here, the transfer was accepted. Its id can be looked up later.
    organization = ok.child("organization")
    transfers = _read_edges(organization.child("transferReferences"))
    return TransferReceipt(organization_id=organization.identifier(), transfers=transfers)


def _object(value: dict[str, Any] | None, key: str) -> dict[str, Any]:
    below = (value or {}).get(key)
    return below if isinstance(below, dict) else {}
