"""A caller stops its own transfers."""

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pysequence_api.api.parameters import OpenGateway, RequestCaller, needs
from pysequence_api.models import Timestamp
from pysequence_api.records.audit import Channel
from pysequence_api.records.control import freeze
from pysequence_api.safeguards.policy import Scope
from pysequence_api.web.body import invalid_body, json_body, read_json_object
from pysequence_api.web.errors import responses

MAX_REASON_CHARACTERS = 1000

router = APIRouter(tags=["freeze"], dependencies=[needs(Scope.FREEZE)])


class FreezeRequest(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    reason: str | None = Field(None, max_length=MAX_REASON_CHARACTERS, description="Why; one line is kept of it")


class Frozen(BaseModel):
    """The transfers of the caller are frozen."""

    caller: str
    frozen_since: Timestamp
    frozen_reason: str


async def _reason(request: Request) -> str | None:
    """Read the body, which may be missing: whoever is in a hurry needs none."""
    if "transfer-encoding" not in request.headers and request.headers.get("content-length", "0") == "0":
        return None
    try:
        return FreezeRequest.model_validate(await read_json_object(request)).reason
    except ValidationError as error:
        raise invalid_body(error) from None


@router.post(
    "/api/freeze",
    responses=responses(400, 401, 403, 408, 413, 422, 500, 503),
    openapi_extra=json_body(FreezeRequest, required=False),
)
async def freeze_transfers(
    gateway: OpenGateway, caller: RequestCaller, reason: Annotated[str | None, Depends(_reason)]
) -> Frozen:
    """Freeze the transfers of this caller, at once and in every process. Only the owner can unfreeze them.

    A transfer that waits is released; one that was sent runs to its end.
    """
    frozen = await anyio.to_thread.run_sync(freeze, gateway.records, reason, caller.name, Channel.API)
    return Frozen(caller=caller.name, frozen_since=frozen.since, frozen_reason=frozen.reason)
