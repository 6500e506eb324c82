"""What somebody tries who is not the owner."""

import httpx
import pytest

from pysequence_api.owner import create_app
from pysequence_api.records.states import State
from tests.owner.agents import add_agent, ask
from tests.owner.person import ORIGIN, Form, Person, browsing, forms_of
from tests.world import API_KEY, World

pytestmark = pytest.mark.anyio
PATHS = (
    "/",
    "/callers",
    "/transfers",
    "/audit",
    "/freeze",
    "/unfreeze",
    "/sign-out",
    "/api/pods",
    "/metrics",
    "/nothing",
)
POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"


async def test_a_key_is_worth_nothing_on_the_page_and_the_api_has_none_of_its_paths(
    world: World, stranger: Person
) -> None:
    agents_key = add_agent(world)
    asked = await ask(world, agents_key)
    for key in (agents_key, API_KEY):
        for path in (*PATHS, f"/transfers/{asked}", f"/transfers/{asked}/approve", f"/transfers/{asked}/deny"):
            for method in ("GET", "POST"):
                headers = {"X-API-Key": key, "Authorization": f"Bearer {key}", "Origin": ORIGIN}
                answer = await stranger.client.request(method, path, headers=headers)
                assert answer.status_code == 303, path
                assert answer.headers["location"].startswith("/sign-in")
        async with world.http(key=key) as api:
            for path in ("/", "/sign-in", "/callers", "/transfers", "/audit", "/style.css", "/freeze", "/unfreeze"):
                assert (await api.get(path)).status_code == 404
                assert (await api.post(path)).status_code == 404
    assert not world.gateway.limits().frozen
    assert world.attempt(asked).state is State.AWAITING_APPROVAL


async def test_a_form_from_elsewhere_does_nothing(world: World, owner: Person) -> None:
    asked = await ask(world, add_agent(world))
    forms = [*forms_of(await owner.open("/")), *forms_of(await owner.open(f"/transfers/{asked}"))]
    assert {form.action for form in forms} >= {"/freeze", "/sign-out", f"/transfers/{asked}/approve"}
    origins: list[dict[str, str]] = [
        {},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": f"{ORIGIN}.evil.example"},
        {"Origin": f"{ORIGIN}:8443"},
        {"Origin": ORIGIN.replace("https", "http")},
        {"Referer": f"{ORIGIN}/"},
    ]
    before = world.files.trail()
    for form in forms:
        for headers in origins:
            data = form.fields | {"code": owner.new_code()}
            assert (await owner.client.post(form.action, data=data, headers=headers)).status_code == 403
    assert world.files.trail() == before


async def test_a_form_without_the_token_of_this_session_does_nothing(world: World, owner: Person) -> None:
    asked = await ask(world, add_agent(world))
    forms = [*forms_of(await owner.open("/")), *forms_of(await owner.open(f"/transfers/{asked}"))]
    async with browsing(world.gateway, owner.traveller) as other:
        await other.sign_in()
        of_other = forms_of(await other.open("/"))[0].fields["token"]
    before = world.files.trail()
    for form in forms:
        form_id, mac = form.fields["token"].split(".")
        for token in ("", "x", of_other, f"{form_id}.{'0' * 64}", f"{'0' * 32}.{mac}"):
            answer = await owner.post(form, token=token, code=owner.new_code())
            assert answer.status_code == 403
            assert "Nothing was done" in answer.text
    assert world.files.trail() == before


async def test_what_is_not_a_form_of_the_page_is_refused(world: World, owner: Person) -> None:
    (form, *_) = forms_of(await owner.open("/"))
    for content, kind, status in (
        (b"{}", "application/json", 415),
        (b"token=1", "multipart/form-data; boundary=x", 415),
        (b"token=1&token=2", "application/x-www-form-urlencoded", 400),
        (b"\xff=1", "application/x-www-form-urlencoded", 400),
        (b"%ff=1", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"a%d=1" % number for number in range(11)), "application/x-www-form-urlencoded", 400),
        (b"a" * 70_000, "application/x-www-form-urlencoded", 413),
    ):
        headers = {"Origin": ORIGIN, "Content-Type": kind}
        answer = await owner.client.post(form.action, content=content, headers=headers)
        assert answer.status_code == status, content[:20]
    assert not world.gateway.limits().frozen


async def test_every_answer_forbids_scripts_frames_and_caches(world: World, owner: Person) -> None:
    answers = [
        await owner.open("/"),
        await owner.open("/nothing"),
        await owner.open("/style.css"),
        await owner.open("/sign-in"),
        await owner.open("/freeze"),
        await owner.client.post("/freeze"),
        await owner.client.request("BREW", "/", headers={"Origin": ORIGIN}),
    ]
    owner.client.cookies.clear()
    answers.append(await owner.open("/"))
    assert [answer.status_code for answer in answers] == [200, 404, 200, 200, 405, 403, 405, 303]
    for answer in answers:
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "<script" not in answer.text
        assert "style=" not in answer.text


async def test_on_this_machine_other_host_names_are_refused(world: World) -> None:
    gateway = await world.open_process(owner_proxy=None)
    transport = httpx.ASGITransport(create_app(gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8721") as client:
        for host, status in (("127.0.0.1:8721", 200), ("localhost:8721", 200), ("rebound.evil.example:8721", 400)):
            assert (await client.get("/sign-in", headers={"Host": host})).status_code == status
        form = Form("/sign-in", "post", {"password": "x", "code": "1"})
        for origin, is_ours in (("http://127.0.0.1:8721", True), ("http://127.0.0.1:8720", False), (ORIGIN, False)):
            answer = await client.post(form.action, data=form.fields, headers={"Origin": origin})
            assert answer.status_code == 403
            assert ("The password or the code is wrong" in answer.text) == is_ours
