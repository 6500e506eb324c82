"""Signing in at the simulated Sequence: who may, step by step (upstream-graphql, Signing in).

What goes on here is in memory: logins under way, wrong attempts, used codes. Tokens are `Auth`'s.
"""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import parse_qs, urlencode, urlsplit

import pyotp
from pydantic import BaseModel

from pysequence_api.sandbox.auth import Auth
from pysequence_api.sandbox.household import CLIENT_ID, EMAIL, PASSWORD, TOTP_SECRET
from pysequence_api.sandbox.http import Request, Response
from pysequence_api.sandbox.login_pages import (
    BLOCKED,
    WRONG_CODE,
    WRONG_EMAIL,
    WRONG_PASSWORD,
    Error,
    application_page,
    code_page,
    failure_page,
    identifier_page,
    password_page,
    redirect,
)

APPLICATION_PATH = "/"
AUTHORIZE_PATH = "/authorize"
IDENTIFIER_PATH = "/u/login/identifier"
PASSWORD_PATH = "/u/login/password"
CODE_PATH = "/u/mfa-otp-challenge"
MAX_LOGINS_UNDER_WAY = 1000
"""Beyond it, the oldest is forgotten."""
CODE_WINDOW = 1
"""So many codes before and after the current one are good too, because clocks differ."""
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

Run = Callable[[], Response]


class SignIns(BaseModel):
    """What came of attempts to sign in."""

    begun: int = 0
    """Pages of the login that were opened by the application's button."""
    passwords: int = 0
    codes: int = 0
    signed_in: int = 0
    refused: dict[str, int] = {}
    """How many, by the word that the page gives for programs."""
    consecutive_refusals: int = 0


@dataclass(slots=True)
class _UnderWay:
    redirect_uri: str
    state: str
    email: str | None = None
    password_is_right: bool = False


class Login:
    """The pages of the sign-in, and what is remembered between them."""

    def __init__(self, clock: Callable[[], float], auth: Auth) -> None:
        self._clock = clock
        self._auth = auth
        self._lock = threading.Lock()
        self._under_way: dict[str, _UnderWay] = {}
        self._used_codes: set[tuple[int, int]] = set()
        self._sign_ins = SignIns()

    def find(self, request: Request) -> tuple[str, Run] | None:
        """Find what a request to one of the pages wants.

        Returns:
            The operation, as faults name it, and what does it; ``None`` for a request that is for no page.
        """
        routes: dict[tuple[str, str], tuple[str, Run]] = {
            ("GET", APPLICATION_PATH): ("login/application", application_page),
            ("GET", AUTHORIZE_PATH): ("login/authorize", partial(self._authorize, request)),
            ("GET", IDENTIFIER_PATH): ("login/identifier", partial(self._show_identifier, request)),
            ("POST", IDENTIFIER_PATH): ("login/submit-identifier", partial(self._take_identifier, request)),
            ("GET", PASSWORD_PATH): ("login/password", partial(self._show_password, request)),
            ("POST", PASSWORD_PATH): ("login/submit-password", partial(self._take_password, request)),
            ("GET", CODE_PATH): ("login/code", partial(self._show_code, request)),
            ("POST", CODE_PATH): ("login/submit-code", partial(self._take_code, request)),
        }
        return routes.get((request.method, request.path))

    def read(self) -> SignIns:
        """What came of attempts so far."""
        with self._lock:
            return self._sign_ins.model_copy(deep=True)

    def clear(self) -> None:
        """Forget what came of them, which unblocks the account."""
        with self._lock:
            self._sign_ins = SignIns()

    def _authorize(self, request: Request) -> Response:
        asked = _fields(request.query)
        redirect_uri = asked.get("redirect_uri", "")
        if asked.get("client_id") != CLIENT_ID or asked.get("response_type") != "token":
            return failure_page("Unknown client, or a response type that it does not use.")
        if urlsplit(redirect_uri).hostname not in _LOOPBACK:
            return failure_page("Callback URL mismatch.")
        state = secrets.token_urlsafe(16)
        with self._lock:
            self._sign_ins.begun += 1
            self._under_way[state] = _UnderWay(redirect_uri, asked.get("state", ""))
            while len(self._under_way) > MAX_LOGINS_UNDER_WAY:
                del self._under_way[next(iter(self._under_way))]
        return redirect(_at(IDENTIFIER_PATH, state))

    def _show_identifier(self, request: Request) -> Response:
        state, login = self._login_of(request)
        return _LOST() if login is None else identifier_page(_at(IDENTIFIER_PATH, state))

    def _take_identifier(self, request: Request) -> Response:
        state, login = self._login_of(request)
        if login is None:
            return _LOST()
        email = _body(request).get("username", "").strip()
        if "@" not in email:
            self._refuse(WRONG_EMAIL)
            return identifier_page(_at(IDENTIFIER_PATH, state), WRONG_EMAIL)
        login.email = email
        return redirect(_at(PASSWORD_PATH, state))

    def _show_password(self, request: Request) -> Response:
        state, login = self._login_of(request)
        if login is None or login.email is None:
            return _LOST()
        return password_page(_at(PASSWORD_PATH, state), login.email)

    def _take_password(self, request: Request) -> Response:
        state, login = self._login_of(request)
        if login is None or login.email is None:
            return _LOST()
        with self._lock:
            self._sign_ins.passwords += 1
        error = BLOCKED if self._is_blocked() else None
        if error is None and (login.email.casefold(), _body(request).get("password")) != (EMAIL, PASSWORD):
            error = WRONG_PASSWORD
        if error is not None:
            self._refuse(error)
            return password_page(_at(PASSWORD_PATH, state), login.email, error)
        login.password_is_right = True
        return redirect(_at(CODE_PATH, state))

    def _show_code(self, request: Request) -> Response:
        state, login = self._login_of(request)
        if login is None or not login.password_is_right:
            return _LOST()
        return code_page(_at(CODE_PATH, state))

    def _take_code(self, request: Request) -> Response:
        state, login = self._login_of(request)
        if login is None or not login.password_is_right:
            return _LOST()
        with self._lock:
            self._sign_ins.codes += 1
        if self._is_blocked() or not self._use_code(_body(request).get("code", "")):
            self._refuse(WRONG_CODE)
            return code_page(_at(CODE_PATH, state), WRONG_CODE)
        with self._lock:
            self._under_way.pop(state, None)
            self._sign_ins.signed_in += 1
            self._sign_ins.consecutive_refusals = 0
        return redirect(f"{login.redirect_uri}#{self._fragment(login.state)}")

    def _fragment(self, state: str) -> str:
        settings = self._auth.settings
        issued = self._auth.issue(settings.access_token_lifetime_seconds)
        granted = {"access_token": issued.access_token, "expires_in": issued.expires_in_seconds, "token_type": "Bearer"}
        if settings.login_gives_refresh_token:
            granted["refresh_token"] = issued.refresh_token
        return urlencode(granted | {"state": state})

    def _use_code(self, code: str) -> bool:
        """Check a one-time code. The same one is not good twice."""
        period_seconds = self._auth.settings.code_period_seconds
        totp = pyotp.TOTP(TOTP_SECRET, interval=period_seconds)
        now = int(self._clock()) // period_seconds
        for counter in range(now - CODE_WINDOW, now + CODE_WINDOW + 1):
            with self._lock:
                if code == totp.generate_otp(counter) and (period_seconds, counter) not in self._used_codes:
                    self._used_codes.add((period_seconds, counter))
                    return True
        return False

    def _is_blocked(self) -> bool:
        with self._lock:
            return self._sign_ins.consecutive_refusals >= self._auth.settings.max_consecutive_refusals

    def _refuse(self, error: Error) -> None:
        word = error[0]
        with self._lock:
            self._sign_ins.refused[word] = self._sign_ins.refused.get(word, 0) + 1
            self._sign_ins.consecutive_refusals += 1

    def _login_of(self, request: Request) -> tuple[str, _UnderWay | None]:
        state = _fields(request.query).get("state", "")
        with self._lock:
            return state, self._under_way.get(state)


_LOST = partial(failure_page, "This login is not known here, or not as far as this page. Go back and try again.")


def _at(path: str, state: str) -> str:
    return f"{path}?{urlencode({'state': state})}"


def _fields(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text, max_num_fields=100).items()}


def _body(request: Request) -> dict[str, str]:
    return _fields(request.body.decode("latin-1"))
