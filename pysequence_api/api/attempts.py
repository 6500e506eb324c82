"""The attempts of a caller."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from pysequence_api.api.paging import NEXT, WITH_LINK, link_next
from pysequence_api.api.parameters import OpenGateway, RequestCaller
from pysequence_api.models import MAX_KEY_CHARACTERS
from pysequence_api.records.states import State
from pysequence_api.safeguards.caller_status import AttemptList, list_attempts
from pysequence_api.web.errors import ATTEMPTS_PATH, responses

MAX_PAGE_ATTEMPTS = 100
DEFAULT_PAGE_ATTEMPTS = 10
MAX_ATTEMPT_ID_CHARACTERS = 100
KEY_PATTERN = "^[!-~]+$"
_KEY = re.compile(r"[!-~]+")

router = APIRouter(tags=["transfers"])


def _is_key(text: str) -> str:
    if not _KEY.fullmatch(text):
        raise PydanticCustomError("idempotency_key", "should be visible ASCII characters")
    return text


OnlyState = Annotated[State | None, Query(description="Only those that are in this state now")]
OnlyKey = Annotated[
    Annotated[str, AfterValidator(_is_key)] | None,
    Query(
        min_length=1,
        max_length=MAX_KEY_CHARACTERS,
        json_schema_extra={"pattern": KEY_PATTERN},
        description="Only those with this idempotency key of yours, such as the one of a request whose answer was lost",
    ),
]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE_ATTEMPTS, description="How many attempts to return")]
After = Annotated[str, Query(max_length=MAX_ATTEMPT_ID_CHARACTERS, description="`end_cursor` of the previous page")]


class AttemptListing(AttemptList):
    """A page of attempts, newest first, and where to get the next one."""

    next: str | None = NEXT


@router.get(ATTEMPTS_PATH, responses=responses(401, 403, 422, 500, 503) | WITH_LINK)
async def list_own_attempts(
    gateway: OpenGateway,
    caller: RequestCaller,
    request: Request,
    response: Response,
    *,
    state: OnlyState = None,
    key: OnlyKey = None,
    limit: Limit = DEFAULT_PAGE_ATTEMPTS,
    after: After = "",
) -> AttemptListing:
    """List your own attempts to transfer money, newest first. Makes no call to Sequence.

    If the answer to a transfer was lost, `key` tells what became of it. If the list is empty, nothing was sent so far;
    the same request with the same key moves money once.
    """
    page = list_attempts(gateway.records, caller.name, state=state, key=key, limit=limit, after=after)
    query = {"state": state, "key": key, "limit": limit}
    following = link_next(request, response, page.page_info, path=ATTEMPTS_PATH, after=after, query=query)
    return AttemptListing(**dict(page), next=following)
