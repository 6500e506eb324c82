"""What the Platform API accepts in queries and bodies. Anything else is 400 ``INVALID_PARAMETERS``."""

import re
from datetime import datetime
from typing import Annotated, Literal, TypeVar
from urllib.parse import parse_qs

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from pysequence_api.sandbox.ledger import MIN_PLATFORM_CENTS
from pysequence_api.sandbox.platform.errors import PlatformError, PlatformErrorCode

DEFAULT_PAGE_SIZE = 10
MAX_PAGE_SIZE = 100
MAX_TRANSFER_CENTS = 10**12
MAX_PAGE = 10**9
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_ACCOUNT_IDS = "accountIds[]"


def _check_time(value: object) -> object:
    if not isinstance(value, str) or _RFC_3339.fullmatch(value) is None:
        raise ValueError("must be an RFC 3339 time, for example 2026-01-31T09:30:00Z")
    return value


Time = Annotated[datetime, BeforeValidator(_check_time)]
Number = Annotated[int, BeforeValidator(lambda value: int(value) if str(value).isdecimal() else value)]


class Parameters(BaseModel):
    """Parameters of a query. An unknown one is an error, so that a misspelled filter is noticed."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, defer_build=True)


class Paging(Parameters):
    """Which page of a list."""

    page: Number = Field(1, ge=1, le=MAX_PAGE)
    page_size: Number = Field(DEFAULT_PAGE_SIZE, alias="pageSize", ge=1, le=MAX_PAGE_SIZE)


class AccountList(Paging):
    """Which accounts to list."""

    type: Literal["INCOME_SOURCE", "POD", "EXTERNAL_ACCOUNT"] | None = None
    state: Literal["ACTIVE", "ALL"] = "ACTIVE"


class TransferFilters(Paging):
    """Which transfers to list."""

    direction: Literal["MONEY_IN", "MONEY_OUT", "INTERNAL"] | None = None
    status: (
        Literal["PENDING_APPROVAL", "PROCESSING", "PENDING", "COMPLETE", "INCOMPLETE", "ERROR", "CANCELLED"] | None
    ) = None
    origin: (
        Literal["DIRECT_DEPOSIT", "CHECK_DEPOSIT", "CASHBACK", "USER_PULL", "RULE", "USER", "EXTERNAL_PULL", "UNKNOWN"]
        | None
    ) = None
    from_: Time | None = Field(None, alias="from")
    to: Time | None = None
    execution_mode: Literal["LIVE", "SIMULATION", "ALL"] = Field("LIVE", alias="executionMode")
    rule_execution_id: str | None = None


class AccountTransferList(TransferFilters):
    """Which transfers of one account to list."""

    account_role: Literal["source", "destination", "either"] = Field("either", alias="accountRole")


class TransferList(TransferFilters):
    """Which transfers of several accounts to list."""

    account_ids: list[str] = Field(alias=_ACCOUNT_IDS, min_length=1)


class Body(BaseModel):
    """A JSON body."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)


class TransferBody(Body):
    """The body of ``POST /transfers``."""

    source_account_id: str = Field(alias="sourceAccountId", min_length=1)
    destination_account_id: str = Field(alias="destinationAccountId", min_length=1)
    amount_in_cents: int = Field(alias="amountInCents", ge=MIN_PLATFORM_CENTS, le=MAX_TRANSFER_CENTS)
    description: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9 ]*$", max_length=10)] | None = None
    simulation: bool = False


class TriggerBody(Body):
    """The body of ``POST /rules/{id}/trigger``. It can be left out."""

    simulation: bool = False
    execute_amount: int | None = Field(None, alias="executeAmount", ge=1, le=MAX_TRANSFER_CENTS)


_Query = TypeVar("_Query", bound=Parameters)
_Body = TypeVar("_Body", bound=Body)


def read_query(model: type[_Query], query: str) -> _Query:
    """Read the parameters of a query.

    Raises:
        PlatformError: 400.
    """
    found = parse_qs(query, keep_blank_values=True)
    values = {name: values if name == _ACCOUNT_IDS else _only(name, values) for name, values in found.items()}
    try:
        return model.model_validate(values, by_alias=True, by_name=False)
    except ValidationError as error:
        raise _invalid(error) from error


def read_body(model: type[_Body], body: bytes) -> _Body:
    """Read a JSON body.

    Raises:
        PlatformError: 400.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error) from error


def _only(name: str, values: list[str]) -> str:
    if len(values) > 1:
        raise PlatformError(PlatformErrorCode.INVALID_PARAMETERS, f"{name}: must be there once")
    return values[0]


def _invalid(error: ValidationError) -> PlatformError:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(step) for step in first["loc"]) or "body"
    return PlatformError(PlatformErrorCode.INVALID_PARAMETERS, f"{where}: {first['msg']}")
