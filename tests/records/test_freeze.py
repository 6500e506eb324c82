"""Freezing stops transfers in every process at once; reads go on."""

import asyncio

import anyio
import pytest

from pysequence_api.errors import FrozenError, InvalidRequestError, NotFoundError
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import add, remove
from pysequence_api.records.control import NO_REASON, freeze, unfreeze
from tests.world import World, forever

from .conftest import until

pytestmark = pytest.mark.anyio


async def test_every_process_stops_at_once_and_goes_on_at_once(world: World) -> None:
    other = await world.open_process()
    await world.transfer(process=other)
    freeze(world.gateway.records, "a laptop was stolen")
    for process in (world.gateway, other):
        for channel in (Channel.API, Channel.CLI):
            with pytest.raises(FrozenError):
                await world.transfer(process=process, channel=channel)
        assert process.limits().frozen_reason == "a laptop was stolen"
        assert len(await process.client.pods()) > 1
    assert len(await world.moved()) == 1
    assert unfreeze(other.records) is not None
    await world.transfer()
    assert len(await world.moved()) == 2
    assert world.files.events()[2:3] + world.files.events()[-3:] == ["frozen", "unfrozen", "requested", "completed"]


async def test_what_waits_for_its_turn_is_released_and_what_was_sent_ends(world: World) -> None:
    other = await world.open_process()
    world.fail({"kind": "delay", "seconds": 1.0})
    sent = asyncio.create_task(world.transfer(1_000))
    await until(lambda: world.states() == ["sending"])
    other.client.prepare_transfer = forever  # type: ignore[method-assign, assignment]
    waiting = asyncio.create_task(world.transfer(2_000, process=other))
    await until(lambda: len(world.attempts()) == 2)
    freeze(world.gateway.records)
    with anyio.fail_after(5), pytest.raises(FrozenError):
        await waiting
    assert (await sent).amount_cents == 1_000
    assert world.states() == ["accepted", "cancelled"]
    assert world.used_cents() == 1_000


async def test_the_first_reason_is_kept_unless_there_is_a_new_one(world: World) -> None:
    records = world.gateway.records
    first = freeze(records)
    assert first.reason == NO_REASON
    assert freeze(records) == first
    second = freeze(records, "found out why")
    assert second.reason == "found out why"
    assert freeze(records) == freeze(records, " ") == freeze(records, "found out why") == second
    assert world.files.events() == ["frozen", "frozen"]


async def test_a_freeze_of_callers_becomes_one_of_everybody(world: World) -> None:
    records = world.gateway.records
    records.write(lambda writer: writer.set_freeze("a late transfer", callers_only=True))
    await world.transfer(channel=Channel.CLI)
    assert freeze(records).reason == "a late transfer"
    with pytest.raises(FrozenError):
        await world.transfer(channel=Channel.CLI)


async def test_unfreezing_what_is_not_frozen_changes_nothing(world: World) -> None:
    assert unfreeze(world.gateway.records) is None
    assert world.files.events() == []


async def test_one_caller_is_frozen_and_the_others_go_on(world: World) -> None:
    other = await world.open_process()
    freeze(world.gateway.records, "it sends nonsense", "default")
    with pytest.raises(FrozenError, match=r"default .*it sends nonsense"):
        await world.transfer(process=other)
    await world.transfer(process=other, channel=Channel.CLI)
    assert not world.gateway.limits().frozen
    assert [one.caller for one in world.gateway.limits().frozen_callers] == ["default"]
    assert unfreeze(world.gateway.records) is None
    with pytest.raises(FrozenError):
        await world.transfer(process=other)
    assert unfreeze(other.records, "default") is not None
    assert unfreeze(other.records, "default") is None
    await world.transfer(process=other)
    events = [line for line in world.files.trail() if line["event_type"] in {"frozen", "unfrozen"}]
    assert [line["caller"] for line in events] == ["default", "default"]


async def test_a_freeze_of_one_caller_outlives_one_of_everybody(world: World) -> None:
    records = world.gateway.records
    freeze(records, "one", "default")
    freeze(records, "all")
    for channel in (Channel.API, Channel.CLI):
        with pytest.raises(FrozenError, match="all"):
            await world.transfer(channel=channel)
    unfreeze(records)
    await world.transfer(channel=Channel.CLI)
    with pytest.raises(FrozenError, match="one"):
        await world.transfer()


async def test_what_waits_of_a_frozen_caller_is_released(world: World) -> None:
    other = await world.open_process()
    other.client.prepare_transfer = forever  # type: ignore[method-assign, assignment]
    waiting = asyncio.create_task(world.transfer(1_000, process=other))
    await until(lambda: world.states() == ["reserved"])
    freeze(world.gateway.records, None, "default")
    with anyio.fail_after(5), pytest.raises(FrozenError):
        await waiting
    assert world.states() == ["cancelled"]
    assert world.used_cents() == 0


async def test_fifty_transfers_that_wait_are_released_by_one_transaction(world: World) -> None:
    other = await world.open_process(max_transfer_attempts_per_minute=100)
    other.client.prepare_transfer = forever  # type: ignore[method-assign, assignment]
    waiting = [asyncio.create_task(world.transfer(1_000 + number, process=other)) for number in range(50)]
    await until(lambda: world.states() == ["reserved"] * 50)
    freeze(world.gateway.records, None, "default")
    with anyio.fail_after(10):
        ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(one) for one in ended} == {FrozenError}
    assert await world.moved() == []


async def test_callers_that_cannot_be_frozen(world: World) -> None:
    records = world.gateway.records
    for name, error in (("nobody", NotFoundError), ("owner", InvalidRequestError)):
        with pytest.raises(error):
            freeze(records, None, name)
        with pytest.raises(error):
            unfreeze(records, name)
    add(records, "gone")
    remove(records, "gone")
    with pytest.raises(InvalidRequestError, match="removed"):
        freeze(records, None, "gone")


async def test_a_reason_is_one_bounded_line(world: World) -> None:
    reason = freeze(world.gateway.records, "\x1b[31mone\ntwo " + "x" * 10_000).reason
    assert "\n" not in reason
    assert "\x1b" not in reason
    assert len(reason) < 300
