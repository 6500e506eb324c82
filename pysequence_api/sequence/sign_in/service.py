"""Signing in as a person does it on purpose: now, by hand, with a token; how it stands, and out again."""

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
    Tokens,
    claims_of,
    is_sendable,
)
from pysequence_api.sequence.sign_in.tokens import TokenSource
from pysequence_api.settings import Settings
from pysequence_api.text import plain_text

STATIC = "SEQUENCE_ACCESS_TOKEN"
ANOTHER_PROGRAM = "another program, or an earlier version"
BY_HAND = "login by hand"
GIVEN = "a token that was given"


@dataclass(frozen=True, slots=True)
class SignInStatus:
    """How signing in stands. Times are aware, in UTC.

    Attributes:
        signed_in: whether there is an access token that is good now.
        who: whom it is for, if it says so.
        expires_at: when it runs out, if that is known.
        got_by: how it was got.
        renews_by: how the next one is got: by a refresh token, a login, or not at all.
        missing: variables that a login needs and that are not set.
        waiting: why the next login may not be yet.
        trouble: what is wrong with the files, if anything is.
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
    """Signing in on one data directory. Make it with `open`.

    Args:
        settings: what a login needs.
        tokens: where tokens come from.
        debug_directory: gets pictures of pages at which a login stopped.
    """

    def __init__(self, settings: Settings, tokens: TokenSource, debug_directory: Path | None) -> None:
        self._settings = settings
        self._tokens = tokens
        self._debug_directory = debug_directory

    @classmethod
    def open(cls, settings: Settings, directory: Path, debug_directory: Path | None = None) -> Self:
        """Make one. This sends nothing and touches no file.

        Args:
            settings: see the class.
            directory: the data directory.
            debug_directory: see the class.

        Raises:
            SettingsError: ``SEQUENCE_TOTP``, or a proxy or certificate variable of the environment, cannot be used.
        """
        return cls(settings, TokenSource.open(settings, directory, debug_directory), debug_directory)

    async def now(self) -> SignInStatus:
        """See that there is a token that is good now, in the first way that works.

        Raises:
            SignInError: there is none, and none can be had.
        """
        await self._tokens.access_token()
        return await self.status()

    async def by_hand(self) -> SignInStatus:
        """Open a window, and wait until a person has signed in.

        Raises:
            SignInError: nobody did, or there can be no window.
            SettingsError: ``SEQUENCE_CHROMIUM`` names nothing that can be run.
        """

        def work() -> Tokens:
            granted = sign_in_by_hand(self._settings, self._tokens.check, self._debug_directory)
            tokens = Tokens.granted(granted.access_token, granted.refresh_token)
            return self._tokens.keep(tokens, BY_HAND, login=True)

        await self._tokens.exclusively(work)
        return await self.status()

    async def with_token(self, access_token: str) -> SignInStatus:
        """Put a token that was got elsewhere into the cache.

        Raises:
            InvalidRequestError: it is no token, or has run out.
            SignInError: the data directory cannot be used.
        """
        if not is_sendable(access_token):
            raise InvalidRequestError("That is no access token: it must be printable ASCII without spaces.")
        tokens = Tokens.granted(access_token, None)
        if not tokens.is_good():
            raise InvalidRequestError("That access token has run out, or does so within a minute.")
        await self._tokens.exclusively(partial(self._tokens.keep, tokens, GIVEN, login=False))
        return await self.status()

    async def forget(self) -> bool:
        """Remove the cached tokens; what is remembered of refused logins stays.

        Returns:
            Whether there were any.

        Raises:
            SignInError: they cannot be removed.
        """
        return await self._tokens.exclusively(self._tokens.cache.forget)

    async def status(self) -> SignInStatus:
        """Say how signing in stands, from files and settings alone."""
        return await anyio.to_thread.run_sync(self._status)

    async def aclose(self) -> None:
        """End what goes on, and close the connections."""
        await self._tokens.aclose()

    def _status(self) -> SignInStatus:
        trouble = waiting = how = None
        tokens = self._tokens.cache.read()
        try:
            static_life_seconds = self._tokens.static_life_seconds()
            waiting = self._tokens.record.waiting()
            how = None if tokens is None else self._tokens.record.how(tokens.access_token)
        except SignInError as error:
            static_life_seconds, trouble = -math.inf, str(error)
        static_token = self._settings.access_token
        if static_token is not None and (tokens is None or static_life_seconds > LEAST_LIFE_SECONDS):
            token, life_seconds, how = static_token.get_secret_value(), static_life_seconds, STATIC
        elif tokens is not None:
            token, life_seconds, how = tokens.access_token, tokens.life_seconds, how or ANOTHER_PROGRAM
        else:
            token, life_seconds = "", -math.inf
        missing = missing_credentials(self._settings)
        refreshes = tokens is not None and tokens.refresh_token is not None and self._settings.auth0_client_id
        return SignInStatus(
            signed_in=life_seconds > LEAST_LIFE_SECONDS,
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
