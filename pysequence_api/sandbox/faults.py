"""Faults on demand: what the sandbox can be told to do wrong, and how that changes a response.

Arm a fault with ``POST /sandbox/faults``; `Fault` documents the JSON and each class ending in ``Effect`` documents one
effect. Armed faults are in the memory of one `Sandbox`: another process on the same file has its own.
"""

import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any, Literal, Self, assert_never

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

from pysequence_api.sandbox.http import HTML_TYPE, TEXT_TYPE, Delivery, Response, json_response
from pysequence_api.sandbox.platform.errors import PlatformErrorCode, error_response

TOKEN_OPERATION = "oauth/token"
ANY_OPERATION = "*"
PAYMENT_OPERATION = "CreatePayment"
PLATFORM_PAYMENT_OPERATION = "PlatformCreateTransfer"
PLATFORM_TRIGGER_OPERATION = "PlatformTriggerRule"
MAX_ARMED_FAULTS = 10_000
MAX_DELAY_SECONDS = 3600.0
MAX_HUGE_BODY_BYTES = 1024 * 1024 * 1024
NOT_RUN = json_response({"data": None})
"""Takes the place of the true response if the operation did not run."""

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
    "PlatformAccounts",
    "PlatformAccount",
    "PlatformAccountTransfers",
    "PlatformTransfers",
    "PlatformTransfer",
    "PlatformCreateTransfer",
    "PlatformRules",
    "PlatformRule",
    "PlatformTriggerRule",
    "PlatformRuleExecutions",
    "PlatformRuleExecution",
    "*",
]
_SHOWS_TRANSFERS = (
    "PodDrawerContent",
    "ActivitySummary",
    "ActivityLogV2Transfers",
    "TransferReferenceDrawerContentV2",
    PAYMENT_OPERATION,
    "PlatformAccountTransfers",
    "PlatformTransfers",
    "PlatformTransfer",
    "PlatformRuleExecutions",
    "PlatformRuleExecution",
    ANY_OPERATION,
)
_HeaderText = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]*$", max_length=2000)]
_HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$", max_length=100)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def _has_body(status: int) -> int:
    if status in (204, 304):
        raise ValueError(f"a response with status {status} has no body")
    return status


class StatusEffect(_Model):
    """Respond with a status of 400 or above. With a code, the body is an error as the Platform API sends it."""

    kind: Literal["status"]
    status: int = Field(ge=400, le=599)
    body: JsonValue = Field(None, description="A string is sent as text, anything else as JSON")
    code: str | None = Field(None, description="The `code` of an error of the Platform API, instead of a body")
    message: str = Field("Something went wrong", description="The `message` beside the code")
    headers: dict[_HeaderName, _HeaderText] = {}


class HtmlEffect(_Model):
    """Respond with the HTML page of a proxy instead of JSON. The status can be 200."""

    kind: Literal["html"]
    status: Annotated[int, AfterValidator(_has_body)] = Field(502, ge=200, le=599)
    body: str = "<!DOCTYPE html><html><head><title>Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"


class GraphqlErrorEffect(_Model):
    """Respond with status 200 and GraphQL errors."""

    kind: Literal["graphql_error"]
    message: str = "Something went wrong"
    path: list[str | int] | None = None
    code: str | None = Field(None, description="``extensions.code`` of the error")
    keep_data: bool = Field(False, description="Keep the data next to the errors; requires `when: after`")


class CloseEffect(_Model):
    """Close the connection without a response."""

    kind: Literal["close"]


class HalfBodyEffect(_Model):
    """Send all headers and half of the body, then close the connection."""

    kind: Literal["half_body"]


class GarbageEffect(_Model):
    """Respond with status 200 and ``application/json``, but invalid JSON."""

    kind: Literal["garbage"]
    body: str = '{"data": {"organization": '


class RedirectEffect(_Model):
    """Redirect to another host."""

    kind: Literal["redirect"]
    status: Literal[301, 302, 303, 307, 308] = 307
    location: _HeaderText = "https://elsewhere.invalid/api/graphql"


class HugeBodyEffect(_Model):
    """Pad the response with spaces to a given size."""

    kind: Literal["huge_body"]
    size_bytes: int = Field(gt=0, le=MAX_HUGE_BODY_BYTES)


class DelayEffect(_Model):
    """Wait before the operation runs (``before``) or before the response (``after``).

    The operation runs even if the client disconnects.
    """

    kind: Literal["delay"]
    seconds: float = Field(gt=0, le=MAX_DELAY_SECONDS, allow_inf_nan=False)


class NullsEffect(_Model):
    """Set parts of the response data to null, or leave them out."""

    kind: Literal["nulls"]
    paths: tuple[str, ...] = Field(min_length=1, description="Dotted paths below `data`; `*` is every entry")
    missing: bool = False


class ValuesEffect(_Model):
    """Set parts of the response data to a value, for example of the wrong type."""

    kind: Literal["values"]
    paths: tuple[str, ...] = Field(min_length=1, description="Dotted paths below `data`; `*` is every entry")
    value: JsonValue


class NoDateEffect(_Model):
    """Leave out the ``Date`` header."""

    kind: Literal["no_date"]


class DateOffsetEffect(_Model):
    """Shift the ``Date`` header by this many seconds."""

    kind: Literal["date_offset_seconds"]
    seconds: float = Field(ge=-1e9, le=1e9, allow_inf_nan=False)


class RefuseEffect(_Model):
    """``createPayment``, or a transfer of the Platform API, is refused with this message. No money moves."""

    kind: Literal["refuse"]
    message: str = "Insufficient funds"
    code: PlatformErrorCode = Field(
        PlatformErrorCode.INVALID_PARAMETERS, description="The `code` of the Platform API, which determines the status"
    )


class HideNewTransferEffect(_Model):
    """The response of the mutation does not list the new transfer. The activity does."""

    kind: Literal["hide_new_transfer"]


class InvisibleEffect(_Model):
    """The new transfer is not shown anywhere for this many seconds. Its money has moved."""

    kind: Literal["invisible_seconds"]
    seconds: float = Field(gt=0, le=1e9, allow_inf_nan=False)


class FailEffect(_Model):
    """The payment succeeds, and the transfer fails this many seconds after its creation.

    Until then it is ``PENDING``, then ``PROCESSING``. When it fails, the money goes back to the source.
    """

    kind: Literal["fail_after_seconds"]
    seconds: float = Field(ge=0, le=1e9, allow_inf_nan=False)
    reason: str | None = Field("ACCOUNT_CLOSED", description="The `errorReason`")


class ReturnEffect(_Model):
    """The transfer is returned this many seconds after it became ``COMPLETE``.

    Its status changes to ``status``, its details show a reversal payment, and the money goes back to the source. The
    balance of the destination can become negative.
    """

    kind: Literal["return_after_seconds"]
    seconds: float = Field(gt=0, le=1e9, allow_inf_nan=False)
    status: Literal["FAILED", "CANCELLED"] = "FAILED"
    reason: str | None = Field("RETURNED_BY_BANK", description="The `errorReason`")


class NotFoundEffect(_Model):
    """``GET /transfers/{id}`` of the Platform API does not find the new transfer for this many seconds.

    Everything else shows it. Its money has moved.
    """

    kind: Literal["not_found_seconds"]
    seconds: float = Field(gt=0, le=1e9, allow_inf_nan=False)


class FeeEffect(_Model):
    """The destination receives this much less, but at least one cent. The activity shows the smaller amount.

    ``/sandbox/transfers`` shows the full amount, which left the source. If the money goes back, the fee does not.
    """

    kind: Literal["fee_cents"]
    cents: int = Field(gt=0, le=2_147_483_647)


class ActivityLagEffect(_Model):
    """All new transfers are shown this many seconds late. It adds to `InvisibleEffect`.

    It applies to the responses of this fault only: use ``count`` for a lag over many requests.
    """

    kind: Literal["activity_lag_seconds"]
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
PaymentEffect = (
    RefuseEffect | HideNewTransferEffect | InvisibleEffect | NotFoundEffect | FailEffect | ReturnEffect | FeeEffect
)
Effect = Annotated[
    ResponseEffect
    | DelayEffect
    | NullsEffect
    | ValuesEffect
    | NoDateEffect
    | DateOffsetEffect
    | PaymentEffect
    | ActivityLagEffect,
    Field(discriminator="kind"),
]


def _as_list(value: object) -> object:
    if isinstance(value, list | tuple):
        return [{"kind": one} if isinstance(one, str) else one for one in value]
    return [{"kind": value}] if isinstance(value, str) else [value]


class Fault(_Model):
    """What goes wrong with the next ``count`` requests of an operation.

    ``what`` is one effect or a list of effects. An effect is an object with its ``kind``, or only the kind as a string.
    ``when`` is ``before`` or ``after`` the operation runs. An effect that replaces the response prevents the operation
    from running with ``before``; with ``after``, the money has moved.
    """

    operation: Operation
    count: int = Field(1, ge=1, le=1_000_000, description="How many requests")
    when: Literal["before", "after"] = "before"
    what: Annotated[tuple[Effect, ...], BeforeValidator(_as_list), Field(min_length=1)]

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        kinds = [effect.kind for effect in self.what]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"an effect is there twice: {', '.join(kinds)}")
        for alternatives in (ResponseEffect, FailEffect | ReturnEffect):
            used = [effect.kind for effect in self.what if isinstance(effect, alternatives)]
            if len(used) > 1:
                raise ValueError(f"a fault can have only one of these: {', '.join(used)}")
        for effect in self.what:
            wanted = _operations_of(effect)
            if wanted and self.operation not in wanted:
                raise ValueError(f"{effect.kind} is for {', '.join(wanted)} only")
            if isinstance(effect, ActivityLagEffect) and self.operation not in _SHOWS_TRANSFERS:
                raise ValueError(f"{effect.kind} is for these operations only: {', '.join(_SHOWS_TRANSFERS)}")
        if self.when == "before" and any(isinstance(one, GraphqlErrorEffect) and one.keep_data for one in self.what):
            raise ValueError("keep_data requires when: after, because there is no data before")
        return self

    @property
    def delay_seconds(self) -> float:
        """Return how long this fault waits."""
        return sum(effect.seconds for effect in self.what if isinstance(effect, DelayEffect))

    @property
    def runs_operation(self) -> bool:
        """Return whether the operation runs."""
        return self.when == "after" or self._response_effect() is None

    def change(self, response: Response) -> Response:
        """Return what the client gets instead of a response.

        Args:
            response: the true response, or `NOT_RUN`.
        """
        for effect in self.what:
            match effect:
                case NullsEffect() | ValuesEffect():
                    response = _with_changed_data(effect, response)
                case NoDateEffect():
                    response = replace(response, date_offset_seconds=None)
                case DateOffsetEffect():
                    response = replace(response, date_offset_seconds=effect.seconds)
                case _:
                    continue  # this effect does not change a part of the response
        replacing = self._response_effect()
        if replacing is None:
            return response
        return replace(_replaced(replacing, response), date_offset_seconds=response.date_offset_seconds)

    def _response_effect(self) -> ResponseEffect | None:
        return next((effect for effect in self.what if isinstance(effect, ResponseEffect)), None)


class ArmedFaults(BaseModel):
    """The faults that are still armed, oldest first. ``count`` is the number of requests left."""

    armed: tuple[Fault, ...]


class FaultList:
    """The armed faults. A request uses the oldest fault for its operation, and only that one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # requests can come from the event loops of several threads
        self._faults: list[Fault] = []

    def arm(self, faults: Iterable[Fault]) -> None:
        """Add faults after those that are armed.

        Raises:
            ValueError: there would be more than `MAX_ARMED_FAULTS`.
        """
        new = list(faults)
        with self._lock:
            if len(self._faults) + len(new) > MAX_ARMED_FAULTS:
                raise ValueError(f"no more than {MAX_ARMED_FAULTS} faults can be armed")
            self._faults.extend(new)

    def take(self, operation: str) -> Fault | None:
        """Return the oldest fault for an operation, and count it down."""
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
        """Return the faults that are still armed."""
        with self._lock:
            return ArmedFaults(armed=tuple(self._faults))

    def clear(self) -> None:
        """Disarm all faults."""
        with self._lock:
            self._faults.clear()


def _operations_of(effect: Effect) -> tuple[str, ...]:
    """Return the operations that an effect is for; nothing means all."""
    match effect:
        case HideNewTransferEffect():
            return (PAYMENT_OPERATION,)
        case NotFoundEffect():
            return (PLATFORM_PAYMENT_OPERATION, PLATFORM_TRIGGER_OPERATION)
        case RefuseEffect() | InvisibleEffect() | FailEffect() | ReturnEffect() | FeeEffect():
            return (PAYMENT_OPERATION, PLATFORM_PAYMENT_OPERATION, PLATFORM_TRIGGER_OPERATION)
        case _:
            return ()


def _replaced(effect: ResponseEffect, response: Response) -> Response:  # noqa: PLR0911 - one for each effect
    match effect:
        case StatusEffect():
            return _status_response(effect)
        case HtmlEffect():
            return Response(effect.status, effect.body.encode(), HTML_TYPE)
        case GraphqlErrorEffect():
            data = _load(response).get("data") if effect.keep_data else None
            error: dict[str, Any] = {"message": effect.message}
            error |= {} if effect.path is None else {"path": effect.path}
            error |= {} if effect.code is None else {"extensions": {"code": effect.code}}
            return json_response({"errors": [error], "data": data})
        case CloseEffect():
            return replace(response, delivery=Delivery.NOTHING)
        case HalfBodyEffect():
            return replace(response, delivery=Delivery.HALF_BODY)
        case GarbageEffect():
            return Response(200, effect.body.encode())
        case RedirectEffect():
            return Response(effect.status, b"", TEXT_TYPE, (("location", effect.location),))
        case HugeBodyEffect():
            return replace(response, fill_bytes=max(0, effect.size_bytes - len(response.body)))
        case _:
            assert_never(effect)


def _status_response(effect: StatusEffect) -> Response:
    headers = tuple(effect.headers.items())
    if effect.code is not None:
        return replace(error_response(effect.code, effect.message, effect.status), headers=headers)
    if isinstance(effect.body, str):
        return Response(effect.status, effect.body.encode(), TEXT_TYPE, headers)
    body: JsonValue = {"error": _phrase(effect.status)} if effect.body is None else effect.body
    return replace(json_response(body, effect.status), headers=headers)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _load(response: Response) -> dict[str, JsonValue]:
    try:
        body = json.loads(response.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _with_changed_data(effect: NullsEffect | ValuesEffect, response: Response) -> Response:
    body = _load(response)
    if not body:
        return response
    for path in effect.paths:
        _change(body.get("data", body), path.split("."), effect)
    return response.with_json(body)


def _change(value: JsonValue, path: Sequence[str], effect: NullsEffect | ValuesEffect) -> None:
    step, rest = path[0], path[1:]
    for key in _keys(value, step):
        if rest:
            _change(value[key], rest, effect)  # type: ignore[index]
        elif isinstance(effect, ValuesEffect):
            value[key] = effect.value  # type: ignore[index]
        elif effect.missing:
            del value[key]  # type: ignore[union-attr,arg-type]
        else:
            value[key] = None  # type: ignore[index]


def _keys(value: JsonValue, step: str) -> list[int] | list[str]:
    """Return the keys that a step of a path matches; of a list the last first, so that they can be deleted in order."""
    if isinstance(value, list):
        if step == "*":
            return list(reversed(range(len(value))))
        return [int(step)] if step.isdecimal() and int(step) < len(value) else []
    if isinstance(value, dict):
        return list(value) if step == "*" else [step] if step in value else []
    return []
