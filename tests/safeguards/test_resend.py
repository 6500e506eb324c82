"""A transfer whose answer was lost is sent again with the same id, and moves money once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import time_machine

from pysequence_api.clock import steady_seconds
from pysequence_api.errors import InvalidRequestError, OutcomeUnknownError, TooManyUnknownError, TransferPendingError
from pysequence_api.gateway import Gateway
from pysequence_api.records.audit import Channel
from pysequence_api.records.control import freeze, unfreeze
from pysequence_api.records.states import State
from pysequence_api.safeguards import resend
from pysequence_api.safeguards.follow_up import Finding, Result
from pysequence_api.safeguards.resolve import resolve
from pysequence_api.sandbox import Sandbox
from tests.world import GRACE_SECONDS, World, open_world

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("platform")]

CREATE = "PlatformCreateTransfer"


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resend, "PAUSES_SECONDS", (0.01,))
    monkeypatch.setattr(resend, "WAIT_SECONDS", 0.5)


@pytest.fixture
async def world(tmp_path: Path, sandbox: Sandbox) -> AsyncIterator[World]:
    async with open_world(tmp_path, sandbox, upstream="platform", resends=True) as world:
        yield world


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.005)


def is_over(world: World, process: Gateway | None = None) -> bool:
    return not (process or world.gateway).transfers.resending.tasks


async def lose_for_long(world: World, *what: Any, when: str = "before", **more: Any) -> str:
    """Make a transfer whose answers are all lost, and give its attempt id."""
    world.fail(*(what or ("close",)), when=when, count=1_000_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resend, "WAIT_SECONDS", 0.05)  # it waits in vain
        with pytest.raises(OutcomeUnknownError) as unknown:
            await world.transfer(**more)
    assert unknown.value.attempt_id is not None
    return unknown.value.attempt_id


def sent(world: World) -> list[str | None]:
    """List the idempotency keys of the transfers that reached Sequence."""
    return [entry.headers.get("idempotency-key") for entry in world.requests(CREATE)]


@pytest.mark.parametrize(
    ("what", "when"),
    [
        ("close", "before"),
        ("close", "after"),
        ("half_body", "before"),
        ("garbage", "after"),
        ("html", "before"),
        ({"kind": "status", "status": 500}, "after"),
    ],
)
async def test_a_lost_answer_is_asked_for_again(world: World, what: Any, when: str) -> None:
    world.fail(what, when=when, count=2)
    answer = await world.transfer(key="rent")
    [moved] = await world.moved()
    assert (answer.id, answer.state) == (moved["id"], State.ACCEPTED)
    assert world.files.events() == ["requested", "failed", "completed"]
    assert world.files.trail()[1]["outcome"] == "unknown"
    assert sent(world) == [answer.attempt_id] * 3
    assert world.used_cents() == 5_000
    assert (await world.transfer(key="rent")).id == answer.id


async def test_it_is_unknown_until_sequence_answers(world: World) -> None:
    attempt_id = await lose_for_long(world, key="rent")
    assert world.attempt(attempt_id).state is State.UNKNOWN
    assert world.used_cents() == 5_000
    [unsettled] = world.gateway.limits().unsettled
    assert unsettled.running
    with pytest.raises(OutcomeUnknownError):
        await world.transfer(key="rent")
    with pytest.raises(TransferPendingError):
        await world.transfer()
    world.sandbox.faults.clear()
    await until(lambda: is_over(world))
    assert world.attempt(attempt_id).state is State.ACCEPTED
    assert len(await world.moved()) == 1
    assert (await world.transfer(key="rent")).attempt_id == attempt_id


ERRORS: list[dict[str, Any]] = [
    {"kind": "status", "status": 400, "code": "INVALID_PARAMETERS"},
    {"kind": "status", "status": 400, "code": "TRANSFER_SOURCE_NOT_FOUND"},
    {"kind": "status", "status": 401, "code": "UNAUTHORIZED"},
    {"kind": "status", "status": 403, "code": "ACCESS_DENIED"},
    {"kind": "status", "status": 403, "code": "MAXIMUM_AMOUNT_EXCEEDED"},
    {"kind": "status", "status": 404, "code": "TRANSFER_NOT_FOUND"},
    {"kind": "status", "status": 409, "code": "TRANSFER_IN_PROGRESS"},
    {"kind": "status", "status": 500, "code": "UNEXPECTED_ERROR"},
    {"kind": "redirect"},
]


@pytest.mark.parametrize("first_moves", [True, False])
async def test_after_a_lost_answer_no_error_ends_the_attempt(
    world: World, monkeypatch: pytest.MonkeyPatch, first_moves: bool
) -> None:
    """Each error comes once after the money moved, and once before."""
    monkeypatch.setattr(resend, "WAIT_SECONDS", 10)
    ids = []
    for number, error in enumerate(ERRORS):
        world.fail("close", when="after" if (number % 2 == 0) is first_moves else "before")
        world.fail(error, count=2)
        answer = await world.transfer(5_000 + number)
        assert answer.state is State.ACCEPTED, error
        ids.append(answer.id)
    assert [one["id"] for one in await world.moved()] == ids


@pytest.mark.parametrize("error", [one for one in ERRORS if one.get("status") in {400, 401, 403, 404}], ids=str)
async def test_the_same_error_as_the_first_answer_is_certain(world: World, error: Any) -> None:
    world.fail(error)
    outcome = (await asyncio.gather(world.transfer(key="rent"), return_exceptions=True))[0]
    assert isinstance(outcome, Exception)
    assert not isinstance(outcome, OutcomeUnknownError)
    assert world.states()[0] in {"failed", "refused"}
    assert world.used_cents() == 0
    assert is_over(world)
    assert (await world.transfer(key="rent")).state is State.ACCEPTED
    assert len(await world.moved()) == 1


async def test_409_and_429_are_waited_out_as_told(world: World) -> None:
    world.fail("close", when="after")
    limited = {"kind": "status", "status": 429, "code": "RATE_LIMIT_EXCEEDED", "headers": {"Retry-After": "1"}}
    world.fail(limited)
    with pytest.raises(OutcomeUnknownError):
        await world.transfer()
    await until(lambda: is_over(world))
    _, asked, again = world.requests(CREATE)
    assert again.arrived_monotonic_seconds - asked.arrived_monotonic_seconds >= 1
    assert world.states() == ["accepted"]
    assert len(await world.moved()) == 1


async def test_while_the_first_request_still_runs_the_second_gets_409(world: World) -> None:
    world.fail({"kind": "delay", "seconds": 0.3}, "close", when="after")
    answer = await world.transfer()
    assert [one["id"] for one in await world.moved()] == [answer.id]


async def test_ten_minutes_after_it_was_announced_it_is_not_sent_again(
    world: World, traveller: time_machine.Traveller
) -> None:
    attempt_id = await lose_for_long(world)
    traveller.shift(590)
    await until_sent_again(world)
    traveller.shift(10)
    await until(lambda: is_over(world))
    world.sandbox.faults.clear()
    await world.gateway.transfers.resending.adopt()
    assert is_over(world)
    assert world.attempt(attempt_id).state is State.UNKNOWN
    assert not world.gateway.limits().unsettled[0].running


async def test_a_clock_that_is_corrected_meanwhile_does_not_end_it(
    world: World, traveller: time_machine.Traveller
) -> None:
    """The instance that failed: the answers that were lost would have told that the clock is right again."""
    attempt_id = await lose_for_long(world)
    traveller.shift(300)
    await until_sent_again(world)
    world.sandbox.faults.clear()
    await until(lambda: is_over(world))
    assert world.attempt(attempt_id).state is State.ACCEPTED


async def until_sent_again(world: World) -> None:
    before = len(sent(world))
    await until(lambda: len(sent(world)) > before)


async def test_a_clock_that_is_set_back_gives_no_more_time(
    world: World, traveller: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt_id = await lose_for_long(world)
    monkeypatch.setattr(resend, "steady_seconds", lambda: steady_seconds() + 600)
    traveller.shift(-60)
    await until(lambda: is_over(world))
    assert world.attempt(attempt_id).state is State.UNKNOWN


@pytest.mark.parametrize("late", ["time", "freeze"])
async def test_the_time_and_a_freeze_are_looked_at_again_once_connected(
    world: World, traveller: time_machine.Traveller, late: str
) -> None:
    attempt_id = await lose_for_long(world)
    prepare = world.gateway.client.prepare_transfer
    held: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def prepare_slowly(*args: Any, **more: Any) -> Any:
        prepared = await prepare(*args, **more)
        send = prepared.send

        async def send_slowly(check: Callable[[], Awaitable[None]] | None = None) -> Any:
            async def check_late() -> None:
                if not held.done():
                    held.set_result(len(sent(world)))
                    if late == "freeze":
                        freeze(world.gateway.records, "stop")
                    else:
                        traveller.shift(600)
                assert check is not None
                await check()

            return await send(check_late)

        prepared.send = send_slowly  # type: ignore[method-assign]
        return prepared

    world.gateway.client.prepare_transfer = prepare_slowly  # type: ignore[method-assign]
    before = await held
    if late == "freeze":
        await asyncio.sleep(0.2)  # in which it would be sent
        world.gateway.stop()
    await until(lambda: is_over(world))
    assert len(sent(world)) == before
    assert world.attempt(attempt_id).state is State.UNKNOWN


async def test_nothing_is_sent_again_while_transfers_are_frozen(world: World) -> None:
    attempt_id = await lose_for_long(world)
    freeze(world.gateway.records, "stop")
    await asyncio.sleep(0.1)  # what was being sent
    before = len(sent(world))
    world.sandbox.faults.clear()
    await asyncio.sleep(0.2)
    assert len(sent(world)) == before
    assert await world.moved() == []
    unfreeze(world.gateway.records)
    await until(lambda: is_over(world))
    assert world.attempt(attempt_id).state is State.ACCEPTED


async def test_a_lower_limit_holds_for_what_is_sent_again(world: World) -> None:
    attempt_id = await lose_for_long(world)
    world.gateway.records.write(lambda writer: writer.record_limits(4_999, 10_000))
    await asyncio.sleep(0.1)  # what was being sent
    world.sandbox.faults.clear()
    before = len(sent(world))
    await asyncio.sleep(0.2)
    assert (len(sent(world)), world.attempt(attempt_id).state) == (before, State.UNKNOWN)


@pytest.mark.parametrize("end", ["close", "kill"])
async def test_the_next_start_goes_on(world: World, end: str) -> None:
    attempt_id = await lose_for_long(world, key="rent")
    if end == "close":
        await world.close(world.gateway)
    else:
        await world.kill(world.gateway)
    other = await world.open_process()
    assert not other.limits().unsettled[0].running
    world.sandbox.faults.clear()
    await other.transfers.resending.adopt()
    assert not is_over(world)
    await until(lambda: is_over(world))
    assert world.attempt(attempt_id).state is State.ACCEPTED
    assert len(await world.moved()) == 1
    assert set(sent(world)) == {attempt_id}


async def test_what_was_being_sent_when_its_process_died_is_sent_again(world: World) -> None:
    attempt_id = await world.leave(State.SENDING, answers_after_seconds=0.5)
    other = await world.open_process()
    await other.transfers.resending.adopt()
    await until(lambda: is_over(world))
    assert world.attempt(attempt_id).state is State.ACCEPTED
    assert len(await world.moved()) == 1


async def test_what_another_process_sends_again_is_left_to_it(world: World) -> None:
    await lose_for_long(world)
    other = await world.open_process()
    await other.transfers.resending.adopt()
    assert is_over(world, other)


async def test_after_a_restore_nothing_is_sent_again(world: World) -> None:
    """The backup may be older than the end of the attempt, after which its caller sent another one."""
    await lose_for_long(world)
    await world.close(world.gateway)
    other = await world.open_process()
    other.records.write(lambda writer: writer.set_restored(0))
    await other.transfers.resending.adopt()
    assert is_over(world, other)


async def test_a_known_id_with_another_body_freezes_transfers(world: World) -> None:
    attempt_id = await lose_for_long(world)
    world.sandbox.faults.clear()
    world.fail({"kind": "status", "status": 400, "code": "IDEMPOTENCY_KEY_MISMATCH"})
    await until(lambda: is_over(world))
    limits = world.gateway.limits()
    assert limits.frozen
    assert attempt_id in (limits.frozen_reason or "")
    assert world.attempt(attempt_id).state is State.UNKNOWN


async def test_a_known_id_with_another_body_freezes_transfers_also_at_once(world: World) -> None:
    world.fail({"kind": "status", "status": 400, "code": "IDEMPOTENCY_KEY_MISMATCH"})
    with pytest.raises(OutcomeUnknownError):
        await world.transfer()
    assert world.gateway.limits().frozen
    assert is_over(world)
    assert world.states() == ["unknown"]


async def test_what_is_sent_again_does_not_count_as_too_many_unknown(
    world: World, traveller: time_machine.Traveller
) -> None:
    for amount_cents in range(1_001, 1_006):
        await lose_for_long(world, amount_cents=amount_cents)
    world.sandbox.faults.clear()
    await lose_for_long(world, amount_cents=1_006)
    traveller.shift(600)
    await until(lambda: is_over(world))
    with pytest.raises(TooManyUnknownError):
        await world.transfer(1_007)


async def test_nobody_decides_about_what_is_sent_again(world: World, traveller: time_machine.Traveller) -> None:
    attempt_id = await lose_for_long(world)
    other = await world.open_process()
    for process in (world.gateway, other):
        with pytest.raises(InvalidRequestError, match="sent again"):
            resolve(process.records, attempt_id, None)
        assert results(await world.follow_up(process)) == {Result.STILL_UNKNOWN}
    traveller.shift(600)
    await until(lambda: is_over(world))
    assert resolve(world.gateway.records, attempt_id, None).state is State.NOT_EXECUTED


def results(findings: list[Finding]) -> set[Result]:
    return {finding.result for finding in findings}


async def test_absence_is_not_concluded_before_it_can_no_longer_be_sent(
    world: World, traveller: time_machine.Traveller
) -> None:
    attempt_id = await lose_for_long(world)
    traveller.shift(600)
    await until(lambda: is_over(world))
    traveller.shift(GRACE_SECONDS - 10)
    assert results(await world.follow_up()) == {Result.STILL_UNKNOWN}
    traveller.shift(20)
    assert results(await world.follow_up()) == {Result.NOT_EXECUTED}
    assert world.attempt(attempt_id).state is State.NOT_EXECUTED


async def test_what_is_found_meanwhile_is_not_sent_again(world: World) -> None:
    attempt_id = await lose_for_long(world, when="after")
    [moved] = await world.moved()
    await world.close(world.gateway)
    other = await world.open_process()
    await world.follow_up(other)
    before = len(sent(world))
    await other.transfers.resending.adopt()
    await until(lambda: is_over(world))
    assert (len(sent(world)), world.attempt(attempt_id).transfer_id) == (before, moved["id"])


async def test_equal_transfers_of_two_callers_each_move_once(world: World) -> None:
    world.fail("close", when="after", count=3)
    answers = await asyncio.gather(world.transfer(), world.transfer(channel=Channel.CLI), return_exceptions=True)
    await world.follow_up()
    await until(lambda: is_over(world))
    assert not [one for one in answers if isinstance(one, BaseException) and not isinstance(one, OutcomeUnknownError)]
    attempts = world.attempts()
    assert {one.state for one in attempts} == {State.ACCEPTED}
    assert {one.transfer_id for one in attempts} == {one["id"] for one in await world.moved()}
    assert len(await world.moved()) == 2
