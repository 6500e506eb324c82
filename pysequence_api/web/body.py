"""Reads a request's body: strict JSON of a bounded size, within a bounded time.

FastAPI has no time limit, and accepts repeated keys and NaN. Its ``max_body_size`` bounds the size, but it answers in
plain text if ``Content-Length`` is too large, and every error here is JSON with a ``detail``.
"""

import json
from typing import Any, NoReturn

import anyio
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

MAX_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_SECONDS = 10.0


async def read_json_object(request: Request) -> dict[str, Any]:
    """Read the body, which must be one JSON object.

    Raises:
        RequestValidationError: the body is not a JSON object.
        HTTPException: the body is too large or too slow, or the client disconnected.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise _invalid("must be JSON, with the header Content-Type: application/json")
    value = _parse(await read_body(request))
    if not isinstance(value, dict):
        raise _invalid("must be a JSON object")
    return value


def json_body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """Describe a body that `read_json_object` reads, as ``openapi_extra`` of a route.

    The OpenAPI schema names the model among its components.
    """
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def invalid_body(error: ValidationError) -> RequestValidationError:
    """Make the error of a body that is a JSON object, but not the right one."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in details])


async def read_body(request: Request) -> bytes:
    """Read the whole body.

    Raises:
        HTTPException: the body is too large or too slow, or the client disconnected.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and len(announced) < 20 and int(announced) > MAX_BODY_BYTES:
        raise _too_large()
    content = bytearray()
    try:
        with anyio.fail_after(BODY_TIMEOUT_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > MAX_BODY_BYTES:
                    raise _too_large()
    except TimeoutError:
        raise HTTPException(408, f"The body did not arrive within {BODY_TIMEOUT_SECONDS:.0f} seconds.") from None
    except ClientDisconnect:
        raise HTTPException(400, "The client disconnected before the body was complete.") from None
    return bytes(content)


def _parse(content: bytes) -> object:
    try:
        return json.loads(content.decode(), object_pairs_hook=_without_repeated_keys, parse_constant=_reject_constant)
    except UnicodeDecodeError:
        raise _invalid("is not valid UTF-8") from None
    except json.JSONDecodeError as error:
        raise _invalid(f"is not valid JSON (line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise _invalid("is nested too deeply") from None
    except ValueError:  # for example a number with thousands of digits
        raise _invalid("contains an invalid number") from None


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _invalid("contains the same field twice")
    return values


def _reject_constant(_name: str) -> NoReturn:
    raise _invalid("contains NaN or Infinity, which JSON does not allow")


def _invalid(message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "json_invalid", "loc": ("body",), "msg": message}])


def _too_large() -> HTTPException:
    return HTTPException(413, f"The body is larger than {MAX_BODY_BYTES} bytes.")
