"""Creates the application of the owner's page."""

from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pysequence_api.errors import GatewayError
from pysequence_api.gateway import Gateway
from pysequence_api.owner import actions, pages, signing_in
from pysequence_api.owner.checks import (
    SESSION_STATE,
    SIGN_IN,
    STYLE,
    OriginCheck,
    SafeHeaders,
    SessionCheck,
    session_cookie,
)
from pysequence_api.owner.drawing import STYLE_SHEET
from pysequence_api.owner.pages import Page, Showcase, page_of
from pysequence_api.owner.sessions import Sessions
from pysequence_api.settings import Settings, is_loopback, variable
from pysequence_api.web.access import HostCheck
from pysequence_api.web.request_log import RequestCounts, RequestLog

OTHER_HOST = (
    "This host name is not allowed. Use http://127.0.0.1 or http://localhost and the port, or set"
    f" {variable('owner_proxy')}."
)
ROUTES = [
    Route(STYLE, lambda _: Response(STYLE_SHEET, media_type="text/css")),
    Route(SIGN_IN, signing_in.sign_in_page, name="sign_in"),
    Route(SIGN_IN, signing_in.sign_in, methods=["POST"]),
    Route("/sign-out", actions.sign_out, methods=["POST"]),
    Route("/", pages.overview),
    Route("/callers", pages.callers),
    Route("/transfers", pages.transfers),
    Route("/transfers/{attempt_id}", pages.transfer),
    Route("/audit", pages.audit),
    Route("/freeze", actions.freeze_transfers, methods=["POST"]),
    Route("/unfreeze", actions.unfreeze_transfers, methods=["POST"]),
    Route("/callers/{caller}/freeze", actions.freeze_caller, methods=["POST"]),
    Route("/callers/{caller}/unfreeze", actions.unfreeze_caller, methods=["POST"]),
    Route("/transfers/{attempt_id}/approve", actions.approve, methods=["POST"]),
    Route("/transfers/{attempt_id}/deny", actions.deny, methods=["POST"]),
    Route("/transfers/{attempt_id}/cancel", actions.cancel, methods=["POST"]),
]


def create_app(gateway: Gateway, showcase: Showcase | None = None) -> Starlette:
    """Create the application of an open gateway, which the caller closes.

    Args:
        gateway: the account.
        showcase: in the sandbox, the credentials to show.
    """
    settings = gateway.settings
    sessions, cookie_name = Sessions(gateway), session_cookie(settings)
    app = Starlette(routes=ROUTES, exception_handlers={HTTPException: _http_problem, GatewayError: _problem})
    app.router.redirect_slashes = False
    app.state.page = Page(gateway, sessions, cookie_name, showcase)
    checks = (
        HostCheck(_host_names(settings), OTHER_HOST),
        OriginCheck(settings),
        SessionCheck(sessions, cookie_name),
    )
    # The last one is the outermost.
    app.add_middleware(RequestLog, counts=RequestCounts(), key=None, checks=checks)
    app.add_middleware(SafeHeaders)
    return app


def _host_names(settings: Settings) -> tuple[str, ...]:
    """Return the allowed host names of the page, beside this machine's own; an empty tuple allows any."""
    if settings.owner_proxy is not None:
        return ()  # the proxy may send any host name; forms must have the proxy as their origin
    return ("localhost",) if is_loopback(settings.owner_host) else settings.allowed_hosts


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    texts = {404: "There is no such page.", 405: "This address is not a page. Go back to the overview."}
    return _drawn_problem(request, texts.get(error.status_code, str(error.detail)), error.status_code)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return _drawn_problem(request, error.detail, error.status)


def _drawn_problem(request: Request, text: str, status: int) -> Response:
    is_signed_in = hasattr(request.state, SESSION_STATE)
    title = HTTPStatus(status).phrase
    return page_of(request).draw(request, "problem.html", status=status, title=title, text=text, plain=not is_signed_in)
