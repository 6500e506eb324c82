"""What is unknown is found out, or stays counted."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine

from pysequence_api.errors import InvalidRequestError, NotFoundError, OutcomeUnknownError, RefusedError
from pysequence_api.records.audit import Channel
from pysequence_api.safeguards.follow_up import PAGE_TRANSFERS
from pysequence_api.safeguards.recovery import Lookup, Result
from pysequence_api.safeguards.reservations import Attempt
from pysequence_api.sandbox import ORGANIZATION_ID, Sandbox
from tests.safeguards.conftest import announced
from tests.world import GRACE_SECONDS, World, open_world

pytestmark = pytest.mark.anyio


@contextmanager
def dying_before_the_trail(world: World) -> Iterator[None]:
    """End the process between ledger and audit trail."""
    with pytest.MonkeyPatch.context() as dead:
        dead.setattr(world.gateway.records.store, "append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            yield


async def test_what_moved_is_found_and_settled_under_its_id(world: World) -> None:
    attempt_id = await world.lose(moved=True)
    assert await world.used_cents() == 5_000
    [finding] = await world.follow_up()
    [moved] = await world.moved()
    assert (finding.result, finding.transfer_id, finding.attempt_id) == (Result.COMPLETED, moved["id"], attempt_id)
    assert world.files.events() == ["requested", "failed", "completed"]
    assert world.files.trail()[-1]["reconciled"] is True
    [entry] = world.files.counted()
    assert (entry["state"], entry["transfer_id"]) == ("settled", moved["id"])
    assert await world.follow_up() == []


async def test_what_did_not_move_is_released_only_after_the_grace(
    world: World, traveller: time_machine.Traveller
) -> None:
    attempt_id = await world.lose(moved=False)
    [early] = await world.follow_up()
    assert early.result is Result.IN_DOUBT
    traveller.shift(590)
    [still] = await world.follow_up()
    assert still.result is Result.IN_DOUBT
    assert await world.used_cents() == 5_000
    traveller.shift(20)
    [late] = await world.follow_up()
    assert (late.result, late.attempt_id) == (Result.NOT_EXECUTED, attempt_id)
    assert await world.used_cents() == 0
    assert world.files.trail()[-1] | {"reconciled": True, "outcome": "not_executed"} == world.files.trail()[-1]


async def test_a_transfer_that_shows_late_is_not_forgotten(world: World, traveller: time_machine.Traveller) -> None:
    world.fail({"kind": "invisible_seconds", "seconds": 300}, "close", when="after")
    with pytest.raises(OutcomeUnknownError):
        await world.transfer()
    [early] = await world.follow_up()
    assert early.result is Result.IN_DOUBT
    traveller.shift(400)
    [late] = await world.follow_up()
    assert late.result is Result.COMPLETED


async def test_equal_attempts_take_the_oldest_transfer_each_and_none_serves_two(
    world: World, traveller: time_machine.Traveller
) -> None:
    attempts = [await world.lose(moved=moved, key=str(number)) for number, moved in enumerate([True, False, True])]
    completed = await world.transfer(key="3")
    findings = {finding.attempt_id: finding for finding in await world.follow_up()}
    moved = {transfer["id"] for transfer in await world.moved()}
    # Within the resolution of two clocks they are interchangeable: three transfers, four attempts, the newest is left.
    taken = [completed.id, *(findings[attempt_id].transfer_id for attempt_id in attempts[:2])]
    assert (set(taken), len(taken)) == (moved, 3)
    assert findings[attempts[2]].result is Result.IN_DOUBT
    traveller.shift(700)
    [last] = await world.follow_up()
    assert last.result is Result.NOT_EXECUTED
    assert sum(entry["amount_cents"] for entry in world.files.counted()) == 5_000 * len(moved)


async def test_another_description_is_another_transfer(world: World, traveller: time_machine.Traveller) -> None:
    await world.lose(moved=False, description="rent")
    await world.transfer(description="food")
    # The one that was found belongs to the attempt that completed; nothing is left for the lost one.
    [finding] = await world.follow_up()
    assert finding.result is Result.IN_DOUBT


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        ("SelectSourceAndDestination", "close"),
        ("ActivityLogV2Transfers", "close"),
        ("ActivityLogV2Transfers", "html"),
        ("ActivityLogV2Transfers", {"kind": "nulls", "paths": ["organization.transferReferences.edges.0"]}),
        ("SelectSourceAndDestination", {"kind": "nulls", "paths": ["me.memberships.1.organization"]}),
    ],
)
async def test_a_lookup_that_did_not_get_through_decides_nothing(
    world: World, traveller: time_machine.Traveller, operation: str, what: object
) -> None:
    await world.lose(moved=False)
    traveller.shift(700)
    world.fail(what, operation=operation, when="after" if isinstance(what, dict) else "before")
    [finding] = await world.follow_up()
    assert finding.result is Result.IN_DOUBT
    assert await world.used_cents() == 5_000
    [finding] = await world.follow_up()
    assert finding.result is Result.NOT_EXECUTED


@pytest.mark.parametrize("path", ["source", "destination", "createdAt", "amount", "source.id"])
async def test_a_transfer_that_cannot_be_read_keeps_the_doubt(
    world: World, traveller: time_machine.Traveller, path: str
) -> None:
    await world.lose(moved=True)
    traveller.shift(700)
    unreadable = {"kind": "nulls", "paths": [f"organization.transferReferences.edges.0.node.{path}"]}
    world.fail(unreadable, operation="ActivityLogV2Transfers", when="after")
    [finding] = await world.follow_up()
    assert finding.result is Result.IN_DOUBT
    [finding] = await world.follow_up()
    assert finding.result is Result.COMPLETED


async def test_all_pages_are_read(tmp_path: Path, sandbox: Sandbox) -> None:
    async with open_world(tmp_path, sandbox, max_transfer_attempts_per_minute=1_000) as world:
        await world.lose(moved=True, amount_cents=7_777)
        for number in range(PAGE_TRANSFERS + 1):
            await world.transfer(1_00, key=str(number))
        [finding] = await world.follow_up()
        assert finding.result is Result.COMPLETED


async def test_what_completed_without_an_id_gets_it_later(world: World) -> None:
    world.fail("hide_new_transfer", {"kind": "invisible_seconds", "seconds": 60}, when="after")
    completed = await world.transfer()
    assert completed.id is None
    [early] = await world.follow_up()
    assert early.result is Result.IN_DOUBT
    desk_events = world.files.events()
    assert desk_events == ["requested", "completed"]


async def test_the_id_that_shows_later_is_an_entry_of_its_own(world: World, traveller: time_machine.Traveller) -> None:
    world.fail("hide_new_transfer", {"kind": "invisible_seconds", "seconds": 60}, when="after")
    await world.transfer()
    traveller.shift(61)
    [finding] = await world.follow_up()
    [moved] = await world.moved()
    assert (finding.result, finding.transfer_id) == (Result.IDENTIFIED, moved["id"])
    assert world.files.events() == ["requested", "completed", "identified"]
    assert world.files.trail()[-1]["transfer_id"] == moved["id"]


async def test_a_person_can_decide(world: World) -> None:
    first, second = await world.lose(moved=True, key="1"), await world.lose(moved=False, key="2")
    [moved] = await world.moved()
    assert world.gateway.recovery.resolve(first, moved["id"]).status == "completed"
    with pytest.raises(InvalidRequestError, match="belongs to another"):
        world.gateway.recovery.resolve(second, moved["id"])
    assert world.gateway.recovery.resolve(second, None).status == "not_executed"
    with pytest.raises(NotFoundError):
        world.gateway.recovery.resolve(second, None)
    with pytest.raises(InvalidRequestError, match="ended already"):
        world.gateway.recovery.resolve(first, None)
    assert await world.used_cents() == 5_000
    assert [line.get("resolved") for line in world.files.trail()[-2:]] == [True, True]


async def test_status_says_what_is_known(world: World, traveller: time_machine.Traveller) -> None:
    attempt_id = await world.lose(moved=True)
    assert world.gateway.recovery.status(attempt_id).status == "unknown"
    await world.follow_up()
    assert world.gateway.recovery.status(attempt_id).status == "completed"
    traveller.shift(5 * 86_400)
    await world.transfer(1_00)
    assert attempt_id not in json.dumps(world.files.counted())
    assert world.gateway.recovery.status(attempt_id).status == "completed"
    with pytest.raises(NotFoundError):
        world.gateway.recovery.status("nobody")


async def test_several_processes_that_look_at_once_end_an_attempt_once(tmp_path: Path, sandbox: Sandbox) -> None:
    async with open_world(tmp_path, sandbox) as one, open_world(tmp_path, sandbox) as other:
        await one.lose()
        await asyncio.gather(one.follow_up(), other.follow_up(), one.follow_up())
        assert one.files.events() == ["requested", "failed", "completed"]


async def test_what_was_announced_long_ago_is_not_taken_for_never_sent(
    tmp_path: Path, sandbox: Sandbox, traveller: time_machine.Traveller
) -> None:
    async with open_world(tmp_path, sandbox) as world:
        announced(world)
    traveller.shift(10 * 86_400)
    async with open_world(tmp_path, sandbox) as world:
        world.fail("close", operation="ActivityLogV2Transfers")
        [finding] = await world.follow_up()
        assert finding.result is Result.IN_DOUBT
        assert await world.used_cents() == 5_000


async def test_what_ended_beside_an_old_one_ends_once(world: World, traveller: time_machine.Traveller) -> None:
    await world.lose(moved=False, key="1")
    world.fail({"kind": "refuse", "message": "no"})
    with pytest.raises(RefusedError):
        await world.transfer(key="2")
    traveller.shift(10 * 86_400)
    await world.transfer(1_00)
    events = world.files.events()
    world.fail("close", operation="ActivityLogV2Transfers")
    await world.follow_up()
    assert world.files.events() == events


async def test_a_wrong_clock_releases_nothing(world: World, traveller: time_machine.Traveller) -> None:
    await world.lose(moved=False)
    traveller.shift(700)
    world.fail({"kind": "date_offset_seconds", "seconds": -650}, operation="*", count=20, when="after")
    [finding] = await world.follow_up()
    assert finding.result is Result.IN_DOUBT
    assert await world.used_cents() == 5_000


async def test_a_younger_equal_attempt_is_not_released_because_an_older_one_has_its_transfer(
    world: World, traveller: time_machine.Traveller
) -> None:
    """Sequence shows the older transfer after the younger one, which the older attempt has taken by then."""
    world.fail("hide_new_transfer", {"kind": "invisible_seconds", "seconds": 200})
    assert (await world.transfer()).id is None
    traveller.shift(30)
    younger = await world.lose(moved=True)
    findings = {finding.attempt_id: finding.result for finding in await world.follow_up()}
    assert Result.IDENTIFIED in findings.values()
    assert findings[younger] is Result.IN_DOUBT
    traveller.shift(GRACE_SECONDS + 1)
    [finding] = await world.follow_up()
    assert (finding.attempt_id, finding.result) == (younger, Result.COMPLETED)
    assert {entry["transfer_id"] for entry in world.files.counted()} == {moved["id"] for moved in await world.moved()}


@pytest.mark.parametrize("description", ["Invoice 20261123", "Rent  May", "x" * 255])
async def test_a_description_that_sequence_shows_differently_hides_nothing(
    world: World, traveller: time_machine.Traveller, description: str
) -> None:
    await world.lose(moved=True, description=description)
    traveller.shift(GRACE_SECONDS + 1)
    [finding] = await world.follow_up()
    assert finding.result in {Result.COMPLETED, Result.IN_DOUBT}
    assert await world.used_cents() == 5_000


async def test_a_transfer_just_before_the_announcement_counts(world: World, traveller: time_machine.Traveller) -> None:
    """Our clock may have been ahead then, and may have been set right since."""
    await world.transfer(key="outside")
    for name in (".daily_limits.json", ".audit.jsonl", ".audit.head.json"):
        (world.files.path / name).unlink()
    traveller.shift(90)
    await world.lose(moved=False)
    traveller.shift(GRACE_SECONDS + 1)
    [finding] = await world.follow_up()
    assert finding.result is Result.IN_DOUBT


async def test_another_account_proves_nothing(world: World, traveller: time_machine.Traveller) -> None:
    await world.lose(moved=False)
    traveller.shift(GRACE_SECONDS + 1)
    nobody = {"kind": "nulls", "paths": ["me.memberships.*.organization.pods"]}
    world.fail(nobody, operation="SelectSourceAndDestination", when="after")
    [finding] = await world.follow_up()
    assert finding.result is Result.IN_DOUBT


async def test_a_transfer_that_two_pages_show_serves_one(world: World, traveller: time_machine.Traveller) -> None:
    attempts = [await world.lose(moved=True, key="1"), await world.lose(moved=False, key="2")]
    page = await world.gateway.client.activity(ORGANIZATION_ID, first=10)
    since, _ = datetime.now(UTC) - timedelta(days=1), world.gateway.recovery.begin()
    lookup = Lookup(datetime.now(UTC), since, page.transfers * 2, frozenset(world.pod_ids.values()))
    findings = {finding.attempt_id: finding.result for finding in world.gateway.recovery.decide(lookup)}
    assert [findings[attempt_id] for attempt_id in attempts] == [Result.COMPLETED, Result.IN_DOUBT]


async def test_a_trail_that_was_moved_away_proves_nothing(tmp_path: Path, sandbox: Sandbox) -> None:
    async with open_world(tmp_path, sandbox) as world:
        await world.transfer(1_00)
        announced(world)
    for name in (".audit.jsonl", ".audit.head.json"):
        (tmp_path / name).unlink()
    async with open_world(tmp_path, sandbox) as world:
        findings = await world.follow_up()
        assert Result.NEVER_SENT not in {finding.result for finding in findings}
        assert await world.used_cents() == 5_100


async def test_the_transfer_of_an_attempt_that_is_done_is_not_given_away_when_its_day_is_pruned(
    world: World, traveller: time_machine.Traveller
) -> None:
    open_attempt = await world.lose(moved=False, key="1")
    await world.transfer(key="2")
    for _ in range(5):
        traveller.shift(86_400)
        await world.transfer(1_00)
    assert (await world.follow_up())[0].result is Result.NOT_EXECUTED
    assert world.gateway.recovery.status(open_attempt).status == "not_executed"


async def test_what_a_person_decided_late_gets_its_line_after_a_crash(
    world: World, traveller: time_machine.Traveller
) -> None:
    attempt_id = await world.lose(moved=False)
    traveller.shift(3 * 86_400)
    with dying_before_the_trail(world):
        world.gateway.recovery.resolve(attempt_id, None)
    await world.follow_up()
    assert world.files.events() == ["requested", "failed", "failed"]
    assert world.files.trail()[-1]["outcome"] == "not_executed"


async def test_what_was_never_announced_takes_no_transfer_of_another(
    tmp_path: Path, sandbox: Sandbox, traveller: time_machine.Traveller
) -> None:
    async with open_world(tmp_path, sandbox) as world:
        never_sent = Attempt(world.order(), Channel.API)
        world.gateway.records.reserve(never_sent)
    async with open_world(tmp_path, sandbox) as world:
        lost = await world.lose(moved=True, key="1")
        traveller.shift(GRACE_SECONDS + 1)
        findings = {finding.attempt_id: finding.result for finding in await world.follow_up()}
        assert findings == {lost: Result.COMPLETED, never_sent.attempt_id: Result.NOT_EXECUTED}
        assert world.files.events()[-2:] == ["requested", "failed"]


async def test_an_end_that_a_crash_kept_from_the_trail_is_written_however_late(
    world: World, traveller: time_machine.Traveller
) -> None:
    attempt = announced(world)
    with dying_before_the_trail(world):
        world.gateway.records.release(attempt, "no connection", refused=False)
    traveller.shift(10 * 86_400)
    await world.follow_up()
    await world.follow_up()
    assert world.files.events() == ["requested", "failed"]


async def test_what_a_crash_kept_from_the_trail_is_written_before_its_day_is_dropped(
    world: World, traveller: time_machine.Traveller
) -> None:
    attempt = announced(world)
    with dying_before_the_trail(world):
        world.gateway.records.release(attempt, "no connection", refused=False)
    traveller.shift(10 * 86_400)  # asleep, and the first thing after that is a transfer
    await world.transfer()
    assert world.files.events() == ["requested", "failed", "requested", "completed"]
    assert [entry["state"] for entry in world.files.counted()] == ["settled"]


@pytest.mark.parametrize(("days", "is_found"), [(4, True), (6, True), (9, False)])
async def test_an_id_that_sequence_did_not_show_is_looked_for_beyond_the_kept_days(
    tmp_path: Path, sandbox: Sandbox, traveller: time_machine.Traveller, days: int, is_found: bool
) -> None:
    async with open_world(tmp_path, sandbox, token_seconds=100 * 86_400) as world:
        world.fail("hide_new_transfer", {"kind": "invisible_seconds", "seconds": 3600})
        assert (await world.transfer()).id is None
        traveller.shift(days * 86_400)
        younger = await world.transfer()
        await world.follow_up()
        found = [line["transfer_id"] for line in world.files.trail() if line["event_type"] == "transfer_identified"]
        [older_id] = {transfer["id"] for transfer in await world.moved()} - {younger.id}
        assert found == [older_id] * is_found
