"""The limits on transfers."""

from fastapi import APIRouter, Request, Response

from pysequence_api.api.parameters import gateway_of
from pysequence_api.safeguards.caller_status import CallerLimits
from pysequence_api.safeguards.status import Limits
from pysequence_api.web.errors import responses
from pysequence_api.web.head import caller_of

router = APIRouter(tags=["limits"])


@router.get("/api/limits", responses=responses(401, 403, 422, 500, 503), response_model=Limits | CallerLimits)
async def get_limits(request: Request) -> Response:
    """Get both limits, the amounts used and left on this UTC day, and the unsettled transfers.

    A caller that may not see everything gets what it has used itself.
    """
    limits = gateway_of(request).limits_of(caller_of(request))
    return Response(limits.encoded, media_type="application/json")
