"""Access and refresh tokens, and the token endpoint.

Refresh tokens and the signing secret are in the SQLite file, so they survive a restart, and processes share them.
All calls block.
"""

import hashlib
import hmac
import secrets
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pysequence_api.sandbox.database import connected, writing
from pysequence_api.sandbox.http import Response, json_response
from pysequence_api.sandbox.ids import CLIENT_ID, EMAIL, PERSON_ID
from pysequence_api.sandbox.seed import JWT_SECRET

DEFAULT_LIFETIME_SECONDS = 86_400
"""The lifetime at Sequence, about 24 hours."""
MAX_LIFETIME_SECONDS = 10 * 365 * 86_400
ISSUER = "https://auth.getsequence.io/"
AUDIENCE = "https://app.getsequence.io/api"
_ALGORITHM = "HS256"
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class IssuedTokens:
    """Tokens for a client. They do not appear in the ``repr``."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in_seconds: int


class TokenSettings(BaseModel):
    """How sign-in and the token endpoint behave."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    rotate_refresh_tokens: bool = Field(
        True, description="True: a refresh returns a new refresh token and revokes the old one. False: it returns none"
    )
    access_token_lifetime_seconds: int = Field(DEFAULT_LIFETIME_SECONDS, ge=0, le=MAX_LIFETIME_SECONDS)
    login_gives_refresh_token: bool = Field(False, description="The implicit flow of the web application issues none")
    max_consecutive_refusals: int = Field(10, ge=1, description="The account is blocked after this many")
    code_period_seconds: int = Field(30, ge=1, le=300, description="How long a one-time code is current")


class _TokenRequest(BaseModel):
    model_config = ConfigDict(strict=True, defer_build=True)

    grant_type: str
    client_id: str
    refresh_token: str = Field(repr=False)


class _TokenResponse(BaseModel):
    model_config = ConfigDict(defer_build=True)

    access_token: str = Field(repr=False)
    refresh_token: str | None = Field(None, repr=False)
    expires_in: int
    token_type: str = "Bearer"


class _InvalidGrantError(Exception):
    """The refresh token is not valid."""


class Auth:
    """Issues and checks tokens, for one SQLite file."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._accepted_token: str | None = None
        self._lock = threading.Lock()
        self._settings = TokenSettings()
        with connected(path) as connection:
            row = connection.execute("SELECT value FROM setting WHERE name = ?", (JWT_SECRET,)).fetchone()
        self._secret: str = row["value"]

    @property
    def settings(self) -> TokenSettings:
        """Return how sign-in and the token endpoint behave."""
        with self._lock:
            return self._settings

    @settings.setter
    def settings(self, settings: TokenSettings) -> None:
        with self._lock:
            self._settings = settings

    def issue(self, lifetime_seconds: int) -> IssuedTokens:
        """Issue an access token and a refresh token.

        Args:
            lifetime_seconds: how long the access token is valid; 0 or less issues an expired one.
        """
        refresh_token = secrets.token_urlsafe(32)
        with connected(self._path) as connection:
            connection.execute(
                "INSERT INTO refresh_token VALUES (?, ?)", (_hash(refresh_token), int(self._clock() * 1000))
            )
        return IssuedTokens(self._access_token(lifetime_seconds), refresh_token, lifetime_seconds)

    def accept(self, access_token: str) -> None:
        """Accept this access token, too, as long as this process runs."""
        self._accepted_token = access_token

    def is_authorized(self, header: str | None) -> bool:
        """Return whether an ``authorization`` header has a valid access token."""
        if header is None or not header.lower().startswith(_BEARER):
            return False
        token = header[len(_BEARER) :].strip()
        if self._accepted_token is not None and hmac.compare_digest(token.encode(), self._accepted_token.encode()):
            return True
        import jwt  # noqa: PLC0415 - loads cryptography, which a client in this process does without

        # Expiry is checked below, by the sandbox's clock; the library knows only the system's.
        options = {"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "sub", "aud"]}
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options=options,  # type: ignore[arg-type]
            )
        except jwt.InvalidTokenError:
            return False
        return bool(claims["sub"] == PERSON_ID and claims["exp"] > self._clock())

    def refresh(self, body: bytes) -> Response:
        """Respond to ``POST /oauth/token``."""
        try:
            request = _TokenRequest.model_validate_json(body)
        except ValidationError as error:
            where = ".".join(str(step) for step in error.errors()[0]["loc"]) or "body"
            return _refusal(400, "invalid_request", f"Missing or unreadable parameter: {where}")
        if request.grant_type != "refresh_token":
            return _refusal(403, "unsupported_grant_type", "Unsupported grant type.")
        if request.client_id != CLIENT_ID:
            return _refusal(401, "invalid_client", "Unknown client.")
        settings = self.settings
        try:
            refresh_token = self._use_refresh_token(request.refresh_token, rotate=settings.rotate_refresh_tokens)
        except _InvalidGrantError:
            return _refusal(403, "invalid_grant", "Unknown or invalid refresh token.")
        lifetime_seconds = settings.access_token_lifetime_seconds
        response = _TokenResponse(
            access_token=self._access_token(lifetime_seconds), refresh_token=refresh_token, expires_in=lifetime_seconds
        )
        return Response(200, response.model_dump_json(exclude_none=True).encode())

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
        import jwt  # noqa: PLC0415 - see `is_authorized`

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
