"""Checks before a request reaches a page: its origin, and whether the owner is signed in."""

from collections.abc import Sequence
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.owner.sessions import Sessions
from pysequence_api.records.callers import THE_OWNER
from pysequence_api.settings import Settings
from pysequence_api.web.head import Head
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
        settings: have the address under which a browser sees the page.
    """

    def __init__(self, settings: Settings) -> None:
        self._origin = settings.owner_proxy
        self._scheme = "http" if settings.tls_key is None else "https"

    async def __call__(self, head: Head) -> Response | None:
        """Return 403 for the form of another site."""
        if head.scope["method"] in READING or self._is_ours(head.all(b"origin"), head.all(b"host")):
            return None
        return PlainTextResponse("This form was not sent from the owner's page. Nothing was done.", 403)

    def _is_ours(self, origins: Sequence[bytes], hosts: Sequence[bytes]) -> bool:
        if len(origins) != 1 or len(hosts) != 1:
            return False
        host = hosts[0].decode("latin-1").lower()
        return origins[0].decode("latin-1") == (self._origin or f"{self._scheme}://{host}")


class SessionCheck:
    """Redirects requests without a session to the sign-in form, for every path. API keys are not accepted.

    Args:
        sessions: knows who is signed in.
        cookie_name: of the session's cookie.
    """

    def __init__(self, sessions: Sessions, cookie_name: str) -> None:
        self._sessions = sessions
        self._cookie_name = cookie_name

    async def __call__(self, head: Head) -> Response | None:
        """Return a redirect to the sign-in form without a session."""
        try:
            session = self._sessions.find(_cookie(head.all(b"cookie"), self._cookie_name))
        except SafeguardsUnavailableError:
            return PlainTextResponse(UNREADABLE, 503)
        if session is not None:
            key_was_right()
            head.admit(THE_OWNER, **{SESSION_STATE: session})
        if session is not None or head.path in PUBLIC_PATHS:
            return None
        wanted = head.path if head.scope["method"] in READING else "/"
        return RedirectResponse(f"{SIGN_IN}?next={quote(wanted[:200])}", 303)


def session_cookie(settings: Settings) -> str:
    """Return the name of the session's cookie.

    A browser accepts the prefix ``__Host-`` only over https. Then no other host can set the cookie.
    """
    return "owner" if settings.tls_key is None and settings.owner_proxy is None else "__Host-owner"


def _cookie(headers: Sequence[bytes], name: str) -> str | None:
    # Two cookies of one name: another server on this machine may have set one of them.
    found = [
        value
        for header in headers
        for part in header.decode("latin-1").split(";")
        for cookie, _, value in [part.strip().partition("=")]
        if cookie == name
    ]
    return found[0] if len(found) == 1 else None
