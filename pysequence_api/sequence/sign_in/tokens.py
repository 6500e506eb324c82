"""Access tokens: which one is good now, and how another is got (upstream-graphql, Signing in)."""

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
from pysequence_api.sequence.sharing import Shared
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
from pysequence_api.sequence.transport import HttpEndpoint, new_tls
from pysequence_api.settings import Settings
from pysequence_api.text import plain_text

T = TypeVar("T")

log = logging.getLogger(__name__)

LOCK_EXTRA_SECONDS = 5.0
"""How much longer than it can take the sign-in of another process is waited for."""
LOCK_LOOK_SECONDS = 1.0
"""How often somebody who waits for it looks whether the program ends."""
RENEW_AHEAD_SECONDS = 600.0
"""A token is renewed so long before it runs out, which leaves time for a second and a third try."""
LOOK_INTERVAL_SECONDS = 60.0
"""How often the renewal looks at the clock and the cache, which another process can have renewed."""
LEAST_PAUSE_SECONDS = 1.0
LOGIN_PAUSE_SECONDS = 30.0
"""After a login that did not come as far as the password, callers get its error for so long."""


class TokenSource:
    """Gives the access token: the one of the settings, else the cached one, else a refreshed one, else one of a login.

    Args:
        settings: the token got elsewhere, client id, and what a login needs.
        directory: the data directory, where the cache is.
        endpoint: the way to the token endpoint.
        debug_directory: gets pictures of pages at which a login stopped.

    Raises:
        SettingsError: ``SEQUENCE_TOTP`` is not what it should be.
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
        self._static_refused = False
        self._refused_refresh_token: str | None = None
        self._stopping = threading.Event()
        self._failed: tuple[float, SignInError] | None = None
        self._renewals: set[Shared[str]] = set()
        self._running: set[Shared[Any]] = set()
        self._first_seen: tuple[str, float] = ("", 0.0)

    @classmethod
    def open(
        cls,
        settings: Settings,
        directory: Path,
        debug_directory: Path | None = None,
    ) -> Self:
        """Make a source with a way to the token endpoint of its own. This sends nothing and touches no file.

        Args:
            settings: see the class.
            directory: see the class.
            debug_directory: see the class.

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
        """Give a token that is good now.

        Raises:
            SignInError: there is none, and none can be had.
        """
        if self.static_life_seconds() > LEAST_LIFE_SECONDS and self._static_token is not None:
            return self._static_token
        tokens = await anyio.to_thread.run_sync(self.cache.read)
        if tokens is not None and tokens.is_good():
            return tokens.access_token
        return await self._renewed(None)

    async def renew(self, rejected: str) -> str:
        """Give another token than one that Sequence has answered with 401.

        Raises:
            SignInError: there is none, and none can be had.
        """
        if rejected == self._static_token and not self._static_refused:
            self._static_refused = True
            log.warning("Sequence refuses SEQUENCE_ACCESS_TOKEN (401). From now on it is left aside.")
        return await self._renewed(rejected)

    async def life(self) -> TokenLife | None:
        """Say how old the token is that would be used now, and how long it is good. Gets no other one."""
        if self._static_token is not None and not self._static_refused:
            return _life_of(self._static_token, None)
        tokens = await anyio.to_thread.run_sync(self.cache.read)
        return None if tokens is None else _life_of(tokens.access_token, tokens.expires_at)

    async def keep_fresh(self) -> None:
        """Renew the token shortly before it runs out, for ever. What fails is logged, and tried again later."""
        said = ""
        while True:
            try:
                pause_seconds, trouble = await self._renew_if_due()
            except Exception:
                log.exception("renewing the access token failed in an unexpected way")
                pause_seconds, trouble = LOOK_INTERVAL_SECONDS, ""
            if trouble and trouble != said:
                log.warning("The access token cannot be renewed: %s", trouble)
            said = trouble
            await anyio.sleep(pause_seconds)

    def static_life_seconds(self) -> float:
        """How long the token of the settings is still good; 0 if there is none or Sequence refuses it.

        Raises:
            SignInError: it is no token.
        """
        if self._static_token is None or self._static_refused:
            return 0.0
        if not is_sendable(self._static_token):
            raise SignInError("SEQUENCE_ACCESS_TOKEN is no token: it must be printable ASCII without spaces.")
        expires_at = expiry_of(self._static_token)
        return math.inf if expires_at is None else expires_at - time.time()

    async def exclusively(self, work: Callable[[], T]) -> T:
        """Do something with the files in a worker thread, while no process signs in.

        Who is cancelled does not wait for its end; `aclose` does.

        Raises:
            SignInError: it cannot be done.
        """
        running: Shared[T] = Shared(self._in_thread(work), owner=self._running, withdraw=False)
        return await running.result()

    def check(self) -> None:
        """See whether this is still open.

        Raises:
            SignInNotAttemptedError: it is being closed.
        """
        if self._stopping.is_set():
            raise SignInNotAttemptedError("The program ends; nobody has been signed in.")

    def keep(self, tokens: Tokens, how: str, *, login: bool) -> Tokens:
        """Save tokens and how they were got. Blocks; the caller holds the lock of the sign-in."""
        self.record.succeed(how, tokens.access_token, login=login)
        return self.cache.save(tokens)

    async def aclose(self) -> None:
        """Bring a renewal that is going on to its end, so that new tokens are not lost, and close the connections."""
        self._stopping.set()
        if self._login is not None:
            self._login.stop()
        for running in (*self._renewals, *self._running):
            await running.aclose()
        await self._endpoint.aclose()

    async def _renew_if_due(self) -> tuple[float, str]:
        """Renew if it is time; gives the seconds until the next look, and what went wrong."""
        try:
            life_seconds, ahead_seconds = await anyio.to_thread.run_sync(self._life_and_ahead_seconds)
            if life_seconds > ahead_seconds:
                return min(LOOK_INTERVAL_SECONDS, life_seconds - ahead_seconds), ""
            await self._renewed(None, ahead_seconds)
        except GatewayError as error:
            retry_seconds = error.retry_after_seconds or LOOK_INTERVAL_SECONDS
            return max(LEAST_PAUSE_SECONDS, min(LOOK_INTERVAL_SECONDS, retry_seconds)), str(error)
        return LEAST_PAUSE_SECONDS, ""

    def _life_and_ahead_seconds(self) -> tuple[float, float]:
        """How long the token in use is good, and how long before its end it is renewed."""
        tokens = self.cache.read()
        life_seconds, name = self.static_life_seconds(), self._static_token or ""
        if life_seconds <= LEAST_LIFE_SECONDS:
            life_seconds, name = (0.0, "") if tokens is None else (tokens.life_seconds, tokens.access_token)
        if self._first_seen[0] != name:
            self._first_seen = (name, life_seconds)
        # One that lives shorter than usual is not renewed all the time.
        ahead_seconds = max(LEAST_LIFE_SECONDS, min(RENEW_AHEAD_SECONDS, self._first_seen[1] / 2))
        return life_seconds, ahead_seconds

    async def _renewed(self, rejected: str | None, least_life_seconds: float = LEAST_LIFE_SECONDS) -> str:
        """Renew, one at a time: who comes while it goes on gets what it brings."""
        report(Phase.SIGN_IN)
        going_on = next((renewal for renewal in self._renewals if not renewal.ending), None)
        renewal = going_on or Shared(
            self._renew_in_thread(rejected, least_life_seconds), owner=self._renewals, withdraw=False
        )
        return await renewal.result()

    async def _renew_in_thread(self, rejected: str | None, least_life_seconds: float) -> str:
        def work() -> Tokens:
            tokens = self.cache.read()
            # Another process may have been faster.
            if tokens is not None and tokens.life_seconds > least_life_seconds and tokens.access_token != rejected:
                return tokens
            return self._sign_in(tokens)

        return (await self._in_thread(work)).access_token

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(self._locked, work)

    def _locked(self, work: Callable[[], T]) -> T:
        """Work under the lock between processes, in one worker-thread call; only the refresh is on the loop."""
        deadline = time.monotonic() + self._lock_timeout_seconds
        try:
            while True:
                try:
                    with locked(self._lock_path, LOCK_LOOK_SECONDS):
                        return work()
                except LockTimeoutError as error:
                    if self._stopping.is_set():
                        raise SignInError("The program ends; another process is still signing in.") from error
                    if time.monotonic() > deadline:
                        raise SignInError(
                            f"Another process has been signing in for {self._lock_timeout_seconds:g} seconds."
                            f" Find it (fuser {self._lock_path}) and end it if it hangs."
                        ) from error
        except OSError as error:
            raise SignInError(
                f"Signing in needs the data directory, which cannot be used: {error.strerror}."
            ) from error

    def _sign_in(self, tokens: Tokens | None) -> Tokens:
        """Get new tokens in the first way that there is."""
        refresh_token = None if tokens is None else tokens.refresh_token
        if refresh_token is not None and (self._login is None or refresh_token != self._refused_refresh_token):
            try:
                granted = anyio.from_thread.run(refresh, self._endpoint, self._client_id, refresh_token)
                return self.keep(granted, "refresh", login=False)
            except SignInRefusedError as error:
                if self._login is None:
                    raise
                log.warning("%s", error)
                self._refused_refresh_token = refresh_token  # while a login waits, it is not tried again and again
        if self._login is None:
            raise SignInError(self._what_is_missing(tokens))
        return self._log_in(self._login)

    def _log_in(self, login: Login) -> Tokens:
        if self._failed is not None and time.monotonic() < self._failed[0]:
            raise copy.copy(self._failed[1])
        try:
            granted = login.run()
        except SignInNotAttemptedError as error:
            # Nothing else would keep every caller from starting a browser of its own.
            self._failed = (time.monotonic() + LOGIN_PAUSE_SECONDS, error)
            raise
        self._failed = None
        return self.keep(Tokens.granted(granted.access_token, granted.refresh_token), "login", login=True)

    def _what_is_missing(self, tokens: Tokens | None) -> str:
        directory = self.cache.path.parent.absolute()
        if self._static_token is not None:
            why = "is refused by Sequence (401)" if self._static_refused else "has run out"
            return (
                f"SEQUENCE_ACCESS_TOKEN {why}. Set a new one, or put a {self.cache.path.name} into {directory}, or set"
                f" {_listed(self._missing)} to sign in."
            )
        remedy = (
            f"Set SEQUENCE_ACCESS_TOKEN, or put a {self.cache.path.name} into {directory}, or set"
            f" {_listed(self._missing)} to sign in."
        )
        if tokens is None:
            return f"There is no access token. {remedy}"
        why = "is refused by Sequence (401)" if tokens.is_good() else "has run out"
        return f"The access token in {self.cache.path} {why}, and there is no refresh token with it. {remedy}"


def _life_of(token: str, expires_at: float | None) -> TokenLife:
    """Say what a token says of itself; how long it is good, else what the cache says."""
    issued_at, own_expiry = issue_of(token), expiry_of(token)
    expires_at = expires_at if own_expiry is None else own_expiry
    now = time.time()
    return TokenLife(
        age_seconds=None if issued_at is None else now - issued_at,
        left_seconds=None if expires_at is None else expires_at - now,
    )


def _listed(names: list[str]) -> str:
    return " and ".join(names)


async def refresh(endpoint: HttpEndpoint, client_id: str | None, refresh_token: str) -> Tokens:
    """Get new tokens with a refresh token.

    Args:
        endpoint: the way to the token endpoint.
        client_id: the Auth0 client id.
        refresh_token: stays good if no new one comes.

    Raises:
        SignInRefusedError: the refresh token, or the lack of a client id, leads nowhere.
        SignInError: the way there failed; the refresh token is kept.
    """
    if client_id is None:
        raise SignInRefusedError(
            "The access token has run out, and SEQUENCE_AUTH0_CLIENT_ID is not set, which is needed to refresh it."
        )
    form = {"grant_type": "refresh_token", "client_id": client_id, "refresh_token": refresh_token}
    try:
        answer = await endpoint.post(
            "the token refresh",
            headers={"content-type": "application/json", "accept": "application/json"},
            content=json.dumps(form).encode(),
            with_error_body=True,
        )
    except SequenceError as error:
        raise SignInError(f"The access token could not be refreshed; the refresh token is kept. {error}") from error
    body = read_object(answer.body)
    if 400 <= answer.status < 500 and answer.status != 429:
        reason = body.get("error_description") or body.get("error")
        text = plain_text(reason, secrets=[refresh_token]) if isinstance(reason, str) else f"HTTP {answer.status}"
        raise SignInRefusedError(f"The sign-in service refused to refresh the access token: {text}. Sign in again.")
    if answer.status >= 300:
        raise SignInError(
            f"The access token could not be refreshed; the refresh token is kept. The sign-in service answered"
            f" HTTP {answer.status}. Try again later.",
            retry_after_seconds=answer.retry_after_seconds,
        )
    return _read_grant(body, refresh_token)


def _read_grant(body: dict[str, object], old_refresh_token: str) -> Tokens:
    access_token = body.get("access_token")
    if not is_sendable(access_token):
        raise SignInError("The sign-in service answered without an access token; the refresh token is kept.")
    refresh_token = body.get("refresh_token")
    life_seconds = body.get("expires_in")
    return Tokens.granted(
        access_token,
        refresh_token if isinstance(refresh_token, str) and refresh_token else old_refresh_token,
        float(life_seconds) if is_number(life_seconds) else DEFAULT_LIFE_SECONDS,
    )
