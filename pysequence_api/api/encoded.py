"""Answers that many read, encoded once for each answer of Sequence and not once for each request."""

from collections.abc import Callable
from typing import TypeVar

from fastapi import Response
from pydantic import TypeAdapter

from pysequence_api.account.scoped import ScopedReads
from pysequence_api.models import Accounts

COMPLETE_HEADER = "X-Complete"
T = TypeVar("T")


def tell_if_incomplete(accounts: Accounts, response: Response) -> None:
    """Set the header of answers that have no field for it."""
    if not accounts.complete:
        response.headers[COMPLETE_HEADER] = "false"


async def encoded(
    reads: ScopedReads, response: Response, shape: TypeAdapter[T], select: Callable[[Accounts], T]
) -> tuple[Accounts, Response]:
    """Answer with a part of all accounts that the caller may see.

    Args:
        reads: what the caller may read.
        response: has the headers that were set so far, to which the caller may add.
        shape: what the part is; one for each part.
        select: takes the part.

    Returns:
        The accounts, and the answer.
    """

    def make(accounts: Accounts) -> tuple[Accounts, bytes]:
        return accounts, shape.dump_json(select(accounts), by_alias=True)

    accounts, body = await reads.made_of_accounts(id(shape), make)
    return accounts, Response(body, headers=dict(response.headers), media_type="application/json")
