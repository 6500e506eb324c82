"""One Chromium for the logins of this process, on an event loop that outlives them.

Starting Chromium, and the driver that it needs, takes most of the time of a login. The logins of commands start their
own.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Error, Playwright, async_playwright

from pysequence_api.errors import SignInError
from pysequence_api.sequence.sign_in import login
from pysequence_api.sequence.sign_in.chromium import ARGUMENTS, open_chromium
from pysequence_api.sequence.sign_in.login import Login, _Attempt
from pysequence_api.sequence.sign_in.token_cache import Granted

drive_alone = Login._drive


class SharedBrowser:
    """Runs logins one after the other, each in a context of its own, which shares nothing with the others.

    Args:
        path: the program. A login with another one starts that.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._started: tuple[Playwright, Browser] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the event loop, and Chromium from the first login on."""
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Have the logins of this process use it."""

        async def drive(one: Login, path: Path, attempt: _Attempt) -> Granted:
            running = asyncio.run_coroutine_threadsafe(drive_alone(one, path, attempt), self._loop)
            return await asyncio.wrap_future(running)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(login, "open_chromium", self._open)
            patch.setattr(Login, "_drive", drive)
            yield

    def evaluate(self, script: str, argument: str) -> object:
        """Run a script in an empty page, and return what it returns."""

        async def evaluate() -> object:
            async with self._open(self._path, headed=False) as browser:
                page = await browser.new_page()
                return await page.evaluate(script, argument)

        return asyncio.run_coroutine_threadsafe(evaluate(), self._loop).result()

    @asynccontextmanager
    async def _open(self, path: Path, *, headed: bool) -> AsyncIterator[Browser]:
        if headed or path != self._path:
            async with open_chromium(path, headed=headed) as browser:
                yield browser
            return
        if self._started is None:
            playwright = await async_playwright().start()
            launched = await playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
            self._started = playwright, launched
        _, browser = self._started
        try:
            yield browser
        except Error as error:
            raise SignInError(f"Chromium stopped: {error}") from None
        finally:
            for context in browser.contexts:
                await context.close()

    async def _stop(self) -> None:
        if self._started is not None:
            playwright, browser = self._started
            await browser.close()
            await playwright.stop()
