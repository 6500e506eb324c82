"""Answers that many read, encoded once for each answer of Sequence and not once for each request."""

from collections.abc import Callable
from typing import TypeVar

from fastapi import Request, Response
from pydantic import TypeAdapter

from pysequence_api.api.parameters import reads_of
from pysequence_api.models import Accounts

COMPLETE_HEADER = "X-Complete"
T = TypeVar("T")


def tell_if_incomplete(accounts: Accounts, response: Response) -> None:
    """Set the header of answers that have no field for it."""
    if not accounts.complete:
        response.headers[COMPLETE_HEADER] = "false"


async def encoded(
    request: Request, shape: TypeAdapter[T], select: Callable[[Accounts], T], *, tells_complete: bool = False
) -> Response:
    """Answer with a part of all accounts that the caller may see.

    Args:
        request: says who reads.
        shape: what the part is; one for each part.
        select: takes the part.
        tells_complete: whether a header says if it is not complete.
    """

    def make(accounts: Accounts) -> Response:
        answer = Response(shape.dump_json(select(accounts), by_alias=True), media_type="application/json")
        if tells_complete:
            tell_if_incomplete(accounts, answer)
        return answer

    return await reads_of(request).made_of_accounts(id(shape), make)
