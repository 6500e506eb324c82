"""Moving money."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from pysequence_api.api.body import read_json_object
from pysequence_api.api.parameters import OpenGateway
from pysequence_api.api.problems import responses
from pysequence_api.money import MAX_AMOUNT_CENTS
from pysequence_api.safeguards.audit import Via
from pysequence_api.safeguards.guard import CompletedTransfer
from pysequence_api.sequence.models import AccountType, PartyId, TransferOrder

MAX_DESCRIPTION_CHARACTERS = 255

router = APIRouter(tags=["transfers"])


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    return text


Kind = Annotated[
    AccountType,
    Field(strict=False),  # of strings, only the three are taken
    WithJsonSchema({"type": "string", "enum": [kind.value for kind in AccountType]}),
]


class TransferRequest(BaseModel):
    """A transfer to make."""

    # Strict: nothing is an amount but a whole number in JSON.
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
    kyc_id: PartyId | None = Field(None, description="KYC id; null for the server's own")


async def _order(request: Request, gateway: OpenGateway) -> TransferOrder:
    """Read the body. FastAPI does not, because it would take any size and repeated keys."""
    try:
        asked = TransferRequest.model_validate(await read_json_object(request))
        return TransferOrder(kyc_id=asked.kyc_id or gateway.kyc_id, **asked.model_dump(exclude={"kyc_id"}))
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in details]) from None


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": TransferRequest.model_json_schema()}},
    }
}


@router.post("/api/transfers", responses=responses(400, 401, 408, 413, 422, 429, 500, 502, 503), openapi_extra=_BODY)
async def make_transfer(gateway: OpenGateway, order: Annotated[TransferOrder, Depends(_order)]) -> CompletedTransfer:
    """Move money between pods, ports and external accounts, within the limits.

    It is sent once. After a 502 whose detail says that nobody knows whether the money moved, do not send it again.
    """
    return await gateway.guard.transfer(order, Via.API)
