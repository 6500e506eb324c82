"""Transfers, and the status of each attempt."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from pysequence_api.api.parameters import OpenGateway, RequestCaller
from pysequence_api.models import MAX_DESCRIPTION_CHARACTERS, MAX_KEY_CHARACTERS, AccountType, PartyId, TransferOrder
from pysequence_api.money import MAX_AMOUNT_CENTS
from pysequence_api.records.audit import Channel
from pysequence_api.records.states import State
from pysequence_api.safeguards.status import AttemptStatus
from pysequence_api.safeguards.transfers import MAX_WAIT_SECONDS, CompletedTransfer, PendingTransfer
from pysequence_api.web.body import invalid_body, read_json_object
from pysequence_api.web.errors import IDEMPOTENCY_HEADER, REPLAYED_HEADER, Responses, responses

PENDING_RETRY_SECONDS = 5
"""When to ask again for an attempt that waits for the owner; `wait_seconds` is better."""

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


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": TransferRequest.model_json_schema()}},
    }
}


AttemptId = Annotated[str, Path(description="The `attempt_id` of the answer, or the id in `detail`")]
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


_PENDING: Responses = {
    202: {"model": PendingTransfer, "description": "It waits for the owner's approval; `Location` is its attempt"}
}


@router.post(
    "/api/transfers",
    responses=_PENDING | responses(400, 401, 403, 408, 409, 413, 422, 429, 500, 502, 503),
    response_model=CompletedTransfer,
    openapi_extra=_BODY,
)
async def make_transfer(
    gateway: OpenGateway,
    caller: RequestCaller,
    response: Response,
    order: Annotated[TransferOrder, Depends(_order)],
    idempotency_key: Annotated[str | None, Depends(_key)] = None,
) -> CompletedTransfer | JSONResponse:
    """Transfer money between pods, ports and external accounts, within the limits.

    If a rule of the policy asks the owner first, the answer is 202, and nothing was sent. Once the owner approves it,
    it is sent: do not request it again. Get the attempt instead.

    The transfer is sent to Sequence once. If `detail` says that the outcome is unknown, the money may have moved: do
    not send the transfer again with another key. Get the attempt instead.
    """
    completed = await gateway.transfers.transfer(order, Channel.API, idempotency_key, caller=caller)
    replayed = {REPLAYED_HEADER: "true"} if completed.replayed else {}
    if isinstance(completed, PendingTransfer):
        location = f"{gateway.settings.root_path}/api/attempts/{completed.attempt_id}"
        headers = replayed | {"Location": location, "Retry-After": str(PENDING_RETRY_SECONDS)}
        return JSONResponse(completed.model_dump(mode="json"), status_code=202, headers=headers)
    response.headers.update(replayed)
    view = gateway.view_of(caller)
    parties = {"source": view.ordered(completed.source), "destination": view.ordered(completed.destination)}
    return completed.model_copy(update=parties)


@router.get("/api/attempts/{attempt_id}", responses=responses(401, 403, 404, 422, 500, 503))
async def get_attempt(
    gateway: OpenGateway,
    caller: RequestCaller,
    response: Response,
    attempt_id: AttemptId,
    wait_seconds: Annotated[
        float,
        Query(
            ge=0,
            le=MAX_WAIT_SECONDS,
            allow_inf_nan=False,
            description="Answer once the state changes, or after this time. If many requests wait, at once",
        ),
    ] = 0,
) -> AttemptStatus:
    """Get the status of an attempt to transfer money. Makes no call to Sequence."""
    status = await gateway.transfers.wait_for_change(attempt_id, caller, wait_seconds)
    if status.state is State.AWAITING_APPROVAL:
        response.headers["Retry-After"] = str(PENDING_RETRY_SECONDS)
    return status


@router.delete("/api/attempts/{attempt_id}", responses=responses(401, 403, 404, 409, 422, 500, 503))
async def cancel_attempt(gateway: OpenGateway, caller: RequestCaller, attempt_id: AttemptId) -> AttemptStatus:
    """Cancel an attempt that waits for the owner's approval. To cancel it again changes nothing."""
    return await gateway.transfers.cancel(attempt_id, caller)
