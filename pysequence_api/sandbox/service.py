"""`Sandbox`: one simulated Sequence on one SQLite file, to be called in process or served over HTTP."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx

from pysequence_api.sandbox.application import SandboxApplication
from pysequence_api.sandbox.auth import DEFAULT_LIFETIME_SECONDS, Auth, IssuedTokens, TokenSettings
from pysequence_api.sandbox.database import prepare
from pysequence_api.sandbox.exchange import ASGIApp
from pysequence_api.sandbox.faults import FaultList
from pysequence_api.sandbox.journal import Journal
from pysequence_api.sandbox.login import Login
from pysequence_api.sandbox.seed import seed
from pysequence_api.sandbox.tasks import RunningExchanges
from pysequence_api.sandbox.transport import SandboxTransport

CLOSING_SECONDS = 1.0
"""How long closing waits for exchanges that still run."""


class Sandbox:
    """A simulated Sequence. Money and tokens are in the file; faults, the journal and logins under way in
    this object's memory."""

    app: ASGIApp

    def __init__(self, database_path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open a sandbox; create its file, readable by its owner alone, and fill it, if there is none.

        Args:
            database_path: the SQLite file; its directory must exist.
            clock: Unix time in seconds, which everything in the simulation goes by.

        Raises:
            SandboxFileError: the file is something else.
            OSError: it cannot be created.
        """
        prepare(database_path, lambda connection: seed(connection, int(clock() * 1000)))
        self._auth = Auth(database_path, clock)
        self.login = Login(clock, self._auth)
        self._exchanges = RunningExchanges()
        self.faults = FaultList()
        self.journal = Journal()
        self.app = SandboxApplication(
            database_path, clock, auth=self._auth, login=self.login, faults=self.faults, journal=self.journal
        )

    @property
    def settings(self) -> TokenSettings:
        """How signing in and the token endpoint behave."""
        return self._auth.settings

    @settings.setter
    def settings(self, settings: TokenSettings) -> None:
        self._auth.settings = settings

    def issue_tokens(self, lifetime_seconds: int = DEFAULT_LIFETIME_SECONDS) -> IssuedTokens:
        """Issue an access and a refresh token. Blocks for a short write to the file.

        Args:
            lifetime_seconds: how long the access token is valid; 0 or less makes one that has run out.
        """
        return self._auth.issue(lifetime_seconds)

    def transport(self) -> httpx.AsyncBaseTransport:
        """Make an in-process transport; closing it leaves the sandbox open, and running exchanges running."""
        return SandboxTransport(self.app, self._exchanges.start)

    async def aclose(self) -> None:
        """Wait for in-process exchanges that still run, no longer than `CLOSING_SECONDS`; cancel the rest."""
        await self._exchanges.finish(CLOSING_SECONDS)
