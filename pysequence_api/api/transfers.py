"""Transfers, what one would do, and the status of each attempt."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from pysequence_api.account.preview import Preview
from pysequence_api.api.parameters import OpenGateway, RequestCaller
from pysequence_api.models import (
    MAX_DESCRIPTION_CHARACTERS,
    MAX_KEY_CHARACTERS,
    MAX_REASON_CHARACTERS,
    AccountType,
    PartyId,
    TransferOrder,
)
from pysequence_api.money import MAX_AMOUNT_CENTS
from pysequence_api.records.audit import Channel
from pysequence_api.records.states import State
from pysequence_api.safeguards.policy import Scope
from pysequence_api.safeguards.status import AttemptStatus
from pysequence_api.safeguards.transfers import MAX_WAIT_SECONDS, CompletedTransfer, PendingTransfer
from pysequence_api.web.body import invalid_body, json_body, read_json_object
from pysequence_api.web.errors import (
    ATTEMPTS_PATH,
    IDEMPOTENCY_HEADER,
    REPLAYED_HEADER,
    TRANSFERS_PATH,
    Responses,
    add_headers,
    headers,
    responses,
)
from pysequence_api.web.rate_limit import HEADER, POLICY_HEADER, count_by, rate_headers
from pysequence_api.web.root_path import path_to

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
    reason: str | None = Field(
        None,
        max_length=MAX_REASON_CHARACTERS,
        description=(
            "What the transfer is for, in your own words, for the owner. It is recorded, and not sent to Sequence. A"
            " retry with the same idempotency key and another reason is the same request"
        ),
    )


@dataclass(frozen=True, slots=True)
class Requested:
    """The body of a request, read.

    Attributes:
        order: what to move.
        reason: what the caller says it is for.
    """

    order: TransferOrder
    reason: str | None


async def _requested(request: Request, gateway: OpenGateway) -> Requested:
    """Read the body. `read_json_object` is stricter than FastAPI."""
    try:
        body = TransferRequest.model_validate(await read_json_object(request))
        values = body.model_dump(exclude={"kyc_id", "reason"})
        return Requested(TransferOrder(kyc_id=body.kyc_id or gateway.kyc_id, **values), body.reason)
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


_WITHOUT_RATE = {401, 500}
"""These are answered before, or after, it is known which rate a request counts for."""
_WITH_ATTEMPT = (400, 403, 409, 502, 503)
"""The errors that can name an attempt."""
_PREVIEWED: Responses = {200: headers()}
_PREVIEWED |= responses(401, 403, 408, 413, 422, 429, 500, 502, 503)
add_headers(_PREVIEWED, _PREVIEWED.keys() - _WITHOUT_RATE, POLICY_HEADER, HEADER)
_TRANSFERRED: Responses = {200: headers("Link") | _links(attempt_id="attempt_id", transfer_id="id")}
_TRANSFERRED[202] = {
    "model": PendingTransfer,
    "description": "It waits for the owner's approval. Nothing was sent",
    **headers("Retry-After"),
    **_links(attempt_id="attempt_id"),
}
_TRANSFERRED |= responses(400, 401, 403, 408, 409, 413, 422, 429, 500, 502, 503)
for _status in _WITH_ATTEMPT:
    _TRANSFERRED[_status] |= _links(attempt_id="attempt_id")
add_headers(_TRANSFERRED, _TRANSFERRED.keys() - _WITHOUT_RATE, POLICY_HEADER, HEADER)
add_headers(_TRANSFERRED, (200, 202, *_WITH_ATTEMPT), "Location")
add_headers(_TRANSFERRED, (200, 202, 409, 502), REPLAYED_HEADER)

AttemptId = Annotated[str, Path(description="The `attempt_id` of the answer, or the id in `detail`")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=MAX_KEY_CHARACTERS,
        pattern=r"^[!-~]+$",
        description=(
            "Your own unique key: one for each payment that you intend, and the same one whenever you repeat its"
            " request. A request with the same key gets the first answer again. Callers with a policy must name one"
        ),
    ),
]


async def _key(request: Request, idempotency_key: IdempotencyKey = None) -> str | None:
    if len(request.headers.getlist(IDEMPOTENCY_HEADER)) > 1:
        problem = {"type": "duplicate", "loc": ("header", IDEMPOTENCY_HEADER), "msg": "must not be sent twice"}
        raise RequestValidationError([problem])
    return idempotency_key


async def _count_transfers(request: Request, gateway: OpenGateway, caller: RequestCaller) -> None:
    count_by(request, gateway.transfers.rate, caller.name)


async def _count_previews(request: Request, gateway: OpenGateway, caller: RequestCaller) -> None:
    count_by(request, gateway.preview_rate, caller.name)


@router.post(
    f"{TRANSFERS_PATH}/preview",
    responses=_PREVIEWED,
    openapi_extra=json_body(TransferRequest),
    dependencies=[Depends(_count_previews)],
)
async def preview_transfer(
    request: Request,
    gateway: OpenGateway,
    caller: RequestCaller,
    response: Response,
    *,
    requested: Annotated[Requested, Depends(_requested)],
    idempotency_key: Annotated[str | None, Depends(_key)] = None,
) -> Preview:
    """Say what a transfer would do: whether it would be sent, every check, the balances after it, and similar ones.

    It takes the same body as `POST /api/transfers`. Nothing is reserved, sent or recorded. A transfer that the policy
    would refuse is answered with 200, too: `verdict` and `code` say so.
    """
    preview = await gateway.preview(requested.order, Channel.API, idempotency_key, caller=caller)
    response.headers.update(rate_headers(request))
    return preview


@router.post(
    TRANSFERS_PATH,
    dependencies=[Depends(_count_transfers)],
    responses=_TRANSFERRED,
    response_model=CompletedTransfer,
    openapi_extra=json_body(TransferRequest),
)
async def make_transfer(
    request: Request,
    gateway: OpenGateway,
    caller: RequestCaller,
    response: Response,
    *,
    requested: Annotated[Requested, Depends(_requested)],
    idempotency_key: Annotated[str | None, Depends(_key)] = None,
) -> CompletedTransfer | JSONResponse:
    """Transfer money between pods, ports and external accounts, within the limits.

    If a rule of the policy asks the owner first, the answer is 202, and nothing was sent. Once the owner approves it,
    it is sent: do not request it again. Get the attempt instead.

    The transfer is sent to Sequence once. If `detail` says that the outcome is unknown, the money may have moved: do
    not send the transfer again with another key. Get the attempt instead.
    """
    completed = await gateway.transfers.transfer(
        requested.order, Channel.API, idempotency_key, caller=caller, reason=requested.reason
    )
    response.headers.update(rate_headers(request))
    response.headers["Location"] = path_to(request, ATTEMPTS_PATH, completed.attempt_id)
    if completed.replayed:
        response.headers[REPLAYED_HEADER] = "true"
    if isinstance(completed, PendingTransfer):
        response.headers["Retry-After"] = str(PENDING_RETRY_SECONDS)
        return JSONResponse(completed.model_dump(mode="json"), 202, dict(response.headers))
    _link_transfer(request, response, gateway, caller, completed.id)
    view = gateway.view_of(caller)
    parties = {"source": view.ordered(completed.source), "destination": view.ordered(completed.destination)}
    return completed.model_copy(update=parties)


def _link_transfer(
    request: Request, response: Response, gateway: OpenGateway, caller: RequestCaller, transfer_id: str | None
) -> None:
    """Link to the transfer that an attempt became, for who may read it."""
    if transfer_id is not None and gateway.may(caller, Scope.READ_ACTIVITY):
        response.headers["Link"] = f'<{path_to(request, TRANSFERS_PATH, transfer_id)}>; rel="related"'


@router.get(
    f"{ATTEMPTS_PATH}/{{attempt_id}}",
    responses=responses(401, 403, 404, 422, 500, 503)
    | {200: headers("Link", "Retry-After") | _links(transfer_id="transfer_id")},
)
async def get_attempt(
    request: Request,
    gateway: OpenGateway,
    caller: RequestCaller,
    response: Response,
    *,
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
    _link_transfer(request, response, gateway, caller, status.transfer_id)
    return status


@router.delete(f"{ATTEMPTS_PATH}/{{attempt_id}}", responses=responses(401, 403, 404, 409, 422, 500, 503))
async def cancel_attempt(gateway: OpenGateway, caller: RequestCaller, attempt_id: AttemptId) -> AttemptStatus:
    """Cancel an attempt that waits for the owner's approval. To cancel it again changes nothing."""
    return await gateway.transfers.cancel(attempt_id, caller)
