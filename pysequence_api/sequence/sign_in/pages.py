"""The login in a browser, page by page (upstream-graphql, Signing in).

Every step has a name and a bound. What stops a step is said with what the page showed: plain, bounded, without secrets.
Exceptions of Playwright are never chained or quoted, because they repeat what was typed.
"""

import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import anyio
from playwright.async_api import Error, Page, Request, Response
from playwright.async_api import TimeoutError as PlaywrightTimeoutError

from pysequence_api.errors import SignInError, SignInNotAttemptedError, SignInRefusedError
from pysequence_api.files import OWNER_ONLY
from pysequence_api.sequence.sign_in.token_cache import is_sendable
from pysequence_api.text import plain_text

T = TypeVar("T")

log = logging.getLogger(__name__)

LOOK_INTERVAL_SECONDS = 0.05
"""How often a page is looked at while it is waited for."""
BACKSTOP_SECONDS = 2.0
"""How much later than Playwright's own a step's bound is, for what Playwright does not bound."""
ASK_TIMEOUT_SECONDS = 2.0
"""How long a page may take to say what it shows."""
HEADED_TIMEOUT_SECONDS = 15 * 60.0
"""How long a person may take."""
PAGE_TEXT_CHARACTERS = 160

LOG_IN = re.compile(r"^\s*log in\s*$", re.IGNORECASE)
SUBMIT = 'button[type="submit"]'
ERRORS = '[data-error-code], [id^="error-element"], [id="prompt-alert"], [role="alert"], .ulp-input-error-message'
"""Where Auth0's pages say what is wrong."""
_NEVER_CONNECTED = re.compile(
    r"net::ERR_(CONNECTION_REFUSED|NAME_NOT_RESOLVED|INTERNET_DISCONNECTED|ADDRESS_UNREACHABLE|CONNECTION_TIMED_OUT"
    r"|PROXY_CONNECTION_FAILED|TUNNEL_CONNECTION_FAILED|SSL_\w+|CERT_\w+)"
)
"""Failures after which it is certain that not a byte of a form has arrived."""
_SUPERSEDED = "net::ERR_ABORTED"
_READ_TOKENS = "() => ['access_token', 'refresh_token'].map(name => sessionStorage.getItem(name))"
_BLANK = "() => document.querySelectorAll('input, textarea').forEach(field => { field.value = ''; })"


class Step(StrEnum):
    """The pages of a login, in the words of its messages."""

    APPLICATION = "the application's page"
    EMAIL = "the email page"
    PASSWORD = "the password page"
    CODE = "the page for the one-time code"
    RETURN = "the way back to the application"


FIELDS = {
    Step.EMAIL: 'input[name="username"], input[type="email"]',
    Step.PASSWORD: 'input[name="password"]',
    Step.CODE: 'input[name="code"], input[inputmode="numeric"]',
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a person types who signs in, but for the one-time code."""

    email: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Granted:
    """What a login brings."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)


class Attempt(Protocol):
    """What has to be written down while a login goes on."""

    def begin(self) -> None:
        """The password is about to be submitted."""

    def check(self) -> None:
        """Raise if the login is not wanted any more."""

    async def next_code(self) -> str:
        """Wait for a one-time code, and write down that it is about to be submitted."""


class LoginPages:
    """One login in one page.

    Args:
        page: an empty page of a fresh browser context.
        app_url: the application's address.
        step_timeout_seconds: the bound of each step.
        secrets: what no message may say.
        debug_directory: gets a picture of the page at which a step stopped, with its fields blanked.
    """

    def __init__(
        self,
        page: Page,
        *,
        app_url: str,
        step_timeout_seconds: float,
        secrets: tuple[str, ...] = (),
        debug_directory: Path | None = None,
    ) -> None:
        self._page = page
        self._app_url = app_url
        self._timeout_seconds = step_timeout_seconds
        self._secrets = [secret for secret in secrets if secret]
        self._debug_directory = debug_directory
        self._status: int | None = None
        self._failure: str | None = None
        self._said_before: str | None = None
        self._submitted = False
        page.set_default_timeout(step_timeout_seconds * 1000)
        page.on("response", self._on_response)
        page.on("requestfailed", self._on_request_failed)

    async def sign_in(self, credentials: Credentials, attempt: Attempt) -> Granted:
        """Type everything.

        Raises:
            SignInNotAttemptedError: it stopped before a password was submitted, or the password did not arrive.
            SignInRefusedError: the page said no.
            SignInError: anything else that stopped it.
        """
        await self._open()
        async with self._step(Step.APPLICATION):
            button = self._page.get_by_role("button", name=LOG_IN).or_(self._page.get_by_role("link", name=LOG_IN))
            await button.first.click(no_wait_after=True)
        granted = await self._arrive(Step.EMAIL, attempt, left=None)
        if granted is None:
            await self._fill(Step.EMAIL, credentials.email)
            granted = await self._arrive(Step.PASSWORD, attempt, left=Step.EMAIL)
        if granted is None:
            await self._fill(Step.PASSWORD, credentials.password, before=attempt.begin)
            granted = await self._arrive(Step.CODE, attempt, left=Step.PASSWORD)
        if granted is None:
            code = await attempt.next_code()
            self._secrets.append(code)
            await self._fill(Step.CODE, code)
            granted = await self._arrive(Step.RETURN, attempt, left=Step.CODE)
        if granted is None:
            raise SignInError("Signing in ended without a token.")
        return granted

    async def wait_for_person(self, check: Callable[[], None]) -> Granted:
        """Open the application, and wait until somebody has signed in.

        Args:
            check: raises if that is not wanted any more.

        Raises:
            SignInError: nobody has, or the window was closed.
        """
        await self._open()
        deadline = time.monotonic() + HEADED_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            check()
            if self._page.is_closed():
                raise SignInError("The window was closed before the application had a token.")
            granted = await self._granted()
            if granted is not None:
                return granted
            await anyio.sleep(LOOK_INTERVAL_SECONDS)
        raise SignInError(f"Nobody has signed in within {HEADED_TIMEOUT_SECONDS / 60:g} minutes.")

    async def _open(self) -> None:
        async with self._step(Step.APPLICATION):
            response = await self._page.goto(self._app_url, wait_until="domcontentloaded")
            if response is not None and response.status >= 400:
                raise SignInNotAttemptedError(await self._stopped(Step.APPLICATION, f"HTTP {response.status}."))

    async def _fill(self, step: Step, text: str, before: Callable[[], None] | None = None) -> None:
        """Fill the field of a page and press its form's button.

        Args:
            step: which page.
            text: what to type.
            before: called when nothing is left to do but to press.
        """
        page, field_of_step = self._page, self._page.locator(FIELDS[step]).locator("visible=true")
        async with self._step(step):
            await field_of_step.first.fill(text)
            forms = page.locator("form").filter(has=field_of_step)
            button = (forms if await forms.count() else page).locator(SUBMIT).locator("visible=true").first
            await button.wait_for()
            self._said_before = await self._shown(ERRORS)
            self._status = self._failure = None
            if before is not None:
                before()
                self._submitted = True
            await button.click(no_wait_after=True)

    async def _arrive(self, step: Step, attempt: Attempt, *, left: Step | None) -> Granted | None:
        """Wait for a page.

        Args:
            step: which.
            attempt: asked whether to go on.
            left: the page before, which comes back with an error text if what was typed there was wrong.

        Returns:
            The tokens, if the browser is back at the application.

        Raises:
            SignInRefusedError: the page before says no.
            SignInNotAttemptedError: the page does not come, and no password was submitted.
            SignInError: the page does not come.
        """
        async with self._step(step, self._timeout_seconds):
            while True:
                await self._check_way(step)
                attempt.check()
                granted = await self._granted()
                if granted is not None or (step in FIELDS and await self._is_there(step)):
                    return granted
                if left is not None and await self._is_there(left) and (said := await self._new_complaint()):
                    raise SignInRefusedError(f"Signing in stopped at {left}, which says: {said}")
                await anyio.sleep(LOOK_INTERVAL_SECONDS)

    async def _new_complaint(self) -> str | None:
        """What the page says is wrong, if it says so since the last button was pressed."""
        said = await self._shown(ERRORS)
        return said if said != self._said_before or self._status is not None else None

    async def _check_way(self, step: Step) -> None:
        """See whether the way to a page has failed."""
        failure, status = self._failure, self._status
        if failure is not None:
            counts = self._submitted and not _NEVER_CONNECTED.search(failure)
            kind = SignInError if counts else SignInNotAttemptedError
            raise kind(await self._stopped(step, f"{self._clean(failure)}."))
        if status is not None and status >= 500:
            raise self._kind(await self._stopped(step, f"HTTP {status}."))

    @asynccontextmanager
    async def _step(self, step: Step, timeout_seconds: float | None = None) -> AsyncIterator[None]:
        """Bound a step, and say what stopped it.

        Args:
            step: which.
            timeout_seconds: its bound, if it is not Playwright that keeps it.
        """
        log.debug("signing in: %s", step)
        try:
            with anyio.fail_after(timeout_seconds or self._timeout_seconds + BACKSTOP_SECONDS):
                yield
        except SignInError:
            await self._halt()
            await self._take_picture(step)
            raise
        except (TimeoutError, Error) as error:
            await self._halt()
            late = f"what was waited for did not come within {self._timeout_seconds:g} seconds."
            what = late if _is_timeout(error) else f"{self._clean(_first_line(error))}."
            stopped = self._kind(await self._stopped(step, what))
            await self._take_picture(step)
            raise stopped from None

    @property
    def _kind(self) -> type[SignInError]:
        return SignInError if self._submitted else SignInNotAttemptedError

    async def _halt(self) -> None:
        """Stop waiting for a page that does not come: until then, Chromium shows and tells nothing."""
        session = await _quietly(self._page.context.new_cdp_session(self._page))
        if session is not None:
            await _quietly(session.send("Page.stopLoading"))

    async def _stopped(self, step: Step, what: str) -> str:
        shown = await self._shown("body")
        return f"Signing in stopped at {step}: {what} The browser shows: {shown or '(nothing)'}"

    async def _granted(self) -> Granted | None:
        """Look into the application's session storage, where it puts what the login brought."""
        if _origin(self._page.url) != _origin(self._app_url):
            return None
        found = await _quietly(self._page.evaluate(_READ_TOKENS))
        if not isinstance(found, list) or not is_sendable(found[0]):
            return None
        return Granted(found[0], found[1] if isinstance(found[1], str) and found[1] else None)

    async def _is_there(self, step: Step) -> bool:
        return bool(await _quietly(self._page.locator(FIELDS[step]).locator("visible=true").count()))

    async def _shown(self, selector: str) -> str | None:
        """What a part of the page shows, fit for a message."""
        texts = await _quietly(self._page.locator(selector).locator("visible=true").all_inner_texts())
        text = " ".join(dict.fromkeys(" ".join(one.split()) for one in texts or ()))
        return self._clean(text) if text else None

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "(removed)")
        return plain_text(text, PAGE_TEXT_CHARACTERS)

    async def _take_picture(self, step: Step) -> None:
        if self._debug_directory is None:
            return
        path = self._debug_directory / f"sign-in-{step.name.lower()}.png"
        picture = await _quietly(self._picture_without_secrets())
        if picture is None:
            log.warning("There is no picture of the page at which signing in stopped.")
            return
        try:
            self._debug_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=OWNER_ONLY)
            path.chmod(OWNER_ONLY)
            path.write_bytes(picture)
        except OSError as error:
            log.warning("A picture of the page cannot be written to %s (%s).", path, error.strerror)
        else:
            log.warning("A picture of the page, with its fields blanked, is in %s.", path)

    async def _picture_without_secrets(self) -> bytes:
        await self._page.evaluate(_BLANK)
        return await self._page.screenshot(mask=[self._page.locator("input, textarea")], animations="disabled")

    def _on_response(self, response: Response) -> None:
        if self._is_navigation(response.request):
            self._status = response.status

    def _on_request_failed(self, request: Request) -> None:
        failure = request.failure or ""
        if self._is_navigation(request) and _SUPERSEDED not in failure:
            self._failure = failure or "the connection failed"

    def _is_navigation(self, request: Request) -> bool:
        return request.is_navigation_request() and request.frame == self._page.main_frame


async def _quietly(asked: Awaitable[T]) -> T | None:
    """Ask the page something; a page that is just being left says nothing, or does not answer at all."""
    try:
        with anyio.fail_after(ASK_TIMEOUT_SECONDS):
            return await asked
    except (Error, TimeoutError):
        return None


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, (TimeoutError, PlaywrightTimeoutError))


def _first_line(error: Exception) -> str:
    # The rest is Playwright's log of the call, which repeats what was typed.
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    try:
        return parts.scheme, parts.hostname, parts.port
    except ValueError:
        return parts.scheme, parts.hostname, None
