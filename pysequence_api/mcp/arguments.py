"""The arguments of the tools. They are strict: a wrong guess about what an agent meant could move money."""

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails

from pysequence_api.errors import InvalidRequestError
from pysequence_api.models import (
    DIRECTIONS,
    MAX_DESCRIPTION_CHARACTERS,
    MAX_KEY_CHARACTERS,
    MAX_REASON_CHARACTERS,
    TRANSFER_STATUSES,
    AccountType,
    PartyId,
)
from pysequence_api.money import MAX_AMOUNT_CENTS
from pysequence_api.safeguards.transfers import MAX_WAIT_SECONDS
from pysequence_api.text import quoted

MAX_CURSOR_CHARACTERS = 2000
MAX_NAME_CHARACTERS = 200
MAX_PAGE_TRANSFERS = 100
DEFAULT_PAGE_TRANSFERS = 20
MAX_LISTED_ERRORS = 5
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SUBJECT = re.compile(r"(Value error, )?((Input|String|List|Value) )?")


def _date(value: object) -> object:
    # In strict mode, pydantic does not parse text as a date.
    if isinstance(value, str) and _DATE.fullmatch(value):
        return date.fromisoformat(value)
    raise ValueError("should be a date like 2026-11-23")


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    return text


Day = Annotated[date, BeforeValidator(_date), WithJsonSchema({"type": "string", "format": "date"})]
Kind = Annotated[
    AccountType,
    Field(strict=False),  # accepts the three strings
    WithJsonSchema({"enum": [kind.value for kind in AccountType]}),
]
Key = Annotated[str, Field(min_length=1, max_length=MAX_KEY_CHARACTERS, pattern=r"^[!-~]+$")]
Text = Annotated[str, AfterValidator(_without_nul)]
A = TypeVar("A", bound="Arguments")


class Arguments(BaseModel):
    """The base of all arguments, and those of a tool without any."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class FindArguments(Arguments):
    """What to find."""

    name: PartyId = Field(description="A name in any case, a part of one, or an id")


class ActivityArguments(Arguments):
    """Which transfers to list."""

    from_: Day | None = Field(None, alias="from", description="First day, UTC")
    to: Day | None = Field(None, description="Last day, UTC")
    totals: bool = Field(False, description="Add up instead; takes only from (default: the 1st) and to (today)")
    status: Literal[TRANSFER_STATUSES] | None = None  # type: ignore[valid-type]
    direction: Literal[DIRECTIONS] | None = None  # type: ignore[valid-type]
    name: str = Field("", max_length=MAX_NAME_CHARACTERS, description="Only if a party's name has this in it")
    limit: int = Field(DEFAULT_PAGE_TRANSFERS, ge=1, le=MAX_PAGE_TRANSFERS)
    after: str = Field("", max_length=MAX_CURSOR_CHARACTERS, description="`next` of the page before")


class AttemptArguments(Arguments):
    """Which attempt to look up: exactly one of the two ids."""

    attempt_id: str = Field("", description="From an answer or an error")
    idempotency_key: Key = Field("", description="Yours, if an answer was lost")
    wait_seconds: int = Field(0, ge=0, le=int(MAX_WAIT_SECONDS), description="For another state, such as arrived")


class OrderArguments(Arguments):
    """What to transfer."""

    source_id: PartyId
    source_type: Kind = AccountType.POD
    destination_id: PartyId
    destination_type: Kind = AccountType.POD
    amount_cents: int = Field(ge=1, le=MAX_AMOUNT_CENTS, description="$25 is 2500")
    description: Text = Field("", max_length=MAX_DESCRIPTION_CHARACTERS, description="Shown to the recipient")
    instant: bool = Field(False, description="Faster, can cost a fee")


class TransferArguments(OrderArguments):
    """What to transfer, once."""

    idempotency_key: Key = Field(
        description="Your own, one for each intended payment, the same when you call again for it, like rent-2026-11",
    )
    reason: Text = Field("", max_length=MAX_REASON_CHARACTERS, description="What it is for, for the owner")


class FreezeArguments(Arguments):
    """Why to freeze."""

    reason: Text = Field("", max_length=MAX_REASON_CHARACTERS, description="For the owner")


def parse(model: type[A], given: Mapping[str, Any]) -> A:
    """Read the arguments of a call.

    Raises:
        InvalidRequestError: they are invalid; one line names each error.
    """
    try:
        return model.model_validate(given, by_alias=True, by_name=False)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidRequestError("; ".join(_line(one, model) for one in found[:MAX_LISTED_ERRORS]) + ".") from None


def invalid(error: ValidationError) -> InvalidRequestError:
    """Make the error of arguments that are valid each, but not together."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return InvalidRequestError("; ".join(_SUBJECT.sub("", one["msg"], count=1) for one in found) + ".")


def schema_of(model: type[Arguments]) -> dict[str, Any]:
    """Describe arguments in JSON Schema, without what an agent does not need: titles, lengths and nulls."""
    whole = model.model_json_schema(by_alias=True)
    fields = {name: _short(field) for name, field in whole.get("properties", {}).items()}
    required = {"required": whole["required"]} if whole.get("required") else {}
    return {"type": "object", "properties": fields, **required, "additionalProperties": False}


def _short(field: Mapping[str, Any]) -> dict[str, Any]:
    flat = dict(field)
    for option in flat.pop("anyOf", []):  # a field that may be left out, not null
        flat |= {} if option == {"type": "null"} else option
    unneeded = {"title", "maxLength", "minLength", "pattern"}
    short = {name: value for name, value in flat.items() if name not in unneeded}
    return {name: value for name, value in short.items() if name != "default" or value not in (None, "", False)}


def _line(error: ErrorDetails, model: type[Arguments]) -> str:
    name = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        known = [field.alias or own for own, field in model.model_fields.items()]
        return f"{quoted(name)} is not an argument of this tool, which has {', '.join(known) or 'none'}"
    texts = {"missing": "is required", "string_pattern_mismatch": "must be visible ASCII characters without spaces"}
    return f"{name} {texts.get(error['type']) or _SUBJECT.sub('', error['msg'], count=1)}"
