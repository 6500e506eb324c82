"""A real Chromium goes through the simulated login: `auth login`, and every way it can fail."""

import base64
import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import jwt
import pyotp
import pytest

from pysequence_api.errors import SignInError, SignInNotAttemptedError, SignInRefusedError, SignInWaitsError
from pysequence_api.sandbox import CLIENT_ID, EMAIL, TOTP_SECRET
from pysequence_api.sandbox.login_pages import BLOCKED
from pysequence_api.sequence.sign_in.chromium import open_chromium
from tests.sign_in.browser import SharedBrowser
from tests.sign_in.conftest import (
    WRONG_PASSWORD,
    SignInWorld,
    free_port,
    light_chromium,
    needs_chromium,
    until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.browser, needs_chromium]


@pytest.fixture(autouse=True)
def _shared_browser(browser: SharedBrowser) -> Iterator[None]:
    with browser.shared():
        yield


WRONG_CREDENTIALS = "Wrong email or password"  # what the simulated page shows


@pytest.mark.waits
async def test_login_with_a_secret(world: SignInWorld) -> None:
    ended = await world.run("--debug", "auth", "login", chromium=None)
    assert ended.code == 0, ended.err
    assert EMAIL in ended.out
    counted = world.sign_ins()
    assert (counted.passwords, counted.codes, counted.signed_in, counted.refused) == (1, 1, 1, {})
    tokens = world.cache()
    assert set(tokens) == {"access_token", "refresh_token", "expires_at"}
    assert tokens["refresh_token"] is None
    assert tokens["expires_at"] == jwt.decode(tokens["access_token"], options={"verify_signature": False})["exp"]
    for name in (".tokens.json", ".sign-in.json"):
        assert stat.S_IMODE((world.files.path / name).stat().st_mode) == 0o600
    again = await world.call("auth", "login")
    assert (again.code, again.out) == (0, ended.out)
    assert world.sign_ins() == counted, "a valid token is not replaced"
    status = (await world.call("auth", "status", "--json")).status
    assert (status["signed_in"], status["who"], status["got_by"], status["renews_by"]) == (
        True,
        EMAIL,
        "login",
        "login",
    )
    assert status["waiting"] is None


@pytest.mark.waits
async def test_six_digits_work_for_one_login(world: SignInWorld) -> None:
    """They need no clock: this machine's is wrong, and stops no login that makes no code."""
    world.clock.ahead_seconds = 1_000
    code = pyotp.TOTP(TOTP_SECRET).at(int(world.clock()))
    async with world.signing_in(totp=code) as sign_in:
        status = await sign_in.now()
    assert status.expires_at is not None
    assert status.expires_at.timestamp() - time.time() == pytest.approx(86_400, abs=60)
    (world.files.path / ".tokens.json").unlink()
    again = await world.call("auth", "login", totp=code)
    assert again.code == 4
    assert "secret of your authenticator" in again.err
    assert world.sign_ins().begun == 1


@pytest.mark.waits
async def test_a_wrong_password_is_not_tried_again(world: SignInWorld) -> None:
    async with world.signing_in(password=WRONG_PASSWORD) as sign_in:
        with pytest.raises(SignInRefusedError, match=f"the password page.*{WRONG_CREDENTIALS}"):
            await sign_in.now()
    async with world.signing_in(password=WRONG_PASSWORD) as sign_in:
        with pytest.raises(SignInWaitsError, match=WRONG_CREDENTIALS):
            await sign_in.now()
    assert world.sign_ins().passwords == 1
    waiting = (await world.call("auth", "status", "--json", password=WRONG_PASSWORD)).status["waiting"]
    assert waiting["refusals"] == 1
    assert WRONG_CREDENTIALS in waiting["reason"]
    async with world.signing_in() as sign_in:
        assert (await sign_in.now()).signed_in, "the credentials have changed"
    assert world.record()["refusals"] == 0


async def test_wrong_code(world: SignInWorld) -> None:
    async with world.signing_in(totp="000000") as sign_in:
        with pytest.raises(SignInRefusedError, match="The code you entered is invalid") as caught:  # as the page shows
            await sign_in.now()
    assert "000000" not in str(caught.value)
    assert world.sign_ins().refused == {"invalid-code": 1}


async def test_blocked_account(world: SignInWorld) -> None:
    world.change_sandbox(max_consecutive_refusals=1)
    async with httpx.AsyncClient(base_url=world.url, trust_env=False, follow_redirects=True) as client:
        asked = {"client_id": CLIENT_ID, "response_type": "token", "redirect_uri": world.url}
        page = await client.get("/authorize", params=asked)
        await client.post(str(page.url), data={"username": "nobody"})  # an attempt of another client
    async with world.signing_in() as sign_in:
        with pytest.raises(SignInRefusedError, match=BLOCKED[1][:60]):
            await sign_in.now()
        waiting = (await sign_in.status()).waiting
    assert waiting is not None
    assert waiting.refusals == 1


async def test_expired_token_without_refresh_token(world: SignInWorld) -> None:
    """A clock that is a few seconds off stops no login, nor does the old date of a page from a cache."""
    old = world.cache_tokens(lifetime_seconds=30)
    world.clock.ahead_seconds = 15
    world.fail({"kind": "date_offset_seconds", "seconds": -5_000}, operation="login/application")
    async with world.signing_in() as sign_in:
        assert (await sign_in.now()).signed_in
    assert (len(world.requests("oauth/token")), world.sign_ins().signed_in) == (0, 1)
    assert world.cache()["access_token"] != old["access_token"]


async def test_expired_token_with_refresh_token(world: SignInWorld) -> None:
    old = world.cache_tokens(lifetime_seconds=30, refresh=True)
    ended = await world.call("auth", "login")
    assert ended.code == 0, ended.err
    assert (len(world.requests("oauth/token")), world.sign_ins().begun) == (1, 0)
    assert world.cache()["refresh_token"] not in (None, old["refresh_token"])


async def test_a_login_follows_a_refused_refresh_token(world: SignInWorld) -> None:
    """Its pages do not tell the time, which stops no login."""
    world.change_sandbox(login_gives_refresh_token=True)
    world.cache_tokens(lifetime_seconds=30, refresh=True, refresh_token="not-a-valid-one")
    for operation in ("login/identifier", "login/submit-identifier", "login/password", "login/code"):
        world.fail({"kind": "no_date"}, operation=operation)
    async with world.signing_in() as sign_in:
        assert (await sign_in.now()).renews_by == "refresh token"
    assert (len(world.requests("oauth/token")), world.sign_ins().signed_in) == (1, 1)


@pytest.mark.waits
async def test_page_that_never_answers_before_the_password(world: SignInWorld) -> None:
    world.fail({"kind": "delay", "seconds": 600}, operation="login/password")
    shown = "the password page.*Welcome Email address Continue"  # what the simulated page shows
    async with world.signing_in(sign_in_step_seconds="2") as sign_in:
        with pytest.raises(SignInNotAttemptedError, match=shown):
            await sign_in.now()
    assert not (world.files.path / ".sign-in.json").exists(), "it does not count as a refusal"


@pytest.mark.parametrize(
    ("operation", "what", "shown", "step_seconds"),
    [
        ("login/application", {"kind": "status", "status": 500, "body": "Oops"}, "HTTP 500.*Oops", 10),
        ("login/application", {"kind": "html", "status": 200, "body": "<p>Soon"}, "the application's page.*Soon", 2),
        (
            "login/identifier",
            {"kind": "html", "status": 200, "body": "<h1>Are you a robot?"},
            "email page: .*a robot",
            2,
        ),
        ("login/submit-identifier", "half_body", "the password page: ", 10),
    ],
)
async def test_a_login_that_stops_before_the_password(
    world: SignInWorld, operation: str, what: object, shown: str, step_seconds: int
) -> None:
    world.fail(what, operation=operation)
    async with world.signing_in(sign_in_step_seconds=str(step_seconds)) as sign_in:
        with pytest.raises(SignInNotAttemptedError, match=shown):
            await sign_in.now()
    assert world.sign_ins().passwords == 0
    assert not (world.files.path / ".sign-in.json").exists()


async def test_no_code_is_tried_with_a_wrong_clock(world: SignInWorld) -> None:
    for begun, ahead_seconds in ((1, -100), (2, 86_400)):
        world.clock.ahead_seconds = ahead_seconds
        async with world.signing_in() as sign_in:
            with pytest.raises(SignInNotAttemptedError, match="machine's clock"):
                await sign_in.now()
        counted = world.sign_ins()
        assert (counted.begun, counted.passwords, counted.codes, counted.refused) == (begun, 0, 0, {})
        assert world.requests("login/submit-identifier") == []
        assert not (world.files.path / ".sign-in.json").exists(), "it does not count as a refusal"


async def test_the_clock_of_the_code_page_counts_too(world: SignInWorld) -> None:
    for operation in ("login/identifier", "login/password"):
        world.fail({"kind": "no_date"}, operation=operation)
    world.clock.ahead_seconds = 100
    async with world.signing_in() as sign_in:
        with pytest.raises(SignInNotAttemptedError):
            await sign_in.now()
        assert (await sign_in.status()).waiting is None
    assert (world.sign_ins().passwords, world.sign_ins().codes) == (1, 0)


FORM = (
    "<form method=post><input name={name} oninput=\"fetch('/typed?' + this.value)\">"
    "<button type=submit>Continue</button></form>"
)


@pytest.mark.parametrize(
    ("leaving", "arriving", "field", "refusals"),
    [
        ("login/submit-identifier", "/u/login/password", "password", None),
        ("login/submit-password", "/u/mfa-otp-challenge", "code", 1),
    ],
)
async def test_nothing_is_typed_at_another_origin(
    world: SignInWorld, leaving: str, arriving: str, field: str, refusals: int | None
) -> None:
    elsewhere = world.url.replace("127.0.0.1", "localhost")
    world.fail({"kind": "redirect", "status": 302, "location": elsewhere + arriving}, operation=leaving, when="after")
    world.fail({"kind": "html", "status": 200, "body": FORM.format(name=field)}, operation=f"login/{field}")
    async with world.signing_in() as sign_in:
        with pytest.raises(SignInError, match="localhost") as caught:
            await sign_in.now()
    assert isinstance(caught.value, SignInNotAttemptedError) is (refusals is None)
    paths = [entry.path for entry in world.requests() if entry.method == "POST" or entry.path == "/typed"]
    assert arriving not in paths
    assert "/typed" not in paths
    path = world.files.path / ".sign-in.json"
    assert (world.record()["refusals"] if path.exists() else None) == refusals


async def test_the_browser_gets_none_of_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("sequence_password", "in-lower-case")
    monkeypatch.setenv("SEQUENCE_API_KEY", "in-upper-case")
    script = tmp_path / "chromium"
    script.write_text(f'#!/bin/sh\nenv > "{tmp_path}/seen"\nexec "{light_chromium()}" "$@"\n')
    script.chmod(0o700)
    async with open_chromium(script, headed=False):
        seen = (tmp_path / "seen").read_text().splitlines()
    assert [line for line in seen if line.upper().startswith("SEQUENCE")] == []
    assert any(line.startswith("PATH=") for line in seen)


async def test_a_network_failure_is_not_a_refusal(world: SignInWorld) -> None:
    async with world.signing_in(app_url=f"http://127.0.0.1:{free_port()}") as sign_in:
        with pytest.raises(SignInNotAttemptedError, match="ERR_CONNECTION_REFUSED"):
            await sign_in.now()
    assert not (world.files.path / ".sign-in.json").exists()


@pytest.mark.waits
async def test_an_unknown_page_after_the_password_counts_as_a_refusal(world: SignInWorld) -> None:
    world.fail({"kind": "html", "status": 200, "body": "<p>Choose a method</p>"}, operation="login/code")
    async with world.signing_in(sign_in_step_seconds="1.5") as sign_in:
        with pytest.raises(SignInError, match="Choose a method"):
            await sign_in.now()
    assert world.record()["refusals"] == 1


async def test_a_crash_counts_as_a_refusal(world: SignInWorld) -> None:
    world.fail({"kind": "delay", "seconds": 600}, operation="login/submit-password")
    process = await world.start("auth", "login")
    await until(lambda: len(world.requests("login/submit-password")) == 1)
    process.send_signal(signal.SIGKILL)
    world.written += await process.communicate()
    ended = await world.call("auth", "login")
    assert ended.code == 4
    assert "unknown" in ended.err
    assert world.sign_ins().begun == 1


async def test_restarts_do_not_shorten_the_wait(world: SignInWorld) -> None:
    """Time passes in the file. The longer waits are in `test_record`."""
    for login, waited_minutes in enumerate((0, 1), start=1):
        if waited_minutes:
            world.let_time_pass(waited_minutes * 60 - 5)
            await refused(world, logins=login - 1)
            world.let_time_pass(6)
        await refused(world, logins=login)
        await refused(world, logins=login)


async def refused(world: SignInWorld, *, logins: int) -> None:
    """Try to sign in once, as after a restart."""
    async with world.signing_in(password=WRONG_PASSWORD) as sign_in:
        with pytest.raises(SignInError):
            await sign_in.now()
    assert world.sign_ins().passwords == logins


async def test_two_logins_use_different_codes(world: SignInWorld) -> None:
    world.change_sandbox(code_period_seconds=4)
    address = f"otpauth://totp/Sequence:alex?secret={TOTP_SECRET}&period=4"
    for _ in range(2):
        async with world.signing_in(totp=address) as sign_in:
            await sign_in.now()
            await sign_in.forget()
        assert abs(world.record()["code_used_until"] - time.time()) < 10
    counted = world.sign_ins()
    assert (counted.codes, counted.signed_in, counted.refused) == (2, 2, {})


async def test_the_screenshot_shows_no_secret(world: SignInWorld, browser: SharedBrowser, tmp_path: Path) -> None:
    """This page shows only what was typed, in black, so a screenshot without secrets has no black in it."""
    body = (
        "<body style='margin:0'><form method=post><input name=code autofocus style='font:99px serif;border:0;"
        "outline:0;color:#000;caret-color:transparent'><button type=submit style='opacity:.01'></button></form>"
    )
    world.fail({"kind": "html", "status": 200, "body": body}, operation="login/code")
    world.fail({"kind": "delay", "seconds": 600}, operation="login/submit-code")
    pictures = tmp_path / "pictures"
    async with world.signing_in(sign_in_step_seconds="2", debug_directory=pictures) as sign_in:
        with pytest.raises(SignInError, match="the return to the application"):
            await sign_in.now()
    (picture,) = pictures.iterdir()
    assert picture.name == "sign-in-return.png"
    assert stat.S_IMODE(picture.stat().st_mode) == 0o600
    assert darkest_pixel(browser, picture.read_bytes()) > 60


def darkest_pixel(browser: SharedBrowser, png: bytes) -> int:
    """Return the sum of red, green and blue of the darkest pixel."""
    script = """async (url) => {
        const image = new Image(); image.src = url; await image.decode();
        const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
        canvas.drawImage(image, 0, 0);
        const { data } = canvas.getImageData(0, 0, image.width, image.height);
        let darkest = 999;
        for (let i = 0; i < data.length; i += 4) darkest = Math.min(darkest, data[i] + data[i + 1] + data[i + 2]);
        return darkest;
    }"""
    return int(str(browser.evaluate(script, f"data:image/png;base64,{base64.b64encode(png).decode()}")))


async def test_signing_in_by_hand(world: SignInWorld, tmp_path: Path) -> None:
    """The browser has no window here, and a script in the page does what the person would do."""
    token = world.sandbox.issue_tokens().access_token
    world.secrets.add(token)
    person = f"<script>setTimeout(() => sessionStorage.setItem('access_token', '{token}'), 300)</script>"
    world.fail({"kind": "html", "status": 200, "body": person}, operation="login/application")
    ended = await world.run("auth", "login", "--headed", chromium=str(windowless_chromium(tmp_path)))
    assert ended.code == 0, ended.err
    assert world.cache()["access_token"] == token


async def test_a_signal_closes_the_window(world: SignInWorld, tmp_path: Path) -> None:
    process = await world.start("auth", "login", "--headed", chromium=str(windowless_chromium(tmp_path)))
    await until(lambda: len(world.requests("login/application")) == 1)
    process.send_signal(signal.SIGTERM)
    with anyio.fail_after(20):
        world.written += await process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert not (world.files.path / ".tokens.json").exists()


async def test_no_window_without_a_display(world: SignInWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    ended = await world.run("auth", "login", "--headed", chromium=None)
    assert ended.code == 4
    assert "no display" in ended.err


def windowless_chromium(directory: Path) -> Path:
    """Return a Chromium that never opens a window."""
    script = directory / "chromium-without-window"
    script.write_text(f'#!/bin/sh\nexec "{light_chromium()}" --headless "$@"\n')
    script.chmod(0o700)
    assert os.access(script, os.X_OK)
    return script
