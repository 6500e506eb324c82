"""Access tokens: which one is valid now, and how to get a new one."""

import copy
import json
import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread

from pysequence_api.errors import (
    GatewayError,
    LockTimeoutError,
    SequenceError,
    SignInError,
    SignInNotAttemptedError,
    SignInRefusedError,
)
from pysequence_api.files import locked
from pysequence_api.sequence.sharing import SharedTask
from pysequence_api.sequence.sign_in.login import Login, longest_login_seconds, missing_credentials, open_record
from pysequence_api.sequence.sign_in.record import SignInRecord
from pysequence_api.sequence.sign_in.token_cache import (
    DEFAULT_LIFE_SECONDS,
    LEAST_LIFE_SECONDS,
    LOCK_FILE_NAME,
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
LOGIN_PAUSE_SECONDS = 30.0
"""After a login that stopped before the password, callers get the same error for this long."""


class TokenSource:
    """Provides access tokens.

    The order: the token of the settings, the cached token, a token by refresh, a token by login in a browser.

    Args:
        settings: the access token, the client id, and the credentials for a login.
        directory: the data directory with the token cache.
        endpoint: the token endpoint.
        debug_directory: where to save a screenshot of a page at which a login stopped.

    Raises:
        SettingsError: ``SEQUENCE_TOTP`` is not valid.
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

    @classmethod
    def open(cls, settings: Settings, directory: Path, debug_directory: Path | None = None) -> Self:
        """Return a token source with its own endpoint. This sends nothing and touches no file.

        Raises:
            SettingsError: ``SEQUENCE_TOTP``, or a proxy or certificate variable of the environment, cannot be used.
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
        """
        if self.static_life_seconds() > LEAST_LIFE_SECONDS and self._static_token is not None:
            return self._static_token
        tokens = await anyio.to_thread.run_sync(self.cache.read)
        if tokens is not None and tokens.is_valid():
            return tokens.access_token
        return await self._renewed(None)

    async def renew(self, rejected: str) -> str:
        """Return a different token, after Sequence answered 401 to one.

        Raises:
            SignInError: there is no other token and no way to get one.
        """
        if rejected == self._static_token and not self._static_rejected:
            self._static_rejected = True
            log.warning("Sequence does not accept SEQUENCE_ACCESS_TOKEN (401). It is no longer used.")
        return await self._renewed(rejected)

    async def life(self) -> TokenLife | None:
        """Return the age and the remaining life of the current token. Makes no upstream call."""
        if self._static_token is not None and not self._static_rejected:
            return _life_of(self._static_token, None)
        tokens = await anyio.to_thread.run_sync(self.cache.read)
        return None if tokens is None else _life_of(tokens.access_token, tokens.expires_at)

    async def keep_fresh(self) -> None:
        """Renew the token shortly before it expires, until cancelled. Failures are logged and retried."""
        logged = ""
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

    def save(self, tokens: Tokens, source: str, *, login: bool) -> Tokens:
        """Save tokens and their source. Blocks; the caller holds the sign-in lock."""
        self.record.succeed(source, tokens.access_token, login=login)
        return self.cache.save(tokens)

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
            life_seconds, ahead_seconds = await anyio.to_thread.run_sync(self._life_and_ahead_seconds)
            if life_seconds > ahead_seconds:
                return min(CHECK_INTERVAL_SECONDS, life_seconds - ahead_seconds), ""
            await self._renewed(None, ahead_seconds)
        except GatewayError as error:
            retry_seconds = error.retry_after_seconds or CHECK_INTERVAL_SECONDS
            return max(LEAST_PAUSE_SECONDS, min(CHECK_INTERVAL_SECONDS, retry_seconds)), str(error)
        return LEAST_PAUSE_SECONDS, ""

    def _life_and_ahead_seconds(self) -> tuple[float, float]:
        """Return the remaining life of the current token, and how long before its end to renew it."""
        tokens = self.cache.read()
        life_seconds, name = self.static_life_seconds(), self._static_token or ""
        if life_seconds <= LEAST_LIFE_SECONDS:
            life_seconds, name = (0.0, "") if tokens is None else (tokens.life_seconds, tokens.access_token)
        if self._first_seen[0] != name:
            self._first_seen = (name, life_seconds)
        # A token with a short life is renewed at half of it, not all the time.
        ahead_seconds = max(LEAST_LIFE_SECONDS, min(RENEW_AHEAD_SECONDS, self._first_seen[1] / 2))
        return life_seconds, ahead_seconds

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
            if tokens is not None and tokens.life_seconds > least_life_seconds and tokens.access_token != rejected:
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
        return self.save(Tokens.granted(granted.access_token, granted.refresh_token), "login", login=True)

    def _no_way_to_sign_in(self, tokens: Tokens | None) -> str:
        directory = self.cache.path.parent.absolute()
        variables = " and ".join(self._missing)
        if self._static_token is not None:
            problem = "is not accepted by Sequence (401)" if self._static_rejected else "has expired"
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
        problem = "is not accepted by Sequence (401)" if tokens.is_valid() else "has expired"
        return f"The access token in {self.cache.path} {problem}, and it has no refresh token. {remedy}"


def _life_of(token: str, expires_at: float | None) -> TokenLife:
    """Return the life of a token. The expiry in the token takes precedence over the one in the cache."""
    issued_at, own_expiry = issue_of(token), expiry_of(token)
    expires_at = expires_at if own_expiry is None else own_expiry
    now = time.time()
    return TokenLife(
        age_seconds=None if issued_at is None else now - issued_at,
        left_seconds=None if expires_at is None else expires_at - now,
    )


async def refresh_tokens(endpoint: HttpEndpoint, client_id: str | None, refresh_token: str) -> Tokens:
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
        answer = await endpoint.post(
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
    return _read_grant(body, refresh_token)


def _why_not_refreshed(answer: HttpAnswer) -> tuple[str, str]:
    """Say what an answer that is not a refusal means, and what to do about it."""
    if answer.moved_to is not None:
        return f": it has moved to {answer.moved_to}", "If that is Sequence's new address, update pysequence-api."
    if answer.is_html and answer.status in {401, 403}:
        return ", with a page for people as a protection against bots sends it", "Sign in in a browser."
    return "", "Try again later."


def _read_grant(body: dict[str, object], old_refresh_token: str) -> Tokens:
    access_token = body.get("access_token")
    if not is_sendable(access_token):
        raise SignInError("The sign-in service sent no access token; the refresh token is kept. Try again later.")
    refresh_token = body.get("refresh_token")
    life_seconds = body.get("expires_in")
    return Tokens.granted(
        access_token,
        refresh_token if isinstance(refresh_token, str) and refresh_token else old_refresh_token,
        float(life_seconds) if is_number(life_seconds) else DEFAULT_LIFE_SECONDS,
    )
