"""Transfers, and the status of each attempt."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from pysequence_api.api.parameters import OpenGateway, RequestCaller
from pysequence_api.models import MAX_DESCRIPTION_CHARACTERS, MAX_KEY_CHARACTERS, AccountType, PartyId, TransferOrder
from pysequence_api.money import MAX_AMOUNT_CENTS
from pysequence_api.records.audit import Channel
from pysequence_api.safeguards.status import AttemptStatus, read_attempt
from pysequence_api.safeguards.transfers import CompletedTransfer
from pysequence_api.web.body import invalid_body, json_body, read_json_object
from pysequence_api.web.errors import IDEMPOTENCY_HEADER, REPLAYED_HEADER, headers, responses

router = APIRouter(tags=["transfers"])


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    return text


Kind = Annotated[
    AccountType,
    Field(strict=False),  # accepts the three strings
    WithJsonSchema({"type": "string", "enum": [kind.value for kind in AccountType]}),
]


class TransferRequest(BaseModel):
    """A transfer to send."""

    # Strict: an amount must be a JSON integer.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    source_id: PartyId = Field(description="Id of the source pod, port or account")
    destination_id: PartyId = Field(description="Id of the destination pod, port or account")
    amount_cents: int = Field(ge=1, le=MAX_AMOUNT_CENTS, description="Amount in cents")
    source_type: Kind = AccountType.POD
    destination_type: Kind = AccountType.POD
    description: Annotated[str, AfterValidator(_without_nul)] = Field(
        "", max_length=MAX_DESCRIPTION_CHARACTERS, description="ACH description"
    )
    instant: bool = Field(False, description="Whether to use instant transfer")
    kyc_id: PartyId | None = Field(None, description="KYC id; null for the server's default")


async def _order(request: Request, gateway: OpenGateway) -> TransferOrder:
    """Read the body. `read_json_object` is stricter than FastAPI."""
    try:
        body = TransferRequest.model_validate(await read_json_object(request))
        return TransferOrder(kyc_id=body.kyc_id or gateway.kyc_id, **body.model_dump(exclude={"kyc_id"}))
    except ValidationError as error:
        raise invalid_body(error) from None


def _links(**parameters: str) -> dict[str, Any]:
    """Say in which field of an answer the attempt, or the transfer, is named."""
    operations = {"attempt_id": "get_attempt", "transfer_id": "get_transfer"}
    return {
        "links": {
            operations[name]: {"operationId": operations[name], "parameters": {name: f"$response.body#/{field}"}}
            for name, field in parameters.items()
        }
    }


_ERRORS = responses(400, 401, 403, 408, 409, 413, 422, 429, 500, 502, 503)
for _status in (400, 403, 409, 502, 503):  # these can name an attempt
    _ERRORS[_status] |= _links(attempt_id="attempt_id")
for _status in (409, 502):
    _ERRORS[_status] |= headers("Retry-After", REPLAYED_HEADER)
_ANSWERS = {200: headers(REPLAYED_HEADER) | _links(attempt_id="attempt_id", transfer_id="id")} | _ERRORS

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=MAX_KEY_CHARACTERS,
        pattern=r"^[!-~]+$",
        description="Your own unique key for this transfer. A request with the same key gets the first answer again",
    ),
]


def _key(request: Request, idempotency_key: IdempotencyKey = None) -> str | None:
    if len(request.headers.getlist(IDEMPOTENCY_HEADER)) > 1:
        problem = {"type": "duplicate", "loc": ("header", IDEMPOTENCY_HEADER), "msg": "must not be sent twice"}
        raise RequestValidationError([problem])
    return idempotency_key


@router.post("/api/transfers", responses=_ANSWERS, openapi_extra=json_body(TransferRequest))
async def make_transfer(
    gateway: OpenGateway,
    caller: RequestCaller,
    response: Response,
    order: Annotated[TransferOrder, Depends(_order)],
    idempotency_key: Annotated[str | None, Depends(_key)] = None,
) -> CompletedTransfer:
    """Transfer money between pods, ports and external accounts, within the limits.

    The transfer is sent to Sequence once. If `detail` says that the outcome is unknown, the money may have moved: do
    not send the transfer again with another key. Get the attempt instead.
    """
    completed = await gateway.transfers.transfer(order, Channel.API, idempotency_key, caller=caller)
    if completed.replayed:
        response.headers[REPLAYED_HEADER] = "true"
    view = gateway.view_of(caller)
    parties = {"source": view.ordered(completed.source), "destination": view.ordered(completed.destination)}
    return completed.model_copy(update=parties)


@router.get(
    "/api/attempts/{attempt_id}",
    responses=responses(401, 403, 404, 422, 500, 503) | {200: _links(transfer_id="transfer_id")},
)
async def get_attempt(
    gateway: OpenGateway,
    caller: RequestCaller,
    attempt_id: Annotated[str, Path(description="The `attempt_id` of the answer, or the id in `detail`")],
) -> AttemptStatus:
    """Get the status of an attempt to transfer money."""
    return read_attempt(gateway.records, attempt_id, caller.name)
