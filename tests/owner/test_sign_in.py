"""Signing in to the owner's page, and out."""

import re
import time
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest
import time_machine

from tests.owner.person import ORIGIN, PASSWORD, SECRET, STEP_SECONDS, Form, Person, browsing
from tests.world import World, open_world

pytestmark = pytest.mark.anyio
COOKIE = "__Host-owner"
WRONG = "The password or the code is wrong."


async def test_the_password_and_then_a_code(stranger: Person) -> None:
    assert (await stranger.open("/")).headers["location"] == "/sign-in?next=/"
    assert "Waiting for you" not in (await stranger.open("/sign-in")).text
    answer = await stranger.sign_in()
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].split("; ")
    assert cookie[0].startswith(f"{COOKIE}=")
    assert {"HttpOnly", "Secure", "SameSite=strict", "Path=/", "Max-Age=43200"} <= set(cookie)
    assert "Waiting for you" in (await stranger.open("/")).text


async def test_which_of_the_two_is_wrong_is_not_said(stranger: Person) -> None:
    wrong_password = await stranger.sign_in(password="a-wrong-password")
    wrong_code = await stranger.sign_in(code="000000")
    assert (wrong_password.status_code, wrong_code.status_code) == (403, 403)
    assert WRONG in wrong_password.text
    assert wrong_password.text == wrong_code.text
    assert not stranger.client.cookies


async def test_no_pause_tells_that_a_guessed_password_is_right(
    stranger: Person, traveller: time_machine.Traveller
) -> None:
    async def guess(password: str) -> list[str]:
        """Guess again and again: at once, and after the longest pause for passwords."""
        told = []
        for pause_seconds in (0, 0, 0, 0, 61, 0, 61, 61, 61, 61, 0):
            traveller.shift(pause_seconds)
            answer = await stranger.sign_in(password=password, code="000000")
            told += re.findall('role="alert">([^<]*)', answer.text)
        traveller.shift(timedelta(minutes=16))
        assert (await stranger.sign_in()).status_code == 303
        stranger.client.cookies.clear()
        return told

    wrong = await guess("a-wrong-password")
    assert len(wrong) == 11
    assert await guess(PASSWORD) == wrong


async def test_a_code_signs_in_once(stranger: Person) -> None:
    code = stranger.new_code()
    assert (await stranger.sign_in(code=code)).status_code == 303
    assert (await stranger.sign_in(code=code)).status_code == 403
    earlier = pyotp.TOTP(SECRET).at(int(time.time()) - STEP_SECONDS)
    assert (await stranger.sign_in(code=earlier)).status_code == 403


async def test_wrong_passwords_make_the_next_wait_also_in_another_process(
    world: World, stranger: Person, traveller: time_machine.Traveller
) -> None:
    for _ in range(3):
        assert (await stranger.sign_in(password="a-guess")).status_code == 403
    other = await world.open_process()
    async with browsing(other, traveller) as person:
        refused = await person.send(await person.open("/sign-in"), "/sign-in", password=PASSWORD, code="000000")
        assert refused.status_code == 403
        assert "Try again in" in refused.text
        traveller.shift(timedelta(seconds=61))  # the longest pause: nobody can lock the owner out for long
        assert (await person.sign_in()).status_code == 303


async def test_signing_in_leads_to_the_page_that_was_wanted_and_to_no_other(stranger: Person) -> None:
    attempt = "/transfers/00000000-0000-4000-8000-000000000000"
    location = (await stranger.open(attempt)).headers["location"]
    answer = await stranger.send(await stranger.open(location), "/sign-in", password=PASSWORD, code=stranger.new_code())
    assert answer.headers["location"] == attempt
    for elsewhere in ("https://evil.example", "//evil.example", "/\\evil.example", "/sign-in?next=/", "javascript:0"):
        page = await stranger.client.get("/sign-in", params={"next": elsewhere})
        assert 'name="next" value="/"' in page.text
        answer = await stranger.send(page, "/sign-in", password=PASSWORD, code=stranger.new_code(), next=elsewhere)
        assert answer.headers["location"] == "/"


async def test_a_session_ends_after_12_hours(owner: Person, traveller: time_machine.Traveller) -> None:
    traveller.shift(timedelta(hours=11, minutes=59))
    assert (await owner.open("/")).status_code == 200
    traveller.shift(timedelta(minutes=1))
    assert (await owner.open("/")).status_code == 303


async def test_signing_out_ends_every_session_everywhere(world: World, owner: Person) -> None:
    stolen = owner.client.cookies[COOKIE]
    async with browsing(world.gateway, owner.traveller) as phone:
        await phone.sign_in()
        answer = await phone.send(await phone.open("/"), "/sign-out")
        assert answer.headers["location"] == "/sign-in"
        assert not phone.client.cookies
    for value in (stolen, owner.client.cookies[COOKIE]):
        answer = await owner.client.get("/", headers={"Cookie": f"{COOKIE}={value}"})
        assert answer.status_code == 303
    assert "owner_signed_out" in world.files.events()


async def test_a_restart_ends_no_session(world: World, owner: Person) -> None:
    await world.close(world.gateway)
    async with browsing(await world.open_process(), owner.traveller) as restarted:
        restarted.client.cookies = owner.client.cookies
        assert (await restarted.open("/")).status_code == 200


async def test_a_cookie_from_elsewhere_is_never_adopted(stranger: Person) -> None:
    stranger.client.cookies.set(COOKIE, "1.0123456789abcdef0123456789abcdef." + "0" * 64, domain="owner.example.net")
    planted = stranger.client.cookies[COOKIE]
    await stranger.sign_in()
    assert stranger.client.cookies[COOKIE] != planted
    mine = stranger.client.cookies[COOKIE]
    at, session_id, mac = mine.split(".")
    forged = [f"{int(at) + 1}.{session_id}.{mac}", f"{at}.{'0' * 32}.{mac}", f"{at}.{session_id}.{'0' * 64}", mac, ""]
    for value in [*forged, f"{mine}; {COOKIE}={planted}"]:
        stranger.client.cookies.clear()
        answer = await stranger.client.get("/", headers={"Cookie": f"{COOKIE}={value}"})
        assert answer.status_code == 303, value


async def test_without_a_password_the_page_says_how_to_set_one(
    tmp_path: Path, traveller: time_machine.Traveller
) -> None:
    async with (
        open_world(tmp_path, owner_port=8721, owner_proxy=ORIGIN) as world,
        browsing(world.gateway, traveller) as person,
    ):
        assert "pysequence-api owner setup" in (await person.open("/sign-in")).text
        form = Form("/sign-in", "post", {"password": "", "code": ""})
        assert (await person.post(form)).status_code == 403
