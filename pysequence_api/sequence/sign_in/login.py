"""A full login: check that it is allowed, run it in a browser, and record the result.

The code blocks and runs in a worker thread, under the sign-in lock. The browser has its own event loop in that thread,
so files can be written between its steps.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

import anyio

from pysequence_api.errors import SettingsError, SignInError, SignInNotAttemptedError, SignInRefusedError
from pysequence_api.sequence.sign_in.chromium import (
    CLOSE_TIMEOUT_SECONDS,
    START_TIMEOUT_SECONDS,
    find_chromium,
    open_chromium,
)
from pysequence_api.sequence.sign_in.codes import CodeMaker, FixedCode, read_codes
from pysequence_api.sequence.sign_in.record import Record, SignInRecord
from pysequence_api.sequence.sign_in.token_cache import Granted
from pysequence_api.settings import Settings, variable

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from pysequence_api.sequence.sign_in.pages import LoginPages

log = logging.getLogger(__name__)

CREDENTIAL_FIELDS = ("email", "password", "totp")
MAX_STEPS = 8
"""The maximum number of steps of a login. Each has its own time limit."""
STEP_EXTRA_SECONDS = 10.0
"""How much longer a failing step can take, to report what the page shows."""
MAX_CODE_CLOCK_OFFSET_SECONDS = 20.0
"""If the clocks of this machine and the login page differ by more, no code is made: it would be refused."""
CODE_WAIT_SECONDS = 60.0
"""The longest wait for a usual code: the current one may be used, and the next one may be about to expire."""


class Login:
    """Signs in with the credentials of the settings.

    Args:
        settings: the credentials, the address of the application, Chromium, and the time limit of a step.
        record: the record of logins.
        debug_directory: where to save a screenshot of a page at which a login stopped.

    Raises:
        SettingsError: a credential is missing.
    """

    def __init__(self, settings: Settings, record: SignInRecord, debug_directory: Path | None = None) -> None:
        if settings.email is None or settings.password is None or settings.totp is None:
            raise SettingsError(f"Set {' and '.join(missing_credentials(settings))} to log in.")
        self._settings = settings
        self._email, self._password = settings.email, settings.password.get_secret_value()
        self._totp = settings.totp.get_secret_value()
        self._record = record
        self._debug_directory = debug_directory
        self._stopping = threading.Event()

    @classmethod
    def from_settings(cls, settings: Settings, directory: Path, debug_directory: Path | None = None) -> Self | None:
        """Return a login; ``None`` if a credential is not set."""
        if missing_credentials(settings):
            return None
        return cls(settings, open_record(settings, directory), debug_directory)

    def problem(self) -> str | None:
        """Return why no login is possible, if ``SEQUENCE_TOTP`` is not valid."""
        try:
            read_codes(self._totp)
        except SettingsError as error:
            return str(error)
        return None

    def run(self) -> Granted:
        """Sign in, if a login is allowed now.

        Raises:
            SignInWaitsError: a login failed before, and the next one has to wait.
            SignInRefusedError: the page rejected the credentials.
            SignInError: the login failed in another way.
            SettingsError: ``SEQUENCE_TOTP`` is not valid, or ``SEQUENCE_CHROMIUM`` is not a program.
        """
        codes = read_codes(self._totp)
        waiting = self._record.waiting()
        if waiting is not None:
            raise waiting.error()
        if isinstance(codes, FixedCode) and self._record.is_used(codes.text):
            raise SignInError(
                "The six digits in SEQUENCE_TOTP were already used for a login, and work only once. Set SEQUENCE_TOTP"
                " to the secret of your authenticator instead; this program then makes the codes."
            )
        chromium = find_chromium(self._settings.chromium)
        attempt = _Attempt(self._record, codes, self._stopping)
        log.info("Signing in at %s with %s.", self._settings.app_url, chromium)
        try:
            granted = anyio.run(self._drive, chromium, attempt)
        except SignInNotAttemptedError:
            attempt.undo()
            raise
        except SignInRefusedError as error:
            attempt.count()  # a page before the password page can refuse too
            self._record.explain(str(error))
            raise
        except SignInError as error:
            if attempt.is_counted:
                self._record.explain(str(error))
            raise
        return granted

    def stop(self) -> None:
        """Stop a running login before it submits the password, unless it is too late."""
        self._stopping.set()

    async def _drive(self, chromium: Path, attempt: "_Attempt") -> Granted:
        async with open_chromium(chromium, headed=False) as browser:
            pages = await _open_pages(browser, self._settings, (self._password, self._totp), self._debug_directory)
            return await pages.sign_in(self._email, self._password, attempt)


class _Attempt:
    """Records what a login is about to do. Implements `pages.Attempt`."""

    def __init__(self, record: SignInRecord, codes: FixedCode | CodeMaker, stopping: threading.Event) -> None:
        self._record = record
        self._codes = codes
        self._stopping = stopping
        self._before: Record | None = None

    @property
    def is_counted(self) -> bool:
        """Whether the login counts as refused unless it succeeds."""
        return self._before is not None

    def begin(self) -> None:
        """See `pages.Attempt.begin`."""
        self.check()
        self.count()

    def count(self) -> None:
        """Count the login as refused, once."""
        if self._before is None:
            self._before = self._record.begin()

    def check(self) -> None:
        """See `pages.Attempt.check`."""
        if self._stopping.is_set() and not self.is_counted:
            raise SignInNotAttemptedError("The program is stopping. No password was submitted.")

    def check_clock(self, page_ahead_seconds: float | None) -> None:
        """See `pages.Attempt.check_clock`."""
        if page_ahead_seconds is None or isinstance(self._codes, FixedCode):
            return
        if abs(page_ahead_seconds) > MAX_CODE_CLOCK_OFFSET_SECONDS:
            where = "behind" if page_ahead_seconds > 0 else "ahead of"
            raise SignInNotAttemptedError(
                f"This machine's clock is {abs(page_ahead_seconds):,.0f} seconds {where} the login page's, so every"
                " one-time code would be refused. Set the clock, for example with NTP. No code was tried, and this does"
                " not count as a failed login."
            )

    async def next_code(self) -> str:
        """See `pages.Attempt.next_code`."""
        if isinstance(self._codes, FixedCode):
            self._record.use_fixed_code(self._codes.text)
            return self._codes.text
        used_until = self._record.code_used_until
        code = self._codes.next(time.time(), used_until)
        while code.wait_seconds > 0:
            log.debug("waiting %.1f s for the next one-time code", code.wait_seconds)
            await anyio.sleep(code.wait_seconds)
            code = self._codes.next(time.time(), used_until)
        self._record.use_code(code.ends_at)
        return code.text

    def undo(self) -> None:
        """Stop counting the login as refused, because no password was submitted, or it certainly did not arrive."""
        if self._before is not None:
            self._record.undo(self._before)
            self._before = None


def sign_in_by_hand(settings: Settings, check: Callable[[], None], debug_directory: Path | None = None) -> Granted:
    """Open a browser window in which a person signs in. Blocks until that is done.

    Args:
        settings: the address of the application, Chromium, and the time limit of a step.
        check: raises if the sign-in is no longer wanted.
        debug_directory: where to save a screenshot if the application does not load.

    Raises:
        SignInError: the person did not sign in, or no window can be opened.
        SettingsError: ``SEQUENCE_CHROMIUM`` is not a program.
    """
    return anyio.run(_drive_by_hand, settings, check, find_chromium(settings.chromium), debug_directory)


async def _drive_by_hand(
    settings: Settings, check: Callable[[], None], chromium: Path, debug_directory: Path | None
) -> Granted:
    async with open_chromium(chromium, headed=True) as browser:
        pages = await _open_pages(browser, settings, (), debug_directory)
        return await pages.wait_for_person(check)


async def _open_pages(
    browser: "Browser", settings: Settings, secrets: tuple[str, ...], debug_directory: Path | None
) -> "LoginPages":
    from pysequence_api.sequence.sign_in.pages import LoginPages  # noqa: PLC0415 - needs Playwright, an optional extra

    page = await browser.new_page()
    return LoginPages(
        page,
        app_url=settings.app_url,
        auth_url=settings.auth_url,
        step_timeout_seconds=settings.sign_in_step_seconds,
        secrets=secrets,
        debug_directory=debug_directory,
    )


def open_record(settings: Settings, directory: Path) -> SignInRecord:
    """Open the record of logins for the credentials of the settings."""
    secrets = (value for value in (settings.password, settings.totp) if value is not None)
    return SignInRecord(directory, (settings.email or "", *(secret.get_secret_value() for secret in secrets)))


def missing_credentials(settings: Settings) -> list[str]:
    """Return the names of the variables that a login needs and that are not set."""
    return [variable(name) for name in CREDENTIAL_FIELDS if getattr(settings, name) is None]


def longest_login_seconds(settings: Settings) -> float:
    """Return the longest time that a login can take."""
    steps_seconds = MAX_STEPS * (settings.sign_in_step_seconds + STEP_EXTRA_SECONDS)
    return START_TIMEOUT_SECONDS + steps_seconds + CODE_WAIT_SECONDS + CLOSE_TIMEOUT_SECONDS
