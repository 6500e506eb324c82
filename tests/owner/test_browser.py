"""The owner's page in a real Chromium: on a phone and on a desk, by touch and by keyboard."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import pyotp
import pytest
import time_machine
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from pysequence_api.owner import PageServer
from pysequence_api.owner.sessions import Sessions
from pysequence_api.records.attempts import Attempt
from pysequence_api.records.states import State
from pysequence_api.sequence.sign_in.chromium import ARGUMENTS, find_chromium
from tests.api.server import free_port
from tests.owner.agents import AGENT, add_agent, ask, request
from tests.owner.person import PASSWORD, SECRET, STEP_SECONDS, set_up_owner
from tests.sign_in.conftest import LIGHT_CHROMIUM, needs_chromium
from tests.world import World, open_world

pytestmark = [pytest.mark.anyio, pytest.mark.browser, needs_chromium]
PHONE, DESK = (390, 844), (1280, 900)
MIN_TARGET_PIXELS = 44
SMALL_TARGETS = """least => [...document.querySelectorAll("button, .button, summary, nav a, input, select")]
    .filter(one => one.checkVisibility() && one.offsetWidth > 1 && one.offsetHeight < least)
    .map(one => one.outerHTML)"""
"""Finds what is too small for a finger."""
ELSEWHERE = "http://elsewhere.example/"
MAX_TABS = 40


@dataclass
class Shown:
    """A page that is served, and the browser that opens it."""

    world: World
    browser: Browser
    traveller: time_machine.Traveller
    url: str
    agents_key: str

    def new_code(self) -> str:
        """Wait for the next code of the authenticator."""
        self.traveller.shift(STEP_SECONDS)
        return pyotp.TOTP(SECRET).now()

    @asynccontextmanager
    async def open(self, size: tuple[int, int] = PHONE, *, signed_in: bool = True) -> AsyncIterator[Page]:
        """Open a window without cookies, or with the cookie of a session. It must not report an error."""
        context: BrowserContext = await self.browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            has_touch=size == PHONE,
            reduced_motion="reduce",  # colors change at once
        )
        if signed_in:
            cookie = await anyio.to_thread.run_sync(Sessions(self.world.gateway).begin)
            await context.add_cookies([{"name": "owner", "value": cookie, "url": self.url, "sameSite": "Strict"}])
        page = await context.new_page()
        page.set_default_timeout(10_000)
        yield page
        await context.close()

    def attempts(self, state: State) -> list[Attempt]:
        """List the attempts in a state."""
        return [one for one in self.world.attempts() if one.state is state]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run on asyncio, in one event loop, so that the tests can share the browser."""
    return "asyncio"


@pytest.fixture(scope="module")
async def shown(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[Shown]:
    """The page with an agent and a history, and one browser for all tests."""
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SEQUENCE_")]:
            patch.delenv(name)
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        async with (
            open_world(tmp_path_factory.mktemp("data"), owner_port=port) as world,
            async_playwright() as playwright,
            anyio.create_task_group() as tasks,
        ):
            set_up_owner(world.gateway)
            key = add_agent(world)
            await request(world, key, 4_520)
            server = PageServer.open(world.gateway, None, None)
            tasks.start_soon(server.serve)
            path = LIGHT_CHROMIUM or find_chromium(None)
            browser = await playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS, "--no-sandbox"])
            with time_machine.travel(world.gateway.records.now(), tick=True) as traveller:
                yield Shown(world, browser, traveller, f"http://127.0.0.1:{port}", key)
            await browser.close()
            server.stop()


async def focused(page: Page) -> str:
    """Return the text, or else the name, of what has the focus."""
    text = await page.evaluate("(document.activeElement.innerText || document.activeElement.name || '').trim()")
    return str(text)


async def tab_to(page: Page, text: str) -> None:
    """Press Tab until something has the focus."""
    for _ in range(MAX_TABS):
        if (await focused(page)).startswith(text):
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"{text!r} cannot be reached with the keyboard")


@pytest.mark.waits
async def test_sign_in_and_approve_with_the_keyboard(shown: Shown) -> None:
    asked = await ask(shown.world, shown.agents_key, 20_000)
    async with shown.open(DESK, signed_in=False) as page:
        await page.goto(f"{shown.url}/transfers/{asked}")
        await tab_to(page, "password")
        await page.keyboard.type(PASSWORD)
        await tab_to(page, "code")
        await page.keyboard.type(shown.new_code())
        await page.keyboard.press("Enter")
        await page.wait_for_selector("text=Approve and send $200.00")
        await tab_to(page, "code")
        await page.keyboard.type(shown.new_code())
        await page.keyboard.press("Enter")
        await page.wait_for_selector("text=This is what became of it")
        assert page.url == f"{shown.url}/transfers/{asked}?note=approved"
        await page.reload()  # that sends nothing again
        await page.go_back()
    assert [one.id for one in shown.attempts(State.ACCEPTED) if one.amount_cents == 20_000] == [asked]


async def test_freeze_and_unfreeze_on_a_phone(shown: Shown) -> None:
    async with shown.open(PHONE) as page:
        await page.goto(f"{shown.url}/audit")
        await page.tap("text=Freeze everything")
        await page.wait_for_selector("text=Everything is frozen")
        assert shown.world.gateway.limits().frozen
        await page.tap("summary")
        await page.fill("#unfreeze-code", shown.new_code())
        await page.tap("text=Let transfers go on")
        await page.wait_for_selector("text=Transfers go on.")
    assert not shown.world.gateway.limits().frozen


@pytest.mark.waits
async def test_every_page_fits_and_is_accessible(shown: Shown) -> None:
    waiting = [one.id for one in shown.attempts(State.AWAITING_APPROVAL)]
    asked = waiting[0] if waiting else await ask(shown.world, shown.agents_key, 25_000)
    async with shown.open(PHONE) as page:
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        for path in ("/", "/callers", "/transfers", "/audit", f"/transfers/{asked}", "/sign-in", "/transfers/x"):
            await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
            await page.emulate_media(color_scheme="light")
            await page.goto(f"{shown.url}{path}")
            await check_page(page)
            await page.set_viewport_size({"width": DESK[0], "height": DESK[1]})
            await page.emulate_media(color_scheme="dark")
            await check_page(page, runOnly=["color-contrast"])  # all that the colors change
        assert [text for text in errors if "404" not in text] == []


async def check_page(page: Page, **options: list[str]) -> None:
    """Check what is shown: the rules of accessibility, with options of axe, and that everything fits."""
    found = (await Axe().run(page, options={"resultTypes": ["violations"]} | options)).response
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == [], page.url
    assert "color-contrast" in {one["id"] for one in found["passes"]}
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url
    assert await page.evaluate(SMALL_TARGETS, MIN_TARGET_PIXELS) == [], page.url


async def test_another_site_can_neither_frame_the_page_nor_use_its_session(shown: Shown) -> None:
    before = shown.world.files.trail()
    async with shown.open(DESK) as page:
        framing = f'<iframe src="{shown.url}/"></iframe>'
        form = f'<form method="post" action="{shown.url}/freeze"><button>Win</button></form>'
        await page.route(f"{ELSEWHERE}**", lambda route: route.fulfill(body=framing + form, content_type="text/html"))
        await page.goto(ELSEWHERE)
        await page.wait_for_load_state("networkidle")
        (frame,) = page.frames[1:]
        assert frame.url.startswith("chrome-error:")
        await page.click("text=Win")
        await page.wait_for_selector("text=Nothing was done")
    assert shown.world.files.trail() == before


async def test_freeze_one_caller(shown: Shown) -> None:
    async with shown.open(PHONE) as page:
        await page.goto(f"{shown.url}/callers")
        await page.tap(f"text=Freeze {AGENT}")
        await page.wait_for_selector("text=Frozen since")
        await page.tap(f"text=Unfreeze {AGENT}")
        await page.fill(f"#code-{AGENT}", shown.new_code())
        await page.keyboard.press("Enter")
        await page.wait_for_selector("text=Transfers of this caller go on.")
