"""The health check."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from pysequence_api.web.access import HEALTH_PATH
from pysequence_api.web.errors import responses

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The server is running."""

    status: Literal["ok"] = "ok"


@router.get(HEALTH_PATH, responses=responses(500))
async def check_health() -> Health:
    """Check that the server is running. Needs no API key, and makes no call to Sequence."""
    return Health()
