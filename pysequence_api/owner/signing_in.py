"""Signing in: the password, then a code of the authenticator."""

import logging
import re

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pysequence_api.errors import WrongCodeError, WrongPasswordError
from pysequence_api.gateway import Gateway
from pysequence_api.owner.forms import read_form
from pysequence_api.owner.pages import page_of
from pysequence_api.owner.sessions import SESSION

log = logging.getLogger(__name__)

MAX_WAITING = 8
"""How many requests may wait to sign in."""
WRONG = "The password or the code is wrong."
_NEXT = re.compile(r"/(transfers/[0-9a-f-]{36}|transfers|callers|audit)?")


async def sign_in_page(request: Request) -> Response:
    """Show the form to sign in."""
    return await _form(request, request.query_params.get("next", "/"))


async def sign_in(request: Request) -> Response:
    """Check the password and the code, and begin a session."""
    page, form = page_of(request), await read_form(request)
    wanted = _allowed(form.get("next", "/"))
    if page.signing_in.statistics().tasks_waiting >= MAX_WAITING:
        return await _form(request, wanted, "Too many sign-ins at the same time. Try again.", 503)

    def check() -> str:
        page.gateway.owner.sign_in(form.get("password", ""), form.get("code", ""))
        return page.sessions.begin()

    try:
        cookie = await anyio.to_thread.run_sync(check, limiter=page.signing_in)
    except (WrongPasswordError, WrongCodeError) as error:
        log.warning("a sign-in to the owner's page was refused: %s (%s)", error, _source(request))
        # The answer does not say which of the two was wrong: a thief of the password should not learn that it is right.
        # The pause after wrong codes would say so, because it begins only once the password is right.
        seconds = error.retry_after_seconds if isinstance(error, WrongPasswordError) else None
        again = f" Try again in {seconds} seconds." if seconds else ""
        return await _form(request, wanted, f"{WRONG}{again}", 403)
    log.info("the owner signed in to the page (%s)", _source(request))
    answer = RedirectResponse(wanted, 303)
    max_age = int(SESSION.total_seconds())
    answer.set_cookie(page.cookie_name, cookie, max_age, secure=True, httponly=True, samesite="strict")
    return answer


async def _form(request: Request, wanted: str, problem: str | None = None, status: int = 200) -> Response:
    page = page_of(request)
    return page.draw(
        request,
        "sign_in.html",
        status=status,
        plain=True,
        problem_text=problem,
        next=_allowed(wanted),
        missing=await anyio.to_thread.run_sync(_missing, page.gateway),
    )


def _source(request: Request) -> str:
    return f"from {request.client.host}" if request.client else "from an unknown address"


def _missing(gateway: Gateway) -> list[str]:
    """List the commands that must be run before signing in is possible."""
    commands = {"owner setup": gateway.owner.has_code(), "owner password": gateway.owner.has_password()}
    return [command for command, is_done in commands.items() if not is_done]


def _allowed(path: str) -> str:
    """Return the path if it is one of the owner's page, else ``/``."""
    return path if _NEXT.fullmatch(path) else "/"
