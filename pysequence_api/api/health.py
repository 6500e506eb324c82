"""Whether the server runs."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from pysequence_api.web.errors import responses
from pysequence_api.web.keys import HEALTH_PATH

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """A sign of life."""

    status: Literal["ok"] = "ok"


@router.get(HEALTH_PATH, responses=responses(500))
async def check_health() -> Health:
    """Say that the server runs. Needs no key, and asks nothing of Sequence."""
    return Health()
