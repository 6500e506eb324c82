"""Turns errors into answers: JSON with a ``detail`` that a person can act on, and never the value of an input."""

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from pysequence_api.errors import Code, GatewayError, InvalidRequestError, Outcome, Retry
from pysequence_api.models import FROM_OTHERS, MAX_KEY_CHARACTERS
from pysequence_api.text import plain_text
from pysequence_api.web.rate_limit import HEADER, POLICY_HEADER, rate_headers
from pysequence_api.web.root_path import path_to

MAX_LISTED_ERRORS = 20
REPLAYED_HEADER = "Idempotency-Replayed"
IDEMPOTENCY_HEADER = "idempotency-key"
TRANSFERS_PATH = "/api/transfers"
ATTEMPTS_PATH = "/api/attempts"
MAX_FIELD_CHARACTERS = 40
"""How much of the name of a field that does not exist is repeated: the caller chose it."""

log = logging.getLogger(__name__)

Absent = SkipJsonSchema[None]
"""The type of a field that is left out, and never null."""


def _header(description: str, **schema: Any) -> dict[str, Any]:
    return {"description": description, "schema": schema or {"type": "string"}}


HEADERS = {
    "X-Request-ID": _header("The id of the request in the server's log: the one that was sent, or a new one"),
    "X-Complete": _header(
        "`false` if Sequence left out an entry, or sent something that cannot be read", type="string", enum=["false"]
    ),
    "Retry-After": _header("Where it is known: after how many seconds to try again", type="integer", minimum=0),
    "WWW-Authenticate": _header("`APIKey`: the key belongs into the header `X-API-Key`"),
    POLICY_HEADER: _header("How many requests of this kind are allowed in how many seconds: `q` in `w`"),
    HEADER: _header("How many requests of this kind are left now, and in how many seconds one more is: `r`, `t`"),
    "Location": _header("The path of the attempt", format="uri-reference", type="string"),
    "Link": _header(
        'Paths: `rel="next"`, the next page; `rel="related"`, the transfer of an attempt, if the caller may read it'
    ),
    REPLAYED_HEADER: _header(
        "`true` if this is the answer to an earlier request with the same idempotency key", type="string", enum=["true"]
    ),
}
"""The headers that answers can have, for the OpenAPI schema. Every answer has an ``X-Request-ID``."""


class InvalidField(BaseModel):
    """An error in one part of a request."""

    loc: list[str | int] = Field(description="Where the error is: `path`, `query`, `header` or `body`, then the name")
    msg: str = Field(description="What is wrong with it")
    type: str = Field(description="A code for programs, such as `missing`")


class Error(BaseModel):
    """An error. About a transfer, it says whether money can have moved, and whether to request it again.

    What is not known, or not of interest, is left out.
    """

    detail: str = Field(
        description=f"What went wrong, and what to do about it. What it quotes of Sequence: {FROM_OTHERS}"
    )
    code: Code | Absent = Field(
        None, description="What went wrong, for programs. Every error has one, except 401: its `detail` says it all"
    )
    attempt_id: str | Absent = Field(None, description="The attempt to transfer that this is about")
    outcome: Outcome | Absent = Field(None, description="Whether the transfer can have moved money")
    retry: Retry | Absent = Field(
        None,
        description=(
            "never: do not request the transfer again; same_key, new_key: it may be requested again, with the same or"
            " with a new idempotency key; later: the same request, later"
        ),
    )
    retry_after_seconds: int | Absent = Field(None, description="When to ask again, where that is known")
    errors: list[InvalidField] | Absent = Field(None, description="With 422: the same for each field, for programs")


Responses = dict[int | str, dict[str, Any]]

_DESCRIPTIONS = {
    400: "Rejected by a limit, or refused by Sequence",
    401: "Invalid or missing API key",
    403: "The caller may not do this, or the owner froze transfers",
    404: "The pod, transfer, attempt or organization does not exist",
    408: "The body did not arrive in time",
    409: "The same transfer is in progress, or its outcome is unknown; `detail` names the attempt",
    413: "The body is too large",
    422: "The request does not match this description, or names what the account does not have",
    429: "Too many transfers requested; `Retry-After` says when to try again",
    500: "An internal error; the server's log has the details",
    502: "Sequence could not be reached, or failed. `detail` says if the outcome of a transfer is unknown",
    503: "Too many requests at once, or the safeguards are not available; `detail` says what to do",
}
_CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
"""Of the body of every error. FastAPI would build `Error` again for each of the hundred that the routes name."""
_HEADERS = {401: ("WWW-Authenticate",)} | dict.fromkeys((400, 403, 409, 429, 502, 503), ("Retry-After",))
READ_STATUSES = (401, 403, 422, 500, 502, 503)
"""The error statuses of every read of the account."""


def responses(*statuses: int) -> Responses:
    """Describe error statuses for the OpenAPI schema."""
    return {
        status: {"description": _DESCRIPTIONS[status], "content": _CONTENT} | headers(*_HEADERS.get(status, ()))
        for status in sorted(statuses)
    }


def headers(*names: str) -> dict[str, Any]:
    """Name headers of one answer for the OpenAPI schema, which describes each header once (`HEADERS`).

    Use it for what `responses` does not cover: ``responses(404) | {200: headers("X-Complete")}``.
    """
    return {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names if HEADERS[name]}}


def add_headers(answers: Responses, statuses: Iterable[int | str], *names: str) -> None:
    """Name headers of more than one answer."""
    for status in statuses:
        answers[status]["headers"] |= headers(*names)["headers"]


def add_handlers(app: FastAPI) -> None:
    """Register the error handlers. Errors without a handler here are answered by `RequestLog`."""
    app.add_exception_handler(GatewayError, _answer_gateway_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)
    app.add_exception_handler(HTTPException, _answer_http_exception)


async def answer_error(request: Request, error: GatewayError | RequestValidationError) -> JSONResponse:
    """Answer an error as the handlers do, where they do not apply."""
    return await (_answer_gateway_error if isinstance(error, GatewayError) else _answer_invalid_request)(request, error)


async def _answer_gateway_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GatewayError)
    content = error.document(about_transfer=_is_about_transfer(request))
    if isinstance(error, InvalidRequestError):
        content |= _nothing_sent(request)
    if error.status == 422:
        content["errors"] = []
    headers = rate_headers(request)
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if error.attempt_id is not None and _is_about_transfer(request):
        headers["Location"] = path_to(request, ATTEMPTS_PATH, error.attempt_id)
    if error.replayed:
        headers[REPLAYED_HEADER] = "true"
    if error.status >= 500:
        log.warning("answered %d: %s", error.status, error.detail)
    return JSONResponse(content, status_code=error.status, headers=headers)


def _is_about_transfer(request: Request) -> bool:
    return request.method == "POST" and request.url.path == TRANSFERS_PATH


def _nothing_sent(request: Request) -> dict[str, Any]:
    """Say what a transfer that was requested in an invalid way came to."""
    return {"outcome": Outcome.NOTHING_MOVED, "retry": Retry.SAME_KEY} if _is_about_transfer(request) else {}


async def _answer_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fields = [_describe(each) for each in error.errors()[:MAX_LISTED_ERRORS]]
    # Each text once: the shortened names of two unknown fields can be the same.
    texts = dict.fromkeys(f"{'.'.join(map(str, field.loc[1:] or field.loc))}: {field.msg}" for field in fields)
    answer = Error(detail="; ".join(texts), code=Code.INVALID_REQUEST, errors=fields, **_nothing_sent(request))
    return JSONResponse(answer.model_dump(exclude_none=True), status_code=422, headers=rate_headers(request))


async def _answer_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail, headers = error.detail, dict(error.headers or {})
    if error.status_code == 404:
        detail = "This path does not exist. /openapi.json lists all paths."
    elif error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_allowed_methods(request))) or headers["Allow"]
        detail = f"This path only allows {headers['Allow']}."
    code = _CODES.get(error.status_code, Code.INVALID_REQUEST)
    content = {"detail": detail, "code": code} | _nothing_sent(request)
    return JSONResponse(content, status_code=error.status_code, headers=headers | rate_headers(request))


def _allowed_methods(request: Request) -> set[str]:
    """List the methods of a path of the API. FastAPI names those of the first route alone that matches it."""
    routes = [one for one in request.app.state.api_routes if one.path_regex.match(request.scope["path"])]
    # `/api/transfers/preview` has a route of its own, and is no transfer.
    fewest = min((len(one.param_convertors) for one in routes), default=0)
    return {method for one in routes if len(one.param_convertors) == fewest for method in one.methods}


_CODES = {
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    408: Code.BODY_TOO_LATE,
    413: Code.BODY_TOO_LARGE,
}


_SUBJECT = re.compile(r"(Value error, |(Input|String|List|Value) (?=should ))")
_TEXTS = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this request; /openapi.json lists the fields",
    "string_pattern_mismatch": "must not be blank",
    "idempotency_key": f"must be 1 to {MAX_KEY_CHARACTERS} visible ASCII characters without spaces",
}


def _describe(error: Mapping[str, Any]) -> InvalidField:
    """Return pydantic's error without the parts that repeat the input."""
    kind, location = error["type"], list(error["loc"])
    if location[-1] == IDEMPOTENCY_HEADER and kind != "duplicate":
        kind = "idempotency_key"
    if kind == "extra_forbidden":
        location[-1] = plain_text(str(location[-1]), MAX_FIELD_CHARACTERS)
    return InvalidField(loc=location, msg=_TEXTS.get(kind) or _SUBJECT.sub("", error["msg"], count=1), type=kind)
