"""What the `auth` commands do: sign in now, by hand or with a token; show the status; sign out."""

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self

import anyio.to_thread

from pysequence_api.errors import InvalidRequestError, SignInError
from pysequence_api.sequence.sign_in.login import missing_credentials, sign_in_by_hand
from pysequence_api.sequence.sign_in.record import Waiting
from pysequence_api.sequence.sign_in.token_cache import (
    LEAST_LIFE_SECONDS,
    MAX_UNIX_SECONDS,
    Granted,
    Tokens,
    claims_of,
    expiry_of,
)
from pysequence_api.sequence.sign_in.tokens import TokenSource
from pysequence_api.settings import Settings
from pysequence_api.text import plain_text

STATIC = "SEQUENCE_ACCESS_TOKEN"
ANOTHER_PROGRAM = "another program, or an earlier version"
BY_HAND = "login by hand"
GIVEN = "a token that was passed in"


@dataclass(frozen=True, slots=True)
class SignInStatus:
    """The sign-in status. Times are aware, in UTC.

    Attributes:
        signed_in: whether there is a valid access token.
        who: the user of the token, if the token states it.
        expires_at: when the token expires, if that is known.
        got_by: the source of the token.
        renews_by: how the next token is obtained: "refresh token", "login", or ``None``.
        missing: the variables that a login needs and that are not set.
        waiting: why the next login has to wait, if it does.
        trouble: what is wrong with the files, or with what a login needs, if anything.
    """

    signed_in: bool
    who: str | None
    expires_at: datetime | None
    got_by: str | None
    renews_by: str | None
    missing: tuple[str, ...]
    waiting: Waiting | None
    trouble: str | None


class SignIn:
    """Signing in with one data directory. Create it with `open`.

    Args:
        settings: the credentials and everything else that a login needs.
        tokens: where access tokens come from.
        debug_directory: where to save a screenshot of a page at which a login stopped.
    """

    def __init__(self, settings: Settings, tokens: TokenSource, debug_directory: Path | None) -> None:
        self._settings = settings
        self._tokens = tokens
        self._debug_directory = debug_directory

    @classmethod
    def open(cls, settings: Settings, directory: Path, debug_directory: Path | None = None) -> Self:
        """Return a `SignIn` on a data directory. This sends nothing and touches no file.

        Raises:
            SettingsError: a proxy or certificate variable of the environment cannot be used.
        """
        return cls(settings, TokenSource.open(settings, directory, debug_directory), debug_directory)

    async def now(self) -> SignInStatus:
        """Get a valid token, in the order that `TokenSource` describes.

        Raises:
            SignInError: there is no valid token and no way to get one.
            SettingsError: a login is necessary, and ``SEQUENCE_TOTP`` or ``SEQUENCE_CHROMIUM`` cannot be used.
        """
        await self._tokens.access_token()
        return await self.status()

    async def by_hand(self) -> SignInStatus:
        """Open a browser window and wait until a person has signed in.

        Raises:
            SignInError: the person did not sign in, or no window can be opened.
            SettingsError: ``SEQUENCE_CHROMIUM`` is not a program.
        """

        def work() -> Tokens:
            granted = sign_in_by_hand(self._settings, self._tokens.check_open, self._debug_directory)
            return self._tokens.save(granted, BY_HAND, login=True)

        await self._tokens.exclusively(work)
        return await self.status()

    async def with_token(self, access_token: str, clock_offset_seconds: float | None) -> SignInStatus:
        """Save an access token from elsewhere, which Sequence has just accepted.

        Args:
            access_token: the token.
            clock_offset_seconds: how far Sequence's clock is ahead of ours, if it is known.

        Raises:
            InvalidRequestError: the token expires within a minute.
            SignInError: the data directory cannot be used.
        """
        expiry, now = expiry_of(access_token), time.time()
        life_seconds = None if expiry is None else expiry - now - (clock_offset_seconds or 0.0)
        if life_seconds is not None and life_seconds <= LEAST_LIFE_SECONDS:
            raise InvalidRequestError("This access token expires within a minute. Get a new one. Nothing was changed.")
        granted = Granted(access_token, None, life_seconds, clock_offset_seconds)
        await self._tokens.exclusively(partial(self._tokens.save, granted, GIVEN, login=False))
        return await self.status()

    async def forget(self) -> bool:
        """Remove the cached tokens. The record of refused logins stays.

        Returns:
            Whether there were cached tokens.

        Raises:
            SignInError: the file cannot be removed.
        """
        return await self._tokens.exclusively(self._tokens.cache.forget)

    async def status(self) -> SignInStatus:
        """Return the sign-in status, from files and settings. Makes no upstream call."""
        return await anyio.to_thread.run_sync(self._status)

    async def aclose(self) -> None:
        """Stop a running sign-in and close the connections."""
        await self._tokens.aclose()

    def _status(self) -> SignInStatus:
        trouble = waiting = how = None
        tokens = self._tokens.cache.read()
        try:
            static_life_seconds = self._tokens.static_life_seconds()
            waiting = self._tokens.record.waiting()
            origin = None if tokens is None else self._tokens.record.origin(tokens.access_token)
            how = None if origin is None else origin.how
            trouble = self._tokens.login_problem()
        except SignInError as error:
            static_life_seconds, trouble = -math.inf, str(error)
        static_token = self._settings.access_token
        if static_token is not None and (tokens is None or static_life_seconds > LEAST_LIFE_SECONDS):
            token, life_seconds, how = static_token.get_secret_value(), static_life_seconds, STATIC
            signed_in = life_seconds > LEAST_LIFE_SECONDS
        elif tokens is not None:
            token, how = tokens.access_token, how or ANOTHER_PROGRAM
            life_seconds, signed_in = self._tokens.life_seconds(tokens), self._tokens.is_usable(tokens)
        else:
            token, life_seconds, signed_in = "", -math.inf, False
        missing = missing_credentials(self._settings)
        refreshes = tokens is not None and tokens.refresh_token is not None and self._settings.auth0_client_id
        return SignInStatus(
            signed_in=signed_in,
            who=_who(token),
            expires_at=_moment(life_seconds),
            got_by=how,
            renews_by="refresh token" if refreshes else None if missing else "login",
            missing=tuple(missing),
            waiting=waiting,
            trouble=trouble,
        )


def _who(token: str) -> str | None:
    claims = claims_of(token)
    names = (claims.get(name) for name in ("email", "name", "sub"))
    return next((plain_text(name) for name in names if isinstance(name, str) and name), None)


def _moment(life_seconds: float) -> datetime | None:
    seconds = time.time() + life_seconds
    return datetime.fromtimestamp(seconds, UTC) if 0 <= seconds < MAX_UNIX_SECONDS else None
