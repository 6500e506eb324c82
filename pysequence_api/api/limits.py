"""What may still move today."""

from fastapi import APIRouter

from pysequence_api.api.parameters import OpenGateway
from pysequence_api.api.problems import responses
from pysequence_api.safeguards.records import Limits

router = APIRouter(tags=["limits"])


@router.get("/api/limits", responses=responses(401, 500, 503))
async def get_limits(gateway: OpenGateway) -> Limits:
    """Give both limits, what is used and left of this UTC day, and what is still unsettled."""
    return await gateway.guard.limits()
