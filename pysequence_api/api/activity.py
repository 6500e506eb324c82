"""Transfers of the account, past and pending."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.exceptions import RequestValidationError
from pydantic import Field

from pysequence_api.api.parameters import (
    IsoDate,
    OpenGateway,
    OrganizationId,
    OrganizationQuery,
    Reads,
    TransferId,
    needs,
)
from pysequence_api.models import ActivityFilter, ActivityPage, ActivitySummary, TransferDetail
from pysequence_api.safeguards.policy import Scope
from pysequence_api.web.errors import READ_STATUSES, responses

MAX_PAGE_TRANSFERS = 100
DEFAULT_PAGE_TRANSFERS = 10
MAX_CURSOR_CHARACTERS = 2000
MAX_SEARCH_CHARACTERS = 200
MAX_FILTER_VALUES = 50
MAX_FILTER_VALUE_CHARACTERS = 1000

router = APIRouter(tags=["activity"], dependencies=[needs(Scope.READ_ACTIVITY)])


def _values(examples: str) -> object:
    return Query(
        max_length=MAX_FILTER_VALUES,
        description=f"Only these, comma-separated or repeated: {examples}. Others are sent to Sequence as they are",
    )


FilterValues = list[Annotated[str, Field(max_length=MAX_FILTER_VALUE_CHARACTERS)]]
First = Annotated[int, Query(ge=1, le=MAX_PAGE_TRANSFERS, description="How many transfers to return")]
After = Annotated[str, Query(max_length=MAX_CURSOR_CHARACTERS, description="`end_cursor` of the previous page")]
Statuses = Annotated[FilterValues, _values("PENDING, PROCESSING, COMPLETE, FAILED, CANCELLED")]
Directions = Annotated[FilterValues, _values("INTERNAL, INCOMING, OUTGOING")]
ActivityTypes = Annotated[FilterValues, _values("ONE_TIME_TRANSFER, RULE, DIRECT_DEPOSIT, ACH")]
DateStart = Annotated[IsoDate | None, Query(description="First day")]
DateEnd = Annotated[IsoDate | None, Query(description="Last day")]
HideInternal = Annotated[bool, Query(description="Exclude transfers between your own pods")]
Name = Annotated[str, Query(max_length=MAX_SEARCH_CHARACTERS, description="Only transfers with this text in a name")]


@router.get("/api/activity/summary", responses=responses(*READ_STATUSES))
async def get_activity_summary(reads: Reads) -> ActivitySummary:
    """Get a summary of this month's activity. Only a caller that may see everything may read it."""
    return await reads.activity_summary()


@router.get("/api/activity", responses=responses(404, *READ_STATUSES))
async def list_activity(
    gateway: OpenGateway,
    reads: Reads,
    *,
    first: First = DEFAULT_PAGE_TRANSFERS,
    after: After = "",
    org_id: OrganizationQuery = None,
    statuses: Statuses = [],  # noqa: B006 - FastAPI copies the default
    directions: Directions = [],  # noqa: B006
    activity_types: ActivityTypes = [],  # noqa: B006
    date_start: DateStart = None,
    date_end: DateEnd = None,
    hide_internal: HideInternal = False,
    name: Name = "",
) -> ActivityPage:
    """List the transfers of one organization, newest first. Without `org_id`, it is the default organization.

    A caller that may not see everything gets the transfers of the accounts that it may see. If most transfers are not
    among them, a page can be short, or empty, although `has_next_page` is true.
    """
    if date_start and date_end and date_start > date_end:
        error = {"type": "value_error", "loc": ("query", "date_start"), "msg": "should not be after date_end"}
        raise RequestValidationError([error])
    only = ActivityFilter(
        statuses=_split(statuses),
        directions=_split(directions),
        activity_types=_split(activity_types),
        date_start=date_start,
        date_end=date_end,
        hide_internal=hide_internal,
        name=name,
    )
    organization_id = org_id or gateway.organization_id
    return await reads.activity(organization_id, first=first, after=after, only=only, is_named=org_id is not None)


@router.get("/api/transfers/{transfer_id}", responses=responses(404, *READ_STATUSES))
async def get_transfer(gateway: OpenGateway, reads: Reads, transfer_id: TransferId) -> TransferDetail:
    """Get one transfer of the default organization, with its payments."""
    return await reads.transfer_detail(gateway.organization_id, transfer_id)


@router.get("/api/activity/{org_id}/{transfer_id}", responses=responses(404, *READ_STATUSES))
async def get_transfer_of_organization(reads: Reads, org_id: OrganizationId, transfer_id: TransferId) -> TransferDetail:
    """Get one transfer of any organization, with its payments."""
    return await reads.transfer_detail(org_id, transfer_id)


def _split(values: list[str]) -> tuple[str, ...]:
    parts = (part.strip() for value in values for part in value.split(","))
    return tuple(part for part in parts if part)
