"""Reads what a form of the page sends."""

from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from pysequence_api.web.body import read_body

MAX_FIELDS = 10
Form = dict[str, str]


async def read_form(request: Request) -> Form:
    """Read the fields of a form.

    Raises:
        HTTPException: it is not a form of this page, is too large or too slow.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise HTTPException(415, "This is not a form.")
    body = await read_body(request)
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise HTTPException(400, "This form cannot be read.") from None
    form = dict(fields)
    if len(form) < len(fields):
        raise HTTPException(400, "This form has a field twice.")
    return form
