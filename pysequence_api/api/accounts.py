"""Pods, ports and external accounts."""

from fastapi import APIRouter

from pysequence_api.api.parameters import OrganizationQuery, Reads, needs
from pysequence_api.models import Accounts
from pysequence_api.safeguards.policy import Scope
from pysequence_api.web.errors import READ_STATUSES, responses

router = APIRouter(tags=["accounts"], dependencies=[needs(Scope.READ_ACCOUNTS)])


@router.get("/api/accounts", responses=responses(404, *READ_STATUSES))
async def list_accounts(reads: Reads, org_id: OrganizationQuery = None) -> Accounts:
    """List the pods, ports and external accounts that the caller may see."""
    return await reads.accounts(org_id)
