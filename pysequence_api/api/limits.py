"""The limits on transfers."""

from fastapi import APIRouter

from pysequence_api.api.parameters import OpenGateway, RequestCaller
from pysequence_api.safeguards.status import CallerLimits, Limits
from pysequence_api.web.errors import responses

router = APIRouter(tags=["limits"])


@router.get("/api/limits", responses=responses(401, 403, 422, 500, 503))
async def get_limits(gateway: OpenGateway, caller: RequestCaller) -> Limits | CallerLimits:
    """Get both limits, the amounts used and left on this UTC day, and the unsettled transfers.

    A caller that may not see everything gets what it has used itself.
    """
    return gateway.limits_of(caller)
