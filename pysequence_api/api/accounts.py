"""Pods, ports and external accounts."""

from fastapi import APIRouter

from pysequence_api.api.parameters import OpenGateway, OrganizationQuery, needs
from pysequence_api.models import Accounts
from pysequence_api.safeguards.policy import Scope
from pysequence_api.web.errors import READ_STATUSES, responses

router = APIRouter(tags=["accounts"], dependencies=[needs(Scope.READ_ACCOUNTS)])


@router.get("/api/accounts", responses=responses(404, *READ_STATUSES))
async def list_accounts(gateway: OpenGateway, org_id: OrganizationQuery = None) -> Accounts:
    """List pods, ports and external accounts."""
    return await gateway.client.accounts(org_id)
