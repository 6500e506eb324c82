"""Pods and their balances."""

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter

from pysequence_api.account.names import find_pod_by_name
from pysequence_api.account.totals import total_of
from pysequence_api.api.encoded import COMPLETE_HEADER, encoded, tell_if_incomplete
from pysequence_api.api.parameters import OpenGateway, OrganizationId, PodId, PodName, Reads, needs
from pysequence_api.models import Pod, PodDetail, TotalBalance
from pysequence_api.safeguards.policy import Scope
from pysequence_api.web.errors import READ_STATUSES, Responses, headers, responses

router = APIRouter(tags=["pods"], dependencies=[needs(Scope.READ_ACCOUNTS)])
_WITH_ACTIVITY = [needs(Scope.READ_ACTIVITY)]
"""For answers that also show transfers."""


_PODS: TypeAdapter[tuple[Pod, ...]] = TypeAdapter(tuple[Pod, ...])
_TOTAL = TypeAdapter(TotalBalance)
_WITH_HEADER: Responses = {200: headers(COMPLETE_HEADER)}


@router.get("/api/pods", responses=responses(*READ_STATUSES) | _WITH_HEADER, response_model=tuple[Pod, ...])
async def list_pods(request: Request) -> Response:
    """List all pods that the caller may see, with their balances."""
    return await encoded(request, _PODS, lambda accounts: accounts.pods, tells_complete=True)


@router.get("/api/pods/balance", responses=responses(*READ_STATUSES), response_model=TotalBalance)
async def get_total_balance(request: Request) -> Response:
    """Add up what all pods hold that the caller may see, and say what the total leaves out."""
    return await encoded(request, _TOTAL, total_of)


@router.get("/api/pods/{pod_name:name}/balance", responses=responses(404, *READ_STATUSES) | _WITH_HEADER)
async def get_pod_balance(reads: Reads, response: Response, pod_name: PodName) -> Pod:
    """Find one pod by its name, among those that the caller may see."""
    accounts = await reads.accounts(balances=False)
    tell_if_incomplete(accounts, response)
    return await reads.with_balance(find_pod_by_name(pod_name, accounts.pods, complete=accounts.complete))


@router.get("/api/pods/detail/{pod_id}", responses=responses(404, *READ_STATUSES), dependencies=_WITH_ACTIVITY)
async def get_pod_detail(gateway: OpenGateway, reads: Reads, pod_id: PodId) -> PodDetail:
    """Get one pod of the default organization, with its latest transfers."""
    return await reads.pod_detail(gateway.organization_id, pod_id)


@router.get("/api/pods/{org_id}/{pod_id}", responses=responses(404, *READ_STATUSES), dependencies=_WITH_ACTIVITY)
async def get_pod_detail_of_organization(reads: Reads, org_id: OrganizationId, pod_id: PodId) -> PodDetail:
    """Get one pod of any organization, with its latest transfers."""
    return await reads.pod_detail(org_id, pod_id)
