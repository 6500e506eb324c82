"""Transfers of the account, past and pending."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from pysequence_api.api.paging import NEXT, WITH_LINK, link_next
from pysequence_api.api.parameters import (
    IsoDate,
    OpenGateway,
    OrganizationId,
    OrganizationQuery,
    Reads,
    TransferId,
    needs,
)
from pysequence_api.clock import utc_now
from pysequence_api.models import (
    ACTIVITY_TYPES,
    DIRECTIONS,
    TRANSFER_STATUSES,
    ActivityFilter,
    ActivityPage,
    ActivitySummary,
    ActivityTotals,
    TransferDetail,
)
from pysequence_api.safeguards.policy import Scope
from pysequence_api.web.errors import READ_STATUSES, responses

MAX_PAGE_TRANSFERS = 100
DEFAULT_PAGE_TRANSFERS = 10
MAX_CURSOR_CHARACTERS = 2000
MAX_SEARCH_CHARACTERS = 200
MAX_FILTER_VALUES = 50
MAX_FILTER_VALUE_CHARACTERS = 1000

ACTIVITY_PATH = "/api/activity"

router = APIRouter(tags=["activity"], dependencies=[needs(Scope.READ_ACTIVITY)])


def _words(known: tuple[str, ...]) -> object:
    return Query(
        max_length=MAX_FILTER_VALUES,
        description=(
            f"Only these, comma-separated or repeated: {', '.join(known)}. Transfers in answers can have other words"
        ),
    )


def _only(known: tuple[str, ...]) -> AfterValidator:
    """Make the check that a text is known words, comma-separated and in any case."""
    listed = ", ".join(known)

    def check(text: str) -> str:
        if not set(_split([text.upper()])) <= set(known):
            raise PydanticCustomError(
                "enum", "should be one of {listed}; or several, comma-separated", {"listed": listed}
            )
        return text

    return AfterValidator(check)


def _enumeration(known: tuple[str, ...]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": [*known]})


FilterText = Annotated[str, Field(max_length=MAX_FILTER_VALUE_CHARACTERS)]
Status = Annotated[FilterText, _only(TRANSFER_STATUSES), _enumeration(TRANSFER_STATUSES)]
Direction = Annotated[FilterText, _only(DIRECTIONS), _enumeration(DIRECTIONS)]
ActivityType = Annotated[FilterText, _only(ACTIVITY_TYPES), _enumeration(ACTIVITY_TYPES)]
First = Annotated[int, Query(ge=1, le=MAX_PAGE_TRANSFERS, description="How many transfers to return")]
After = Annotated[str, Query(max_length=MAX_CURSOR_CHARACTERS, description="`end_cursor` of the previous page")]
Statuses = Annotated[list[Status], _words(TRANSFER_STATUSES)]
Directions = Annotated[list[Direction], _words(DIRECTIONS)]
ActivityTypes = Annotated[list[ActivityType], _words(ACTIVITY_TYPES)]
DateStart = Annotated[IsoDate | None, Query(description="First day")]
DateEnd = Annotated[IsoDate | None, Query(description="Last day")]
FirstDay = Annotated[
    IsoDate | None,
    Query(alias="from", description="First day, such as 2026-11-01; by default that of the month of `to`"),
]
LastDay = Annotated[IsoDate | None, Query(alias="to", description="Last day; by default today, in UTC")]
HideInternal = Annotated[bool, Query(description="Exclude transfers between your own pods")]
Name = Annotated[str, Query(max_length=MAX_SEARCH_CHARACTERS, description="Only transfers with this text in a name")]


class ActivityListing(ActivityPage):
    """A page of transfers, newest first, and where to get the next one."""

    next: str | None = NEXT


@router.get("/api/activity/summary", responses=responses(*READ_STATUSES))
async def get_activity_summary(reads: Reads) -> ActivitySummary:
    """Get this UTC month in numbers, over all organizations. Only a caller that may see everything may read it."""
    return await reads.activity_summary()


@router.get("/api/activity/totals", responses=responses(404, *READ_STATUSES))
async def get_activity_totals(
    gateway: OpenGateway,
    reads: Reads,
    date_start: FirstDay = None,
    date_end: LastDay = None,
    org_id: OrganizationQuery = None,
) -> ActivityTotals:
    """Add up what came in and went out, by direction and counterparty, biggest first.

    Counts the completed transfers of one organization with third parties: whoever is not a pod or port. Reads at most
    five of Sequence's pages, of 100 transfers each, and says what it leaves out.
    """
    end = date_end or utc_now().date()
    start = date_start or end.replace(day=1)
    if start > end:
        raise _not_after("from", "to")
    organization_id = org_id or gateway.organization_id
    return await reads.activity_totals(organization_id, start, end, is_named=org_id is not None)


@router.get(ACTIVITY_PATH, responses=responses(404, *READ_STATUSES) | WITH_LINK)
async def list_activity(
    gateway: OpenGateway,
    reads: Reads,
    request: Request,
    response: Response,
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
) -> ActivityListing:
    """List the transfers of one organization, newest first. Without `org_id`, it is the default organization.

    Follow `next` for older ones. A caller that may not see everything gets the transfers of the accounts that it may
    see. If most transfers are not among them, a page can be short, or empty, although `has_next_page` is true.
    """
    if date_start and date_end and date_start > date_end:
        raise _not_after("date_start", "date_end")
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
    page = await reads.activity(organization_id, first=first, after=after, only=only, is_named=org_id is not None)
    query = {"first": first, "org_id": org_id} | only.model_dump(mode="json")
    following = link_next(request, response, page.page_info, path=ACTIVITY_PATH, after=after, query=query)
    return ActivityListing(**dict(page), next=following)


@router.get("/api/transfers/{transfer_id}", responses=responses(404, *READ_STATUSES))
async def get_transfer(gateway: OpenGateway, reads: Reads, transfer_id: TransferId) -> TransferDetail:
    """Get one transfer of the default organization, with its payments."""
    return await reads.transfer_detail(gateway.organization_id, transfer_id)


@router.get("/api/activity/{org_id}/{transfer_id}", responses=responses(404, *READ_STATUSES))
async def get_transfer_of_organization(reads: Reads, org_id: OrganizationId, transfer_id: TransferId) -> TransferDetail:
    """Get one transfer of any organization, with its payments."""
    return await reads.transfer_detail(org_id, transfer_id)


def _not_after(start: str, end: str) -> RequestValidationError:
    error = {"type": "value_error", "loc": ("query", start), "msg": f"should not be after {end}"}
    return RequestValidationError([error])


def _split(values: list[str]) -> tuple[str, ...]:
    parts = (part.strip() for value in values for part in value.split(","))
    return tuple(part for part in parts if part)
