"""Pods, ports and external accounts."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter

from pysequence_api.api.encoded import encoded
from pysequence_api.api.parameters import OrganizationQuery, Reads, needs
from pysequence_api.models import Accounts, FoundAccounts, PartyId
from pysequence_api.safeguards.policy import Scope
from pysequence_api.web.errors import READ_STATUSES, responses

router = APIRouter(tags=["accounts"], dependencies=[needs(Scope.READ_ACCOUNTS)])


_ACCOUNTS = TypeAdapter(Accounts)


@router.get("/api/accounts", responses=responses(404, *READ_STATUSES), response_model=Accounts)
async def list_accounts(request: Request, reads: Reads, org_id: OrganizationQuery = None) -> Accounts | Response:
    """List the pods, ports and external accounts that the caller may see."""
    if org_id is not None:
        return await reads.accounts(org_id)
    return await encoded(request, _ACCOUNTS, lambda accounts: accounts)


Wanted = Annotated[PartyId, Query(description="A name in any case, a part of one, or an id")]


@router.get("/api/accounts/find", responses=responses(404, *READ_STATUSES))
async def find_account(reads: Reads, name: Wanted, org_id: OrganizationQuery = None) -> FoundAccounts:
    """Find pods, ports and external accounts by name, with their balances, among those that the caller may see.

    If `match` is set, exactly one of them has this name or id. Otherwise, the candidates are suggestions.
    """
    return await reads.find(name, org_id)
