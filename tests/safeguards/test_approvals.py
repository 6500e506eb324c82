"""A rule asks the owner first: what is approved is sent, exactly that, and once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
import time_machine
from pydantic import SecretStr

from pysequence_api.doctor.policy import check_policy_of
from pysequence_api.errors import Code, GatewayError, InvalidRequestError, NotFoundError
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import Caller, add, revoke
from pysequence_api.records.check import check
from pysequence_api.records.control import freeze, unfreeze
from pysequence_api.records.states import State
from pysequence_api.safeguards.decide import fail_dead
from pysequence_api.safeguards.transfers import PendingTransfer
from pysequence_api.sandbox import Sandbox
from pysequence_api.sequence.client import Upstream
from tests.approvals import BOT, RULES, TOTP_SECRET, apply_rules, approve, code_now
from tests.policies import NO_BREAKER, apply_policy
from tests.world import DESTINATION, SOURCE, World, open_world

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]


@pytest.fixture
async def world(tmp_path: Path, sandbox: Sandbox, upstream: str) -> AsyncIterator[World]:
    """A world whose owner has an authenticator, and whose caller ``bot`` must ask."""
    settings: dict[str, Any] = {"owner_totp": SecretStr(TOTP_SECRET), "max_transfer_attempts_per_minute": 1_000}
    async with open_world(tmp_path, sandbox, upstream=upstream, **settings) as world:
        apply_rules(world)
        yield world
        assert check(world.gateway.records).problems == ()


async def refused(steps: Any) -> GatewayError:
    """Return the error with which something ends."""
    with pytest.raises(GatewayError) as error:
        await steps
    return error.value


def state_of(world: World, attempt_id: str) -> str:
    """Return the state of an attempt, as readers see it."""
    return world.attempt(attempt_id).state.value


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something."""
    with anyio.fail_after(30):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


# From the request to the end.


@pytest.mark.upstream("graphql", "platform")
async def test_what_is_approved_is_sent_and_nothing_before(world: World) -> None:
    asked = await world.ask(5_000, caller=BOT, key="rent", description="Rent")
    assert (world.states(), await world.moved(), world.used_cents()) == (["awaiting_approval"], [], 0)
    [shown] = await world.gateway.transfers.pending()
    assert (shown.attempt_id, shown.amount_cents, shown.caller, shown.rule) == (asked.attempt_id, 5_000, "bot", "rent")
    assert (shown.source.name, shown.destination.name, shown.description) == (SOURCE, DESTINATION, "Rent")
    assert shown.expires_at == asked.expires_at == shown.created_at + timedelta(minutes=240)
    done = await approve(world, asked.attempt_id)
    assert (done.attempt_id, done.state, done.amount_cents) == (asked.attempt_id, State.ACCEPTED, 5_000)
    [moved] = await world.moved()
    assert (moved["amount_cents"], world.used_cents()) == (5_000, 5_000)
    told = ["approval_requested", "approval_granted", "requested", "completed"]
    assert world.files.events(asked.attempt_id) == told
    vias = {line["event_type"]: line["via"] for line in world.files.trail() if "attempt_id" in line}
    assert (vias["approval_requested"], vias["approval_granted"]) == ("api", "cli")
    replay = await world.transfer(5_000, caller=BOT, key="rent", description="Rent")
    assert (replay.replayed, replay.id) == (True, done.id)


async def test_an_approval_is_for_one_transfer(world: World) -> None:
    first = await world.ask(caller=BOT)
    await approve(world, first.attempt_id)
    assert (await refused(approve(world, first.attempt_id))).code is Code.APPROVAL_OVER
    again = await world.ask(caller=BOT)
    assert again.attempt_id != first.attempt_id
    assert (len(await world.moved()), state_of(world, again.attempt_id)) == (1, "awaiting_approval")


async def test_the_same_order_is_the_same_attempt_under_every_key(world: World) -> None:
    first = await world.ask(caller=BOT, key="one")
    more = [await world.ask(caller=BOT, key=key) for key in ("one", "two", "two")]
    assert {one.attempt_id for one in more} == {first.attempt_id}
    assert world.files.events() == ["policy_applied", "approval_requested", "approval_key_bound"]
    other = await world.ask(caller=BOT, key="three", description="another")
    assert other.attempt_id != first.attempt_id
    await approve(world, first.attempt_id)
    for key in ("one", "two"):
        assert (await world.transfer(caller=BOT, key=key)).attempt_id == first.attempt_id
        assert (await refused(world.transfer(6_000, caller=BOT, key=key))).code is Code.KEY_REUSED
    assert len(await world.moved()) == 1


async def test_an_order_that_waits_is_not_sent_beside_it_when_the_rule_asks_no_more(world: World) -> None:
    first = await world.ask(caller=BOT, key="one")
    apply_rules(world, **{"approve_above_cents = 1000": "approve_above_cents = 40000"})
    assert (await world.ask(caller=BOT, key="two")).attempt_id == first.attempt_id
    await approve(world, first.attempt_id)
    assert len(await world.moved()) == 1


async def test_three_may_wait(world: World) -> None:
    asked = [await world.ask(cents, caller=BOT) for cents in (2_000, 3_000, 4_000)]
    error = await refused(world.ask(5_000, caller=BOT))
    assert (error.code, error.status) == (Code.TOO_MANY_PENDING, 429)
    await world.gateway.transfers.cancel(asked[0].attempt_id, BOT)
    await world.ask(5_000, caller=BOT)


async def test_a_denied_one_is_refused_for_a_day(world: World, traveller: time_machine.Traveller) -> None:
    asked = await world.ask(caller=BOT, key="one")
    for _ in range(2):
        assert (await world.gateway.transfers.deny(asked.attempt_id, Channel.CLI)).state is State.DENIED
    assert world.files.events(asked.attempt_id) == ["approval_requested", "approval_denied"]
    assert (await refused(approve(world, asked.attempt_id))).code is Code.APPROVAL_OVER
    error = await refused(world.ask(caller=BOT, key="one"))
    assert error.code is Code.DENIED
    assert 86_340 < (error.retry_after_seconds or 0) <= 86_400
    assert (await refused(world.ask(caller=BOT, description="please"))).code is Code.DENIED
    await world.ask(5_001, caller=BOT)
    traveller.shift(timedelta(hours=24, seconds=1))
    assert (await world.ask(caller=BOT, key="one")).attempt_id != asked.attempt_id


async def test_silence_never_approves(world: World, traveller: time_machine.Traveller) -> None:
    asked = await world.ask(caller=BOT, key="one")
    shown = await world.gateway.transfers.pending_one(asked.attempt_id)
    traveller.shift(timedelta(minutes=240))
    assert (state_of(world, asked.attempt_id), world.states()) == ("expired", ["awaiting_approval"])
    assert await world.gateway.transfers.pending() == ()
    for steps in (
        approve(world, asked.attempt_id),
        world.gateway.transfers.approve(asked.attempt_id, shown.bound_sha256, code_now(world), Channel.CLI),
        world.gateway.transfers.deny(asked.attempt_id, Channel.CLI),
    ):
        assert (await refused(steps)).code is Code.APPROVAL_OVER
    again = await world.ask(caller=BOT, key="one")
    assert again.attempt_id != asked.attempt_id
    assert world.states() == ["expired", "awaiting_approval"]
    assert world.files.events(asked.attempt_id) == ["approval_requested", "approval_expired"]
    assert await world.moved() == []


async def test_its_caller_cancels_it_and_nobody_else(world: World) -> None:
    asked = await world.ask(caller=BOT)
    with pytest.raises(NotFoundError):
        await world.gateway.transfers.cancel(asked.attempt_id, Caller("other", None))
    for _ in range(2):
        assert (await world.gateway.transfers.cancel(asked.attempt_id, BOT)).state is State.CANCELLED
    assert world.files.events(asked.attempt_id) == ["approval_requested", "cancelled"]
    sent = await world.transfer(500, caller=BOT)
    assert (await refused(world.gateway.transfers.cancel(sent.attempt_id, BOT))).code is Code.APPROVAL_OVER


async def test_the_owner_cancels_what_waits_for_its_turn(world: World) -> None:
    other = await world.open_process()
    started = asyncio.Event()

    async def wait(*_: Any, **__: Any) -> Any:
        started.set()
        await asyncio.Event().wait()

    world.gateway.client.prepare_transfer = wait  # type: ignore[method-assign]
    task = asyncio.create_task(world.transfer(500, caller=BOT))
    await started.wait()
    [attempt] = world.attempts()
    assert (await refused(other.transfers.cancel(attempt.id, BOT))).code is Code.APPROVAL_OVER
    await other.transfers.cancel_queued(attempt.id, Channel.PAGE)
    assert (await refused(task)).code is Code.CANCELLED
    assert (world.states(), world.used_cents(), await world.moved()) == (["cancelled"], 0, [])


# Approve one thing, and have another one executed.


async def test_only_what_was_shown_is_approved(world: World) -> None:
    asked, other = await world.ask(5_000, caller=BOT), await world.ask(40_000, caller=BOT)
    shown = await world.gateway.transfers.pending_one(asked.attempt_id)
    error = await refused(approve(world, other.attempt_id, bound_sha256=shown.bound_sha256))
    assert error.code is Code.APPROVAL_OVER
    for bound in ("", "\u0661", "\ud800", shown.bound_sha256.upper()):
        assert (await refused(approve(world, asked.attempt_id, bound_sha256=bound))).code is Code.APPROVAL_OVER
    await approve(world, asked.attempt_id)  # the code was not spent
    assert [one["amount_cents"] for one in await world.moved()] == [5_000]


async def test_a_row_that_was_changed_is_not_approved(world: World) -> None:
    asked = await world.ask(caller=BOT)
    shown = await world.gateway.transfers.pending_one(asked.attempt_id)

    def tamper(writer: Any) -> None:
        writer._connection.execute("UPDATE attempt SET rule = 'other', organization_id = 'other'")

    world.gateway.records.write(tamper)
    error = await refused(
        world.gateway.transfers.approve(asked.attempt_id, shown.bound_sha256, code_now(world), Channel.CLI)
    )
    assert (error.code, await world.moved()) == (Code.APPROVAL_OVER, [])


NEVER = '[never]\nto = ["b"]\n'


@pytest.mark.parametrize(
    ("policy", "code", "state"),
    [
        (NEVER + RULES, "never_allowed", "rejected"),
        (RULES.replace('to = ["b"]', 'to = ["c"]'), "pair_not_allowed", "rejected"),
        ('[callers.bot]\nscopes = ["read:accounts"]', "scope_missing", "rejected"),
        (RULES.replace("50000", "4999"), "over_max", "rejected"),
        (RULES.replace("[callers.bot]", "[callers.bot]\nexpires = 2020-01-01T00:00:00Z"), "caller_expired", "rejected"),
        (RULES.replace("60000", "4000"), "over_day", "awaiting_approval"),
        (RULES.replace('"rent"', '"other"'), "needs_approval", "awaiting_approval"),
    ],
)
async def test_the_policy_of_now_decides(world: World, policy: str, code: str, state: str) -> None:
    asked = await world.ask(caller=BOT, key="one")
    apply_policy(world, NO_BREAKER, policy)
    error = await refused(approve(world, asked.attempt_id))
    assert (error.code, error.attempt_id) == (code, asked.attempt_id)
    assert (state_of(world, asked.attempt_id), await world.moved()) == (state, [])
    if state == "awaiting_approval":
        apply_rules(world)
        assert (await refused(approve(world, asked.attempt_id))).code is Code.WRONG_CODE  # it was spent
        await approve(world, asked.attempt_id, code=code_now(world, 1))
        assert len(await world.moved()) == 1


async def test_an_ended_key_rejects_it(world: World) -> None:
    add(world.gateway.records, "keyed")
    [key] = world.gateway.records.read(lambda reader: reader.working_keys("keyed"))
    apply_rules(world, RULES.replace("callers.bot", "callers.keyed"))
    asked = await world.ask(caller=Caller("keyed", key.sha256))
    revoke(world.gateway.records, "keyed")
    assert (await refused(approve(world, asked.attempt_id))).code is Code.KEY_REVOKED
    assert world.states() == ["rejected"]


async def test_a_freeze_leaves_it_waiting(world: World) -> None:
    asked = await world.ask(caller=BOT)
    freeze(world.gateway.records, "lost laptop")
    assert (await refused(approve(world, asked.attempt_id))).code is Code.FROZEN
    unfreeze(world.gateway.records)
    assert (await refused(approve(world, asked.attempt_id))).code is Code.WRONG_CODE
    await approve(world, asked.attempt_id, code=code_now(world, 1))


async def test_a_balance_that_is_too_low_leaves_it_waiting(world: World) -> None:
    apply_rules(world, **{"max_cents = 50000, day_cents = 60000": "max_cents = 900000"})
    balance_cents = (await world.gateway.client.accounts()).find(*_source(world)).balance_cents or 0  # type: ignore[union-attr]
    asked = await world.ask(min(balance_cents, 900_000) - 100, caller=BOT)
    await world.transfer_outside(min(balance_cents, 900_000) - 200)
    if balance_cents > 900_000:
        await world.transfer_outside(balance_cents - 900_000)
    moved = len(await world.moved())
    assert (await refused(approve(world, asked.attempt_id))).code is Code.LOW_BALANCE
    assert (state_of(world, asked.attempt_id), len(await world.moved())) == ("awaiting_approval", moved)
    assert (await refused(approve(world, asked.attempt_id))).code is Code.WRONG_CODE


def _source(world: World) -> Any:
    order = world.order()
    return order.source_type, order.source_id


async def test_the_name_that_is_shown_is_the_one_of_now(world: World) -> None:
    asked = await world.ask(caller=BOT)
    assert (await world.gateway.transfers.pending_one(asked.attempt_id)).destination.name == DESTINATION
    renamed = {"kind": "values", "paths": ["me.memberships.*.organization.pods.*.name"], "value": "Renamed"}
    world.fail(renamed, operation="SelectSourceAndDestination", when="after")
    assert (await world.gateway.transfers.pending_one(asked.attempt_id)).destination.name == "Renamed"
    world.fail("close", operation="SelectSourceAndDestination")
    assert (await world.gateway.transfers.pending_one(asked.attempt_id)).destination.name is None


async def test_an_account_that_cannot_be_read_sends_nothing_and_spends_no_code(world: World) -> None:
    asked = await world.ask(caller=BOT)
    shown = await world.gateway.transfers.pending_one(asked.attempt_id)
    world.fail("close", operation="SelectSourceAndDestination")
    arguments = shown.bound_sha256, code_now(world), Channel.CLI
    assert (await refused(world.gateway.transfers.approve(asked.attempt_id, *arguments))).exit_code == 4
    await world.gateway.transfers.approve(asked.attempt_id, *arguments)


async def test_windows_hold_what_others_moved_meanwhile(world: World) -> None:
    asked = await world.ask(50_000, caller=BOT)
    other = await world.ask(20_000, caller=BOT)
    await approve(world, other.attempt_id)
    assert (await refused(approve(world, asked.attempt_id, code=code_now(world, 1)))).code is Code.OVER_DAY
    assert world.used_cents() == 20_000


# Twice at once, and codes.


async def test_two_processes_at_once_send_it_once(world: World) -> None:
    other = await world.open_process()
    asked = await world.ask(caller=BOT)
    answers = await asyncio.gather(
        approve(world, asked.attempt_id),
        approve(world, asked.attempt_id, other, code=code_now(world, 1)),
        return_exceptions=True,
    )
    errors = [one for one in answers if isinstance(one, GatewayError)]
    assert [one.code for one in errors] == [Code.APPROVAL_OVER]
    assert (len(await world.moved()), world.states()) == (1, ["accepted"])


async def test_twice_at_once_in_one_process_sends_it_once(world: World) -> None:
    asked = await world.ask(caller=BOT)
    prepare, turn = world.gateway.client.prepare_transfer, asyncio.Event()

    async def wait(*arguments: Any, **more: Any) -> Any:
        await turn.wait()
        return await prepare(*arguments, **more)

    world.gateway.client.prepare_transfer = wait  # type: ignore[method-assign]
    shown = await world.gateway.transfers.pending_one(asked.attempt_id)
    tasks = [
        asyncio.create_task(
            world.gateway.transfers.approve(asked.attempt_id, shown.bound_sha256, code_now(world, step), Channel.CLI)
        )
        for step in (0, 1)
    ]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await until(lambda: world.states() == ["reserved"])
    await world.transfer(500, caller=BOT, process=await world.open_process())  # it takes nothing for dead
    world.gateway.records.write(lambda writer: fail_dead(writer, world.gateway.records.owners))
    assert world.states() == ["reserved", "accepted"]
    turn.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [one.code for one in answers if isinstance(one, GatewayError)] == [Code.APPROVAL_OVER]
    assert (len(await world.moved()), world.states()) == (2, ["accepted", "accepted"])


async def test_a_code_is_used_once_in_all_processes(world: World, traveller: time_machine.Traveller) -> None:
    other = await world.open_process()
    first, second = await world.ask(2_000, caller=BOT), await world.ask(3_000, caller=BOT)
    code = code_now(world)
    await approve(world, first.attempt_id, code=code)
    assert (await refused(approve(world, second.attempt_id, other, code=code))).code is Code.WRONG_CODE
    assert (await refused(approve(world, second.attempt_id, code=code_now(world, -1)))).code is Code.WRONG_CODE
    traveller.shift(30)
    await approve(world, second.attempt_id, other)


async def test_wrong_codes_have_to_wait_also_in_another_process(
    world: World, traveller: time_machine.Traveller
) -> None:
    other = await world.open_process()
    asked = await world.ask(caller=BOT)
    wrong = f"{(int(code_now(world)) + 1) % 10**6:06}"
    for code in (wrong, "", "\u0661" * 6):
        assert (await refused(approve(world, asked.attempt_id, code=code))).code is Code.WRONG_CODE
    error = await refused(approve(world, asked.attempt_id, other))
    assert (error.code, error.retry_after_seconds) == (Code.WRONG_CODE, 5)
    traveller.shift(6)
    await approve(world, asked.attempt_id, other)


async def test_without_an_authenticator_nothing_is_approved(world: World) -> None:
    process = await world.open_process(owner_totp=None)
    asked = await world.ask(caller=BOT)
    error = await refused(approve(world, asked.attempt_id, process))
    assert (error.code, "owner setup" in str(error)) == (Code.WRONG_CODE, True)


async def test_a_process_with_another_account_refuses(world: World, tmp_path: Path) -> None:
    asked = await world.ask(caller=BOT)
    shown = await world.gateway.transfers.pending_one(asked.attempt_id)
    other = await world.open_process()
    found = await other.client.accounts()
    elsewhere = found.model_copy(
        update={"pods": tuple(pod.model_copy(update={"organization_id": "another"}) for pod in found.pods)}
    )

    async def accounts(*_: Any, **__: Any) -> Any:
        return elsewhere

    other.client.accounts = accounts  # type: ignore[method-assign]
    with pytest.raises(InvalidRequestError):
        await other.transfers.approve(asked.attempt_id, shown.bound_sha256, code_now(world), Channel.CLI)
    assert (world.states(), await world.moved()) == (["awaiting_approval"], [])


async def test_a_process_with_another_upstream_refuses(world: World) -> None:
    asked = await world.ask(caller=BOT)
    other = await world.open_process()
    other.client.capabilities = replace(other.client.capabilities, upstream=Upstream.PLATFORM)
    with pytest.raises(InvalidRequestError, match="graphql"):
        await approve(world, asked.attempt_id, other)
    await approve(world, asked.attempt_id)  # the code was not spent


# Failed before it was sent, and after.


async def test_what_failed_before_it_was_sent_is_asked_again(world: World) -> None:
    asked = await world.ask(caller=BOT, key="one")
    world.gateway.transfers.stop()
    error = await refused(approve(world, asked.attempt_id))
    assert (error.code, "asked again" in error.detail) == (Code.STOPPING, True)
    assert (world.states(), world.used_cents()) == (["failed"], 0)
    other = await world.open_process()
    again = await other.transfers.transfer(world.order(), Channel.API, "one", caller=BOT)
    assert isinstance(again, PendingTransfer)
    await approve(world, again.attempt_id, other, code=code_now(world, 1))
    assert len(await world.moved()) == 1


@pytest.mark.parametrize("state", [State.RESERVED, State.SENDING])
async def test_a_process_that_dies_after_the_approval(world: World, state: State) -> None:
    asked = await world.ask(caller=BOT, key="one")
    process = await world.open_process()
    if state is State.RESERVED:
        process.client.prepare_transfer = _forever  # type: ignore[method-assign]
    else:
        world.fail({"kind": "delay", "seconds": 60})
    task = asyncio.create_task(approve(world, asked.attempt_id, process))
    is_sent = state is State.SENDING
    await until(lambda: world.states() == [state.value] and is_sent == bool(world.requests("CreatePayment")))
    await world.kill(process)
    task.cancel()
    expected = {State.RESERVED: "failed", State.SENDING: "unknown"}[state]
    assert state_of(world, asked.attempt_id) == expected
    assert (await refused(approve(world, asked.attempt_id, code=code_now(world, 1)))).code is Code.APPROVAL_OVER
    if state is State.RESERVED:
        assert (await world.ask(caller=BOT, key="one")).attempt_id != asked.attempt_id
    else:
        assert (await refused(world.ask(caller=BOT, key="one"))).code is Code.OUTCOME_UNKNOWN
        assert world.used_cents() == 5_000


async def _forever(*_: Any, **__: Any) -> Any:
    await asyncio.Event().wait()


async def test_a_policy_that_comes_while_an_approved_one_waits_stops_it(world: World) -> None:
    asked = await world.ask(caller=BOT)
    prepare, turn = world.gateway.client.prepare_transfer, asyncio.Event()

    async def wait(*arguments: Any, **more: Any) -> Any:
        await turn.wait()
        return await prepare(*arguments, **more)

    world.gateway.client.prepare_transfer = wait  # type: ignore[method-assign]
    task = asyncio.create_task(approve(world, asked.attempt_id))
    await until(lambda: world.states() == ["reserved"])
    apply_policy(world, NO_BREAKER, NEVER + RULES)
    turn.set()
    assert (await refused(task)).code is Code.NEVER_ALLOWED
    assert (world.states(), await world.moved()) == (["cancelled"], [])


async def test_doctor_says_that_nobody_can_approve(world: World) -> None:
    settings = world.settings.model_copy(update={"owner_totp": None})
    fixes = [one.fix for one in check_policy_of(world.gateway.records, settings)]
    assert "pysequence-api owner setup" in fixes
    fixes = [one.fix for one in check_policy_of(world.gateway.records, world.settings)]
    assert "pysequence-api owner setup" not in fixes
