"""The login in a browser, page by page.

Every step has a name and a time limit. If a step fails, the error says what the page showed: shortened and without
secrets. Playwright's exceptions are never chained or quoted in full, because they repeat what was typed.
"""

import logging
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import anyio
from playwright.async_api import Error, Page, Request, Response
from playwright.async_api import TimeoutError as PlaywrightTimeoutError

from pysequence_api.errors import SignInError, SignInNotAttemptedError, SignInRefusedError
from pysequence_api.files import OWNER_ONLY
from pysequence_api.sequence.sign_in.token_cache import Granted, is_sendable
from pysequence_api.sequence.transport import clock_offset_seconds
from pysequence_api.text import plain_text

T = TypeVar("T")
Origin = tuple[str, str | None, int | None]

log = logging.getLogger(__name__)

CHECK_INTERVAL_SECONDS = 0.05
"""How often to check whether a page has arrived."""
BACKSTOP_SECONDS = 2.0
"""Added to Playwright's own time limit, for calls that Playwright does not limit."""
QUERY_TIMEOUT_SECONDS = 2.0
"""How long a page may take to report what it shows."""
HEADED_TIMEOUT_SECONDS = 15 * 60.0
"""How long a person may take to sign in by hand."""
PAGE_TEXT_CHARACTERS = 160
DEFAULT_PORTS = {"http": 80, "https": 443}

LOG_IN = re.compile(r"^\s*log in\s*$", re.IGNORECASE)
SUBMIT = 'button[type="submit"]'
ERRORS = '[data-error-code], [id^="error-element"], [id="prompt-alert"], [role="alert"], .ulp-input-error-message'
"""Where Auth0's pages show errors."""
_NEVER_CONNECTED = re.compile(
    r"net::ERR_(CONNECTION_REFUSED|NAME_NOT_RESOLVED|INTERNET_DISCONNECTED|ADDRESS_UNREACHABLE|CONNECTION_TIMED_OUT"
    r"|PROXY_CONNECTION_FAILED|TUNNEL_CONNECTION_FAILED|SSL_\w+|CERT_\w+)"
)
"""Errors after which it is certain that no byte of a form arrived."""
_SUPERSEDED = "net::ERR_ABORTED"
_READ_TOKENS = "() => ['access_token', 'refresh_token'].map(name => sessionStorage.getItem(name))"
_BLANK = "() => document.querySelectorAll('input, textarea').forEach(field => { field.value = ''; })"


class Step(StrEnum):
    """The pages of a login, as messages name them."""

    APPLICATION = "the application's page"
    EMAIL = "the email page"
    PASSWORD = "the password page"
    CODE = "the page for the one-time code"
    RETURN = "the return to the application"


FIELDS = {
    Step.EMAIL: 'input[name="username"], input[type="email"]',
    Step.PASSWORD: 'input[name="password"]',
    Step.CODE: 'input[name="code"], input[inputmode="numeric"]',
}


class Attempt(Protocol):
    """Called at the points of a login that have to be recorded."""

    def begin(self) -> None:
        """Record that the password is about to be submitted."""

    def check(self) -> None:
        """Raise if the login should stop."""

    def check_clock(self, page_ahead_seconds: float | None) -> None:
        """Raise if a one-time code would be refused because this machine's clock is wrong.

        Args:
            page_ahead_seconds: how far the clock of the login page is ahead of ours, at least; ``None`` if unknown.
        """

    async def next_code(self) -> str:
        """Wait for a one-time code, and record that it is about to be submitted."""


class LoginPages:
    """One login in one browser page.

    Args:
        page: an empty page of a new browser context.
        app_url: the address of the application.
        auth_url: the address of the login pages. Nothing is typed into a page of any other origin than these two.
        step_timeout_seconds: the time limit of each step.
        secrets: texts to remove from every message.
        debug_directory: where to save a screenshot of the page at which a step failed, with its fields blanked.
    """

    def __init__(
        self,
        page: Page,
        *,
        app_url: str,
        auth_url: str,
        step_timeout_seconds: float,
        secrets: tuple[str, ...] = (),
        debug_directory: Path | None = None,
    ) -> None:
        self._page = page
        self._app_url = app_url
        self._origins = {_origin(app_url), _origin(auth_url)}
        self._page_ahead_seconds: float | None = None
        self._timeout_seconds = step_timeout_seconds
        self._secrets = [secret for secret in secrets if secret]
        self._debug_directory = debug_directory
        self._status: int | None = None
        self._failure: str | None = None
        self._errors_before: str | None = None
        self._submitted = False
        page.set_default_timeout(step_timeout_seconds * 1000)
        page.on("response", self._on_response)
        page.on("requestfailed", self._on_request_failed)

    async def sign_in(self, email: str, password: str, attempt: Attempt) -> Granted:
        """Go through all pages of the login.

        Raises:
            SignInNotAttemptedError: no password was submitted, or it certainly did not arrive.
            SignInRefusedError: a page rejected what was typed.
            SignInError: the login failed in another way.
        """
        await self._open()
        async with self._step(Step.APPLICATION):
            button = self._page.get_by_role("button", name=LOG_IN).or_(self._page.get_by_role("link", name=LOG_IN))
            await button.first.click(no_wait_after=True)
        granted = await self._arrive(Step.EMAIL, attempt, left=None)
        if granted is None:
            await self._fill(Step.EMAIL, email, attempt)
            granted = await self._arrive(Step.PASSWORD, attempt, left=Step.EMAIL)
        if granted is None:
            await self._fill(Step.PASSWORD, password, attempt)
            granted = await self._arrive(Step.CODE, attempt, left=Step.PASSWORD)
        if granted is None:
            async with self._step(Step.CODE):
                attempt.check_clock(self._page_ahead_seconds)
            code = await attempt.next_code()
            self._secrets.append(code)
            await self._fill(Step.CODE, code, attempt)
            granted = await self._arrive(Step.RETURN, attempt, left=Step.CODE)
        if granted is None:
            raise SignInError("Signing in completed without a token. Try again later.")
        return granted

    async def wait_for_person(self, check: Callable[[], None]) -> Granted:
        """Open the application and wait until a person has signed in.

        Args:
            check: raises if the sign-in should stop.

        Raises:
            SignInError: the person did not sign in, or closed the window.
        """
        await self._open()
        deadline = time.monotonic() + HEADED_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            check()
            if self._page.is_closed():
                raise SignInError("The window was closed before the sign-in was complete.")
            granted = await self._granted()
            if granted is not None:
                return granted
            await anyio.sleep(CHECK_INTERVAL_SECONDS)
        raise SignInError(f"The sign-in was not completed within {HEADED_TIMEOUT_SECONDS / 60:g} minutes.")

    async def _open(self) -> None:
        async with self._step(Step.APPLICATION):
            response = await self._page.goto(self._app_url, wait_until="domcontentloaded")
            if response is not None and response.status >= 400:
                raise SignInNotAttemptedError(await self._message(Step.APPLICATION, f"HTTP {response.status}."))

    async def _fill(self, step: Step, text: str, attempt: Attempt) -> None:
        """Fill in the field of a page and press the button of its form.

        Args:
            step: the page.
            text: the text to type.
            attempt: asked before anything is typed, and told before the password is submitted.
        """
        page, field_of_step = self._page, self._page.locator(FIELDS[step]).locator("visible=true")
        async with self._step(step):
            # This field belongs to one document. If the page is replaced after the check, filling it in fails.
            field = await field_of_step.first.element_handle()
            await self._check_origin(step)
            attempt.check_clock(self._page_ahead_seconds)
            await field.fill(text)
            forms = page.locator("form").filter(has=field_of_step)
            button = (forms if await forms.count() else page).locator(SUBMIT).locator("visible=true").first
            await button.wait_for()
            self._errors_before = await self._shown(ERRORS)
            self._status = self._failure = None
            if step is Step.PASSWORD:
                attempt.begin()
                self._submitted = True
            await button.click(no_wait_after=True)

    async def _check_origin(self, step: Step) -> None:
        """Check that a page belongs to the login, so that no secret is typed into another one.

        Raises:
            SignInError: it does not.
        """
        if _origin(self._page.url) not in self._origins:
            expected = " or ".join(sorted(map(_shown_origin, self._origins)))
            here = self._clean(_shown_origin(_origin(self._page.url)))
            problem = f"nothing was typed, because it is at {here} instead of {expected}."
            raise self._error_class(await self._message(step, problem))

    async def _arrive(self, step: Step, attempt: Attempt, *, left: Step | None) -> Granted | None:
        """Wait for a page.

        Args:
            step: the page.
            attempt: checked for whether to go on.
            left: the previous page, which shows an error if what was typed there was wrong.

        Returns:
            The tokens, if the browser is back at the application.

        Raises:
            SignInRefusedError: the previous page shows an error.
            SignInNotAttemptedError: the page did not load, and no password was submitted.
            SignInError: the page did not load.
        """
        async with self._step(step, self._timeout_seconds):
            while True:
                await self._check_navigation(step)
                attempt.check()
                granted = await self._granted()
                if granted is not None or (step in FIELDS and await self._is_there(step)):
                    return granted
                if left is not None and await self._is_there(left) and (shown := await self._new_errors()):
                    raise SignInRefusedError(f"Signing in stopped at {left}, which says: {shown}")
                await anyio.sleep(CHECK_INTERVAL_SECONDS)

    async def _new_errors(self) -> str | None:
        """Return the errors that the page shows, if they are new since the last button was pressed."""
        shown = await self._shown(ERRORS)
        return shown if shown != self._errors_before or self._status is not None else None

    async def _check_navigation(self, step: Step) -> None:
        """Raise if the navigation to a page has failed."""
        failure, status = self._failure, self._status
        if failure is not None:
            may_have_arrived = self._submitted and not _NEVER_CONNECTED.search(failure)
            error_class = SignInError if may_have_arrived else SignInNotAttemptedError
            raise error_class(await self._message(step, f"{self._clean(failure)}."))
        if status is not None and status >= 500:
            raise self._error_class(await self._message(step, f"HTTP {status}."))

    @asynccontextmanager
    async def _step(self, step: Step, timeout_seconds: float | None = None) -> AsyncIterator[None]:
        """Limit the time of a step, and turn its failure into a `SignInError`.

        Args:
            step: the step.
            timeout_seconds: the limit; without it, Playwright's own limit plus a margin.
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
            late = f"it was not ready within {self._timeout_seconds:g} seconds."
            problem = late if _is_timeout(error) else f"{self._clean(_first_line(error))}."
            failed = self._error_class(await self._message(step, problem))
            await self._take_picture(step)
            raise failed from None

    @property
    def _error_class(self) -> type[SignInError]:
        return SignInError if self._submitted else SignInNotAttemptedError

    async def _halt(self) -> None:
        """Stop loading a page that does not arrive. Until then, Chromium does not report what it shows."""
        session = await _quietly(self._page.context.new_cdp_session(self._page))
        if session is not None:
            await _quietly(session.send("Page.stopLoading"))

    async def _message(self, step: Step, problem: str) -> str:
        shown = await self._shown("body")
        return f"Signing in stopped at {step}: {problem} The browser shows: {shown or '(nothing)'}"

    async def _granted(self) -> Granted | None:
        """Return the tokens from the application's session storage, if they are there."""
        if _origin(self._page.url) != _origin(self._app_url):
            return None
        found = await _quietly(self._page.evaluate(_READ_TOKENS))
        if not isinstance(found, list) or not is_sendable(found[0]):
            return None
        refresh_token = found[1] if isinstance(found[1], str) and found[1] else None
        return Granted(found[0], refresh_token, clock_offset_seconds=self._page_ahead_seconds)

    async def _is_there(self, step: Step) -> bool:
        return bool(await _quietly(self._page.locator(FIELDS[step]).locator("visible=true").count()))

    async def _shown(self, selector: str) -> str | None:
        """Return what a part of the page shows, safe for a message."""
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
            log.warning("No screenshot could be taken of the page at which signing in stopped.")
            return
        try:
            self._debug_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=OWNER_ONLY)
            path.chmod(OWNER_ONLY)
            path.write_bytes(picture)
        except OSError as error:
            log.warning("The screenshot of the page cannot be written to %s (%s).", path, error.strerror)
        else:
            log.warning("A screenshot of the page, with its fields blanked, is in %s.", path)

    async def _picture_without_secrets(self) -> bytes:
        await self._page.evaluate(_BLANK)
        return await self._page.screenshot(mask=[self._page.locator("input, textarea")], animations="disabled")

    def _on_response(self, response: Response) -> None:
        if self._is_navigation(response.request):
            self._status = response.status
            self._page_ahead_seconds = _ahead_seconds(response)

    def _on_request_failed(self, request: Request) -> None:
        failure = request.failure or ""
        if self._is_navigation(request) and _SUPERSEDED not in failure:
            self._failure = failure or "the connection failed"

    def _is_navigation(self, request: Request) -> bool:
        return request.is_navigation_request() and request.frame == self._page.main_frame


async def _quietly(query: Awaitable[T]) -> T | None:
    """Query the page; ``None`` if it is being replaced or does not answer."""
    try:
        with anyio.fail_after(QUERY_TIMEOUT_SECONDS):
            return await query
    except (Error, TimeoutError):
        return None


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, (TimeoutError, PlaywrightTimeoutError))


def _first_line(error: Exception) -> str:
    # The other lines are Playwright's log of the call, which repeats what was typed.
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _ahead_seconds(response: Response) -> float | None:
    """Return how far the clock of a page is ahead of ours, at least: less the time in which the page was on its way.

    ``None`` if the page does not say, or came from a cache.
    """
    timing, headers = response.request.timing, response.headers
    if "age" in headers:
        return None
    asked_at = (timing["startTime"] + max(timing["requestStart"], 0)) / 1000
    answered_at = time.time() if timing["responseStart"] < 0 else (timing["startTime"] + timing["responseStart"]) / 1000
    ahead_seconds = clock_offset_seconds(headers.get("date"), asked_at, answered_at)
    if ahead_seconds is None:
        return None
    return math.copysign(max(0.0, abs(ahead_seconds) - (answered_at - asked_at) / 2), ahead_seconds)


def _origin(url: str) -> Origin:
    parts = urlsplit(url)
    try:
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        port = None
    return parts.scheme, parts.hostname, port


def _shown_origin(origin: Origin) -> str:
    scheme, host, port = origin
    if host is None:
        return f"{scheme}:"
    return f"{scheme}://{host}" if port == DEFAULT_PORTS.get(scheme) else f"{scheme}://{host}:{port}"
