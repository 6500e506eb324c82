"""Faults on demand: what a test can make the simulated Sequence do wrong, and what is still armed.

Armed faults live in the memory of one `Sandbox`; another process on the same file has its own.
"""

import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Literal, Self, assert_never

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from pysequence_api.sandbox.http import Delivery, Response, json_response

TOKEN_OPERATION = "oauth/token"
ANY_OPERATION = "*"
PAYMENT_OPERATION = "CreatePayment"
MAX_ARMED_FAULTS = 10_000
MAX_DELAY_SECONDS = 3600.0
MAX_HUGE_BODY_BYTES = 1024 * 1024 * 1024

Operation = Literal[
    "SelectSourceAndDestination",
    "PodDrawerContent",
    "ActivitySummary",
    "ActivityLogV2Transfers",
    "TransferReferenceDrawerContentV2",
    "CreatePayment",
    "oauth/token",
    "login/application",
    "login/authorize",
    "login/identifier",
    "login/submit-identifier",
    "login/password",
    "login/submit-password",
    "login/code",
    "login/submit-code",
    "*",
]
_HeaderText = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]*$", max_length=2000)]
_HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$", max_length=100)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _has_body(status: int) -> int:
    if status in (204, 304):
        raise ValueError(f"an answer with status {status} has no body")
    return status


class StatusEffect(_Model):
    """Any status from 400 on."""

    kind: Literal["status"]
    status: int = Field(ge=400, le=599)
    body: JsonValue = Field(None, description="A string is sent as text, anything else as JSON")
    headers: dict[_HeaderName, _HeaderText] = {}


class HtmlEffect(_Model):
    """A proxy's page where JSON was expected; also with status 200."""

    kind: Literal["html"]
    status: Annotated[int, AfterValidator(_has_body)] = Field(502, ge=200, le=599)
    body: str = "<!DOCTYPE html><html><head><title>Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"


class GraphqlErrorEffect(_Model):
    """Status 200 with errors."""

    kind: Literal["graphql_error"]
    message: str = "Something went wrong"
    keep_data: bool = Field(False, description="Leave the data beside the errors; needs `when: after`")


class CloseEffect(_Model):
    """The connection is closed without an answer."""

    kind: Literal["close"]


class HalfBodyEffect(_Model):
    """The headers promise the whole body; half of it comes, then the connection is closed."""

    kind: Literal["half_body"]


class GarbageEffect(_Model):
    """Status 200, ``application/json``, and no JSON."""

    kind: Literal["garbage"]
    body: str = '{"data": {"organization": '


class RedirectEffect(_Model):
    """To elsewhere."""

    kind: Literal["redirect"]
    status: Literal[301, 302, 303, 307, 308] = 307
    location: _HeaderText = "https://elsewhere.invalid/api/graphql"


class HugeBodyEffect(_Model):
    """An answer that spaces make as large as wanted."""

    kind: Literal["huge_body"]
    size_bytes: int = Field(gt=0, le=MAX_HUGE_BODY_BYTES)


class DelayEffect(_Model):
    """``before``: waits, then runs the operation, client or no client. ``after``: runs it, then waits."""

    kind: Literal["delay"]
    seconds: float = Field(gt=0, le=MAX_DELAY_SECONDS, allow_inf_nan=False)


class NullsEffect(_Model):
    """Some of the answer's data is null, or is not there at all."""

    kind: Literal["nulls"]
    paths: tuple[str, ...] = Field(min_length=1, description="Dotted, below `data`; `*` is every entry of a list")
    missing: bool = False


class NoDateEffect(_Model):
    """The answer has no ``Date``."""

    kind: Literal["no_date"]


class DateOffsetEffect(_Model):
    """The answer's ``Date`` is wrong by so many seconds."""

    kind: Literal["date_offset_seconds"]
    seconds: float = Field(ge=-1e9, le=1e9, allow_inf_nan=False)


class RefuseEffect(_Model):
    """``createPayment`` refuses with this message, and nothing moves."""

    kind: Literal["refuse"]
    message: str = "Insufficient funds"


class HideNewTransferEffect(_Model):
    """The mutation's answer does not list the new transfer; the activity does."""

    kind: Literal["hide_new_transfer"]


class InvisibleEffect(_Model):
    """The new transfer is nowhere to be seen for so many seconds."""

    kind: Literal["invisible_seconds"]
    seconds: float = Field(gt=0, le=1e9, allow_inf_nan=False)


ResponseEffect = (
    StatusEffect
    | HtmlEffect
    | GraphqlErrorEffect
    | CloseEffect
    | HalfBodyEffect
    | GarbageEffect
    | RedirectEffect
    | HugeBodyEffect
)
PaymentEffect = RefuseEffect | HideNewTransferEffect | InvisibleEffect
Effect = Annotated[
    ResponseEffect | DelayEffect | NullsEffect | NoDateEffect | DateOffsetEffect | PaymentEffect,
    Field(discriminator="kind"),
]


def _as_list(value: object) -> object:
    if isinstance(value, list | tuple):
        return [{"kind": one} if isinstance(one, str) else one for one in value]
    return [{"kind": value}] if isinstance(value, str) else [value]


class Fault(_Model):
    """What goes wrong with the next requests of an operation.

    ``what`` is one effect or a list: an object with its ``kind``, or only the kind. ``when`` says whether it happens
    before the operation runs (then it does not run if the answer is replaced) or after it has, and the money has moved.
    """

    operation: Operation
    count: int = Field(1, ge=1, le=1_000_000, description="For so many requests")
    when: Literal["before", "after"] = "before"
    what: Annotated[tuple[Effect, ...], BeforeValidator(_as_list), Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        kinds = [effect.kind for effect in self.what]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"an effect is there twice: {', '.join(kinds)}")
        answers = [effect.kind for effect in self.what if isinstance(effect, ResponseEffect)]
        if len(answers) > 1:
            raise ValueError(f"only one of these can be the answer: {', '.join(answers)}")
        if self.operation != PAYMENT_OPERATION and any(isinstance(effect, PaymentEffect) for effect in self.what):
            raise ValueError(f"refuse, hide_new_transfer and invisible_seconds are for {PAYMENT_OPERATION} only")
        if self.when == "before" and any(isinstance(one, GraphqlErrorEffect) and one.keep_data for one in self.what):
            raise ValueError("keep_data needs data, so it needs when: after")
        return self

    def response_effect(self) -> ResponseEffect | None:
        """The effect that replaces the answer, if there is one."""
        return next((effect for effect in self.what if isinstance(effect, ResponseEffect)), None)


class ArmedFaults(BaseModel):
    """What is still to come, in order; ``count`` is what is left."""

    armed: tuple[Fault, ...]


class FaultList:
    """The armed faults. A request takes the oldest that is for its operation, and only that one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # requests can come from the event loops of several threads
        self._faults: list[Fault] = []

    def arm(self, faults: Iterable[Fault]) -> None:
        """Add faults behind those that are armed.

        Raises:
            ValueError: there would be more than `MAX_ARMED_FAULTS`.
        """
        new = list(faults)
        with self._lock:
            if len(self._faults) + len(new) > MAX_ARMED_FAULTS:
                raise ValueError(f"no more than {MAX_ARMED_FAULTS} faults can be armed")
            self._faults.extend(new)

    def take(self, operation: str) -> Fault | None:
        """Use up one count of the oldest fault for an operation."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.operation in (operation, ANY_OPERATION):
                    if fault.count == 1:
                        del self._faults[index]
                    else:
                        self._faults[index] = fault.model_copy(update={"count": fault.count - 1})
                    return fault
        return None

    def armed(self) -> ArmedFaults:
        """What is still to come."""
        with self._lock:
            return ArmedFaults(armed=tuple(self._faults))

    def clear(self) -> None:
        """Disarm everything."""
        with self._lock:
            self._faults.clear()


_HTML = "text/html; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"
NOT_RUN = json_response({"data": None})
"""Stands for the true answer where the operation did not run."""


def replace_response(effect: ResponseEffect, answer: Response) -> Response:  # noqa: PLR0911 - one for each effect
    """Make the answer that an effect wants.

    Args:
        effect: what goes wrong.
        answer: the true answer, or `NOT_RUN`.
    """
    match effect:
        case StatusEffect():
            return _status_response(effect)
        case HtmlEffect():
            return Response(effect.status, effect.body.encode(), _HTML)
        case GraphqlErrorEffect():
            data = _load(answer).get("data") if effect.keep_data else None
            return json_response({"errors": [{"message": effect.message}], "data": data})
        case CloseEffect():
            return replace(answer, delivery=Delivery.NOTHING)
        case HalfBodyEffect():
            return replace(answer, delivery=Delivery.HALF_BODY)
        case GarbageEffect():
            return Response(200, effect.body.encode())
        case RedirectEffect():
            return Response(effect.status, b"", _TEXT, (("location", effect.location),))
        case HugeBodyEffect():
            return replace(answer, fill_bytes=max(0, effect.size_bytes - len(answer.body)))
        case _:
            assert_never(effect)


def distort(effects: Sequence[Effect], answer: Response) -> Response:
    """Apply the effects that change parts of an answer: its data, its date."""
    for effect in effects:
        match effect:
            case NullsEffect():
                answer = _without(effect, answer)
            case NoDateEffect():
                answer = replace(answer, date_offset_seconds=None)
            case DateOffsetEffect():
                answer = replace(answer, date_offset_seconds=effect.seconds)
            case _:
                continue  # the other effects are not about parts of the answer
    return answer


def _status_response(effect: StatusEffect) -> Response:
    headers = tuple(effect.headers.items())
    if isinstance(effect.body, str):
        return Response(effect.status, effect.body.encode(), _TEXT, headers)
    body: JsonValue = {"error": _phrase(effect.status)} if effect.body is None else effect.body
    return replace(json_response(body, effect.status), headers=headers)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _load(answer: Response) -> dict[str, JsonValue]:
    try:
        body = json.loads(answer.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _without(effect: NullsEffect, answer: Response) -> Response:
    body = _load(answer)
    if not body:
        return answer
    for path in effect.paths:
        _remove(body.get("data", body), path.split("."), missing=effect.missing)
    return answer.with_json(body)


def _remove(value: JsonValue, path: Sequence[str], *, missing: bool) -> None:
    step, rest = path[0], path[1:]
    for key in _keys(value, step):
        if rest:
            _remove(value[key], rest, missing=missing)  # type: ignore[index]
        elif missing:
            del value[key]  # type: ignore[union-attr,arg-type]
        else:
            value[key] = None  # type: ignore[index]


def _keys(value: JsonValue, step: str) -> list[int] | list[str]:
    """Find what a step of a path leads to; the last entries of a list first, so that they can be deleted in turn."""
    if isinstance(value, list):
        if step == "*":
            return list(reversed(range(len(value))))
        return [int(step)] if step.isdecimal() and int(step) < len(value) else []
    if isinstance(value, dict):
        return list(value) if step == "*" else [step] if step in value else []
    return []
