"""Parameters that several routes share."""

import re
from datetime import date
from functools import partial
from typing import Annotated

from fastapi import Depends, Path, Query, Request, params
from pydantic import BeforeValidator
from starlette.convertors import Convertor, register_url_convertor

from pysequence_api.account.scoped import ScopedReads
from pysequence_api.gateway import Access, Gateway
from pysequence_api.models import PartyId
from pysequence_api.records.callers import Caller
from pysequence_api.safeguards.policy import Scope
from pysequence_api.web.head import caller_of, header_values, tell_age

MAX_NAME_CHARACTERS = 1000
_NO_CACHE = {b"no-cache", b"no-store", b"max-age=0"}
_ACCESS_STATE = "access"
_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class NameConvertor(Convertor[str]):
    """Matches any name in a path, also with slashes and line breaks. The router sees the decoded path."""

    regex = "(?s:.+)"

    def convert(self, value: str) -> str:
        """Return the name unchanged."""
        return value

    def to_string(self, value: str) -> str:
        """Return the name unchanged."""
        return value


register_url_convertor("name", NameConvertor())


# Dependencies are coroutines, because FastAPI runs each plain function in a thread. They are few, because FastAPI takes
# longer to resolve them than they take.


def gateway_of(request: Request) -> Gateway:
    """Return the gateway that answers a request."""
    gateway = request.app.state.gateway
    assert isinstance(gateway, Gateway)
    return gateway


async def _gateway(request: Request) -> Gateway:
    return gateway_of(request)


def _iso_date(value: object) -> object:
    # pydantic alone also accepts numbers, as seconds since 1970.
    if isinstance(value, str) and _ISO_DATE.fullmatch(value) is None:
        raise ValueError("should be a date like 2026-11-23")
    return value


OpenGateway = Annotated[Gateway, Depends(_gateway)]


def access_of(request: Request) -> Access:
    """Return what the caller of a request may do. The policy is read once for each request.

    Raises:
        CallerExpiredError: the time of the caller is over.
        SafeguardsUnavailableError: the policy cannot be read.
    """
    state = request.scope["state"]
    access = state.get(_ACCESS_STATE)
    if access is None:
        access = state[_ACCESS_STATE] = gateway_of(request).access_of(caller_of(request))
    assert isinstance(access, Access)
    return access


async def _caller(request: Request) -> Caller:
    return access_of(request).caller


RequestCaller = Annotated[Caller, Depends(_caller)]


async def _reads(request: Request) -> ScopedReads:
    return reads_of(request)


def reads_of(request: Request) -> ScopedReads:
    """Return what reads the account for the caller of a request. The answer tells its age.

    Raises:
        CallerExpiredError: the time of the caller is over.
        SafeguardsUnavailableError: the policy cannot be read.
    """
    again = not _is_no_cache(request)
    return gateway_of(request).reads_of(access_of(request), again=again, on_age=partial(tell_age, request))


def _is_no_cache(request: Request) -> bool:
    """Say whether the caller wants an answer from Sequence itself (RFC 9111, section 5.2.1)."""
    values = header_values(request, b"cache-control")
    directives = (one.strip() for value in values for one in value.lower().split(b","))
    return not _NO_CACHE.isdisjoint(directives)


Reads = Annotated[ScopedReads, Depends(_reads)]
"""What the caller may see of the account. No route reads it in another way."""


def needs(*scopes: Scope) -> params.Depends:
    """Make the check that a caller has scopes, for the dependencies of routes. It runs before all others."""

    async def check(request: Request) -> None:
        access = access_of(request)
        for scope in scopes:
            access.require(scope)

    return params.Depends(check)


IsoDate = Annotated[date, BeforeValidator(_iso_date)]
PodName = Annotated[
    str,
    Path(
        max_length=MAX_NAME_CHARACTERS,
        description="The pod's name in any case, or a part that only its name has. Percent-encode special characters.",
    ),
]
PodId = Annotated[PartyId, Path(description="Pod id")]
TransferId = Annotated[PartyId, Path(description="Transfer id")]
OrganizationId = Annotated[PartyId, Path(description="Organization id")]
OrganizationQuery = Annotated[PartyId | None, Query(description="Only this organization")]
