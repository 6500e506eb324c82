"""Links to the next page of a list."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from pydantic import Field

from pysequence_api.models import PageInfo
from pysequence_api.web.errors import Responses, headers
from pysequence_api.web.root_path import path_to

NEXT: Any = Field(
    description="Path and query of the next page, with the same filters; null if there is none. `Link` has it, too"
)
WITH_LINK: Responses = {200: headers("Link")}


def link_next(
    request: Request, response: Response, page: PageInfo, *, path: str, after: str, query: Mapping[str, Any]
) -> str | None:
    """Set the header `Link` of a page, and return the link to the next one.

    Args:
        request: the request that is answered.
        response: the answer with the page.
        page: where the page ends.
        path: of this list.
        after: the cursor at which the page began.
        query: the other parameters; what is empty is left out.
    """
    # A cursor that stays the same would return the same page for ever.
    if not page.has_next_page or page.end_cursor in {"", after}:
        return None
    given = {name: _text(value) for name, value in query.items() if value}
    following = f"{path_to(request, path)}?{urlencode(given | {'after': page.end_cursor})}"
    response.headers["Link"] = f'<{following}>; rel="next"'
    return following


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, list) else str(value)
