"""A full login: whether it may be, the browser that does it, and what is written down before and after.

What is here blocks, and runs in a worker thread under the lock of the sign-in. The browser has an event loop of its own
there, so that files can be written between two of its steps.
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
from pysequence_api.settings import Settings, variable

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from pysequence_api.sequence.sign_in.pages import Granted, LoginPages

log = logging.getLogger(__name__)

CREDENTIAL_FIELDS = ("email", "password", "totp")
STEPS = 8
"""As many as a login has at most, each with a bound of its own."""
STEP_EXTRA_SECONDS = 10.0
"""What a step that fails takes beyond its bound, to say what the page shows."""
CODE_WAIT_SECONDS = 60.0
"""The longest that a usual code is waited for: this one may be about to run out, and the one before have been used."""


class Login:
    """Signs in with the credentials of the settings.

    Args:
        settings: email, password and one-time code or its secret; address, Chromium and bound of the pages.
        record: what is remembered of logins.
        debug_directory: gets pictures of pages at which a login stopped.

    Raises:
        SettingsError: a credential is missing, or ``SEQUENCE_TOTP`` is not what it should be.
    """

    def __init__(self, settings: Settings, record: SignInRecord, debug_directory: Path | None = None) -> None:
        if settings.email is None or settings.password is None or settings.totp is None:
            raise SettingsError(f"{' and '.join(missing_credentials(settings))} must be set for a login.")
        self._settings = settings
        self._email, self._password = settings.email, settings.password.get_secret_value()
        self._codes = read_codes(settings.totp.get_secret_value())
        self._secrets = (self._password, settings.totp.get_secret_value())
        self._record = record
        self._debug_directory = debug_directory
        self._stopping = threading.Event()

    @classmethod
    def from_settings(cls, settings: Settings, directory: Path, debug_directory: Path | None = None) -> Self | None:
        """Make a login if everything for it is set.

        Raises:
            SettingsError: ``SEQUENCE_TOTP`` is not what it should be.
        """
        if missing_credentials(settings):
            return None
        return cls(settings, open_record(settings, directory), debug_directory)

    def run(self) -> "Granted":
        """Sign in, if that may be now.

        Raises:
            SignInWaitsError: not yet, after a login that failed.
            SignInRefusedError: the page said no.
            SignInError: anything else.
            SettingsError: ``SEQUENCE_CHROMIUM`` names nothing that can be run.
        """
        waiting = self._record.waiting()
        if waiting is not None:
            raise waiting.error()
        if isinstance(self._codes, FixedCode) and self._record.is_used(self._codes.text):
            raise SignInError(
                "The six digits in SEQUENCE_TOTP have been used for a login already, and are good for one only. Set"
                " the secret of your authenticator there instead, of which this program makes codes itself."
            )
        chromium = find_chromium(self._settings.chromium)
        attempt = _Attempt(self._record, self._codes, self._stopping)
        log.info("Signing in at %s with %s.", self._settings.app_url, chromium)
        try:
            granted = anyio.run(self._drive, chromium, attempt)
        except SignInNotAttemptedError:
            attempt.take_back()
            raise
        except SignInRefusedError as error:
            attempt.count()  # a page before the password's can refuse as well
            self._record.explain(str(error))
            raise
        except SignInError as error:
            if attempt.is_counted:
                self._record.explain(str(error))
            raise
        return granted

    def stop(self) -> None:
        """Have a login that is going on end before its password is submitted, if that is not too late."""
        self._stopping.set()

    async def _drive(self, chromium: Path, attempt: "_Attempt") -> "Granted":
        async with open_chromium(chromium, headed=False) as browser:
            from pysequence_api.sequence.sign_in.pages import Credentials  # noqa: PLC0415 - needs the extra

            pages = await _open_pages(browser, self._settings, self._secrets, self._debug_directory)
            return await pages.sign_in(Credentials(self._email, self._password), attempt)


class _Attempt:
    """Writes down what a login is about to do."""

    def __init__(self, record: SignInRecord, codes: FixedCode | CodeMaker, stopping: threading.Event) -> None:
        self._record = record
        self._codes = codes
        self._stopping = stopping
        self._before: Record | None = None

    @property
    def is_counted(self) -> bool:
        """Whether it counts as refused until it is known better."""
        return self._before is not None

    def begin(self) -> None:
        """See `browser.Attempt.begin`."""
        self.check()
        self.count()

    def count(self) -> None:
        """Count it as refused, once."""
        if self._before is None:
            self._before = self._record.begin()

    def check(self) -> None:
        """See `browser.Attempt.check`."""
        if self._stopping.is_set() and not self.is_counted:
            raise SignInNotAttemptedError("The program ends; the login was left before a password was submitted.")

    async def next_code(self) -> str:
        """See `browser.Attempt.next_code`."""
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

    def take_back(self) -> None:
        """It is certain that no password was submitted, or none has arrived."""
        if self._before is not None:
            self._record.take_back(self._before)
            self._before = None


def sign_in_by_hand(settings: Settings, check: Callable[[], None], debug_directory: Path | None = None) -> "Granted":
    """Open a window, in which a person signs in. Blocks until that is done.

    Args:
        settings: address, Chromium and bound of the pages.
        check: raises if nobody is wanted to sign in any more.
        debug_directory: gets a picture if the application's page does not come.

    Raises:
        SignInError: nobody did, or there can be no window.
        SettingsError: ``SEQUENCE_CHROMIUM`` names nothing that can be run.
    """
    return anyio.run(_drive_by_hand, settings, check, find_chromium(settings.chromium), debug_directory)


async def _drive_by_hand(
    settings: Settings, check: Callable[[], None], chromium: Path, debug_directory: Path | None
) -> "Granted":
    async with open_chromium(chromium, headed=True) as browser:
        pages = await _open_pages(browser, settings, (), debug_directory)
        return await pages.wait_for_person(check)


async def _open_pages(
    browser: "Browser", settings: Settings, secrets: tuple[str, ...], debug_directory: Path | None
) -> "LoginPages":
    from pysequence_api.sequence.sign_in.pages import LoginPages  # noqa: PLC0415 - needs the extra

    page = await browser.new_page()
    return LoginPages(
        page,
        app_url=settings.app_url,
        step_timeout_seconds=settings.sign_in_step_seconds,
        secrets=secrets,
        debug_directory=debug_directory,
    )


def open_record(settings: Settings, directory: Path) -> SignInRecord:
    """Open what is remembered of logins, seen with the credentials of the settings."""
    secrets = (value for value in (settings.password, settings.totp) if value is not None)
    return SignInRecord(directory, (settings.email or "", *(secret.get_secret_value() for secret in secrets)))


def missing_credentials(settings: Settings) -> list[str]:
    """Name the variables that a login needs and that are not set."""
    return [variable(name) for name in CREDENTIAL_FIELDS if getattr(settings, name) is None]


def longest_login_seconds(settings: Settings) -> float:
    """Say how long a login takes at most, by whichever process."""
    steps_seconds = STEPS * (settings.sign_in_step_seconds + STEP_EXTRA_SECONDS)
    return START_TIMEOUT_SECONDS + steps_seconds + CODE_WAIT_SECONDS + CLOSE_TIMEOUT_SECONDS
