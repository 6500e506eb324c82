"""Tokens, and the file that keeps them. ``pysequence-sdk`` reads and writes the same file."""

import json
import logging
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, TypeGuard

import jwt

from pysequence_api.files import read_bytes, replace_atomically
from pysequence_api.text import parse_json

log = logging.getLogger(__name__)

CACHE_FILE_NAME = ".tokens.json"
LOCK_FILE_NAME = ".sign-in.lock"
"""Held during a sign-in and whenever the cache is written."""
LEAST_LIFE_SECONDS = 60.0
"""A token with less life left is not used."""
DEFAULT_LIFE_SECONDS = 24 * 3600.0
"""The assumed life of a token that does not state its own."""
MAX_UNIX_SECONDS = 1e11
"""After the year 5000. A larger number is not a time in seconds."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The content of the cache, in the format of ``pysequence-sdk``. ``expires_at`` is in Unix seconds."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_at: float

    @classmethod
    def granted(cls, access_token: str, refresh_token: str | None, life_seconds: float = DEFAULT_LIFE_SECONDS) -> Self:
        """Return tokens that were issued just now.

        Args:
            access_token: if it is a JWT with an expiry, that is used.
            refresh_token: the refresh token, if there is one.
            life_seconds: the life of any other access token.
        """
        expires_at = expiry_of(access_token)
        return cls(access_token, refresh_token, time.time() + life_seconds if expires_at is None else expires_at)

    @property
    def life_seconds(self) -> float:
        """The remaining life of the access token: by its own expiry if it is a JWT, otherwise by the cache."""
        expires_at = expiry_of(self.access_token)
        return (self.expires_at if expires_at is None else expires_at) - time.time()

    def is_valid(self) -> bool:
        """Return whether the access token has enough life left to be used."""
        return self.life_seconds > LEAST_LIFE_SECONDS


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
