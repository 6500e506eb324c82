"""Finds, starts and stops an installed Chromium. Nothing is downloaded."""

import logging
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from pysequence_api.env_files import PREFIX
from pysequence_api.errors import SettingsError, SignInError
from pysequence_api.text import plain_text

if TYPE_CHECKING:
    from playwright.async_api import Browser

log = logging.getLogger(__name__)

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""Names of the program on Linux, searched on the PATH."""
MACOS_PATHS = (
    Path("/Applications/Chromium.app/Contents/MacOS/Chromium"),
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
)
ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
START_TIMEOUT_SECONDS = 30.0
CLOSE_TIMEOUT_SECONDS = 10.0
HOW_TO_INSTALL = (
    "Install Chromium (Debian: apt-get install chromium; macOS: brew install --cask chromium), or set SEQUENCE_CHROMIUM"
    " to the path of one"
)
NO_PLAYWRIGHT = (
    "Signing in needs a browser and Playwright, which is not installed. In the clone of this program, run"
    f" pip install '.[browser]' (as its README says). {HOW_TO_INSTALL}."
)


def find_chromium(named: Path | None) -> Path:
    """Find Chromium.

    Args:
        named: the value of ``SEQUENCE_CHROMIUM``. If it is set, nothing else is searched.

    Raises:
        SettingsError: ``SEQUENCE_CHROMIUM`` is not a program.
        SignInError: no Chromium is installed.
    """
    if named is not None:
        found = shutil.which(named)
        if found is None:
            raise SettingsError(f"SEQUENCE_CHROMIUM is {named}, which is not an executable program.")
        return Path(found)
    on_path = (shutil.which(name) for name in NAMES)
    for candidate in (*on_path, *MACOS_PATHS):
        if candidate is not None and os.access(candidate, os.X_OK):
            return Path(candidate)
    raise SignInError(f"Signing in needs a browser, and no Chromium was found. {HOW_TO_INSTALL}.")


@asynccontextmanager
async def open_chromium(path: Path, *, headed: bool) -> AsyncIterator["Browser"]:
    """Run Chromium until the context ends.

    Args:
        path: the program.
        headed: open a window.

    Raises:
        SignInError: Playwright is not installed, or Chromium does not start.
    """
    try:
        from playwright.async_api import Error, async_playwright  # noqa: PLC0415 - heavy, and an optional extra
    except ImportError as error:
        raise SignInError(NO_PLAYWRIGHT) from error
    is_root = os.geteuid() == 0
    async with AsyncExitStack() as stack:
        try:
            with anyio.fail_after(START_TIMEOUT_SECONDS):
                playwright = await stack.enter_async_context(async_playwright())
                browser = await playwright.chromium.launch(
                    executable_path=path,
                    headless=not headed,
                    args=list(ARGUMENTS),
                    chromium_sandbox=not is_root,  # Chromium refuses to run its sandbox as root
                    # Keep our secrets out of the browser and its crash reports. Settings work in lower case, too.
                    env={name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)},
                    handle_sigint=False,
                    handle_sigterm=False,
                    handle_sighup=False,
                )
        except TimeoutError:
            raise SignInError(f"Chromium ({path}) did not start within {START_TIMEOUT_SECONDS:g} seconds.") from None
        except Error as error:
            raise SignInError(f"Chromium ({path}) does not start: {_why(str(error), headed=headed)}") from None
        stack.push_async_callback(_close, browser)
        try:
            yield browser
        except Error as error:
            # Only the first line: the rest is Playwright's log, which repeats what was typed.
            raise SignInError(f"Chromium stopped: {plain_text(str(error).partition(chr(10))[0])}") from None


async def _close(browser: "Browser") -> None:
    # If Chromium hangs, stopping Playwright afterwards stops it too.
    from playwright.async_api import Error  # noqa: PLC0415 - see above

    with anyio.move_on_after(CLOSE_TIMEOUT_SECONDS, shield=True):
        try:
            await browser.close()
        except Error:
            log.debug("Chromium stopped before it was closed.")


def _why(text: str, *, headed: bool) -> str:
    if "No usable sandbox" in text or "Failed to move to new namespace" in text:
        return (
            "it cannot create its process sandbox. Allow user namespaces (in a container, in its seccomp profile), or"
            " set SEQUENCE_CHROMIUM to a script that runs it with --no-sandbox."
        )
    if headed and ("DISPLAY" in text or "XServer" in text or "X server" in text):
        return "there is no display for its window. Use --token here, or run --headed on a machine with a screen."
    lines = [line for line in text.splitlines() if "ERROR" in line or "rror:" in line]
    return plain_text(" ".join(lines[:2]) or text)
