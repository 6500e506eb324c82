"""Access tokens: which one is valid now, and how to get a new one."""

import copy
import json
import logging
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread

from pysequence_api.errors import (
    GatewayError,
    LockTimeoutError,
    SequenceError,
    SettingsError,
    SignInError,
    SignInNotAttemptedError,
    SignInRefusedError,
)
from pysequence_api.files import locked
from pysequence_api.sequence.sharing import SharedTask
from pysequence_api.sequence.sign_in.login import Login, longest_login_seconds, missing_credentials, open_record
from pysequence_api.sequence.sign_in.record import SignInRecord, TokenOrigin, fingerprint
from pysequence_api.sequence.sign_in.token_cache import (
    ASSUMED_LIFE_SECONDS,
    CLOCK_TOLERANCE_SECONDS,
    LEAST_LIFE_SECONDS,
    LOCK_FILE_NAME,
    Granted,
    TokenCache,
    Tokens,
    expiry_of,
    is_number,
    is_sendable,
    issue_of,
    read_object,
)
from pysequence_api.sequence.telemetry import Phase, TokenLife, report
from pysequence_api.sequence.transport import HttpAnswer, HttpEndpoint, new_tls
from pysequence_api.settings import Settings
from pysequence_api.text import plain_text

T = TypeVar("T")

log = logging.getLogger(__name__)

LOCK_EXTRA_SECONDS = 5.0
"""Added to the longest time that a sign-in of another process can take."""
LOCK_POLL_SECONDS = 1.0
"""While waiting for that lock: how often to check whether the program is stopping."""
RENEW_AHEAD_SECONDS = 600.0
"""A token is renewed this long before it expires, which leaves time for more attempts."""
CHECK_INTERVAL_SECONDS = 60.0
"""How often the renewal checks the clock and the cache, which another process may have renewed."""
LEAST_PAUSE_SECONDS = 1.0
NEW_SECONDS = 60.0
"""A token this new is used without a look at its expiry, so that no clock can cause a renewal with every read."""
LOGIN_PAUSE_SECONDS = 30.0
"""After a login that stopped before the password, callers get the same error for this long."""


class TokenSource:
    """Provides access tokens.

    The order: the token of the settings, the cached token, a token by refresh, a token by login in a browser.

    The clock of this machine can be wrong. The life of a token that this program got is measured by the issuer's times,
    and kept in the record of logins. `SEQUENCE_TOTP` is read only when a login is due.

    Args:
        settings: the access token, the client id, and the credentials for a login.
        directory: the data directory with the token cache.
        endpoint: the token endpoint.
        debug_directory: where to save a screenshot of a page at which a login stopped.
    """

    def __init__(
        self, settings: Settings, directory: Path, *, endpoint: HttpEndpoint, debug_directory: Path | None = None
    ) -> None:
        self.cache = TokenCache(directory)
        self.record: SignInRecord = open_record(settings, directory)
        self._lock_path = directory / LOCK_FILE_NAME
        self._endpoint = endpoint
        self._lock_timeout_seconds = (
            settings.request_timeout_seconds + longest_login_seconds(settings) + LOCK_EXTRA_SECONDS
        )
        self._client_id = settings.auth0_client_id
        self._missing = missing_credentials(settings)
        self._login = Login.from_settings(settings, directory, debug_directory)
        self._static_token = None if settings.access_token is None else settings.access_token.get_secret_value()
        self._static_rejected = False
        self._rejected_refresh_token: str | None = None
        self._stopping = threading.Event()
        self._failed: tuple[float, SignInError] | None = None
        self._renewals: set[SharedTask[str]] = set()
        self._running: set[SharedTask[Any]] = set()
        self._first_seen: tuple[str, float] = ("", 0.0)
        self._origin: TokenOrigin | None = None

    @classmethod
    def open(cls, settings: Settings, directory: Path, debug_directory: Path | None = None) -> Self:
        """Return a token source with its own endpoint. This sends nothing and touches no file.

        Raises:
            SettingsError: a proxy or certificate variable of the environment cannot be used.
        """
        url = f"{settings.auth_url}/oauth/token"
        endpoint = HttpEndpoint(
            url,
            timeout_seconds=settings.request_timeout_seconds,
            keep_alive=False,
            tls=new_tls(certificates=url.startswith("https:")),
        )
        return cls(settings, directory, endpoint=endpoint, debug_directory=debug_directory)

    async def access_token(self) -> str:
        """Return a token that is valid now; get a new one if necessary.

        Raises:
            SignInError: there is no valid token and no way to get one.
            SettingsError: a login is necessary, and ``SEQUENCE_TOTP`` or ``SEQUENCE_CHROMIUM`` cannot be used.
        """
        if self.static_life_seconds() > LEAST_LIFE_SECONDS and self._static_token is not None:
            return self._static_token
        tokens = await anyio.to_thread.run_sync(self._usable_tokens)
        return await self._renewed(None) if tokens is None else tokens.access_token

    async def renew(self, rejected: str) -> str:
        """Return a different token, after Sequence answered 401 to one.

        Raises:
            SignInError: there is no other token and no way to get one.
        """
        if rejected == self._static_token and not self._static_rejected:
            self._static_rejected = True
            log.warning("Sequence does not accept SEQUENCE_ACCESS_TOKEN (401). It is no longer used.")
        try:
            return await self._renewed(rejected)
        except SettingsError as error:
            raise SignInError(str(error)) from error  # it is certain that the request with this token did nothing

    async def life(self) -> TokenLife | None:
        """Return the age and the remaining life of the current token. Makes no upstream call."""
        if self._static_token is not None and not self._static_rejected:
            return _life_of(self._static_token, self.static_life_seconds())
        return await anyio.to_thread.run_sync(self._cached_life)

    async def keep_fresh(self) -> None:
        """Renew the token shortly before it expires, until cancelled. Failures are logged and retried."""
        logged = ""
        if (problem := self.login_problem()) is not None:
            log.warning("No login is possible. %s", problem)
        while True:
            try:
                pause_seconds, problem = await self._renew_if_due()
            except Exception:
                log.exception("Renewing the access token failed unexpectedly")
                pause_seconds, problem = CHECK_INTERVAL_SECONDS, ""
            if problem and problem != logged:
                log.warning("The access token cannot be renewed: %s", problem)
            logged = problem
            await anyio.sleep(pause_seconds)

    def static_life_seconds(self) -> float:
        """Return the remaining life of the token of the settings; 0 without one, or if Sequence rejected it.

        Raises:
            SignInError: the setting is not a token.
        """
        if self._static_token is None or self._static_rejected:
            return 0.0
        if not is_sendable(self._static_token):
            raise SignInError("SEQUENCE_ACCESS_TOKEN is not a token. Use printable ASCII without spaces.")
        expires_at = expiry_of(self._static_token)
        return math.inf if expires_at is None else expires_at - time.time()

    def login_problem(self) -> str | None:
        """Return why a login in a browser is not possible, if its settings are there but not valid."""
        return None if self._login is None else self._login.problem()

    def life_seconds(self, tokens: Tokens) -> float:
        """Return the remaining life of cached tokens; infinite if it is unknown, until Sequence rejects them. Blocks.

        What was measured when this program saved the token takes precedence over the token's own expiry, and that over
        the time in the cache, which another program wrote.
        """
        return self._life_and_newness_seconds(tokens)[0]

    def is_usable(self, tokens: Tokens, least_life_seconds: float = LEAST_LIFE_SECONDS) -> bool:
        """Return whether cached tokens are new, or have enough life left. Blocks."""
        life_seconds, new_for_seconds = self._life_and_newness_seconds(tokens)
        return life_seconds > least_life_seconds or new_for_seconds > 0

    async def exclusively(self, work: Callable[[], T]) -> T:
        """Run work on the files in a worker thread, under the sign-in lock.

        If the caller is cancelled, the work goes on; `aclose` waits for it.

        Raises:
            SignInError: the work failed, or the lock could not be taken.
        """
        running: SharedTask[T] = SharedTask(self._in_thread(work), running=self._running, cancel_when_unused=False)
        return await running.result()

    def check_open(self) -> None:
        """Check that this is still open.

        Raises:
            SignInNotAttemptedError: `aclose` was called.
        """
        if self._stopping.is_set():
            raise SignInNotAttemptedError("The program is stopping. No login was made.")

    def save(self, granted: Granted, source: str, *, login: bool) -> Tokens:
        """Save tokens, their source and their life. Blocks; the caller holds the sign-in lock."""
        now = time.time()
        expires_at = granted.expires_at(now)
        _log_clock(granted.issuer_ahead_seconds(now))
        self._origin = self.record.succeed(source, granted.access_token, expires_at, login=login)
        written = now + ASSUMED_LIFE_SECONDS if expires_at is None else expires_at
        return self.cache.save(Tokens(granted.access_token, granted.refresh_token, written))

    async def aclose(self) -> None:
        """Wait for a running renewal, so that new tokens are not lost, and close the connections."""
        self._stopping.set()
        if self._login is not None:
            self._login.stop()
        for running in (*self._renewals, *self._running):
            await running.aclose()
        await self._endpoint.aclose()

    async def _renew_if_due(self) -> tuple[float, str]:
        """Renew the token if it is due. Returns the seconds until the next check, and the problem, if any."""
        try:
            due_in_seconds, ahead_seconds = await anyio.to_thread.run_sync(self._due_in_and_ahead_seconds)
            if due_in_seconds > 0:
                return min(CHECK_INTERVAL_SECONDS, due_in_seconds), ""
            await self._renewed(None, ahead_seconds)
        except GatewayError as error:
            retry_seconds = error.retry_after_seconds or CHECK_INTERVAL_SECONDS
            return max(LEAST_PAUSE_SECONDS, min(CHECK_INTERVAL_SECONDS, retry_seconds)), str(error)
        return LEAST_PAUSE_SECONDS, ""

    def _due_in_and_ahead_seconds(self) -> tuple[float, float]:
        """Return when to renew the current token, and how long before its end that is."""
        tokens = self.cache.read()
        life_seconds, name, new_for_seconds = self.static_life_seconds(), self._static_token or "", 0.0
        if life_seconds <= LEAST_LIFE_SECONDS:
            life_seconds, name = 0.0, ""
            if tokens is not None:
                name = tokens.access_token
                life_seconds, new_for_seconds = self._life_and_newness_seconds(tokens)
        if self._first_seen[0] != name:
            self._first_seen = (name, life_seconds)
        # A token with a short life is renewed at half of it, not all the time.
        ahead_seconds = max(LEAST_LIFE_SECONDS, min(RENEW_AHEAD_SECONDS, self._first_seen[1] / 2))
        return max(life_seconds - ahead_seconds, new_for_seconds), ahead_seconds

    def _usable_tokens(self) -> Tokens | None:
        tokens = self.cache.read()
        return tokens if tokens is not None and self.is_usable(tokens) else None

    def _cached_life(self) -> TokenLife | None:
        tokens = self.cache.read()
        return None if tokens is None else _life_of(tokens.access_token, self.life_seconds(tokens))

    def _life_and_newness_seconds(self, tokens: Tokens) -> tuple[float, float]:
        """Return the remaining life of tokens, and how long they still count as new (0 or less if they do not)."""
        now = time.time()
        origin = self._origin_of(tokens)
        saved_at = None if origin is None else origin.saved_at
        if origin is None or saved_at is None or saved_at > now + CLOCK_TOLERANCE_SECONDS:  # the clock was set back
            expiry, new_for_seconds = expiry_of(tokens.access_token), 0.0
            expires_at = tokens.expires_at if expiry is None else expiry
        else:
            expires_at = math.inf if origin.expires_at is None else origin.expires_at
            new_for_seconds = saved_at + NEW_SECONDS - now
        return expires_at - now, new_for_seconds

    def _origin_of(self, tokens: Tokens) -> TokenOrigin | None:
        """Return what is recorded of tokens, if this program saved them."""
        if self._origin is not None and self._origin.token == fingerprint(tokens.access_token):
            return self._origin
        try:
            return self.record.origin(tokens.access_token)
        except SignInError:
            return None  # logins and `auth status` report it

    async def _renewed(self, rejected: str | None, least_life_seconds: float = LEAST_LIFE_SECONDS) -> str:
        """Renew the token. Callers that come during a renewal get its result."""
        report(Phase.SIGN_IN)
        running = next((renewal for renewal in self._renewals if renewal.joinable), None)
        renewal = running or SharedTask(
            self._renew_in_thread(rejected, least_life_seconds), running=self._renewals, cancel_when_unused=False
        )
        return await renewal.result()

    async def _renew_in_thread(self, rejected: str | None, least_life_seconds: float) -> str:
        def work() -> Tokens:
            tokens = self.cache.read()
            # Another process may have renewed it already.
            is_other = tokens is not None and tokens.access_token != rejected
            if tokens is not None and is_other and self.is_usable(tokens, least_life_seconds):
                return tokens
            return self._sign_in(tokens)

        return (await self._in_thread(work)).access_token

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(self._locked, work)

    def _locked(self, work: Callable[[], T]) -> T:
        """Run work under the sign-in lock in one worker thread. Only the refresh request runs on the event loop."""
        deadline = time.monotonic() + self._lock_timeout_seconds
        try:
            while True:
                try:
                    with locked(self._lock_path, LOCK_POLL_SECONDS):
                        return work()
                except LockTimeoutError as error:
                    if self._stopping.is_set():
                        raise SignInError("The program is stopping while another process signs in.") from error
                    if time.monotonic() > deadline:
                        raise SignInError(
                            f"Another process has been signing in for {self._lock_timeout_seconds:g} seconds."
                            f" Find it (fuser {self._lock_path}) and stop it if it hangs."
                        ) from error
        except OSError as error:
            raise SignInError(
                f"Signing in needs the data directory, which cannot be used ({error.strerror})."
            ) from error

    def _sign_in(self, tokens: Tokens | None) -> Tokens:
        """Get new tokens: by refresh if possible, otherwise by login."""
        refresh_token = None if tokens is None else tokens.refresh_token
        if refresh_token is not None and (self._login is None or refresh_token != self._rejected_refresh_token):
            try:
                granted = anyio.from_thread.run(refresh_tokens, self._endpoint, self._client_id, refresh_token)
                return self.save(granted, "refresh", login=False)
            except SignInRefusedError as error:
                if self._login is None:
                    raise
                log.warning("%s", error)
                self._rejected_refresh_token = refresh_token  # do not send it again while a login has to wait
        if self._login is None:
            raise SignInError(self._no_way_to_sign_in(tokens))
        return self._log_in(self._login)

    def _log_in(self, login: Login) -> Tokens:
        if self._failed is not None and time.monotonic() < self._failed[0]:
            raise copy.copy(self._failed[1])
        try:
            granted = login.run()
        except SignInNotAttemptedError as error:
            # Otherwise every caller would start a browser of its own.
            self._failed = (time.monotonic() + LOGIN_PAUSE_SECONDS, error)
            raise
        self._failed = None
        return self.save(granted, "login", login=True)

    def _no_way_to_sign_in(self, tokens: Tokens | None) -> str:
        directory = self.cache.path.parent.absolute()
        variables = " and ".join(self._missing)
        if self._static_token is not None:
            problem = _problem(self.static_life_seconds(), is_rejected=self._static_rejected)
            return (
                f"SEQUENCE_ACCESS_TOKEN {problem}. Set a new one, or put a {self.cache.path.name} into {directory}, or"
                f" set {variables} to sign in."
            )
        remedy = (
            f"Set SEQUENCE_ACCESS_TOKEN, or put a {self.cache.path.name} into {directory}, or set {variables} to"
            " sign in."
        )
        if tokens is None:
            return f"There is no access token. {remedy}"
        problem = _problem(self.life_seconds(tokens), is_rejected=self.is_usable(tokens))
        return f"The access token in {self.cache.path} {problem}, and it has no refresh token. {remedy}"


def _problem(life_seconds: float, *, is_rejected: bool) -> str:
    if is_rejected:
        return "is not accepted by Sequence (401)"
    now = datetime.now(UTC)
    # The clock may be what is wrong.
    return f"has expired ({-life_seconds:,.0f} seconds ago by this machine's clock, now {now:%Y-%m-%d %H:%M} UTC)"


def _log_clock(ahead_seconds: float | None) -> None:
    if ahead_seconds is not None and abs(ahead_seconds) >= CLOCK_TOLERANCE_SECONDS:
        log.warning(
            "This machine's clock is %s seconds %s Sequence's. Set the clock, for example with NTP.",
            f"{abs(ahead_seconds):,.0f}",
            "behind" if ahead_seconds > 0 else "ahead of",
        )


def _life_of(token: str, life_seconds: float) -> TokenLife:
    """Return the life of a token. Its age is its whole life without the rest, where the token states both times."""
    issued_at, expiry = issue_of(token), expiry_of(token)
    left_seconds = None if math.isinf(life_seconds) else life_seconds
    if issued_at is None:
        age_seconds = None
    elif expiry is None or left_seconds is None:
        age_seconds = time.time() - issued_at
    else:
        age_seconds = expiry - issued_at - left_seconds
    return TokenLife(age_seconds=age_seconds, left_seconds=left_seconds)


async def refresh_tokens(endpoint: HttpEndpoint, client_id: str | None, refresh_token: str) -> Granted:
    """Get new tokens with a refresh token.

    Args:
        endpoint: the token endpoint.
        client_id: the Auth0 client id.
        refresh_token: kept if the answer has no new one.

    Raises:
        SignInRefusedError: the refresh token was rejected, or there is no client id.
        SignInError: the request failed; the refresh token is kept.
    """
    if client_id is None:
        raise SignInRefusedError(
            "The access token has expired. Set SEQUENCE_AUTH0_CLIENT_ID, which is needed to refresh it."
        )
    form = {"grant_type": "refresh_token", "client_id": client_id, "refresh_token": refresh_token}
    try:
        answer = await endpoint.send(
            "the token refresh",
            headers={"content-type": "application/json", "accept": "application/json"},
            content=json.dumps(form).encode(),
        )
    except SequenceError as error:
        raise SignInError(
            f"The access token was not refreshed; the refresh token is kept. {error}", advice=error.advice
        ) from error
    body = read_object(answer.body)
    if 400 <= answer.status < 500 and answer.status != 429 and not answer.is_html:
        reason = body.get("error_description") or body.get("error")
        text = plain_text(reason, secrets=[refresh_token]) if isinstance(reason, str) else f"HTTP {answer.status}"
        raise SignInRefusedError(f"The sign-in service refused to refresh the access token: {text}. Sign in again.")
    if answer.status >= 300:
        reason, advice = _why_not_refreshed(answer)
        raise SignInError(
            "The access token was not refreshed; the refresh token is kept. The sign-in service answered"
            f" HTTP {answer.status}{reason}.",
            advice=advice,
            retry_after_seconds=answer.retry_after_seconds,
        )
    access_token, new_refresh_token, life_seconds = (
        body.get(name) for name in ("access_token", "refresh_token", "expires_in")
    )
    if not is_sendable(access_token):
        raise SignInError("The sign-in service sent no access token; the refresh token is kept. Try again later.")
    return Granted(
        access_token,
        new_refresh_token if isinstance(new_refresh_token, str) and new_refresh_token else refresh_token,
        life_seconds=float(life_seconds) if is_number(life_seconds) else None,
        clock_offset_seconds=answer.clock_offset_seconds,
    )


def _why_not_refreshed(answer: HttpAnswer) -> tuple[str, str]:
    """Say what an answer that is not a refusal means, and what to do about it."""
    if answer.moved_to is not None:
        return f": it has moved to {answer.moved_to}", "If that is Sequence's new address, update pysequence-api."
    if answer.is_html and answer.status in {401, 403}:
        return ", with a page for people as a protection against bots sends it", "Sign in in a browser."
    return "", "Try again later."
