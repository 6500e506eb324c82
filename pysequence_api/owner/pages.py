"""The pages that show something. Opening one never changes anything."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from pysequence_api.errors import ApprovalOverError, GatewayError, SafeguardsUnavailableError
from pysequence_api.gateway import Gateway
from pysequence_api.owner import shown
from pysequence_api.owner.checks import SESSION_STATE
from pysequence_api.owner.drawing import templates
from pysequence_api.owner.sessions import Session, Sessions
from pysequence_api.records.audit import EventType
from pysequence_api.records.states import State
from pysequence_api.text import one_line

MAX_FILTER_CHARACTERS = 100
NO_CODE = "a new code comes within 30 seconds; load the page again"
NOTES = {
    "approved": "Approved. This is what became of it.",
    "denied": "Denied. Nothing was sent.",
    "cancelled": "Canceled. Nothing was sent.",
    "frozen": "Frozen. Nothing is sent from now on.",
    "unfrozen": "Transfers go on.",
    "caller_frozen": "Frozen. This caller sends nothing from now on.",
    "caller_unfrozen": "Transfers of this caller go on.",
    "used": "This form was sent before. Nothing was done twice.",
}
"""What a page says after a form was sent. The address names one of these, and never a text."""
_ATTEMPT_ID = re.compile(r"[0-9a-f-]{36}")
_NUMBER = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Showcase:
    """The credentials for the page of a sandbox. Its sign-in form shows them.

    Attributes:
        password: of the page.
        next_code: returns a valid code; ``None`` if there is none for some seconds.
    """

    password: str
    next_code: Callable[[], str | None]


@dataclass(frozen=True, slots=True)
class Page:
    """What all pages share."""

    gateway: Gateway
    sessions: Sessions
    cookie_name: str
    showcase: Showcase | None = None
    signing_in: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(1))
    """One password at a time: each check costs memory, and each wrong password must count before the next check."""

    def draw(
        self, request: Request, template: str, *, status: int = 200, plain: bool = False, **values: Any
    ) -> Response:
        """Draw a page.

        Args:
            request: the request to answer.
            template: the name of its file.
            status: the HTTP status.
            plain: without anything that only the owner may see.
            **values: what the template shows.
        """
        common: dict[str, Any] = {
            "plain": plain,
            "path": request.url.path,
            "note": NOTES.get(request.query_params.get("note", "")),
            "problem": None,
            "sandbox": self.gateway.settings.sandbox,
            "now": self.gateway.records.now(),
            "showcase": self.showcase,
            "code": None if self.showcase is None else self.showcase.next_code() or NO_CODE,
        }
        if not plain:
            common |= {"frozen": self._freeze(), "token": session_of(request).new_token}
        return HTMLResponse(templates().get_template(template).render(common | values), status)

    def _freeze(self) -> Any:
        try:
            return self.gateway.records.read(lambda reader: reader.freeze())
        except SafeguardsUnavailableError:
            return None  # the page itself says that the records cannot be read


def page_of(request: Request) -> Page:
    """Return what all pages share."""
    page = request.app.state.page
    assert isinstance(page, Page)
    return page


def session_of(request: Request) -> Session:
    """Return the session of the owner, which was checked before."""
    session = getattr(request.state, SESSION_STATE)
    assert isinstance(session, Session)
    return session


async def overview(request: Request, problem: GatewayError | None = None) -> Response:
    """Show what waits for the owner, transfers in progress, the limits today, and the last transfers."""
    page = page_of(request)
    found = await anyio.to_thread.run_sync(shown.overview, page.gateway)
    who = await anyio.to_thread.run_sync(shown.callers, page.gateway)
    return page.draw(request, "overview.html", status=_status(problem), problem=problem, found=found, callers=who)


async def callers(request: Request, problem: GatewayError | None = None) -> Response:
    """Show each caller with its limits."""
    page = page_of(request)
    found = await anyio.to_thread.run_sync(shown.callers, page.gateway)
    return page.draw(request, "callers.html", status=_status(problem), problem=problem, callers=found)


async def transfers(request: Request) -> Response:
    """Show the last transfers, a page at a time."""
    page, given = page_of(request), request.query_params
    before, caller = _only(_ATTEMPT_ID, given.get("before")), _given(request, "caller")
    found = await anyio.to_thread.run_sync(shown.transfers, page.gateway, before, caller)
    return page.draw(
        request,
        "transfers.html",
        transfers=found[: shown.PAGE_TRANSFERS],
        has_more=len(found) > shown.PAGE_TRANSFERS,
        caller=caller,
        is_first=before is None,
    )


async def transfer(request: Request, problem: GatewayError | None = None) -> Response:
    """Show one transfer with all its events. If it waits for the owner, show exactly what would be sent."""
    page, attempt_id = page_of(request), request.path_params["attempt_id"]
    found = await anyio.to_thread.run_sync(shown.transfer, page.gateway, attempt_id)
    if found is None:
        raise HTTPException(404)
    one, events = found
    pending = None
    if one.state is State.AWAITING_APPROVAL:
        try:
            pending = await page.gateway.transfers.pending_one(attempt_id)
        except ApprovalOverError:  # since it was read
            return await transfer(request, problem)
    return page.draw(
        request,
        "transfer.html",
        status=_status(problem),
        problem=problem,
        one=one,
        attempt=one.attempt,
        events=events,
        pending=pending,
    )


async def audit(request: Request) -> Response:
    """Show the audit trail, a page at a time, with filters."""
    page, given = page_of(request), request.query_params
    before = _only(_NUMBER, given.get("before"))
    filters = {name: _given(request, name) for name in ("event", "caller", "attempt")}
    found = await anyio.to_thread.run_sync(
        shown.audit,
        page.gateway,
        None if before is None else int(before),
        filters["event"],
        filters["caller"],
        filters["attempt"],
    )
    return page.draw(
        request,
        "audit.html",
        events=found[: shown.PAGE_LINES],
        has_more=len(found) > shown.PAGE_LINES,
        is_first=before is None,
        filters=filters,
        event_types=sorted(EventType),
    )


def _given(request: Request, name: str) -> str | None:
    return one_line(request.query_params.get(name, "")[:MAX_FILTER_CHARACTERS]) or None


def _only(pattern: re.Pattern[str], text: str | None) -> str | None:
    return text if text is not None and pattern.fullmatch(text) else None


def _status(problem: GatewayError | None) -> int:
    return 200 if problem is None else problem.status
