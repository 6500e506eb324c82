"""Reading a request's body: bounded, and strictly JSON.

FastAPI's own reading takes a body of any size and any duration, and of a key that stands in it twice the last value.
In front of money, neither will do.
"""

import json
from typing import Any, NoReturn

import anyio
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

MAX_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_SECONDS = 10.0


async def read_json_object(request: Request) -> dict[str, Any]:
    """Read the body, which must be one JSON object.

    Raises:
        RequestValidationError: it is something else.
        HTTPException: it is too large, or did not arrive in time.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise _invalid("must be JSON, sent with Content-Type: application/json")
    value = _parse(await _read(request))
    if not isinstance(value, dict):
        raise _invalid("must be a JSON object")
    return value


async def _read(request: Request) -> bytes:
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
        raise HTTPException(400, "The caller went away before the body was complete.") from None
    return bytes(content)


def _parse(content: bytes) -> object:
    try:
        return json.loads(content.decode(), object_pairs_hook=_without_repetition, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise _invalid("is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _invalid(f"is not JSON (line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise _invalid("is nested too deeply") from None
    except ValueError:  # among others, of a number with thousands of digits
        raise _invalid("holds a number that cannot be") from None


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _invalid("names a field twice, and only the caller knows which one is meant")
    return values


def _no_constant(_name: str) -> NoReturn:
    raise _invalid("holds NaN or Infinity, which are not JSON")


def _invalid(message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "json_invalid", "loc": ("body",), "msg": message}])


def _too_large() -> HTTPException:
    return HTTPException(413, f"The body is larger than {MAX_BODY_BYTES} bytes.")
