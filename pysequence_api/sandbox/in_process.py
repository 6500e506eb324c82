"""The simulated Sequence within the process of its client, opened with the first request.

Most of what it is, such as its GraphQL engine, is loaded then. A command that sends no request does without it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import httpx

from pysequence_api.collector import collector_paused
from pysequence_api.errors import SettingsError

if TYPE_CHECKING:
    from pysequence_api.sandbox.application import Sandbox


class InProcessSandbox(httpx.AsyncBaseTransport):
    """Sends requests for any host to a simulated Sequence, which the first one of them opens.

    Args:
        path: its SQLite file, made if it does not exist; its directory must exist.
        access_token: a token that it accepts, besides those that it issues.
    """

    def __init__(self, path: Path, access_token: str) -> None:
        self._path = path
        self._access_token = access_token
        self._opening = anyio.Lock()
        self._sandbox: Sandbox | None = None
        self._transport: httpx.AsyncBaseTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and wait for the head of the response.

        Raises:
            SettingsError: the file is not one of a simulated Sequence, or cannot be made.
        """
        async with self._opening:
            if self._transport is None:
                self._sandbox = await anyio.to_thread.run_sync(self._open)
                self._transport = self._sandbox.transport()
        return await self._transport.handle_async_request(request)

    async def finish(self) -> None:
        """Wait for requests that are still running; see `Sandbox.aclose`."""
        if self._sandbox is not None:
            await self._sandbox.aclose()

    def _open(self) -> "Sandbox":
        with collector_paused():
            from pysequence_api.sandbox.application import Sandbox  # noqa: PLC0415
            from pysequence_api.sandbox.database import SandboxFileError  # noqa: PLC0415

        try:
            opened = Sandbox(self._path)
        except SandboxFileError as error:
            raise SettingsError(str(error)) from error
        except OSError as error:
            raise SettingsError(f"{self._path} cannot be opened ({error.strerror}).") from error
        opened.accept(self._access_token)
        return opened
