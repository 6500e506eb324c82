"""One data directory, whose transfers were sent through two APIs of Sequence."""

from typing import Any

import pytest
import time_machine
from pydantic import SecretStr

from pysequence_api.errors import KeyReusedError, OutcomeUnknownError, TransferPendingError
from pysequence_api.gateway import Gateway
from pysequence_api.models import TransferOrder
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import THE_DEFAULT, THE_OWNER
from pysequence_api.records.states import State
from pysequence_api.safeguards.follow_up import Result
from pysequence_api.safeguards.transfers import CompletedTransfer
from pysequence_api.sandbox import KeyPermissions
from tests.world import GRACE_SECONDS, World

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]


async def open_platform(world: World, permissions: KeyPermissions | None = None) -> Gateway:
    """Change to the Platform API: a new process on the same data directory."""
    key = world.sandbox.issue_platform_key(permissions or KeyPermissions(requests_per_minute=1_000_000))
    return await world.open_process(upstream="platform", platform_key=SecretStr(key))


async def transfer_again(world: World, process: Gateway, **more: Any) -> Any:
    """Request the transfer that `World.transfer` requests, as a caller that names no KYC id."""
    order = world.order(more.pop("amount_cents", 5_000)).model_copy(update={"kyc_id": None})
    return await process.transfers.transfer(
        TransferOrder(**order.model_dump()), Channel.API, more.get("key"), caller=THE_DEFAULT
    )


async def test_only_the_api_that_sent_an_attempt_decides_about_it(
    world: World, traveller: time_machine.Traveller
) -> None:
    moved, lost = await world.lose(moved=True), await world.lose(moved=False, amount_cents=6_000)
    platform = await open_platform(world)
    traveller.shift(GRACE_SECONDS + 700)
    findings = await world.follow_up(platform)
    assert {one.result for one in findings} == {Result.STILL_UNKNOWN}
    assert all("graphql" in (one.reason or "") for one in findings)
    assert world.states() == ["unknown", "unknown"]
    assert world.used_cents(platform) == 11_000
    await world.follow_up()
    assert (world.attempt(moved).state, world.attempt(lost).state) == (State.ARRIVED, State.NOT_EXECUTED)


async def test_a_retry_gets_its_original_answer_after_the_change(world: World) -> None:
    first = await world.transfer(key="rent")
    platform = await open_platform(world)
    again = await transfer_again(world, platform, key="rent")
    assert (again.replayed, again.id) == (True, first.id)
    with pytest.raises(KeyReusedError):
        await transfer_again(world, platform, amount_cents=6_000, key="rent")
    second = await transfer_again(world, platform, key="food")
    back = await world.transfer(key="food")
    assert (back.replayed, back.id) == (True, second.id)
    assert len(await world.moved()) == 2


async def test_an_unknown_one_of_the_old_api_holds_back_equal_ones(world: World) -> None:
    await world.lose(moved=True, key="rent")
    platform = await open_platform(world)
    with pytest.raises(OutcomeUnknownError):
        await transfer_again(world, platform, key="rent")
    with pytest.raises(TransferPendingError):
        await transfer_again(world, platform)
    assert len(await world.moved()) == 1


async def test_the_new_api_claims_nothing_that_may_be_of_the_old_one(
    world: World, traveller: time_machine.Traveller
) -> None:
    await world.lose(moved=True)
    platform = await open_platform(world)
    order = world.order(5_000).model_copy(update={"kyc_id": None})
    done = await platform.transfers.transfer(order, Channel.CLI, caller=THE_OWNER)  # another caller's equal one
    traveller.shift(60)
    await world.follow_up(platform)
    await world.follow_up()
    claimed = {one.transfer_id for one in world.attempts()}
    assert claimed == {one["id"] for one in await world.moved()}
    assert isinstance(done, CompletedTransfer)
    assert world.attempt(done.attempt_id).transfer_id == done.id


async def test_a_key_that_cannot_list_both_accounts_decides_nothing(
    world: World, traveller: time_machine.Traveller
) -> None:
    platform = await open_platform(world)
    world.fail("close", operation="PlatformCreateTransfer", when="after")
    with pytest.raises(OutcomeUnknownError):
        await transfer_again(world, platform)
    only_one = KeyPermissions(account_ids=frozenset({world.order().source_id}), requests_per_minute=1_000_000)
    narrow = await open_platform(world, only_one)
    traveller.shift(GRACE_SECONDS + 700)
    [finding] = await world.follow_up(narrow)
    assert finding.result is Result.STILL_UNKNOWN
    assert "not in the account" in (finding.reason or "") or "left out" in (finding.reason or "")
    [*_, found] = await world.follow_up(platform)
    assert found.result in {Result.ACCEPTED, Result.ARRIVED}
