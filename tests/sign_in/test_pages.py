"""A real Chromium through the simulated login: by `auth login`, and what each thing that goes wrong becomes."""

import os
import signal
import stat
import time
from pathlib import Path

import anyio
import httpx
import jwt
import pytest

from pysequence_api.errors import SignInError, SignInNotAttemptedError, SignInRefusedError, SignInWaitsError
from pysequence_api.sandbox import CLIENT_ID, EMAIL, TOTP_SECRET
from pysequence_api.sandbox.pages import BLOCKED
from tests.sign_in.conftest import WRONG_PASSWORD, Stage, current_code, free_port, needs_chromium, until

pytestmark = [pytest.mark.anyio, pytest.mark.browser, needs_chromium]


async def test_fresh_login_with_a_secret(stage: Stage) -> None:
    ended = await stage.run("--debug", "auth", "login", chromium=None)
    assert ended.code == 0, ended.err
    assert ended.out.startswith(f"Signed in as {EMAIL} until ")
    counted = stage.sign_ins()
    assert (counted.passwords, counted.codes, counted.signed_in, counted.refused) == (1, 1, 1, {})
    tokens = stage.cache()
    assert set(tokens) == {"access_token", "refresh_token", "expires_at"}
    assert tokens["refresh_token"] is None
    assert tokens["expires_at"] == jwt.decode(tokens["access_token"], options={"verify_signature": False})["exp"]
    for name in (".tokens.json", ".sign-in.json"):
        assert stat.S_IMODE((stage.directory / name).stat().st_mode) == 0o600
    again = await stage.run("auth", "login")
    assert (again.code, again.out) == (0, ended.out)
    assert stage.sign_ins() == counted, "a token that is good is not replaced"
    status = (await stage.run("auth", "status", "--json")).status
    assert (status["signed_in"], status["who"], status["got_by"], status["renews_by"]) == (
        True,
        EMAIL,
        "login",
        "login",
    )
    assert status["waiting"] is None


async def test_six_digits_are_good_for_one_login(stage: Stage) -> None:
    code = current_code()
    first = await stage.run("auth", "login", totp=code)
    assert first.code == 0, first.err
    (stage.directory / ".tokens.json").unlink()
    again = await stage.run("auth", "login", totp=code)
    assert again.code == 4
    assert "have been used for a login already" in again.err
    assert "Set the secret of your authenticator" in again.err
    assert stage.sign_ins().begun == 1


async def test_wrong_password_is_not_repeated_until_it_is_changed(stage: Stage) -> None:
    first = await stage.run("auth", "login", password=WRONG_PASSWORD)
    assert first.code == 4
    assert first.err.endswith("Error: Signing in stopped at the password page, which says: Wrong email or password\n")
    async with stage.signing_in(password=WRONG_PASSWORD) as sign_in:
        with pytest.raises(SignInWaitsError, match=r"No login before 20.*failed once.*Wrong email or password"):
            await sign_in.now()
    assert stage.sign_ins().passwords == 1
    waiting = (await stage.run("auth", "status", "--json", password=WRONG_PASSWORD)).status["waiting"]
    assert waiting["refusals"] == 1
    assert "Wrong email or password" in waiting["reason"]
    async with stage.signing_in() as sign_in:
        assert (await sign_in.now()).signed_in, "the credentials have changed"
    assert stage.record()["refusals"] == 0


async def test_wrong_code(stage: Stage) -> None:
    ended = await stage.run("auth", "login", totp="000000")
    assert ended.code == 4
    assert "stopped at the page for the one-time code, which says: The code you entered is invalid" in ended.err
    assert "000000" not in ended.err
    assert stage.sign_ins().refused == {"invalid-code": 1}


async def test_blocked_account(stage: Stage) -> None:
    stage.settings(max_consecutive_refusals=1)
    async with httpx.AsyncClient(base_url=stage.url, trust_env=False, follow_redirects=True) as client:
        asked = {"client_id": CLIENT_ID, "response_type": "token", "redirect_uri": stage.url}
        page = await client.get("/authorize", params=asked)
        await client.post(str(page.url), data={"username": "nobody"})  # somebody else's attempt
    async with stage.signing_in() as sign_in:
        with pytest.raises(SignInRefusedError, match=BLOCKED[1][:60]):
            await sign_in.now()
        waiting = (await sign_in.status()).waiting
    assert waiting is not None
    assert waiting.refusals == 1


async def test_expired_token_without_refresh_token(stage: Stage) -> None:
    old = stage.write_cache(lifetime_seconds=30)
    ended = await stage.run("auth", "login")
    assert ended.code == 0, ended.err
    assert (stage.count("oauth/token"), stage.sign_ins().signed_in) == (0, 1)
    assert stage.cache()["access_token"] != old["access_token"]


async def test_expired_token_with_refresh_token(stage: Stage) -> None:
    old = stage.write_cache(lifetime_seconds=30, refresh=True)
    ended = await stage.run("auth", "login")
    assert ended.code == 0, ended.err
    assert "refresh" in ended.out
    assert (stage.count("oauth/token"), stage.sign_ins().begun) == (1, 0)
    assert stage.cache()["refresh_token"] not in (None, old["refresh_token"])


async def test_refused_refresh_token_leads_to_a_login_that_brings_another(stage: Stage) -> None:
    stage.settings(login_gives_refresh_token=True)
    stage.write_cache(lifetime_seconds=30, refresh=True)
    (stage.directory / ".tokens.json").write_text(
        (stage.directory / ".tokens.json").read_text().replace('"refresh_token": "', '"refresh_token": "not-')
    )
    async with stage.signing_in() as sign_in:
        assert (await sign_in.now()).renews_by == "refresh token"
    assert (stage.count("oauth/token"), stage.sign_ins().signed_in) == (1, 1)


async def test_page_that_never_answers_before_the_password(stage: Stage) -> None:
    stage.arm("login/password", {"kind": "delay", "seconds": 600})
    ended = await stage.run("auth", "login", sign_in_step_seconds="2")
    assert ended.code == 4
    assert "stopped at the password page: what was waited for did not come within 2 seconds" in ended.err
    assert "The browser shows: Welcome Email address Continue" in ended.err
    assert not (stage.directory / ".sign-in.json").exists(), "it is no refusal"


async def test_page_that_never_answers_after_the_password(stage: Stage) -> None:
    stage.arm("login/submit-password", {"kind": "delay", "seconds": 600})
    async with stage.signing_in(sign_in_step_seconds="2") as sign_in:
        with pytest.raises(SignInError, match="the page for the one-time code: what was waited for did not come"):
            await sign_in.now()
    assert stage.record()["refusals"] == 1, "nobody knows what became of the password"


@pytest.mark.parametrize(
    ("operation", "what", "said"),
    [
        (
            "login/application",
            {"kind": "status", "status": 500, "body": "Oops"},
            "page: HTTP 500. The browser shows: Oops",
        ),
        (
            "login/application",
            {"kind": "html", "status": 200, "body": "<p>Soon"},
            "did not come.* The browser shows: Soon",
        ),
        ("login/identifier", {"kind": "html", "status": 200, "body": "<h1>Are you a robot?"}, "email page: .*a robot"),
        ("login/password", {"kind": "html", "status": 200, "body": "<p>New!</p>"}, "the password page: .*New!"),
        ("login/submit-identifier", "half_body", "the password page: "),
    ],
)
async def test_what_stops_a_login_before_the_password(stage: Stage, operation: str, what: object, said: str) -> None:
    stage.arm(operation, what)
    async with stage.signing_in(sign_in_step_seconds="1.5") as sign_in:
        with pytest.raises(SignInNotAttemptedError, match=f"^Signing in stopped at .*{said}"):
            await sign_in.now()
    assert stage.sign_ins().passwords == 0
    assert not (stage.directory / ".sign-in.json").exists()


async def test_network_that_fails_is_no_refusal(stage: Stage) -> None:
    async with stage.signing_in(app_url=f"http://127.0.0.1:{free_port()}") as sign_in:
        with pytest.raises(SignInNotAttemptedError, match="ERR_CONNECTION_REFUSED"):
            await sign_in.now()
    assert not (stage.directory / ".sign-in.json").exists()


async def test_page_of_the_code_that_changed_counts(stage: Stage) -> None:
    stage.arm("login/code", {"kind": "html", "status": 200, "body": "<p>Choose a method</p>"})
    async with stage.signing_in(sign_in_step_seconds="1.5") as sign_in:
        with pytest.raises(SignInError, match="Choose a method"):
            await sign_in.now()
    assert stage.record()["refusals"] == 1


async def test_a_crash_counts(stage: Stage) -> None:
    stage.arm("login/submit-password", {"kind": "delay", "seconds": 600})
    process = await stage.start("auth", "login")
    await until(lambda: stage.count("login/submit-password") == 1)
    process.send_signal(signal.SIGKILL)
    stage.written += await process.communicate()
    ended = await stage.run("auth", "login")
    assert ended.code == 4
    assert "it was begun, and nobody knows how it ended" in ended.err
    assert stage.sign_ins().begun == 1


async def test_restarts_with_wrong_credentials_make_no_more_logins_than_the_waiting_allows(stage: Stage) -> None:
    """The time passes in the file, as it would on the clock. How it goes on is in `test_record`."""
    for login, waited_minutes in enumerate((0, 1, 5), start=1):
        if waited_minutes:
            stage.let_time_pass(waited_minutes * 60 - 5)
            await refused(stage, logins=login - 1)
            stage.let_time_pass(6)
        await refused(stage, logins=login)
        await refused(stage, logins=login)


async def refused(stage: Stage, *, logins: int) -> None:
    """Start once, as after a restart."""
    async with stage.signing_in(password=WRONG_PASSWORD) as sign_in:
        with pytest.raises(SignInError):
            await sign_in.now()
    assert stage.sign_ins().passwords == logins


async def test_two_logins_never_use_the_same_code(stage: Stage) -> None:
    stage.settings(code_period_seconds=4)
    address = f"otpauth://totp/Sequence:alex?secret={TOTP_SECRET}&period=4"
    for _ in range(2):
        async with stage.signing_in(totp=address) as sign_in:
            await sign_in.now()
            await sign_in.forget()
        assert abs(stage.record()["code_used_until"] - time.time()) < 10
    counted = stage.sign_ins()
    assert (counted.codes, counted.signed_in, counted.refused) == (2, 2, {})


async def test_a_picture_of_the_page_has_no_secret_in_it(stage: Stage, tmp_path: Path) -> None:
    """All that this page shows is what was typed; a picture without it has no black in it."""
    body = (
        "<body style='margin:0'><form method=post><input name=code autofocus style='font:99px serif;border:0;"
        "outline:0;color:#000;caret-color:transparent'><button type=submit style='opacity:.01'></button></form>"
    )
    stage.arm("login/code", {"kind": "html", "status": 200, "body": body})
    stage.arm("login/submit-code", {"kind": "delay", "seconds": 600})
    pictures = tmp_path / "pictures"
    async with stage.signing_in(sign_in_step_seconds="2", debug_directory=pictures) as sign_in:
        with pytest.raises(SignInError, match="the way back to the application"):
            await sign_in.now()
    (picture,) = pictures.iterdir()
    assert picture.name == "sign-in-return.png"
    assert stat.S_IMODE(picture.stat().st_mode) == 0o600
    assert await darkest_pixel(picture.read_bytes()) > 60


async def darkest_pixel(png: bytes) -> int:
    """The sum of red, green and blue of a picture's darkest pixel."""
    import base64  # noqa: PLC0415

    from playwright.async_api import async_playwright  # noqa: PLC0415

    from pysequence_api.sequence.sign_in.chromium import find_chromium  # noqa: PLC0415

    script = """async (url) => {
        const image = new Image(); image.src = url; await image.decode();
        const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
        canvas.drawImage(image, 0, 0);
        const { data } = canvas.getImageData(0, 0, image.width, image.height);
        let darkest = 999;
        for (let i = 0; i < data.length; i += 4) darkest = Math.min(darkest, data[i] + data[i + 1] + data[i + 2]);
        return darkest;
    }"""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(None))
        page = await browser.new_page()
        darkest = await page.evaluate(script, f"data:image/png;base64,{base64.b64encode(png).decode()}")
        await browser.close()
    return int(darkest)


async def test_by_hand(stage: Stage, tmp_path: Path) -> None:
    """A window in which somebody signs in; here it is none, and the page does what the person would."""
    token = stage.sandbox.issue_tokens().access_token
    stage.secrets.add(token)
    person = f"<script>setTimeout(() => sessionStorage.setItem('access_token', '{token}'), 300)</script>"
    stage.arm("login/application", {"kind": "html", "status": 200, "body": person})
    ended = await stage.run("auth", "login", "--headed", chromium=str(windowless_chromium(tmp_path)))
    assert ended.code == 0, ended.err
    assert "login by hand" in ended.out
    assert stage.cache()["access_token"] == token


async def test_a_signal_closes_the_window(stage: Stage, tmp_path: Path) -> None:
    process = await stage.start("auth", "login", "--headed", chromium=str(windowless_chromium(tmp_path)))
    await until(lambda: stage.count("login/application") == 1)
    process.send_signal(signal.SIGTERM)
    with anyio.fail_after(20):
        stage.written += await process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert not (stage.directory / ".tokens.json").exists()


async def test_no_window_without_a_display(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    ended = await stage.run("auth", "login", "--headed", chromium=None)
    assert ended.code == 4
    assert "there is no display for its window" in ended.err


def windowless_chromium(directory: Path) -> Path:
    """A Chromium that opens no window although it is asked to."""
    from pysequence_api.sequence.sign_in.chromium import find_chromium  # noqa: PLC0415

    script = directory / "chromium-without-window"
    script.write_text(f'#!/bin/sh\nexec "{find_chromium(None)}" --headless "$@"\n')
    script.chmod(0o700)
    assert os.access(script, os.X_OK)
    return script
