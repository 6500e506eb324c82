"""The same idempotency key never moves money twice."""

import asyncio
from pathlib import Path

import pytest
import time_machine

from pysequence_api.errors import (
    KeyReusedError,
    LimitExceededError,
    NotExecutedError,
    NotSentError,
    OutcomeUnknownError,
    RateLimitedError,
    RefusedError,
    TransferPendingError,
)
from pysequence_api.sandbox import Sandbox
from tests.world import World, open_world

pytestmark = pytest.mark.anyio


@pytest.mark.upstream("graphql", "platform")
async def test_the_same_key_and_request_get_the_first_answer_again(world: World) -> None:
    first = await world.transfer(key="rent-november")
    again = await world.transfer(key="rent-november")
    assert (first.replayed, again.replayed) == (False, True)
    assert again.model_dump(exclude={"source", "destination"}) == first.model_dump(exclude={"source", "destination"})
    assert (again.source.id, again.source.name) == (first.source.id, first.source.name)
    assert len(await world.moved()) == 1
    assert world.files.events() == ["requested", "completed"]


async def test_over_midnight_a_restart_and_later_limits_too(
    tmp_path: Path, sandbox: Sandbox, traveller: time_machine.Traveller
) -> None:
    async with open_world(tmp_path, sandbox) as world:
        first = await world.transfer(key="k")
    traveller.shift(24 * 3600)
    async with open_world(tmp_path, sandbox, max_transfer_cents=1) as world:
        assert (await world.transfer(key="k")).id == first.id
        assert len(await world.moved()) == 1


@pytest.mark.parametrize("change", [{"amount_cents": 5_001}, {"description": "x"}, {"instant": True}])
async def test_the_same_key_with_another_request_is_refused(world: World, change: dict[str, object]) -> None:
    await world.transfer(key="k")
    with pytest.raises(KeyReusedError):
        await world.transfer(key="k", **change)  # type: ignore[arg-type]
    assert len(await world.moved()) == 1


async def test_while_the_first_is_on_its_way_the_same_key_waits(world: World) -> None:
    results = await asyncio.gather(*(world.transfer(key="k") for _ in range(10)), return_exceptions=True)
    completed = [result for result in results if not isinstance(result, BaseException)]
    pending = [result for result in results if isinstance(result, TransferPendingError)]
    assert len(completed) + len(pending) == 10
    assert len({one.id for one in completed}) == 1
    assert all(one.retry_after_seconds for one in pending)
    assert len(await world.moved()) == 1


async def test_after_an_unknown_outcome_the_key_tells_what_is_known(
    world: World, traveller: time_machine.Traveller
) -> None:
    world.fail("close", when="after")
    with pytest.raises(OutcomeUnknownError) as unknown:
        await world.transfer(key="k")
    with pytest.raises(OutcomeUnknownError) as again:
        await world.transfer(key="k")
    assert again.value.replayed
    assert again.value.attempt_id == unknown.value.attempt_id
    await world.follow_up()
    [moved] = await world.moved()
    assert (await world.transfer(key="k")).id == moved["id"]


async def test_what_was_found_not_executed_stays_so_under_its_key(
    world: World, traveller: time_machine.Traveller
) -> None:
    world.fail("close", when="before")
    with pytest.raises(OutcomeUnknownError):
        await world.transfer(key="k")
    traveller.shift(601)
    await world.follow_up()
    with pytest.raises(NotExecutedError) as again:
        await world.transfer(key="k")
    assert (again.value.status, again.value.retry) == (409, "new_key")
    assert await world.moved() == []
    assert world.used_cents() == 0


async def test_after_a_refusal_by_sequence_a_corrected_order_may_carry_the_key(world: World) -> None:
    with pytest.raises(RefusedError) as first:
        await world.transfer(source="Empty Envelope", key="k")
    assert first.value.retry == "same_key"
    completed = await world.transfer(key="k")
    assert not completed.replayed
    assert (await world.transfer(key="k")).id == completed.id
    assert world.states() == ["refused", "accepted"]


async def test_a_limit_and_what_was_never_sent_free_the_key(world: World) -> None:
    with pytest.raises(LimitExceededError):
        await world.transfer(1_000_001, key="k")
    world.fail({"kind": "status", "status": 429})
    with pytest.raises(RateLimitedError):
        await world.transfer(key="k")
    assert not (await world.transfer(6_000, key="k")).replayed


async def test_without_a_key_equal_requests_are_two_transfers(world: World) -> None:
    first, second = await world.transfer(), await world.transfer()
    assert first.id != second.id
    assert len(await world.moved()) == 2


async def test_nothing_equal_to_an_unknown_one_is_sent_under_another_key_or_none(world: World) -> None:
    world.fail("close", when="after")
    with pytest.raises(OutcomeUnknownError) as unknown:
        await world.transfer()
    with pytest.raises(TransferPendingError) as pending:
        await world.transfer()
    assert pending.value.attempt_id == unknown.value.attempt_id
    assert pending.value.code == "equal_unknown"
    with pytest.raises(TransferPendingError):
        await world.transfer(key="another key")
    await world.transfer(5_001)
    assert len(await world.moved()) == 2


async def test_no_key_is_in_any_file(world: World) -> None:
    await world.transfer(key="a-key-that-nobody-else-has")
    for path in world.files.path.rglob("*"):
        if path.is_file():
            assert b"a-key-that-nobody-else-has" not in path.read_bytes(), path


async def test_a_connection_that_is_never_made_frees_the_key(tmp_path: Path, sandbox: Sandbox) -> None:
    async with open_world(tmp_path, sandbox) as world:
        await world.gateway.client.aclose()
        with pytest.raises((NotSentError, RuntimeError)):
            await world.transfer(key="k")
        assert world.used_cents() == 0
