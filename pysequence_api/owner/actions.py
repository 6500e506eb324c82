"""What the owner does on the page. Each form works once, and leads to a page that can be loaded again."""

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from urllib.parse import quote

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pysequence_api.errors import GatewayError
from pysequence_api.owner import pages
from pysequence_api.owner.checks import SIGN_IN
from pysequence_api.owner.forms import Form, read_form
from pysequence_api.owner.pages import page_of, session_of
from pysequence_api.owner.sessions import Sent
from pysequence_api.records import control
from pysequence_api.records.audit import Channel

REASON = "frozen by the owner"
SHORT_REASON_CHARACTERS = 200
Change = Callable[[Request, Form], Awaitable[Response]]
View = Callable[[Request, GatewayError], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def shown_on(view: View, path: str) -> Callable[[Change], Endpoint]:
    """Make the endpoint of a form.

    Args:
        view: the page with the form. It shows the error if the change fails.
        path: of that page; it may hold parameters of the route.
    """

    def make(change: Change) -> Endpoint:
        @wraps(change)
        async def endpoint(request: Request) -> Response:
            form = await read_form(request)
            sent = page_of(request).sessions.take(session_of(request), form.get("token", ""))
            if sent is Sent.ELSEWHERE:
                raise HTTPException(403, "This form was not made for this session. Nothing was done.")
            if sent is Sent.BEFORE:
                return to(path.format(**request.path_params), "used")
            try:
                return await change(request, form)
            except GatewayError as error:
                return await view(request, error)

        return endpoint

    return make


def to(path: str, note: str) -> Response:
    """Redirect to a page that shows what was done."""
    return RedirectResponse(f"{quote(path)}?note={note}", 303)


@shown_on(pages.overview, "/")
async def freeze_transfers(request: Request, _: Form) -> Response:
    """Freeze all transfers."""
    freeze = partial(control.freeze, page_of(request).gateway.records, REASON, channel=Channel.PAGE)
    await anyio.to_thread.run_sync(freeze)
    return to("/", "frozen")


@shown_on(pages.overview, "/")
async def unfreeze_transfers(request: Request, form: Form) -> Response:
    """Unfreeze all transfers. This needs a code."""
    await _unfreeze(request, form, None)
    return to("/", "unfrozen")


@shown_on(pages.callers, "/callers")
async def freeze_caller(request: Request, _: Form) -> Response:
    """Freeze the transfers of one caller."""
    records, caller = page_of(request).gateway.records, request.path_params["caller"]
    await anyio.to_thread.run_sync(partial(control.freeze, records, REASON, caller, Channel.PAGE))
    return to("/callers", "caller_frozen")


@shown_on(pages.callers, "/callers")
async def unfreeze_caller(request: Request, form: Form) -> Response:
    """Unfreeze the transfers of one caller. This needs a code."""
    await _unfreeze(request, form, request.path_params["caller"])
    return to("/callers", "caller_unfrozen")


async def _unfreeze(request: Request, form: Form, caller: str | None) -> None:
    gateway = page_of(request).gateway
    await anyio.to_thread.run_sync(gateway.owner.use_code, form.get("code", ""))
    await anyio.to_thread.run_sync(control.unfreeze, gateway.records, caller, Channel.PAGE)


@shown_on(pages.transfer, "/transfers/{attempt_id}")
async def approve(request: Request, form: Form) -> Response:
    """Approve exactly what the page showed, and send it. This needs a code."""
    transfers, attempt_id = page_of(request).gateway.transfers, request.path_params["attempt_id"]
    await transfers.approve(attempt_id, form.get("bound", ""), form.get("code", ""), Channel.PAGE)
    return to(f"/transfers/{attempt_id}", "approved")


@shown_on(pages.transfer, "/transfers/{attempt_id}")
async def deny(request: Request, _: Form) -> Response:
    """Deny a transfer that waits for the owner."""
    attempt_id = request.path_params["attempt_id"]
    await page_of(request).gateway.transfers.deny(attempt_id, Channel.PAGE)
    return to(f"/transfers/{attempt_id}", "denied")


@shown_on(pages.transfer, "/transfers/{attempt_id}")
async def cancel(request: Request, _: Form) -> Response:
    """Cancel a transfer that was not sent yet."""
    attempt_id = request.path_params["attempt_id"]
    await page_of(request).gateway.transfers.cancel_queued(attempt_id, Channel.PAGE)
    return to(f"/transfers/{attempt_id}", "cancelled")


@shown_on(pages.overview, "/")
async def sign_out(request: Request, _: Form) -> Response:
    """Sign out everywhere: every session cookie so far becomes invalid."""
    page = page_of(request)
    await anyio.to_thread.run_sync(page.gateway.owner.sign_out_everywhere)
    answer = RedirectResponse(SIGN_IN, 303)
    answer.delete_cookie(page.cookie_name, secure=True, httponly=True, samesite="strict")
    return answer
