"""The simulated sign-in, step by step (docs/upstream-graphql.md).

Sign-ins in progress, failed attempts and used codes are in memory. `Auth` issues the tokens.
"""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import parse_qs, urlencode, urlsplit

import pyotp
from pydantic import BaseModel, ConfigDict

from pysequence_api.sandbox.auth import Auth
from pysequence_api.sandbox.http import Request, Response
from pysequence_api.sandbox.ids import CLIENT_ID, EMAIL, PASSWORD, TOTP_SECRET
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
MAX_LOGINS_IN_PROGRESS = 1000
"""The oldest are dropped."""
CODE_WINDOW = 1
"""How many codes before and after the current one are valid too, because clocks differ."""
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

Run = Callable[[], Response]


class SignIns(BaseModel):
    """How attempts to sign in went. These are the fields of ``GET /sandbox/sign-ins``."""

    model_config = ConfigDict(defer_build=True)

    begun: int = 0
    """How many sign-ins started."""
    passwords: int = 0
    codes: int = 0
    signed_in: int = 0
    refused: dict[str, int] = {}
    """How many were refused, by the error code of the page."""
    consecutive_refusals: int = 0


@dataclass(slots=True)
class _LoginInProgress:
    redirect_uri: str
    state: str
    email: str | None = None
    password_is_right: bool = False


class Login:
    """The pages of the sign-in, and its state between them."""

    def __init__(self, clock: Callable[[], float], auth: Auth) -> None:
        self._clock = clock
        self._auth = auth
        self._lock = threading.Lock()
        self._in_progress: dict[str, _LoginInProgress] = {}
        self._used_codes: set[tuple[int, int]] = set()
        self._sign_ins = SignIns()

    def find(self, request: Request) -> tuple[str, Run] | None:
        """Find the page for a request.

        Returns:
            The operation as faults name it, and a function that runs it; ``None`` if there is no such page.
        """
        routes: dict[tuple[str, str], tuple[str, Run]] = {
            ("GET", APPLICATION_PATH): ("login/application", application_page),
            ("GET", AUTHORIZE_PATH): ("login/authorize", partial(self._authorize, request)),
            ("GET", IDENTIFIER_PATH): ("login/identifier", partial(self._show_identifier, request)),
            ("POST", IDENTIFIER_PATH): ("login/submit-identifier", partial(self._submit_identifier, request)),
            ("GET", PASSWORD_PATH): ("login/password", partial(self._show_password, request)),
            ("POST", PASSWORD_PATH): ("login/submit-password", partial(self._submit_password, request)),
            ("GET", CODE_PATH): ("login/code", partial(self._show_code, request)),
            ("POST", CODE_PATH): ("login/submit-code", partial(self._submit_code, request)),
        }
        return routes.get((request.method, request.path))

    def read(self) -> SignIns:
        """Return how attempts to sign in went so far."""
        with self._lock:
            return self._sign_ins.model_copy(deep=True)

    def clear(self) -> None:
        """Reset the counts. This unblocks the account."""
        with self._lock:
            self._sign_ins = SignIns()

    def _authorize(self, request: Request) -> Response:
        fields = _fields(request.query)
        redirect_uri = fields.get("redirect_uri", "")
        if fields.get("client_id") != CLIENT_ID or fields.get("response_type") != "token":
            return failure_page("Unknown client or response type.")
        if urlsplit(redirect_uri).hostname not in _LOOPBACK:
            return failure_page("Callback URL mismatch.")
        state = secrets.token_urlsafe(16)
        with self._lock:
            self._sign_ins.begun += 1
            self._in_progress[state] = _LoginInProgress(redirect_uri, fields.get("state", ""))
            while len(self._in_progress) > MAX_LOGINS_IN_PROGRESS:
                del self._in_progress[next(iter(self._in_progress))]
        return redirect(_at(IDENTIFIER_PATH, state))

    def _show_identifier(self, request: Request) -> Response:
        state, login = self._login_of(request)
        return _unknown_login() if login is None else identifier_page(_at(IDENTIFIER_PATH, state))

    def _submit_identifier(self, request: Request) -> Response:
        state, login = self._login_of(request)
        if login is None:
            return _unknown_login()
        email = _body(request).get("username", "").strip()
        if "@" not in email:
            self._refuse(WRONG_EMAIL)
            return identifier_page(_at(IDENTIFIER_PATH, state), WRONG_EMAIL)
        login.email = email
        return redirect(_at(PASSWORD_PATH, state))

    def _show_password(self, request: Request) -> Response:
        state, login = self._login_of(request)
        if login is None or login.email is None:
            return _unknown_login()
        return password_page(_at(PASSWORD_PATH, state), login.email)

    def _submit_password(self, request: Request) -> Response:
        state, login = self._login_of(request)
        if login is None or login.email is None:
            return _unknown_login()
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
            return _unknown_login()
        return code_page(_at(CODE_PATH, state))

    def _submit_code(self, request: Request) -> Response:
        state, login = self._login_of(request)
        if login is None or not login.password_is_right:
            return _unknown_login()
        with self._lock:
            self._sign_ins.codes += 1
        if self._is_blocked() or not self._use_code(_body(request).get("code", "")):
            self._refuse(WRONG_CODE)
            return code_page(_at(CODE_PATH, state), WRONG_CODE)
        with self._lock:
            self._in_progress.pop(state, None)
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
        """Return whether a one-time code is valid. Each code is valid once."""
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
        code = error[0]
        with self._lock:
            self._sign_ins.refused[code] = self._sign_ins.refused.get(code, 0) + 1
            self._sign_ins.consecutive_refusals += 1

    def _login_of(self, request: Request) -> tuple[str, _LoginInProgress | None]:
        state = _fields(request.query).get("state", "")
        with self._lock:
            return state, self._in_progress.get(state)


_unknown_login = partial(failure_page, "Unknown login, or a step was skipped. Go back and try again.")


def _at(path: str, state: str) -> str:
    return f"{path}?{urlencode({'state': state})}"


def _fields(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text, max_num_fields=100).items()}


def _body(request: Request) -> dict[str, str]:
    return _fields(request.body.decode("latin-1"))
