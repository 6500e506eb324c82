"""The simulated sign-in, without a browser."""

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pyotp
import pytest

from pysequence_api.sandbox import CLIENT_ID, EMAIL, PASSWORD, TOTP_SECRET
from tests.sandbox.caller import Caller
from tests.sandbox.conftest import FakeClock

pytestmark = pytest.mark.anyio
HOME = "http://127.0.0.1/"


class Person:
    """Fills in the pages in order."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.response = httpx.Response(200)

    async def start(self, **change: str) -> None:
        parameters = {"client_id": CLIENT_ID, "response_type": "token", "redirect_uri": HOME, "state": "mine"} | change
        self.response = await self.client.get("/authorize", params=parameters)
        await self.follow()

    async def follow(self) -> None:
        if self.response.status_code == 302 and not self.response.headers["location"].startswith(HOME):
            self.response = await self.client.get(self.response.headers["location"])

    async def fill(self, **field: str) -> str | None:
        """Submit the page and return its error code, if any."""
        (name,) = field
        assert f'name="{name}"' in self.response.text
        action = re.search(r'action="([^"]+)"', self.response.text)
        assert action is not None
        self.response = await self.client.post(unescape(action[1]), data=field)
        await self.follow()
        error = re.search(r'data-error-code="([^"]+)"', self.response.text)
        return error[1] if error else None

    async def sign_in(self, code: str, password: str = PASSWORD) -> str | None:
        await self.start()
        return await self.fill(username=EMAIL) or await self.fill(password=password) or await self.fill(code=code)

    def fragment(self) -> dict[str, str]:
        location = self.response.headers["location"]
        assert location.startswith(f"{HOME}#")
        return {name: values[0] for name, values in parse_qs(urlsplit(location).fragment).items()}


@pytest.fixture
def person(caller: Caller) -> Person:
    return Person(caller.client)


async def sign_ins(person: Person) -> dict[str, Any]:
    body: dict[str, Any] = (await person.client.get("/sandbox/sign-ins")).json()
    return body


async def test_a_complete_sign_in(person: Person, caller: Caller, clock: FakeClock) -> None:
    page = (await person.client.get("/")).text
    assert "Log in</button>" in page
    assert await person.sign_in(pyotp.TOTP(TOTP_SECRET).at(int(clock()))) is None
    granted = person.fragment()
    assert set(granted) == {"access_token", "expires_in", "token_type", "state"}  # the implicit flow
    assert granted["state"] == "mine"
    claims = jwt.decode(granted["access_token"], options={"verify_signature": False})
    assert (claims["email"], claims["exp"] - claims["iat"]) == (EMAIL, 86_400)
    caller.access_token = granted["access_token"]
    assert await caller.balances()
    assert await sign_ins(person) == {
        "begun": 1,
        "passwords": 1,
        "codes": 1,
        "signed_in": 1,
        "refused": {},
        "consecutive_refusals": 0,
    }


async def test_settings_change_the_tokens(person: Person, clock: FakeClock) -> None:
    settings = {"access_token_lifetime_seconds": 90, "login_gives_refresh_token": True, "code_period_seconds": 5}
    await person.client.put("/sandbox/settings", json=settings)
    assert await person.sign_in(pyotp.TOTP(TOTP_SECRET, interval=5).at(int(clock()))) is None
    granted = person.fragment()
    claims = jwt.decode(granted["access_token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 90
    form = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": granted["refresh_token"]}
    assert (await person.client.post("/oauth/token", json=form)).status_code == 200


async def test_a_code_is_valid_once(person: Person, clock: FakeClock) -> None:
    code = pyotp.TOTP(TOTP_SECRET).at(int(clock()))
    assert await person.sign_in(code) is None
    assert await person.sign_in(code) == "invalid-code"
    assert "The code you entered is invalid" in person.response.text
    clock.now += 90
    assert await person.sign_in(code) == "invalid-code"
    assert await person.sign_in(pyotp.TOTP(TOTP_SECRET).at(int(clock()) - 30)) is None  # a slow clock


async def test_repeated_refusals_block_the_account(person: Person, clock: FakeClock) -> None:
    await person.client.put("/sandbox/settings", json={"max_consecutive_refusals": 3})
    await person.start()
    assert await person.fill(username="nobody") == "invalid-email-format"
    assert await person.sign_in("", password="wrong") == "wrong-email-credentials"
    assert person.response.status_code == 400
    assert "Wrong email or password" in person.response.text
    assert await person.sign_in("000000") == "invalid-code"
    code = pyotp.TOTP(TOTP_SECRET).at(int(clock()))
    assert await person.sign_in(code) == "user-blocked"
    assert "Your account has been blocked after multiple consecutive login attempts" in person.response.text
    counted = await sign_ins(person)
    assert counted["refused"] == {
        "invalid-email-format": 1,
        "wrong-email-credentials": 1,
        "invalid-code": 1,
        "user-blocked": 1,
    }
    await person.client.delete("/sandbox/sign-ins")
    assert await person.sign_in(code) is None


async def test_no_page_can_be_skipped(person: Person) -> None:
    await person.start(redirect_uri="https://elsewhere.invalid/")
    assert "Callback URL mismatch" in person.response.text
    await person.start(client_id="somebody")
    assert person.response.status_code == 400
    await person.start()
    state = re.search(r"state=([\w-]+)", person.response.text)
    assert state is not None
    for path, form in (("/u/login/password", {"password": PASSWORD}), ("/u/mfa-otp-challenge", {"code": "000000"})):
        for response in (
            await person.client.get(path, params={"state": state[1]}),
            await person.client.post(path, params={"state": state[1]}, data=form),
            await person.client.get(path, params={"state": "unknown"}),
        ):
            assert (response.status_code, "<form" in response.text) == (400, False)


async def test_input_is_escaped(person: Person) -> None:
    await person.start()
    await person.fill(username='"><script>alert(1)</script>@x')
    assert "<script>" not in person.response.text


async def test_pages_can_fail_and_the_journal_has_no_password(person: Person, caller: Caller) -> None:
    await caller.arm(operation="login/application", what={"kind": "status", "status": 500, "body": "Oops"})
    await caller.arm(operation="login/submit-password", what={"kind": "html", "status": 200, "body": "<p>Changed"})
    assert (await person.client.get("/")).status_code == 500
    await person.start()
    await person.fill(username=EMAIL)
    await person.fill(password=PASSWORD)
    assert person.response.text == "<p>Changed"
    requests = (await person.client.get("/sandbox/requests")).text
    assert "login/submit-password" in requests
    assert PASSWORD not in requests
