"""The breaker freezes callers, in the transaction in which its numbers are reached."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import time_machine

from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import THE_DEFAULT, Caller, add, remove
from pysequence_api.records.control import unfreeze
from pysequence_api.records.states import State
from pysequence_api.sandbox import Sandbox
from tests.policies import apply_policy
from tests.safeguards.test_enforce import codes, hold, move, until_reserved
from tests.world import World, open_world

pytestmark = pytest.mark.anyio
ONE, TWO, THREE = (Caller(name, None) for name in ("one", "two", "three"))
NEVER = """
[never]
to = ["d"]
"""
CALLERS = tuple(
    f"""[callers.{name}]
scopes = ["move"]
rules = [{{ name = "b", from = ["a"], to = ["b"], max_cents = 5000 }}]"""
    for name in ("one", "two", "three")
)


@pytest.fixture
async def world(tmp_path: Path, sandbox: Sandbox) -> AsyncIterator[World]:
    """A world with three callers."""
    async with open_world(tmp_path, sandbox, max_transfer_attempts_per_minute=10_000) as world:
        apply_policy(world, NEVER, *CALLERS)
        for caller in (ONE, TWO, THREE):
            add(world.gateway.records, caller.name)
        yield world


def frozen(world: World) -> list[str]:
    """List the callers of the events `frozen`; empty for all."""
    return [line.get("caller", "") for line in world.files.trail() if line["event_type"] == "frozen"]


async def test_one_request_for_what_is_never_allowed(world: World) -> None:
    assert await codes(world, (1, "d"), (2, "b"), caller=ONE) == ["never_allowed", "frozen"]
    assert await codes(world, (2, "b"), caller=TWO) == [""]
    assert frozen(world) == ["one"]
    types = [line["event_type"] for line in world.files.trail()]
    assert types[types.index("frozen") - 1] == "transfer_rejected"


async def test_five_refusals_within_ten_minutes(world: World, traveller: time_machine.Traveller) -> None:
    assert await codes(world, *[(5_001, "b")] * 4, caller=ONE) == ["over_max"] * 4
    traveller.shift(timedelta(minutes=10, seconds=5))
    assert await codes(world, *[(5_001, "c")] * 5, (1, "b"), caller=ONE) == ["pair_not_allowed"] * 5 + ["frozen"]
    assert frozen(world) == ["one"]


async def test_counts_start_at_the_unfreeze(world: World) -> None:
    await codes(world, (1, "d"), caller=ONE)
    unfreeze(world.gateway.records, "one")
    assert await codes(world, (1, "b"), (1, "d"), (1, "b"), caller=ONE) == ["", "never_allowed", "frozen"]
    assert frozen(world) == ["one", "one"]


async def test_the_third_equal_order_is_stopped(world: World, traveller: time_machine.Traveller) -> None:
    assert await codes(world, (7, "b"), (7, "b"), (8, "b"), caller=ONE) == [""] * 3
    assert (await move(world, 7, caller=ONE, key="new", description="another text")).code == "frozen"
    assert len(await world.moved()) == 3
    traveller.shift(timedelta(minutes=11))
    assert await codes(world, (7, "b"), caller=ONE) == ["frozen"]
    unfreeze(world.gateway.records, "one")
    assert await codes(world, (7, "b"), (7, "b"), caller=ONE) == ["", ""]


async def test_equal_orders_that_moved_nothing_or_joined_do_not_count(world: World) -> None:
    for _ in range(3):
        assert (await move(world, 7, caller=ONE, key="same")).state == "accepted"
    for _ in range(3):
        world.fail("refuse")
        assert (await move(world, 7, caller=ONE)).code == "refused"
    assert frozen(world) == []
    assert await codes(world, (7, "b"), caller=ONE) == [""]


async def lose(world: World, amount_cents: int, caller: Caller) -> None:
    world.fail("close", when="after")
    assert (await move(world, amount_cents, caller=caller)).code == "outcome_unknown"


async def test_two_unknown_outcomes_freeze_the_caller_and_what_waits(world: World) -> None:
    await lose(world, 1, ONE)
    process = await world.open_process()
    turn = hold(process)
    waiting = asyncio.create_task(move(world, 3, caller=ONE, process=process))
    await until_reserved(world, 1)
    await lose(world, 2, ONE)
    assert frozen(world) == ["one"]
    turn.set()
    assert (await waiting).code == "frozen"
    assert await codes(world, (1, "b"), caller=TWO) == [""]


async def test_three_unknown_outcomes_freeze_all_but_the_owner(world: World) -> None:
    for number, caller in enumerate((ONE, TWO, THREE)):
        await lose(world, 1 + number, caller)
    assert frozen(world) == [""]
    assert await codes(world, (9, "b"), caller=TWO) == ["frozen"]
    assert (await world.transfer(9, channel=Channel.CLI)).state == "accepted"
    unfreeze(world.gateway.records)
    assert await codes(world, (9, "b"), caller=TWO) == [""]
    assert frozen(world) == [""]


async def test_what_a_dead_process_left_counts_at_the_next_request(world: World) -> None:
    for number in range(2):
        process = await world.open_process()
        await world.leave(State.SENDING, process, amount_cents=1 + number, caller=ONE)
    assert await codes(world, (9, "b"), caller=ONE) == ["frozen"]
    assert frozen(world) == ["one"]


async def test_the_outcome_of_a_removed_caller_is_recorded(world: World) -> None:
    await lose(world, 1, ONE)
    turn = hold(world.gateway)
    turn.set()
    remove(world.gateway.records, "one")
    await lose(world, 2, ONE)
    assert frozen(world) == []


async def test_who_the_policy_does_not_hold_is_never_frozen(world: World) -> None:
    for _ in range(4):
        assert (await world.transfer(7, channel=Channel.CLI)).state == "accepted"
    assert frozen(world) == []


async def test_default_without_a_policy_is_warned_of(
    tmp_path: Path, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with open_world(tmp_path / "other", sandbox) as world:
        assert await codes(world, (7, "b"), (7, "b"), caller=THE_DEFAULT) == ["", ""]
        assert "equal" not in caplog.text
        assert await codes(world, (7, "b"), caller=THE_DEFAULT) == [""]
        assert "the caller default made 3 equal transfers within 10 minutes" in caplog.text
        assert frozen(world) == []
