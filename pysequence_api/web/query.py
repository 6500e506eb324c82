"""Refuses parameters in the query of a request that its route does not have, on every route.

FastAPI passes over unknown parameters, and takes the last one of a parameter that is sent twice. A misspelled filter
would then be no filter, and a guessed ``cursor`` would return the first page again and again.
"""

import difflib
from collections import Counter
from collections.abc import Iterator
from typing import Any, get_origin

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from pysequence_api.text import plain_text

MAX_SHOWN_CHARACTERS = 40
"""How much of an unknown name the error repeats."""


async def check_query(request: Request) -> None:
    """Compare the query with the parameters that the route declares.

    Raises:
        RequestValidationError: the route does not have a parameter, or has it once and it was sent twice.
    """
    if not request.scope["query_string"]:
        return
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    is_list = dict(_declared(route.dependant))
    errors = []
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in is_list:
            errors.append(_unknown(name, [*is_list]))
        elif count > 1 and not is_list[name]:
            errors.append({"type": "duplicate", "loc": ("query", name), "msg": "must not be sent twice"})
    if errors:
        raise RequestValidationError(errors)


def _declared(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """Yield the name of each parameter of the query, and whether it can be repeated."""
    for field in dependant.query_params:
        yield field.alias, get_origin(field.field_info.annotation) is list
    for dependency in dependant.dependencies:
        yield from _declared(dependency)


def _unknown(name: str, names: list[str]) -> dict[str, Any]:
    similar = difflib.get_close_matches(name[:MAX_SHOWN_CHARACTERS], names, n=1)
    suggestion = f" Did you mean `{similar[0]}`?" if similar else ""
    allowed = f"Allowed: {', '.join(names)}." if names else "This request has no parameters in its query."
    return {
        "type": "unknown_parameter",
        "loc": ("query", plain_text(name, MAX_SHOWN_CHARACTERS)),
        "msg": f"is not a parameter of this request.{suggestion} {allowed}",
    }
