"""The policy in force decides about transfers: in the transaction that reserves them, and in the one before sending."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
import time_machine

from pysequence_api.errors import Code, GatewayError, LimitExceededError, SafeguardError, UnknownAccountError
from pysequence_api.gateway import Gateway
from pysequence_api.models import AccountType
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import THE_DEFAULT, Caller, add
from pysequence_api.records.control import freeze
from pysequence_api.records.states import State
from pysequence_api.safeguards.caller_status import CallerLimits
from pysequence_api.safeguards.transfers import PendingTransfer
from pysequence_api.sandbox import Sandbox
from tests.policies import NO_BREAKER, WORDS, apply_policy
from tests.world import World, open_world

pytestmark = pytest.mark.anyio
BOT = Caller("bot", None)
RULES = """
[never]
to = ["d"]
[callers.bot]
scopes = ["move"]
day_cents = 9000
month_cents = 12000
rules = [
  { name = "b", from = ["a"], to = ["b"], max_cents = 5000, hour_cents = 6000, day_cents = 8000, hour_count = 3 },
  { name = "c", from = ["a"], to = ["c", "d"], max_cents = 5000, approve_above_cents = 1000, day_count = 1 },
]
[callers.reader]
scopes = ["read:accounts"]
[callers.past]
scopes = ["move"]
rules = [{ name = "b", from = ["a"], to = ["b"], max_cents = 5000 }]
expires = 2026-11-23T00:00:00Z
[callers.rich]
scopes = ["move"]
rules = [{ name = "b", from = ["a"], to = ["b"], max_cents = 1000000 }]
"""


@pytest.fixture
async def world(tmp_path: Path, sandbox: Sandbox) -> AsyncIterator[World]:
    """A world without a rate, since time stands nearly still."""
    async with open_world(tmp_path, sandbox, max_transfer_attempts_per_minute=10_000) as world:
        yield world


async def move(
    world: World,
    amount_cents: int = 1_000,
    to: str = "b",
    caller: Caller = BOT,
    *,
    key: str | None = None,
    process: Gateway | None = None,
    **more: Any,
) -> Any:
    """Request a transfer from the account ``a``, and return the answer or the error."""
    try:
        order = world.order(amount_cents, destination_id=world.pod_ids[WORDS[to]], **more)
        service = (process or world.gateway).transfers
        return await service.transfer(order, Channel.API, key or str(uuid4()), caller=caller)
    except GatewayError as error:
        return error


async def codes(world: World, *orders: tuple[int, str], caller: Caller = BOT) -> list[str]:
    """Request transfers one after another, and return their codes; empty where they were made, or ``asked``."""
    answers = [await move(world, cents, to, caller) for cents, to in orders]
    return ["asked" if isinstance(one, PendingTransfer) else getattr(one, "code", "") for one in answers]


# What is refused.


async def test_the_limits_of_a_caller_follow_the_time(world: World, traveller: time_machine.Traveller) -> None:
    apply_policy(world, NO_BREAKER, RULES)

    def used() -> dict[str, int]:
        limits = world.gateway.limits_of(BOT)
        assert isinstance(limits, CallerLimits)
        return {one.name: one.used for one in limits.windows if one.rule == "b"}

    assert used()["hour_cents"] == 0
    assert await codes(world, (5_000, "b")) == [""]
    for _ in range(2):
        assert (used()["hour_cents"], used()["day_cents"]) == (5_000, 5_000)
    traveller.shift(timedelta(hours=2))  # nothing is written meanwhile
    assert (used()["hour_cents"], used()["day_cents"]) == (0, 5_000)
    traveller.shift(timedelta(days=1))
    assert used()["day_cents"] == 0


async def test_each_code(world: World, traveller: time_machine.Traveller) -> None:
    apply_policy(world, NO_BREAKER, RULES)
    assert await codes(world, (1_000, "d"), (1_000, "b")) == ["never_allowed", ""]
    assert [
        *await codes(world, (5_001, "b"), (1_001, "c"), (5_000, "b"), (500, "b")),
        *await codes(world, (100, "c"), (100, "c")),
        *await codes(world, (100, "b"), caller=Caller("reader", None)),
        *await codes(world, (100, "b"), caller=Caller("past", None)),
        *await codes(world, (100, "b"), caller=Caller("nobody", None)),
        getattr(await move(world, 100, instant=True), "code", ""),
    ] == [
        *("over_max", "asked", "", "over_hour", "", "count_day"),
        *("scope_missing", "caller_expired", "scope_missing", "instant_not_allowed"),
    ]
    traveller.shift(timedelta(hours=2))
    assert await codes(world, (2_001, "b"), (1_000, "b"), (1, "b"), (1, "b"), (1, "b")) == [
        *("over_day", "", "", "", "count_hour")
    ]
    traveller.shift(timedelta(hours=14))
    assert await codes(world, (5_000, "b"), (1_000, "b")) == ["over_month", ""]
    rich = Caller("rich", None)
    assert await codes(world, (900_000, "b"), (1_000_000, "b"), (600_001, "b"), caller=rich) == ["", "", "over_global"]
    assert sum(one["amount_cents"] for one in await world.moved()) == sum(
        one.amount_cents for one in world.attempts() if one.state is State.ACCEPTED
    )


async def test_a_pair_without_a_rule(world: World) -> None:
    apply_policy(world, RULES)
    error = await move(world, source="Taxes 2025", to="c")
    assert (error.code, error.status, error.exit_code, error.retry) == ("pair_not_allowed", 403, 3, "never")
    assert (await move(world, destination_type=AccountType.PORT)).code == "pair_not_allowed"


async def test_what_is_refused_tells_nothing_about_the_account(world: World) -> None:
    apply_policy(world, RULES)
    before = len(world.requests())
    wrong: list[Any] = [{"destination_id": "x"}, {"source_id": "x"}, {"kyc_id": "x", "source": "Groceries"}]
    for more in wrong:
        with pytest.raises(SafeguardError) as refused:
            await world.transfer(caller=BOT, **more)
        assert refused.value.code == "pair_not_allowed"
    assert len(world.requests()) == before
    with pytest.raises(UnknownAccountError):
        await world.transfer(caller=BOT, kyc_id="x")


async def test_no_numbers_of_others(world: World) -> None:
    apply_policy(world, RULES)
    await world.transfer(1_000_000, channel=Channel.CLI)
    await world.transfer(900_000, channel=Channel.CLI)
    error = await move(world, 777_777, caller=Caller("rich", None))
    assert error.code == "over_global"
    assert not any(digit in error.detail.replace(error.attempt_id, "") for digit in "0123456789")


async def test_default_gets_the_texts_of_the_two_settings(world: World) -> None:
    for tables in (
        (),
        (
            '[callers.default]\nscopes = ["move"]',
            'rules = [{ name = "b", from = ["a"], to = ["b"], max_cents = 1000000 }]',
        ),
    ):
        if tables:
            apply_policy(world, *tables)
        error = await move(world, 1_000_001, caller=THE_DEFAULT)
        if not tables:
            assert (error.status, str(error)) == (
                400,
                "Amount 1000001 cents exceeds per-transfer limit of 1000000 cents",
            )
    await move(world, 1_000_000, caller=THE_DEFAULT)
    await move(world, 900_000, caller=THE_DEFAULT)
    error = await move(world, 700_000, caller=THE_DEFAULT)
    assert isinstance(error, LimitExceededError)
    assert (error.status, error.code, error.detail) == (
        400,
        "over_day",
        "Amount 700000 cents exceeds daily remaining limit of 600000 cents",
    )


async def test_default_has_with_a_policy_what_it_grants(world: World) -> None:
    assert await codes(world, (100, "b"), caller=THE_DEFAULT) == [""]
    apply_policy(world, RULES)
    assert await codes(world, (100, "b"), caller=THE_DEFAULT) == ["scope_missing"]
    assert (await world.transfer(100, channel=Channel.CLI)).state == "accepted"


async def test_attempts_and_events_name_rule_and_version(world: World) -> None:
    apply_policy(world, RULES)
    apply_policy(world, RULES)
    await codes(world, (1_000, "b"), (5_001, "b"))
    await world.transfer(100, channel=Channel.CLI)
    named = [("b", 2), ("b", 2), (None, None)]
    assert [(one.rule, one.policy_version) for one in world.attempts()] == named
    lines = [line for line in world.files.trail() if line.get("attempt_id")]
    found = {(line["event_type"], line.get("rule"), line.get("policy_version"), line["caller"]) for line in lines}
    assert found == {
        ("transfer_requested", "b", 2, "bot"),
        ("transfer_completed", "b", 2, "bot"),
        ("transfer_rejected", "b", 2, "bot"),
        ("transfer_requested", None, None, "owner"),
        ("transfer_completed", None, None, "owner"),
    }


# What waits.


def hold(process: Gateway) -> asyncio.Event:
    """Let no transfer of a process have its turn before this is set."""
    turn, prepare = asyncio.Event(), process.client.prepare_transfer

    async def wait(*arguments: Any, **named: Any) -> Any:
        await turn.wait()
        return await prepare(*arguments, **named)

    process.client.prepare_transfer = wait  # type: ignore[method-assign]
    return turn


async def until_reserved(world: World, count: int) -> None:
    with anyio.fail_after(30):
        while world.states().count("reserved") < count:  # noqa: ASYNC110 - another process can reserve it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("tables", "code"),
    [
        (RULES.replace('scopes = ["move"]', "scopes = []"), "scope_missing"),
        (RULES.replace('to = ["b"]', 'to = ["a"]').replace('from = ["a"]', 'from = ["c"]'), "pair_not_allowed"),
        (RULES.replace("max_cents = 5000", "max_cents = 999"), "over_max"),
        (RULES.replace("day_cents = 8000", "day_cents = 1999"), "over_day"),
        (RULES.replace('to = ["d"]\n[callers.bot]', 'from = ["a"]\n[callers.bot]'), "never_allowed"),
        (RULES.replace("max_cents = 5000,", "max_cents = 5000, approve_above_cents = 0,", 1), "needs_approval"),
        (RULES.replace("[callers.bot]", "[callers.bot]\nexpires = 2026-11-23T00:00:00Z"), "caller_expired"),
    ],
)
async def test_a_policy_that_is_applied_stops_what_waits(world: World, tables: str, code: str) -> None:
    if code == "scope_missing":
        tables = "[callers.bot]\nday_cents = 1"
    apply_policy(world, NO_BREAKER, RULES)
    await move(world, 1_000)
    turn = hold(world.gateway)
    waiting = asyncio.create_task(move(world, 1_000))
    await until_reserved(world, 1)
    apply_policy(world, NO_BREAKER, tables)
    turn.set()
    error = await waiting
    assert error.code == code
    assert world.states() == ["accepted", "cancelled"]
    assert len(await world.moved()) == 1
    stopped = world.files.trail()[-1]
    assert (stopped["event_type"], stopped["code"]) == ("transfer_cancelled", code)
    # One that has expired is stopped while it waits, whatever its rules say by then.
    assert stopped["policy_version"] == (1 if code == "caller_expired" else 2)


async def test_a_policy_that_still_allows_it_lets_it_go_on(world: World) -> None:
    apply_policy(world, RULES)
    turn = hold(world.gateway)
    waiting = asyncio.create_task(move(world, 5_000))
    await until_reserved(world, 1)
    apply_policy(world, RULES.replace('name = "b"', 'name = "renamed"').replace("day_cents = 8000", "day_cents = 5000"))
    turn.set()
    assert (await waiting).state == "accepted"
    [attempt] = world.attempts()
    assert (attempt.rule, attempt.policy_version) == ("renamed", 2)
    assert await codes(world, (1, "b")) == ["over_day"]


@pytest.mark.parametrize("caller", [None, "bot"])
async def test_a_freeze_from_another_process_stops_all_that_wait(world: World, caller: str | None) -> None:
    apply_policy(
        world,
        NO_BREAKER,
        "[callers.bot]",
        'scopes = ["move"]',
        'rules = [{ name = "b", from = ["a"], to = ["b"], max_cents = 100 }]',
    )
    add(world.gateway.records, "bot")
    other = await world.open_process()
    turn = hold(world.gateway)
    waiting = [asyncio.create_task(move(world, 1 + number)) for number in range(15)]
    await until_reserved(world, 15)
    await anyio.to_thread.run_sync(freeze, other.records, "stop", caller)
    turn.set()
    assert {error.code for error in await asyncio.gather(*waiting)} == {Code.FROZEN}
    assert world.states() == ["cancelled"] * 15
    assert await world.moved() == []


# Windows.


async def test_midnight_and_the_end_of_the_month(world: World, traveller: time_machine.Traveller) -> None:
    apply_policy(world, NO_BREAKER, RULES)
    traveller.move_to(datetime(2026, 11, 30, 23, 57, tzinfo=UTC))
    assert await codes(world, (5_000, "b"), (1_000, "b"), (1_000, "c"), (1, "b")) == ["", "", "", "over_hour"]
    traveller.move_to(datetime(2026, 12, 1, 1, 4, tzinfo=UTC))
    assert await codes(world, (5_000, "b"), (1_000, "b"), (1, "b")) == ["", "", "over_hour"]
    moved = await world.moved()
    assert sum(one["amount_cents"] for one in moved) == 13_000


async def test_a_window_that_has_just_closed_says_when(world: World, traveller: time_machine.Traveller) -> None:
    apply_policy(world, NO_BREAKER, RULES.replace("hour_cents = 6000, ", ""))
    traveller.move_to(datetime(2026, 11, 29, 12, 0, tzinfo=UTC))
    await move(world, 5_000)
    await move(world, 3_000)
    error = await move(world, 5_000)
    assert (error.code, error.retry, error.retry_after_seconds) == ("over_day", "same_key", None)
    traveller.move_to(datetime(2026, 11, 30, 0, 1, tzinfo=UTC))
    error = await move(world, 4_000)
    assert (error.code, error.retry) == ("over_day", "later")
    assert 0 < error.retry_after_seconds <= 60
    traveller.shift(timedelta(seconds=error.retry_after_seconds))
    assert await codes(world, (4_000, "b")) == [""]
