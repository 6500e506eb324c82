"""The GraphQL engine: the resolvers of ``schema.graphql``, and the execution of documents.

Responses look like Sequence's (docs/upstream-graphql.md): with any error there is no data, and an error has only a
message. The parents of fields are the frozen dataclasses of `household` and `ledger`. A field without a resolver is
the attribute with the same name in snake case.
"""

import logging
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ariadne import (
    InputType,
    MutationType,
    ObjectType,
    QueryType,
    UnionType,
    load_schema_from_path,
    make_executable_schema,
)
from ariadne.types import SchemaBindable
from graphql import DocumentNode, GraphQLError, GraphQLResolveInfo, execute_sync, parse, validate
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from pysequence_api.money import format_cents
from pysequence_api.sandbox.household import (
    HOLDERS,
    ORGANIZATION_BY_ID,
    ORGANIZATION_BY_KYC_ID,
    ORGANIZATIONS,
    Account,
    ErrorMetadata,
    Holder,
    Money,
    Organization,
    Pod,
    Provider,
)
from pysequence_api.sandbox.ids import PERSON_ID, stable_id
from pysequence_api.sandbox.ledger import (
    COMPLETE_AFTER_MS,
    DEFAULT_PAGE_SIZE,
    InvalidQueryError,
    Ledger,
    MonthSummary,
    Page,
    PaymentFaults,
    PaymentOrder,
    PaymentParty,
    PaymentRefusedError,
    Status,
    TransferQuery,
    TransferRow,
)
from pysequence_api.sandbox.timestamps import DAY_MS, MILLISECOND, from_ms, read_range, write_date, write_time

_logger = logging.getLogger(__name__)
_CACHED_DOCUMENTS = 64
_TYPE_OF_TRANSFER = "TRANSFER"
_COMPOUND_DAYS = 3
_BEFORE_PUSH = (Status.PENDING, Status.CANCELLED)


@dataclass(slots=True)
class Context:
    """What the resolvers of one execution use, and the faults that they simulate."""

    ledger: Ledger
    refusal: str | None = None
    hide_new_transfer: bool = False
    payment_faults: PaymentFaults = field(default_factory=PaymentFaults)
    hidden_transfer_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Person:
    id: str = PERSON_ID


@dataclass(frozen=True, slots=True)
class _PersonSettings:
    """The settings of the person."""

    id: str
    show_since_youve_been_gone: bool = False


@dataclass(frozen=True, slots=True)
class _Month:
    id: str
    summary: MonthSummary


@dataclass(frozen=True, slots=True)
class _CreatedAt:
    start: str | None = None
    end: str | None = None


@dataclass(frozen=True, slots=True)
class _Filter:
    created_at: _CreatedAt | None = None
    statuses: list[str] | None = None
    directions: list[str] | None = None
    activity_types: list[str] | None = None
    hide_internal_transfers: bool | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class _PaymentFields:
    amount: int
    source: PaymentParty
    destination: PaymentParty
    is_instant_transfer: bool | None = None
    ach_description: str | None = None


@dataclass(frozen=True, slots=True)
class _Refusal:
    message: str


@dataclass(frozen=True, slots=True)
class _Result:
    ok: Organization | None = None
    error: _Refusal | None = None


@dataclass(frozen=True, slots=True)
class _PaymentStatus:
    status: str
    created_at: str
    completed_at: str | None
    expected_completion_date: str


Info = GraphQLResolveInfo
query, mutation = QueryType(), MutationType()
money, person, membership, month = (
    ObjectType("Money"), ObjectType("Person"), ObjectType("Membership"), ObjectType("ActivitySummary")
)  # fmt: skip
organization, pod, port, account = (
    ObjectType("Organization"), ObjectType("Pod"), ObjectType("Port"), ObjectType("Account")
)  # fmt: skip
liability_metadata = ObjectType("LiabilityMetadata")
connection, page_info, edge = (
    ObjectType("TransferReferenceConnection"), ObjectType("PageInfo"), ObjectType("TransferReferenceEdge")
)  # fmt: skip
transfer, rule_details = ObjectType("TransferReference"), ObjectType("RuleDetails")
simple_details, compound_details = ObjectType("SimpleTransferDetails"), ObjectType("CompoundTransferDetails")
kyc_mutations, payment_ok = ObjectType("KycMutations"), ObjectType("CreatePaymentOk")
metadata_types = tuple(
    ObjectType(name)
    for name in ("PodMetadata", "PortMetadata", "PlaidMetadata", "MethodMetadata", "ManualAccountMetadata")
)


def _ledger(info: Info) -> Ledger:
    context: Context = info.context
    return context.ledger


def _itself(parent: Any, _: Info) -> Any:
    """Return the parent as another type."""
    return parent


@query.field("me")
def _me(_: None, info: Info) -> _Person:
    _ledger(info).hold_snapshot()
    return _Person()


@query.field("organization")
def _organization(_: None, info: Info, *, id: str) -> Organization | None:  # noqa: A002 - the name in the schema
    _ledger(info).hold_snapshot()
    return ORGANIZATION_BY_ID.get(id)


@query.field("activitySummary")
def _activity_summary(_: None, info: Info) -> _Month:
    ledger = _ledger(info)
    now = from_ms(ledger.now_ms())
    start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    since_ms = ledger.now_ms() - (now - start) // MILLISECOND
    return _Month(stable_id("summary", f"{start:%Y-%m}"), ledger.summary(since_ms))


@month.field("transferReferencesCount")
def _transfer_count(parent: _Month, _: Info) -> int:
    return parent.summary.transfer_count


@month.field("ruleExecutionsCount")
def _rule_count(parent: _Month, _: Info) -> int:
    return parent.summary.rule_count


@month.field("totalIncomingFundsInCents")
def _incoming(parent: _Month, _: Info) -> Money:
    return Money(parent.summary.incoming_cents)


@money.field("formatted")
def _formatted(parent: Money, _: Info) -> str:
    return format_cents(parent.cents)


@person.field("memberships")
def _memberships(_: _Person, __: Info) -> tuple[Organization, ...]:
    return ORGANIZATIONS


@person.field("offer")
def _offer(_: _Person, __: Info, *, location: str) -> None:  # noqa: ARG001 - there are no offers
    return None


@person.field("settings")
def _settings(_: _Person, __: Info) -> _PersonSettings:
    return _PersonSettings(stable_id("settings", PERSON_ID))


@organization.field("pod")
def _pod(parent: Organization, _: Info, *, id: str) -> Pod | None:  # noqa: A002 - the name in the schema
    return next((one for one in parent.pods if one.id == id), None)


@organization.field("firstTransferDate")
def _first_transfer_date(parent: Organization, info: Info) -> str | None:
    first_ms = _ledger(info).first_transfer_ms(parent.id)
    return None if first_ms is None else write_date(first_ms)


@organization.field("transferReference")
def _transfer_reference(
    parent: Organization, info: Info, *, id: str  # noqa: A002 - the name in the schema
) -> TransferRow | None:  # fmt: skip
    return _ledger(info).transfer(parent.id, id)


@organization.field("transferReferences")
@pod.field("transferReferences")
def _transfer_references(
    parent: Organization | Pod,
    info: Info,
    *,
    filter: _Filter | None = None,  # noqa: A002 - the name in the schema
    after: str | None = None,
    first: int | None = None,
) -> Page:
    context: Context = info.context
    organization_id = parent.organization_id if isinstance(parent, Pod) else parent.id
    try:
        return context.ledger.transfers(
            organization_id,
            _transfer_query(filter or _Filter(), parent.id if isinstance(parent, Pod) else None, context),
            after=after or "",
            first=DEFAULT_PAGE_SIZE if first is None else first,
        )
    except InvalidQueryError as error:
        raise GraphQLError(str(error)) from error


def _transfer_query(only: _Filter, party_id: str | None, context: Context) -> TransferQuery:
    created_at = only.created_at or _CreatedAt()
    try:
        from_, until = read_range(created_at.start, created_at.end)
    except ValueError as error:
        raise InvalidQueryError(str(error)) from error
    return TransferQuery(
        created_from_ms=from_,
        created_until_ms=until,
        statuses=only.statuses or (),
        directions=only.directions or (),
        activity_types=only.activity_types or (),
        hide_internal=only.hide_internal_transfers or False,
        name=only.name or "",
        party_id=party_id,
        exclude_id=context.hidden_transfer_id,
    )


def _metadata_id(parent: Holder, _: Info) -> str:
    return stable_id("metadata", parent.id)


def _balance(parent: Holder, info: Info) -> Money | None:
    if isinstance(parent, Account) and parent.opening_cents is None:
        return None
    cents = _ledger(info).balance_cents(parent.id)
    owed = isinstance(parent, Account) and parent.opening_cents is not None and parent.opening_cents < 0
    return Money(-cents if owed else cents)  # money that is owed is shown as a positive balance


@account.field("metadata")
def _account_metadata(parent: Account, _: Info) -> Account | None:
    return parent if parent.has_metadata else None


def _account_metadata_type(parent: Account, *_: object) -> str:
    names = {
        Provider.PLAID: "PlaidMetadata",
        Provider.METHOD: "MethodMetadata",
        Provider.MANUAL: "ManualAccountMetadata",
    }
    return names[parent.provider_type]


@pod.field("linkedAccount")
def _linked_account(parent: Pod, _: Info) -> Holder | None:
    return HOLDERS[parent.linked_account_id] if parent.linked_account_id else None


@pod.field("liabilityMetadata")
def _liability_metadata(parent: Pod, info: Info) -> Holder | ErrorMetadata | None:
    return parent.liability_error or _linked_account(parent, info)


def _liability_metadata_type(parent: Account | ErrorMetadata, *_: object) -> str:
    return "ErrorMetadata" if isinstance(parent, ErrorMetadata) else "LiabilityMetadata"


@liability_metadata.field("mask")
def _mask(parent: Account, _: Info) -> str | None:
    return parent.bank_account_number[-4:] if parent.bank_account_number else None


@liability_metadata.field("balanceLastUpdated")
def _balance_last_updated(_: Account, info: Info) -> str:
    return write_time(_ledger(info).now_ms())


@connection.field("edges")
def _edges(parent: Page, _: Info) -> tuple[TransferRow, ...]:
    return parent.rows


@page_info.field("endCursor")
def _end_cursor(parent: Page, _: Info) -> str | None:
    return parent.rows[-1].cursor if parent.rows else None


@transfer.field("type")
def _type(_: TransferRow, __: Info) -> str:
    return _TYPE_OF_TRANSFER


@transfer.field("createdAt")
def _created_at(parent: TransferRow, _: Info) -> str:
    return write_time(parent.created_at_ms)


@transfer.field("updatedAt")
def _updated_at(parent: TransferRow, _: Info) -> str:
    return write_time(parent.updated_at_ms)


@transfer.field("amount")
def _amount(parent: TransferRow, _: Info) -> Money:
    return Money(parent.amount_cents - parent.fee_cents)


@transfer.field("ruleDetails")
def _rule_details(parent: TransferRow, _: Info) -> TransferRow | None:
    return parent if parent.rule_trigger_type else None


def _details_type(parent: TransferRow, *_: object) -> str:
    return "CompoundTransferDetails" if parent.is_compound else "SimpleTransferDetails"


def _type_of_class(parent: object, *_: object) -> str:
    return type(parent).__name__


@simple_details.field("status")
def _simple_status(parent: TransferRow, _: Info) -> _PaymentStatus:
    return _payment_status(parent, Status(parent.status), parent.updated_at_ms)


@compound_details.field("pullPaymentStatus")
def _pull(parent: TransferRow, _: Info) -> _PaymentStatus:
    status, at_ms = _before_return(parent)
    return _payment_status(parent, status if status in _BEFORE_PUSH else Status.COMPLETE, at_ms)


@compound_details.field("pushPaymentStatus")
def _push(parent: TransferRow, _: Info) -> _PaymentStatus | None:
    status, at_ms = _before_return(parent)
    return None if status in _BEFORE_PUSH else _payment_status(parent, status, at_ms)


@compound_details.field("reversalPaymentStatus")
def _reversal(parent: TransferRow, _: Info) -> _PaymentStatus | None:
    if parent.is_returned or parent.status == Status.FAILED:
        return _payment_status(parent, Status.COMPLETE, parent.updated_at_ms)
    return None


def _before_return(row: TransferRow) -> tuple[Status, int]:
    """Return the status of a transfer without its return, and when it changed to that."""
    if row.is_returned:
        return Status.COMPLETE, row.created_at_ms + COMPLETE_AFTER_MS
    return Status(row.status), row.updated_at_ms


def _payment_status(row: TransferRow, status: Status, changed_at_ms: int) -> _PaymentStatus:
    days = _COMPOUND_DAYS if row.is_compound else 0
    return _PaymentStatus(
        status=status,
        created_at=write_time(row.created_at_ms),
        completed_at=write_time(changed_at_ms) if status is Status.COMPLETE else None,
        expected_completion_date=write_date(row.created_at_ms + days * DAY_MS),
    )


@mutation.field("forKYC")
def _for_kyc(_: None, __: Info, *, id: str) -> Organization:  # noqa: A002 - the name in the schema
    found = ORGANIZATION_BY_KYC_ID.get(id)
    if found is None:
        raise GraphQLError("KYC application not found")
    return found


@kyc_mutations.field("createPayment")
def _create_payment(parent: Organization, info: Info, *, fields: _PaymentFields) -> _Result:
    context: Context = info.context
    order = PaymentOrder(fields.source, fields.destination, fields.amount, fields.ach_description)
    if context.refusal is not None:
        return _Result(error=_Refusal(context.refusal))
    try:
        transfer_id = context.ledger.create_payment(parent, order, context.payment_faults)
    except PaymentRefusedError as refusal:
        return _Result(error=_Refusal(str(refusal)))
    context.ledger.hold_snapshot()
    if context.hide_new_transfer:
        context.hidden_transfer_id = transfer_id
    return _Result(ok=parent)


def _alias_fields() -> None:
    membership.set_alias("id", "membership_id")
    membership.set_field("organization", _itself)
    for holder_type in (pod, port):
        holder_type.set_field("metadata", _itself)
    for metadata in metadata_types:
        metadata.set_field("id", _metadata_id)
        if metadata.name != "ManualAccountMetadata":  # the only one without a balance
            metadata.set_field("balance", _balance)
    liability_metadata.set_field("id", _metadata_id)
    liability_metadata.set_field("balance", _balance)
    liability_metadata.set_alias("subtype", "liability.subtype")
    liability_metadata.set_alias("lastStatementBalance", "liability.last_statement")
    liability_metadata.set_alias("nextPaymentMinimumAmount", "liability.minimum_payment")
    liability_metadata.set_alias("nextPaymentDueDate", "liability.due_date")
    liability_metadata.set_alias("interestRatePercentage", "liability.interest_rate_percentage")
    connection.set_field("pageInfo", _itself)
    edge.set_field("node", _itself)
    transfer.set_field("details", _itself)
    rule_details.set_alias("triggerType", "rule_trigger_type")
    rule_details.set_alias("triggerCron", "rule_trigger_cron")
    payment_ok.set_field("organization", _itself)


_alias_fields()
BINDABLES: tuple[SchemaBindable, ...] = (
    query, mutation, money, person, membership, month, organization, pod, port, account, liability_metadata,
    connection, page_info, edge, transfer, rule_details, simple_details, compound_details, kyc_mutations, payment_ok,
    *metadata_types,
    UnionType("AccountMetadata", _account_metadata_type),
    UnionType("PodLiabilityMetadata", _liability_metadata_type),
    UnionType("TransferParty", _type_of_class),
    UnionType("TransferDetails", _details_type),
    InputType("CreatedAtFilter", out_type=lambda data: _CreatedAt(**data)),
    InputType("TransferReferenceFilter", out_type=lambda data: _Filter(**data)),
    InputType("PaymentAccountInput", out_type=lambda data: PaymentParty(**data)),
    InputType("CreatePaymentFields", out_type=lambda data: _PaymentFields(**data)),
)  # fmt: skip
SCHEMA = make_executable_schema(
    load_schema_from_path(str(Path(__file__).with_name("schema.graphql"))), *BINDABLES, convert_names_case=True
)


class GraphqlRequest(BaseModel):
    """The JSON body of a request."""

    model_config = ConfigDict(strict=True)

    query: str
    variables: dict[str, JsonValue] | None = None
    operation_name: str | None = Field(None, alias="operationName")


def execute(request: GraphqlRequest, context: Context) -> dict[str, Any]:
    """Validate a document and run its operation.

    Args:
        request: the document, its variables and the name of the operation.
        context: what the resolvers use.

    Returns:
        The body of the response.
    """
    if not request.operation_name:
        return _failure(["Must provide operation name."])
    document = _parse_and_validate(request.query)
    if isinstance(document, tuple):
        return _failure(list(document))
    result = execute_sync(
        SCHEMA,
        document,
        context_value=context,
        variable_values=request.variables,
        operation_name=request.operation_name,
    )
    if result.errors:
        return _failure([_message(error) for error in result.errors])
    return {"data": result.data}


@lru_cache(maxsize=_CACHED_DOCUMENTS)
def _parse_and_validate(text: str) -> DocumentNode | tuple[str, ...]:
    """Parse and validate a document. Return the document, or its errors."""
    try:
        document = parse(text)
        errors = validate(SCHEMA, document)
    except GraphQLError as error:
        return (error.message,)
    except RecursionError:
        return ("The document is nested too deeply.",)
    return tuple(error.message for error in errors) or document


def _message(error: GraphQLError) -> str:
    cause = error.original_error
    if cause is None or isinstance(cause, GraphQLError):
        return error.message
    _logger.error("a resolver failed", exc_info=cause)
    return "Internal server error"


def _failure(messages: list[str]) -> dict[str, Any]:
    return {"errors": [{"message": message} for message in messages], "data": None}
