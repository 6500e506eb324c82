"""What the owner does on the page."""

import asyncio

import pytest
import time_machine

from pysequence_api.errors import Code
from pysequence_api.records.states import State
from tests.owner.agents import AGENT, ASKED_CENTS, POLICY, add_agent, ask, request
from tests.owner.person import Form, Person, browsing, forms_of
from tests.policies import apply_policy
from tests.world import World, forever

pytestmark = pytest.mark.anyio


async def test_freeze_everything_from_any_page_and_unfreeze_with_a_code(world: World, owner: Person) -> None:
    for path in ("/", "/callers", "/transfers", "/audit"):
        page = await owner.open(path)
        answer = await owner.send(page, "/freeze")
        assert answer.headers["location"] == "/?note=frozen"
        frozen = await owner.open(path)
        assert "Everything is frozen" in frozen.text
        assert world.gateway.limits().frozen
        for code in ("", "000000"):
            refused = await owner.send(frozen, "/unfreeze", code=code)
            assert refused.status_code == 403
            assert world.gateway.limits().frozen
            frozen = refused  # the form is there again
        await asyncio.to_thread(owner.traveller.shift, 60)
        answer = await owner.send(frozen, "/unfreeze", code=owner.new_code())
        assert answer.headers["location"] == "/?note=unfrozen"
        assert not world.gateway.limits().frozen
    assert {line.get("via") for line in world.files.trail() if "frozen" in line["event_type"]} == {"page"}


async def test_freeze_one_caller_and_unfreeze_it(world: World, owner: Person) -> None:
    key = add_agent(world)
    await owner.send(await owner.open("/callers"), f"/callers/{AGENT}/freeze")
    refused = await request(world, key, 1_000)
    assert refused is not None
    assert refused.code is Code.FROZEN
    assert not world.gateway.limits().frozen
    page = await owner.open("/callers")
    assert (await owner.send(page, f"/callers/{AGENT}/unfreeze", code="000000")).status_code == 403
    await owner.send(await owner.open("/callers"), f"/callers/{AGENT}/unfreeze", code=owner.new_code())
    assert await request(world, key, 1_001) is None


async def test_a_form_works_once(world: World, owner: Person) -> None:
    page = await owner.open("/")
    (form,) = [one for one in forms_of(page) if one.action == "/freeze"]
    await owner.post(form)
    await owner.send(await owner.open("/"), "/unfreeze", code=owner.new_code())
    answer = await owner.post(form)  # somebody went back, and sent it again
    assert answer.headers["location"] == "/?note=used"
    assert "Nothing was done twice" in (await owner.open("/?note=used")).text
    assert not world.gateway.limits().frozen


async def test_approve_sends_exactly_what_was_shown_and_once(world: World, owner: Person) -> None:
    asked = await ask(world, add_agent(world))
    page, approve = await owner.open(f"/transfers/{asked}"), f"/transfers/{asked}/approve"
    assert "$200.00" in page.text
    (form,) = [one for one in forms_of(page) if one.action == approve]
    code = owner.new_code()
    answer = await owner.post(form, code=code)
    assert answer.headers["location"] == f"/transfers/{asked}?note=approved"
    assert world.attempt(asked).state is State.ACCEPTED
    replayed = await owner.post(form, code=code)
    assert replayed.headers["location"] == f"/transfers/{asked}?note=used"
    fresh = Form(form.action, form.method, form.fields | {"token": forms_of(await owner.open("/"))[0].fields["token"]})
    assert (await owner.post(fresh, code=code)).status_code == 409
    assert (await owner.post(fresh, code=owner.new_code())).headers["location"].endswith("note=used")
    assert [one["amount_cents"] for one in await world.moved()] == [ASKED_CENTS]
    assert forms_of(await owner.open(f"/transfers/{asked}"))[-1].action == "/sign-out"
    assert [line.get("via") for line in world.files.trail() if line["event_type"] == "approval_granted"] == ["page"]


async def test_approving_needs_a_code_and_what_was_shown(world: World, owner: Person) -> None:
    asked = await ask(world, add_agent(world))
    path, approve = f"/transfers/{asked}", f"/transfers/{asked}/approve"
    for fields in ({"code": ""}, {"code": "000000"}, {"bound": "", "code": "1"}, {"bound": "0" * 64, "code": "2"}):
        answer = await owner.send(await owner.open(path), approve, **fields)
        assert answer.status_code in {403, 409}
        assert world.attempt(asked).state is State.AWAITING_APPROVAL
    assert await world.moved() == []


async def test_what_the_policy_forbids_by_then_is_not_sent_though_it_was_shown(world: World, owner: Person) -> None:
    asked = await ask(world, add_agent(world))
    page = await owner.open(f"/transfers/{asked}")
    apply_policy(world, POLICY.replace("max_cents = 30000", "max_cents = 15000"))
    answer = await owner.send(page, f"/transfers/{asked}/approve", code=owner.new_code())
    assert answer.status_code == 403
    assert "$150.00" in answer.text
    assert world.attempt(asked).state is State.REJECTED
    assert await world.moved() == []


async def test_a_freeze_leaves_it_waiting(world: World, owner: Person) -> None:
    asked = await ask(world, add_agent(world))
    page = await owner.open(f"/transfers/{asked}")
    await owner.send(page, "/freeze")
    answer = await owner.send(page, f"/transfers/{asked}/approve", code=owner.new_code())
    assert answer.status_code == 403
    assert "frozen" in answer.text
    assert world.attempt(asked).state is State.AWAITING_APPROVAL
    await owner.send(answer, "/unfreeze", code=owner.new_code())
    await owner.send(await owner.open(f"/transfers/{asked}"), f"/transfers/{asked}/approve", code=owner.new_code())
    assert world.attempt(asked).state is State.ACCEPTED


async def test_an_expired_one_cannot_be_approved(world: World, owner: Person) -> None:
    asked = await ask(world, add_agent(world))
    page = await owner.open(f"/transfers/{asked}")
    owner.traveller.shift(4 * 3600)
    answer = await owner.send(page, f"/transfers/{asked}/approve", code=owner.new_code())
    assert answer.status_code == 409
    assert "expired" in answer.text
    assert "Nothing waits for your approval" in (await owner.open("/")).text
    assert await world.moved() == []


async def test_deny(world: World, owner: Person) -> None:
    key = add_agent(world)
    asked = await ask(world, key)
    page = await owner.open(f"/transfers/{asked}")
    answer = await owner.send(page, f"/transfers/{asked}/deny")
    assert answer.headers["location"] == f"/transfers/{asked}?note=denied"
    assert world.attempt(asked).state is State.DENIED
    late = await owner.send(page, f"/transfers/{asked}/approve", code=owner.new_code())
    assert late.status_code == 409
    refused = await request(world, key, ASKED_CENTS)
    assert refused is not None
    assert await world.moved() == []


async def test_cancel_what_waits_in_the_queue(world: World, owner: Person) -> None:
    process = await world.open_process()
    process.client.prepare_transfer = forever  # type: ignore[method-assign, assignment]
    task = asyncio.create_task(world.transfer(4_520, process=process))
    while not world.attempts():  # noqa: ASYNC110 - the records tell nobody
        await asyncio.sleep(0.005)
    queued = world.attempts()[0].id
    answer = await owner.send(await owner.open("/"), f"/transfers/{queued}/cancel")
    assert answer.headers["location"] == f"/transfers/{queued}?note=cancelled"
    (error,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(error, Exception)
    assert world.attempt(queued).state is State.CANCELLED
    assert await world.moved() == []


async def test_approved_twice_at_once_in_two_processes_it_moves_once(
    world: World, owner: Person, traveller: time_machine.Traveller
) -> None:
    asked = await ask(world, add_agent(world))
    path, approve = f"/transfers/{asked}", f"/transfers/{asked}/approve"
    async with browsing(await world.open_process(), traveller) as other:
        other.client.cookies = owner.client.cookies
        pages = [await owner.open(path), await other.open(path)]
        codes = [owner.new_code(), owner.new_code()]
        answers = await asyncio.gather(
            owner.send(pages[0], approve, code=codes[0]), other.send(pages[1], approve, code=codes[1])
        )
    assert sorted(answer.status_code for answer in answers) == [303, 409]
    assert len(await world.moved()) == 1
