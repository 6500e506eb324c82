"""Checks before a request reaches a page: its origin, and whether the owner is signed in."""

from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.owner.sessions import Sessions
from pysequence_api.records.callers import THE_OWNER
from pysequence_api.settings import Settings
from pysequence_api.web.access import CALLER_STATE
from pysequence_api.web.connections import CONNECTION_STATE, Connection
from pysequence_api.web.keyless import key_was_right

SIGN_IN, STYLE = "/sign-in", "/style.css"
PUBLIC_PATHS = {SIGN_IN, STYLE}
UNREADABLE = "The records cannot be read. On the server, run: pysequence-api doctor"
SESSION_STATE = "session"
"""The name of the session in the ``state`` of an ASGI scope."""
READING = {"GET", "HEAD"}
HEADERS = {
    # Nothing runs and nothing is loaded but the stylesheet, and no other page can show this one.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # With no-referrer, a browser would send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "X-Robots-Tag": "noindex, nofollow",
}


class SafeHeaders:
    """Adds headers that restrict what a browser does with a page, such as running scripts or framing it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class OriginCheck:
    """Rejects forms of other sites: every request that can change something must come from the owner's page.

    Args:
        app: the application behind it.
        settings: have the address under which a browser sees the page.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._origin = settings.owner_proxy
        self._scheme = "http" if settings.tls_key is None else "https"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] == "http" and scope["method"] not in READING and not self._is_ours(Headers(scope=scope)):
            answer = PlainTextResponse("This form was not sent from the owner's page. Nothing was done.", 403)
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_ours(self, headers: Headers) -> bool:
        origins, hosts = headers.getlist("origin"), headers.getlist("host")
        if len(origins) != 1 or len(hosts) != 1:
            return False
        return origins[0] == (self._origin or f"{self._scheme}://{hosts[0].lower()}")


class SessionCheck:
    """Redirects requests without a session to the sign-in form, for every path. API keys are not accepted.

    Args:
        app: the application behind it.
        sessions: knows who is signed in.
        cookie_name: of the session's cookie.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions, cookie_name: str) -> None:
        self._app = app
        self._sessions = sessions
        self._cookie_name = cookie_name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or redirect to the sign-in form."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            session = self._sessions.find(_cookie(Headers(scope=scope), self._cookie_name))
        except SafeguardsUnavailableError:
            await PlainTextResponse(UNREADABLE, 503)(scope, receive, send)
            return
        if session is not None:
            key_was_right()
            connection = scope.get("state", {}).get(CONNECTION_STATE)
            if isinstance(connection, Connection):
                connection.has_sent_key = True
            scope.setdefault("state", {}).update({CALLER_STATE: THE_OWNER, SESSION_STATE: session})
        if session is not None or scope["path"] in PUBLIC_PATHS:
            await self._app(scope, receive, send)
            return
        wanted = scope["path"] if scope["method"] in READING else "/"
        await RedirectResponse(f"{SIGN_IN}?next={quote(wanted[:200])}", 303)(scope, receive, send)


def session_cookie(settings: Settings) -> str:
    """Return the name of the session's cookie.

    A browser accepts the prefix ``__Host-`` only over https. Then no other host can set the cookie.
    """
    return "owner" if settings.tls_key is None and settings.owner_proxy is None else "__Host-owner"


def _cookie(headers: Headers, name: str) -> str | None:
    # Two cookies of one name: another server on this machine may have set one of them.
    found = [
        value
        for header in headers.getlist("cookie")
        for part in header.split(";")
        for cookie, _, value in [part.strip().partition("=")]
        if cookie == name
    ]
    return found[0] if len(found) == 1 else None
