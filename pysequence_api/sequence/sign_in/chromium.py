"""A Chromium that is installed already: found, started and ended. Nothing is ever downloaded."""

import logging
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from pysequence_api.errors import SettingsError, SignInError
from pysequence_api.text import plain_text

if TYPE_CHECKING:
    from playwright.async_api import Browser

log = logging.getLogger(__name__)

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""What Linux distributions call it, looked for on the PATH."""
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
    "Install Chromium (Debian: apt-get install chromium; macOS: brew install --cask chromium), or name one in"
    " SEQUENCE_CHROMIUM"
)
NO_PLAYWRIGHT = (
    "Signing in needs a browser, and the part that drives it is not installed: pip install 'pysequence-api[browser]'."
    f" {HOW_TO_INSTALL}."
)


def find_chromium(named: Path | None) -> Path:
    """Find a Chromium.

    Args:
        named: what ``SEQUENCE_CHROMIUM`` says; nothing else is looked for then.

    Raises:
        SettingsError: what is named cannot be run.
        SignInError: there is none.
    """
    if named is not None:
        found = shutil.which(named)
        if found is None:
            raise SettingsError(f"SEQUENCE_CHROMIUM names {named}, which is no program that can be run.")
        return Path(found)
    on_path = (shutil.which(name) for name in NAMES)
    for candidate in (*on_path, *MACOS_PATHS):
        if candidate is not None and os.access(candidate, os.X_OK):
            return Path(candidate)
    raise SignInError(f"Signing in needs a browser, and there is no Chromium on this machine. {HOW_TO_INSTALL}.")


@asynccontextmanager
async def open_chromium(path: Path, *, headed: bool) -> AsyncIterator["Browser"]:
    """Run a Chromium for as long as this is open.

    Args:
        path: the program.
        headed: with a window.

    Raises:
        SignInError: the part that drives it is not installed, or it does not start.
    """
    try:
        from playwright.async_api import Error, async_playwright  # noqa: PLC0415 - heavy, and an extra
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
                    chromium_sandbox=not is_root,  # root has none: Chromium refuses to run with it
                    # Not for its eyes, and not for a crash report of its own.
                    env={name: value for name, value in os.environ.items() if not name.startswith("SEQUENCE_")},
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
            # Its first line alone: below it Playwright tells what was typed.
            raise SignInError(f"Chromium stopped: {plain_text(str(error).partition(chr(10))[0])}") from None


async def _close(browser: "Browser") -> None:
    # If it hangs, ending Playwright, which comes next, ends it too.
    from playwright.async_api import Error  # noqa: PLC0415 - see above

    with anyio.move_on_after(CLOSE_TIMEOUT_SECONDS, shield=True):
        try:
            await browser.close()
        except Error:
            log.debug("Chromium had ended before it was closed.")


def _why(text: str, *, headed: bool) -> str:
    if "No usable sandbox" in text or "Failed to move to new namespace" in text:
        return (
            "it finds no way to shut itself in. Allow user namespaces (in a container, by its seccomp profile), or let"
            " SEQUENCE_CHROMIUM name a script that runs it with --no-sandbox."
        )
    if headed and ("DISPLAY" in text or "XServer" in text or "X server" in text):
        return "there is no display for its window. Use --token here, or --headed on a machine with a screen."
    lines = [line for line in text.splitlines() if "ERROR" in line or "rror:" in line]
    return plain_text(" ".join(lines[:2]) or text)
