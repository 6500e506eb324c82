"""Access and refresh tokens, and the endpoint that trades one for the other (upstream-graphql, Signing in).

Everything but the settings is in the SQLite file, so that several processes and a restart agree. What is here blocks.
"""

import hashlib
import secrets
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pysequence_api.sandbox.database import connected, writing
from pysequence_api.sandbox.household import CLIENT_ID, EMAIL, PERSON_ID
from pysequence_api.sandbox.http import Response, json_response, model_response
from pysequence_api.sandbox.seed import JWT_SECRET

DEFAULT_LIFETIME_SECONDS = 86_400
"""Tokens live about 24 hours (upstream-graphql, Signing in)."""
MAX_LIFETIME_SECONDS = 10 * 365 * 86_400
ISSUER = "https://auth.getsequence.io/"
AUDIENCE = "https://app.getsequence.io/api"
_ALGORITHM = "HS256"
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class IssuedTokens:
    """Tokens for a client; their text is not in the ``repr``."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in_seconds: int


class TokenSettings(BaseModel):
    """How signing in and the token endpoint behave."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotate_refresh_tokens: bool = Field(
        True, description="True: a refresh answers with a new refresh token and the old one is void. False: with none"
    )
    access_token_lifetime_seconds: int = Field(DEFAULT_LIFETIME_SECONDS, ge=0, le=MAX_LIFETIME_SECONDS)
    login_gives_refresh_token: bool = Field(False, description="The implicit flow of the web application gives none")
    max_consecutive_refusals: int = Field(10, ge=1, description="After so many, the account is blocked")
    code_period_seconds: int = Field(30, ge=1, le=300, description="How long a one-time code is the current one")


class _TokenRequest(BaseModel):
    model_config = ConfigDict(strict=True)

    grant_type: str
    client_id: str
    refresh_token: str = Field(repr=False)


class _TokenResponse(BaseModel):
    access_token: str = Field(repr=False)
    refresh_token: str | None = Field(None, repr=False)
    expires_in: int
    token_type: str = "Bearer"


class _InvalidGrantError(Exception):
    """The refresh token is not one that is valid now."""


class Auth:
    """Issues and checks the tokens of one SQLite file."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._settings = TokenSettings()
        with connected(path) as connection:
            row = connection.execute("SELECT value FROM setting WHERE name = ?", (JWT_SECRET,)).fetchone()
        self._secret: str = row["value"]

    @property
    def settings(self) -> TokenSettings:
        """How signing in and the token endpoint behave."""
        with self._lock:
            return self._settings

    @settings.setter
    def settings(self, settings: TokenSettings) -> None:
        with self._lock:
            self._settings = settings

    def issue(self, lifetime_seconds: int) -> IssuedTokens:
        """Sign a new access token and make a refresh token.

        Args:
            lifetime_seconds: how long the access token is valid; 0 or less makes one that has run out.
        """
        refresh_token = secrets.token_urlsafe(32)
        with connected(self._path) as connection:
            connection.execute(
                "INSERT INTO refresh_token VALUES (?, ?)", (_hash(refresh_token), int(self._clock() * 1000))
            )
        return IssuedTokens(self._access_token(lifetime_seconds), refresh_token, lifetime_seconds)

    def is_authorized(self, header: str | None) -> bool:
        """Say whether an ``authorization`` header holds an access token of ours that is valid now."""
        if header is None or not header.lower().startswith(_BEARER):
            return False
        # By our own clock, which a test may turn; the library knows only the real one.
        options = {"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "sub", "aud"]}
        try:
            claims = jwt.decode(
                header[len(_BEARER) :].strip(),
                self._secret,
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options=options,  # type: ignore[arg-type]
            )
        except jwt.InvalidTokenError:
            return False
        return bool(claims["sub"] == PERSON_ID and claims["exp"] > self._clock())

    def token_endpoint(self, body: bytes) -> Response:
        """Response ``POST /oauth/token`` (upstream-graphql, Signing in)."""
        try:
            asked = _TokenRequest.model_validate_json(body)
        except ValidationError as error:
            where = ".".join(str(step) for step in error.errors()[0]["loc"]) or "body"
            return _refusal(400, "invalid_request", f"Missing or unreadable parameter: {where}")
        if asked.grant_type != "refresh_token":
            return _refusal(403, "unsupported_grant_type", "Unsupported grant type.")
        if asked.client_id != CLIENT_ID:
            return _refusal(401, "invalid_client", "Unknown client.")
        settings = self.settings
        try:
            refresh_token = self._use_refresh_token(asked.refresh_token, rotate=settings.rotate_refresh_tokens)
        except _InvalidGrantError:
            return _refusal(403, "invalid_grant", "Unknown or invalid refresh token.")
        lifetime_seconds = settings.access_token_lifetime_seconds
        answer = _TokenResponse(access_token=self._access_token(lifetime_seconds), expires_in=lifetime_seconds)
        if refresh_token is None:
            return Response(200, answer.model_dump_json(exclude_none=True).encode())
        return model_response(answer.model_copy(update={"refresh_token": refresh_token}))

    def _use_refresh_token(self, refresh_token: str, *, rotate: bool) -> str | None:
        with connected(self._path) as connection, writing(connection):
            old = (_hash(refresh_token),)
            if connection.execute("SELECT 1 FROM refresh_token WHERE hash = ?", old).fetchone() is None:
                raise _InvalidGrantError
            if not rotate:
                return None
            new = secrets.token_urlsafe(32)
            connection.execute("DELETE FROM refresh_token WHERE hash = ?", old)
            connection.execute("INSERT INTO refresh_token VALUES (?, ?)", (_hash(new), int(self._clock() * 1000)))
            return new

    def _access_token(self, lifetime_seconds: int) -> str:
        now = int(self._clock())
        claims = {
            "iss": ISSUER,
            "sub": PERSON_ID,
            "email": EMAIL,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + lifetime_seconds,
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _refusal(status: int, error: str, description: str) -> Response:
    return json_response({"error": error, "error_description": description}, status)
