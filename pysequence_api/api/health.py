"""The health check."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from pysequence_api.api.parameters import OpenGateway
from pysequence_api.errors import NotReadyError, SafeguardsUnavailableError
from pysequence_api.gateway import Gateway
from pysequence_api.web.access import HEALTH_PATH
from pysequence_api.web.errors import responses

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The server is running."""

    status: Literal["ok"] = "ok"


@router.head(HEALTH_PATH, include_in_schema=False)
@router.get(HEALTH_PATH, responses=responses(422, 500, 503))
async def check_health(
    gateway: OpenGateway,
    ready: Annotated[bool, Query(description="Whether to check transfers and the sign-in as well")] = False,
) -> Health:
    """Check that the server is running. Needs no API key, and makes no call to Sequence.

    With `ready=1`, the answer is 503 if transfers are not possible or the server is not signed in at Sequence.
    """
    problems = []
    if ready and not _can_transfer(gateway):
        problems.append("transfers are not possible")
    if ready and not await _is_signed_in(gateway):
        problems.append("it is not signed in at Sequence")
    if problems:
        raise NotReadyError(f"The server is running, but {' and '.join(problems)}.")
    return Health()


def _can_transfer(gateway: Gateway) -> bool:
    try:
        return not gateway.limits().frozen
    except SafeguardsUnavailableError:
        return False


async def _is_signed_in(gateway: Gateway) -> bool:
    if not gateway.client.capabilities.sign_in:
        return True
    life = await gateway.client.token_life()
    return life is not None and (life.left_seconds is None or life.left_seconds > 0)
