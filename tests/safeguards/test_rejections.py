"""What is rejected before it is sent: with which code, and what is recorded of it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import time_machine

from pysequence_api.errors import (
    FrozenError,
    LimitExceededError,
    SafeguardError,
    TooManyAttemptsError,
    TooManyUnknownError,
    UnknownAccountError,
)
from pysequence_api.models import AccountType
from pysequence_api.records.audit import Channel
from pysequence_api.records.control import freeze, unfreeze
from pysequence_api.sandbox import Sandbox
from tests.world import World, open_world

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.upstream("graphql", "platform")


async def expect_rejected(world: World, code: str, **order: object) -> SafeguardError:
    with pytest.raises(SafeguardError) as caught:
        await world.transfer(**order)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.outcome) == (code, "nothing_moved")
    return caught.value


@BOTH
async def test_what_the_account_does_not_have_is_rejected_and_not_recorded(world: World) -> None:
    """The instance that failed: made-up ids took the limit of the day in 40 ms, and counted for ever."""
    wrong: list[dict[str, Any]] = [
        {"source_id": "made-up"},
        {"destination_id": "made-up"},
        {"source_type": AccountType.PORT},
        {"destination_type": AccountType.ACCOUNT},
    ]
    for one in wrong:
        with pytest.raises(UnknownAccountError) as caught:
            await world.transfer(**one)
        assert caught.value.status == 422, one
    assert world.attempts() == []
    assert world.files.events() == []
    assert await world.moved() == []


async def test_a_wrong_type_is_told_the_right_one(world: World) -> None:
    with pytest.raises(UnknownAccountError, match="source_type to POD"):
        await world.transfer(source_type=AccountType.PORT)


async def test_an_old_list_of_the_account_is_read_again_before_it_rejects(
    world: World, traveller: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.transfer()
    accounts = await world.gateway.client.accounts()
    source_id = world.pod_ids["Emergency Fund"]
    without = accounts.model_copy(update={"pods": tuple(pod for pod in accounts.pods if pod.id != source_id)})
    monkeypatch.setattr(world.gateway.transfers, "_accounts", (without, -1e9))
    assert (await world.transfer()).id is not None


async def test_a_kyc_id_that_the_account_does_not_have_is_rejected(world: World) -> None:
    with pytest.raises(UnknownAccountError):
        await world.transfer(kyc_id="made-up")
    assert world.attempts() == []


async def test_without_kyc_ids_the_kyc_id_is_not_checked(world: World) -> None:
    world.fail(
        {"kind": "nulls", "paths": ["me.memberships.*.organization.kycs"]},
        operation="SelectSourceAndDestination",
        when="after",
    )
    with pytest.raises(Exception, match="unknown"):
        await world.transfer(kyc_id="made-up")


async def test_a_limit_is_recorded_with_its_code(world: World) -> None:
    over_max = await expect_rejected(world, "over_max", amount_cents=1_500_000)
    assert over_max.detail == "Amount 1500000 cents exceeds per-transfer limit of 1000000 cents"
    attempt = world.attempt(over_max.attempt_id or "")
    assert (attempt.state, attempt.code) == ("rejected", "over_max")
    [line] = world.files.trail()
    assert (line["event_type"], line["code"], line["attempt_id"]) == (
        "transfer_rejected",
        "over_max",
        attempt.attempt_id,
    )
    for _ in range(2):
        await world.transfer(1_000_000)
    over_day = await expect_rejected(world, "over_day", amount_cents=600_000)
    assert over_day.detail == "Amount 600000 cents exceeds daily remaining limit of 500000 cents"


async def test_equal_rejections_in_a_row_have_one_event_and_a_sum(
    world: World, traveller: time_machine.Traveller
) -> None:
    ids = [(await expect_rejected(world, "over_max", amount_cents=1_500_000)).attempt_id for _ in range(5)]
    assert len(set(ids)) == 5
    assert world.files.events() == ["rejected"]
    await world.transfer()
    assert world.files.events() == ["rejected", "rejected", "requested", "completed"]
    assert world.files.trail()[1]["repeats"] == 4
    assert all(world.attempt(attempt_id or "").code == "over_max" for attempt_id in ids)


async def test_other_rejections_have_events_of_their_own(world: World, traveller: time_machine.Traveller) -> None:
    await expect_rejected(world, "over_max", amount_cents=1_500_000)
    await expect_rejected(world, "over_max", amount_cents=1_500_001)
    await expect_rejected(world, "over_max", amount_cents=1_500_001)
    traveller.shift(61)
    await expect_rejected(world, "over_max", amount_cents=1_500_001)
    assert [line.get("repeats") for line in world.files.trail()] == [None, None, 1, None]


async def test_repeated_rejections_are_summed_up_at_close(world: World) -> None:
    for _ in range(3):
        await expect_rejected(world, "over_max", amount_cents=1_500_000)
    await world.close(world.gateway)
    assert [line.get("repeats") for line in world.files.trail()] == [None, 2]
    await world.open_process()


async def test_what_is_recorded_of_a_callers_text_is_bounded(world: World) -> None:
    """The instance that failed: a refused attempt with emoji wrote 13 KB."""
    await expect_rejected(world, "over_max", amount_cents=1_500_000, description="\N{GRINNING FACE}" * 255)
    await world.transfer(description="\N{GRINNING FACE}" * 255)
    assert all(len(json.dumps(line)) < 2_000 for line in world.files.trail())


async def test_five_unknown_outcomes_are_enough(world: World) -> None:
    for number in range(5):
        await world.lose(moved=False, amount_cents=100 + number)
    with pytest.raises(TooManyUnknownError) as caught:
        await world.transfer(999)
    assert (caught.value.status, caught.value.code) == (503, "too_many_unknown")
    await world.transfer(999, channel=Channel.CLI)  # another caller has its own


async def test_the_rate_is_limited_and_replays_are_free_of_it(tmp_path: Path, sandbox: Sandbox) -> None:
    async with open_world(tmp_path, sandbox, max_transfer_attempts_per_minute=10) as world:
        first = await world.transfer(key="k")
        results = await asyncio.gather(
            *(world.transfer(100, key=str(number)) for number in range(50)), return_exceptions=True
        )
        rejected = [result for result in results if isinstance(result, TooManyAttemptsError)]
        assert len(rejected) == 41
        assert all(error.retry_after_seconds for error in rejected)
        assert (await world.transfer(key="k")).id == first.id


async def test_a_freeze_holds_at_once_in_every_process(world: World) -> None:
    await world.transfer()
    other = await world.open_process()
    freeze(other.records, "an agent went wild")
    with pytest.raises(FrozenError) as caught:
        await world.transfer()
    assert caught.value.status == 403
    assert "an agent went wild" in caught.value.detail
    limits = world.gateway.limits()
    assert (limits.frozen, limits.frozen_reason) == (True, "an agent went wild")
    assert len(await world.gateway.client.pods()) > 1
    unfreeze(other.records)
    await world.transfer()
    events = world.files.events()
    assert events.count("frozen") == events.count("unfrozen") == 1


async def test_an_amount_that_yesterday_leaves_no_room_for_may_be_requested_in_a_moment(
    world: World, traveller: time_machine.Traveller
) -> None:
    for _ in range(2):
        await world.transfer(1_000_000)
    traveller.shift(12 * 3600 + 60)  # one minute into the next day, which may not have begun at Sequence
    with pytest.raises(LimitExceededError) as caught:
        await world.transfer(900_000)
    assert (caught.value.retry, 1 <= (caught.value.retry_after_seconds or 0) <= 120) == ("later", True)
    traveller.shift(caught.value.retry_after_seconds or 0)
    await world.transfer(900_000)
