"""A clock that differs from Sequence's stops transfers, and reads go on."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from pysequence_api.errors import LimitExceededError, SafeguardsUnavailableError
from tests.world import World

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.upstream("graphql", "platform")


@BOTH
async def test_a_clock_that_is_off_stops_transfers(world: World) -> None:
    for number, seconds in enumerate((-86_400, -121, 125, 10 * 365 * 86_400)):
        off = {"kind": "date_offset_seconds", "seconds": seconds}
        world.fail(off, operation="*", count=1_000, when="after")
        await world.gateway.client.pods()
        with pytest.raises(SafeguardsUnavailableError, match="clock"):
            await world.transfer()
        world.sandbox.faults.clear()
        assert len(await world.moved()) == number, seconds
        assert len(await world.gateway.client.pods()) > 1
        await world.transfer()  # right again, by the answer to that read


@pytest.mark.parametrize("seconds", [-110, 110])
async def test_two_minutes_are_tolerated(world: World, seconds: float) -> None:
    world.fail({"kind": "date_offset_seconds", "seconds": seconds}, operation="*", when="after")
    await world.gateway.client.pods()
    await world.transfer()


@BOTH
async def test_an_answer_without_a_date_says_nothing(world: World) -> None:
    world.fail("no_date", operation="*", count=3, when="after")
    await world.gateway.client.pods()
    await world.transfer()


@BOTH
async def test_a_clock_that_is_set_is_noticed_without_another_answer(
    world: World, traveller: time_machine.Traveller
) -> None:
    await world.gateway.client.pods()
    assert abs(world.gateway.client.clock_offset_seconds or 0) < 5
    traveller.shift(86_400)
    assert abs(world.gateway.client.clock_offset_seconds or 0) > 86_000
    await world.transfer()  # Sequence's own clock moved as well, which the gateway asks for


async def test_old_days_are_not_pruned_by_a_clock_that_nobody_confirmed(
    world: World, traveller: time_machine.Traveller
) -> None:
    await world.transfer(1_000)
    off = {"kind": "date_offset_seconds", "seconds": -30 * 86_400}
    traveller.shift(30 * 86_400)
    world.fail(off, operation="*", count=1_000, when="after")
    with pytest.raises(SafeguardsUnavailableError, match="clock"):
        await world.transfer(2_000)
    traveller.shift(-30 * 86_400)
    assert world.used_cents() == 1_000


@pytest.mark.parametrize("ahead_seconds", [110, -110])
async def test_around_midnight_no_day_of_sequence_has_more_than_the_limit(
    world: World, traveller: time_machine.Traveller, ahead_seconds: float
) -> None:
    """Sequence's clock may be two minutes from ours, and its day begins when it says so."""
    theirs = datetime(2026, 11, 24, tzinfo=UTC) + timedelta(seconds=30 if ahead_seconds > 0 else -30)
    for moment in (theirs, theirs + timedelta(seconds=115)):
        traveller.move_to(moment - timedelta(seconds=ahead_seconds))
        off = {"kind": "date_offset_seconds", "seconds": ahead_seconds}
        world.fail(off, operation="*", count=1_000, when="after")
        await world.gateway.client.pods()
        with suppress(LimitExceededError):
            await world.transfer(1_000_000)
        with suppress(LimitExceededError):
            await world.transfer(1_000_000)
        world.sandbox.faults.clear()
    moved_by_day: dict[str, int] = {}
    for transfer in await world.moved():
        day = str(datetime.fromisoformat(transfer["created_at"]) + timedelta(seconds=ahead_seconds))[:10]
        moved_by_day[day] = moved_by_day.get(day, 0) + transfer["amount_cents"]
    assert moved_by_day
    assert max(moved_by_day.values()) <= 2_500_000


async def test_just_after_midnight_the_day_before_holds_as_long_as_it_may_last_at_sequence(
    world: World, traveller: time_machine.Traveller
) -> None:
    for _ in range(2):
        await world.transfer(1_000_000)
    await world.transfer(500_000)
    traveller.shift(12 * 3600 + 60)
    world.fail({"kind": "date_offset_seconds", "seconds": -110}, operation="*", count=1_000, when="after")
    await world.gateway.client.pods()
    with pytest.raises(LimitExceededError):
        await world.transfer(100)
