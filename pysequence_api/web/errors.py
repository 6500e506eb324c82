"""What goes wrong, as answers: one shape, a ``detail`` that a person can act on, and never an echo of the input."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from pysequence_api.errors import GatewayError
from pysequence_api.models import MAX_KEY_CHARACTERS

MAX_LISTED_ERRORS = 20
REPLAYED_HEADER = "Idempotency-Replayed"
IDEMPOTENCY_HEADER = "idempotency-key"
UNKNOWN_FIELD = "(unknown field)"
"""Stands for the name of a field that the caller made up."""

log = logging.getLogger(__name__)


class Error(BaseModel):
    """What went wrong."""

    detail: str = Field(description="One line that a person can act on")


class InvalidField(BaseModel):
    """What is wrong with one part of a request."""

    loc: list[str | int] = Field(description="Where: path, query or body, then the name")
    msg: str
    type: str = Field(description="A word for programs, such as `missing`")


class InvalidRequest(BaseModel):
    """What is wrong with a request."""

    detail: str = Field(description="One line that a person can act on")
    errors: list[InvalidField] = Field(description="The same, for programs")


Responses = dict[int | str, dict[str, Any]]

_DESCRIPTIONS = {
    400: "Refused: by a limit, or by Sequence",
    401: "Invalid or missing API key",
    404: "No such pod, transfer, attempt or organization",
    408: "The body did not arrive in time",
    409: "The same transfer is under way, or its outcome is unknown; detail names the attempt",
    413: "The body is too large",
    422: "The request is not as described here",
    429: "Transfers are asked for too fast; `Retry-After` says when to ask again",
    500: "A failure of this program; the server's log has more",
    502: "Sequence, or the way to it, failed. Of a transfer it may be unknown whether the money moved; detail says so",
    503: "Too much is asked for at once, or the safeguards cannot be trusted; detail says what to do",
}
READ_STATUSES = (401, 422, 500, 502, 503)
"""What every read of the account can answer, besides what it was asked for."""


def responses(*statuses: int) -> Responses:
    """Describe, for the OpenAPI schema, what else can come back.

    Args:
        statuses: the HTTP statuses.
    """
    return {
        status: {"model": InvalidRequest if status == 422 else Error, "description": _DESCRIPTIONS[status]}
        for status in sorted(statuses)
    }


def add_handlers(app: FastAPI) -> None:
    """Have every exception answered in the one shape. What has no handler here is answered by `RequestLog`."""
    app.add_exception_handler(GatewayError, _answer_gateway_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)
    app.add_exception_handler(HTTPException, _answer_http_exception)


async def _answer_gateway_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GatewayError)
    content: dict[str, object] = {"detail": error.detail}
    if error.status == 422:
        content["errors"] = []
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if error.replayed:
        headers[REPLAYED_HEADER] = "true"
    if error.status >= 500:
        log.warning("answered %d: %s", error.status, error.detail)
    return JSONResponse(content, status_code=error.status, headers=headers)


async def _answer_invalid_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fields = [_describe(each) for each in error.errors()[:MAX_LISTED_ERRORS]]
    # Each once: twenty unknown fields read alike.
    texts = dict.fromkeys(f"{'.'.join(map(str, field.loc[1:] or field.loc))}: {field.msg}" for field in fields)
    answer = InvalidRequest(detail="; ".join(texts), errors=fields)
    return JSONResponse(answer.model_dump(), status_code=422)


async def _answer_http_exception(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = error.detail
    if error.status_code == 404:
        detail = "There is no such path. /openapi.json lists the paths."
    elif error.status_code == 405:
        detail = f"This path takes only {(error.headers or {}).get('Allow', 'other methods')}."
    return JSONResponse({"detail": detail}, status_code=error.status_code, headers=error.headers)


_SUBJECT = re.compile(r"(Value error, |(Input|String|List|Value) (?=should ))")
_TEXTS = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this request; /openapi.json lists them",
    "string_pattern_mismatch": "must not be blank",
    "idempotency_key": f"must be 1 to {MAX_KEY_CHARACTERS} visible ASCII characters without spaces",
}


def _describe(error: Mapping[str, Any]) -> InvalidField:
    """Keep of pydantic's error what says nothing of the input."""
    kind, location = error["type"], list(error["loc"])
    if location[-1] == IDEMPOTENCY_HEADER and kind != "duplicate":
        kind = "idempotency_key"
    if kind == "extra_forbidden":
        location[-1] = UNKNOWN_FIELD
    return InvalidField(loc=location, msg=_TEXTS.get(kind) or _SUBJECT.sub("", error["msg"], count=1), type=kind)
