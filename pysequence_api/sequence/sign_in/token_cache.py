"""Tokens, and the file that keeps them. ``pysequence-sdk`` reads and writes the same file."""

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from pysequence_api.files import read_bytes, replace_atomically
from pysequence_api.text import parse_json

log = logging.getLogger(__name__)

CACHE_FILE_NAME = ".tokens.json"
LOCK_FILE_NAME = ".sign-in.lock"
"""Held during a sign-in and whenever the cache is written."""
LEAST_LIFE_SECONDS = 60.0
"""A token with less life left is not used."""
ASSUMED_LIFE_SECONDS = 24 * 3600.0
"""Written into the cache for a token of unknown life, because its format requires a time. Only others read it."""
CLOCK_TOLERANCE_SECONDS = 60.0
"""If this machine's clock and the issuer's differ by less, a token's own expiry is used as it is."""
JWT_DOTS = 2
MAX_UNIX_SECONDS = 1e11
"""After the year 5000. A larger number is not a time in seconds."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The content of the cache, in the format of ``pysequence-sdk``.

    ``expires_at`` is in Unix seconds, by this machine's clock.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_at: float


@dataclass(frozen=True, slots=True)
class Granted:
    """Tokens as their issuer hands them out.

    Attributes:
        access_token: the access token.
        refresh_token: the refresh token, if there is one.
        life_seconds: how long the access token lives from now on, if the issuer states it beside the token.
        clock_offset_seconds: how far the issuer's clock is ahead of ours, by the ``Date`` of its answer.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    life_seconds: float | None = None
    clock_offset_seconds: float | None = None

    def expires_at(self, now: float) -> float | None:
        """Return when the access token expires, by this machine's clock; ``None`` if that is unknown.

        This machine's clock can be wrong, so the life is the difference of two times of the issuer.
        """
        issued_at, expiry = issue_of(self.access_token), expiry_of(self.access_token)
        lives_seconds = [] if self.life_seconds is None else [self.life_seconds]
        if expiry is not None and issued_at is not None:
            lives_seconds.append(expiry - issued_at)
        if lives_seconds:
            expires_at = now + min(lives_seconds)
        elif expiry is not None:
            expires_at = expiry - (self.clock_offset_seconds or 0.0)
        else:
            return None
        if expiry is not None and abs(expires_at - expiry) < CLOCK_TOLERANCE_SECONDS:
            return expiry
        return expires_at if 0 <= expires_at < MAX_UNIX_SECONDS else None

    def issuer_ahead_seconds(self, now: float) -> float | None:
        """Return how far the issuer's clock is ahead of this machine's, if that is known."""
        issued_at = issue_of(self.access_token)
        if self.clock_offset_seconds is not None or issued_at is None:
            return self.clock_offset_seconds
        return issued_at - now


class TokenCache:
    """The cache file. All methods block. Writing requires the sign-in lock.

    Args:
        directory: the data directory.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / CACHE_FILE_NAME
        self._unsaved: Tokens | None = None

    def read(self) -> Tokens | None:
        """Read the tokens. A damaged file counts as missing, with a warning."""
        if self._unsaved is not None:
            return self._unsaved
        try:
            content = read_bytes(self.path)
        except OSError as error:
            log.warning("The token cache %s cannot be read (%s).", self.path, error.strerror)
            return None
        if content is None:
            return None
        tokens = _read_tokens(content)
        if tokens is None:
            log.warning("The token cache %s is damaged and is ignored.", self.path)
        return tokens

    def save(self, tokens: Tokens) -> Tokens:
        """Write the tokens. If that fails, they are kept in memory."""
        try:
            replace_atomically(self.path, json.dumps(asdict(tokens)).encode())
            self._unsaved = None
        except OSError as error:
            log.warning("New tokens cannot be saved to %s (%s). They stay in memory only.", self.path, error.strerror)
            self._unsaved = tokens
        return tokens

    def forget(self) -> bool:
        """Remove the file.

        Returns:
            Whether the file existed.

        Raises:
            OSError: the file cannot be removed.
        """
        self._unsaved = None
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True


def is_sendable(token: object) -> TypeGuard[str]:
    """Return whether a token fits into a header. Otherwise httpx would fail later, with the token in its message."""
    return isinstance(token, str) and token.isascii() and token.isprintable() and " " not in token and bool(token)


def read_object(content: bytes) -> dict[str, object]:
    """Read a JSON object; anything else counts as empty."""
    try:
        body = parse_json(content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _read_tokens(content: bytes) -> Tokens | None:
    body = read_object(content)
    access_token, refresh_token = body.get("access_token"), body.get("refresh_token")
    expires_at = body.get("expires_at")
    if not (is_sendable(access_token) and is_number(expires_at)):
        return None
    if not (refresh_token is None or (isinstance(refresh_token, str) and refresh_token)):
        return None
    return Tokens(access_token=access_token, refresh_token=refresh_token, expires_at=float(expires_at))


def claims_of(token: str) -> dict[str, Any]:
    """Read the claims of a JWT; empty for any other token. The signature is not checked."""
    if token.count(".") != JWT_DOTS:
        return {}
    import jwt  # noqa: PLC0415 - loads cryptography, and only some tokens are JWTs

    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        return {}
    return claims


def expiry_of(token: str) -> float | None:
    """Return when a token expires, in Unix seconds, if it is a JWT that states it."""
    return _time_of(token, "exp")


def issue_of(token: str) -> float | None:
    """Return when a token was issued, in Unix seconds, if it is a JWT that states it."""
    return _time_of(token, "iat")


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a JSON value is a number. Booleans are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


def _time_of(token: str, claim: str) -> float | None:
    moment = claims_of(token).get(claim)
    return float(moment) if is_number(moment) and 0 <= moment < MAX_UNIX_SECONDS else None
