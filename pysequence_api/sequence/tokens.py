"""Access tokens: which one is good now, and how another is got (upstream-graphql, Signing in)."""

import json
import logging
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeGuard

import anyio.from_thread
import anyio.to_thread
import jwt

from pysequence_api.errors import LockTimeoutError, SequenceError, SignInError
from pysequence_api.files import locked, read_bytes, replace_atomically
from pysequence_api.sequence.answers import parse_json
from pysequence_api.sequence.sharing import Shared
from pysequence_api.sequence.texts import plain_text
from pysequence_api.sequence.transport import Channel
from pysequence_api.sequence.vitals import TokenLife

log = logging.getLogger(__name__)

CACHE_FILE_NAME = ".tokens.json"
LOCK_FILE_NAME = ".sign-in.lock"
LEAST_LIFE_SECONDS = 60.0
"""A token with less left is not used any more."""
DEFAULT_LIFE_SECONDS = 24 * 3600.0
"""How long a token lives if nobody says."""
LOCK_EXTRA_SECONDS = 5.0
"""How much longer than one exchange the sign-in of another process is waited for."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the cache holds, in the shape that it shares with ``pysequence-sdk``. ``expires_at`` is in Unix seconds."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_at: float

    def is_good(self) -> bool:
        """Say whether the access token has long enough to live, by the cache and, if it is a JWT, by itself."""
        return _least(self.expires_at, expiry_of(self.access_token)) - time.time() > LEAST_LIFE_SECONDS


class TokenSource:
    """Gives the access token: the one of the settings, else the cached one, else one got with the refresh token.

    Args:
        directory: the data directory, where the cache is.
        channel: the way to the token endpoint.
        timeout_seconds: the deadline of one exchange on it.
        client_id: the Auth0 client id, needed to refresh.
        static_token: an access token got elsewhere.
    """

    def __init__(
        self,
        directory: Path,
        *,
        channel: Channel,
        timeout_seconds: float,
        client_id: str | None,
        static_token: str | None,
    ) -> None:
        self._cache_path = directory / CACHE_FILE_NAME
        self._lock_path = directory / LOCK_FILE_NAME
        self._channel = channel
        self._lock_timeout_seconds = timeout_seconds + LOCK_EXTRA_SECONDS
        self._client_id = client_id
        self._static_token = static_token
        self._static_refused = False
        self._unsaved: Tokens | None = None
        self._renewals: set[Shared[str]] = set()

    async def access_token(self) -> str:
        """Give a token that is good now.

        Raises:
            SignInError: there is none, and none can be had.
        """
        if self._static_token is not None and not self._static_refused:
            self._check_static(self._static_token)
            if _least(math.inf, expiry_of(self._static_token)) - time.time() > LEAST_LIFE_SECONDS:
                return self._static_token
        tokens = await anyio.to_thread.run_sync(self._read)
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
        tokens = await anyio.to_thread.run_sync(self._read)
        return None if tokens is None else _life_of(tokens.access_token, tokens.expires_at)

    async def aclose(self) -> None:
        """Bring a renewal that is going on to its end, so that a new refresh token is not lost."""
        for renewal in tuple(self._renewals):
            await renewal.aclose()

    async def _renewed(self, rejected: str | None) -> str:
        """Renew, one at a time: who comes while it goes on gets what it brings."""
        going_on = next((renewal for renewal in self._renewals if not renewal.ending), None)
        renewal = going_on or Shared(self._renew_in_thread(rejected), owner=self._renewals, withdraw=False)
        return await renewal.result()

    async def _renew_in_thread(self, rejected: str | None) -> str:
        return await anyio.to_thread.run_sync(self._renew_locked, rejected)

    def _renew_locked(self, rejected: str | None) -> str:
        """Renew under the lock between processes, in one worker-thread call; only the exchange is on the loop."""
        try:
            with locked(self._lock_path, self._lock_timeout_seconds):
                tokens = self._read()
                # Another process may have been faster.
                if tokens is not None and tokens.is_good() and tokens.access_token != rejected:
                    return tokens.access_token
                return self._sign_in(tokens).access_token
        except LockTimeoutError as error:
            raise SignInError(f"Another process has been signing in for too long. {error}") from error
        except OSError as error:
            raise SignInError(
                f"Signing in needs the data directory, which cannot be used: {error.strerror}."
            ) from error

    def _sign_in(self, tokens: Tokens | None) -> Tokens:
        """Get new tokens in the first way that there is."""
        if tokens is not None and tokens.refresh_token is not None:
            return self._save(anyio.from_thread.run(self._refresh, tokens.refresh_token))
        raise SignInError(self._what_is_missing(tokens))

    async def _refresh(self, refresh_token: str) -> Tokens:
        if self._client_id is None:
            raise SignInError(
                "The access token has run out, and SEQUENCE_AUTH0_CLIENT_ID is not set, which is needed to refresh it."
            )
        form = {"grant_type": "refresh_token", "client_id": self._client_id, "refresh_token": refresh_token}
        try:
            answer = await self._channel.post(
                "the token refresh",
                headers={"content-type": "application/json", "accept": "application/json"},
                content=json.dumps(form).encode(),
                with_error_body=True,
            )
        except SequenceError as error:
            raise SignInError(f"The access token could not be refreshed; the refresh token is kept. {error}") from error
        body = _read_object(answer.body)
        if 400 <= answer.status < 500:
            reason = body.get("error_description") or body.get("error")
            text = plain_text(reason, secrets=[refresh_token]) if isinstance(reason, str) else f"HTTP {answer.status}"
            raise SignInError(f"The sign-in service refused to refresh the access token: {text}. Sign in again.")
        if answer.status >= 300:
            raise SignInError(
                f"The access token could not be refreshed; the refresh token is kept. The sign-in service answered"
                f" HTTP {answer.status}. Try again later."
            )
        return _read_grant(body, refresh_token)

    def _save(self, tokens: Tokens) -> Tokens:
        try:
            replace_atomically(self._cache_path, json.dumps(asdict(tokens)).encode())
            self._unsaved = None
        except OSError as error:
            log.warning(
                "New tokens cannot be saved to %s (%s); they are used unsaved.", self._cache_path, error.strerror
            )
            self._unsaved = tokens
        return tokens

    def _read(self) -> Tokens | None:
        if self._unsaved is not None:
            return self._unsaved
        try:
            content = read_bytes(self._cache_path)
        except OSError as error:
            log.warning("The token cache %s cannot be read (%s).", self._cache_path, error.strerror)
            return None
        if content is None:
            return None
        tokens = _read_tokens(content)
        if tokens is None:
            log.warning("The token cache %s is damaged and left aside.", self._cache_path)
        return tokens

    def _check_static(self, token: str) -> None:
        if not _is_sendable(token):
            raise SignInError("SEQUENCE_ACCESS_TOKEN is no token: it must be printable ASCII without spaces.")

    def _what_is_missing(self, tokens: Tokens | None) -> str:
        if self._static_token is not None:
            why = "is refused by Sequence (401)" if self._static_refused else "has run out"
            return f"SEQUENCE_ACCESS_TOKEN {why}. Set a new one, or put a {CACHE_FILE_NAME} into {self._directory}."
        remedy = f"Set SEQUENCE_ACCESS_TOKEN, or put a {CACHE_FILE_NAME} into {self._directory}."
        if tokens is None:
            return f"There is no access token. {remedy}"
        why = "is refused by Sequence (401)" if tokens.is_good() else "has run out"
        return f"The access token in {self._cache_path} {why}, and there is no refresh token with it. {remedy}"

    @property
    def _directory(self) -> Path:
        return self._cache_path.parent.absolute()


def expiry_of(token: str) -> float | None:
    """Say when a token runs out, in Unix seconds, if it is a JWT that says so itself."""
    return _claimed_time(token, "exp")


def _claimed_time(token: str, claim: str) -> float | None:
    try:
        time_claimed = jwt.decode(token, options={"verify_signature": False}).get(claim)
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        return None
    return float(time_claimed) if _is_number(time_claimed) else None


def _life_of(token: str, expires_at: float | None) -> TokenLife:
    """Say what a token says of itself; how long it is good, else what the cache says."""
    issued_at, own_expiry = _claimed_time(token, "iat"), expiry_of(token)
    expires_at = expires_at if own_expiry is None else own_expiry
    now = time.time()
    return TokenLife(
        age_seconds=None if issued_at is None else now - issued_at,
        left_seconds=None if expires_at is None else expires_at - now,
    )


def _least(expires_at: float, own_expiry: float | None) -> float:
    return expires_at if own_expiry is None else min(expires_at, own_expiry)


def _read_tokens(content: bytes) -> Tokens | None:
    body = _read_object(content)
    access_token, refresh_token = body.get("access_token"), body.get("refresh_token")
    expires_at = body.get("expires_at")
    if not (_is_sendable(access_token) and _is_number(expires_at)):
        return None
    if not (refresh_token is None or (isinstance(refresh_token, str) and refresh_token)):
        return None
    return Tokens(access_token=access_token, refresh_token=refresh_token, expires_at=float(expires_at))


def _read_grant(body: dict[str, object], old_refresh_token: str) -> Tokens:
    access_token = body.get("access_token")
    if not _is_sendable(access_token):
        raise SignInError("The sign-in service answered without an access token; the refresh token is kept.")
    refresh_token = body.get("refresh_token")
    life_seconds = body.get("expires_in")
    return Tokens(
        access_token=access_token,
        refresh_token=refresh_token if isinstance(refresh_token, str) and refresh_token else old_refresh_token,
        expires_at=time.time() + (float(life_seconds) if _is_number(life_seconds) else DEFAULT_LIFE_SECONDS),
    )


def _read_object(content: bytes) -> dict[str, object]:
    try:
        body = parse_json(content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _is_sendable(token: object) -> TypeGuard[str]:
    # It travels in a header; what does not fit there would only fail later, in words that quote it.
    return isinstance(token, str) and token.isascii() and token.isprintable() and " " not in token and bool(token)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15
