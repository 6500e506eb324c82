"""What becomes of attempts: found, not executed, arrived, returned, or decided by a person."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import pytest
import time_machine

from pysequence_api.errors import InvalidRequestError, NotFoundError, OutcomeUnknownError, RefusedError
from pysequence_api.records.attempts import Writer
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import THE_DEFAULT
from pysequence_api.records.states import State
from pysequence_api.safeguards import follow_up, transfers
from pysequence_api.safeguards.follow_up import Finding, Lookup, Result, decide_followed
from pysequence_api.safeguards.resolve import resolve
from pysequence_api.sandbox import ORGANIZATION_ID, Sandbox
from pysequence_api.sequence.client import Upstream
from tests.world import GRACE_SECONDS, World, open_world

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.upstream("graphql", "platform")
"""Depends on what Sequence shows, and so on how an API shows it."""


def of(findings: list[Finding], attempt_id: str) -> set[Result]:
    return {finding.result for finding in findings if finding.attempt_id == attempt_id}


async def follow_until_over(world: World, traveller: time_machine.Traveller) -> None:
    """Let Sequence complete everything, and look."""
    traveller.shift(60)
    await world.follow_up()


@BOTH
async def test_a_lost_transfer_that_moved_is_accepted_under_its_id(world: World) -> None:
    attempt_id = await world.lose(moved=True)
    assert world.used_cents() == 5_000
    findings = await world.follow_up()
    [moved] = await world.moved()
    assert of(findings, attempt_id) >= {Result.ACCEPTED}
    assert world.attempt(attempt_id).transfer_id == moved["id"]
    assert world.files.events()[:3] == ["requested", "failed", "completed"]
    assert world.files.trail()[2]["reconciled"] is True
    assert world.used_cents() == 5_000


@BOTH
async def test_a_lost_transfer_that_did_not_move_counts_until_the_grace_is_over(
    world: World, traveller: time_machine.Traveller
) -> None:
    attempt_id = await world.lose(moved=False)
    assert of(await world.follow_up(), attempt_id) == {Result.STILL_UNKNOWN}
    traveller.shift(590)
    assert of(await world.follow_up(), attempt_id) == {Result.STILL_UNKNOWN}
    assert world.used_cents() == 5_000
    traveller.shift(20)
    assert of(await world.follow_up(), attempt_id) == {Result.NOT_EXECUTED}
    assert world.used_cents() == 0
    assert world.files.trail()[-1] | {"reconciled": True, "outcome": "not_executed"} == world.files.trail()[-1]


@BOTH
async def test_a_transfer_that_shows_late_is_not_forgotten(world: World, traveller: time_machine.Traveller) -> None:
    world.fail({"kind": "invisible_seconds", "seconds": 300}, "close", when="after")
    with pytest.raises(OutcomeUnknownError):
        await world.transfer()
    [early] = await world.follow_up()
    assert early.result is Result.STILL_UNKNOWN
    traveller.shift(400)
    await world.follow_up()
    assert world.states() == ["arrived"]


async def test_a_transfer_that_shows_after_its_absence_was_concluded_counts_and_freezes_callers(
    world: World, traveller: time_machine.Traveller
) -> None:
    world.fail({"kind": "invisible_seconds", "seconds": 3600}, "close", when="after")
    with pytest.raises(OutcomeUnknownError):
        await world.transfer()
    traveller.shift(GRACE_SECONDS + 1)
    await world.follow_up()
    assert world.states() == ["not_executed"]
    traveller.shift(3600)
    await world.follow_up()
    assert world.states() == ["arrived"]
    assert world.used_cents() == 5_000
    limits = world.gateway.limits()
    assert limits.frozen
    assert "frozen" in world.files.events()
    await world.transfer(1_00, channel=Channel.CLI)  # the owner's terminal goes on


async def test_equal_attempts_claim_one_transfer_each_and_none_serves_two(
    world: World, traveller: time_machine.Traveller
) -> None:
    first = await world.lose(moved=True)
    second = await world.lose(moved=False, instant=True)
    third = await world.lose(moved=True, channel=Channel.CLI)
    completed = await world.transfer(channel=Channel.CLI, instant=True)
    await world.follow_up()
    moved = {transfer["id"] for transfer in await world.moved()}
    # Within the resolution of two clocks they are interchangeable: three transfers, four attempts, the newest is left.
    claimed = {completed.id, world.attempt(first).transfer_id, world.attempt(second).transfer_id}
    assert claimed == moved
    assert world.attempt(third).state == "unknown"
    traveller.shift(700)
    await world.follow_up()
    assert world.attempt(third).state == "not_executed"
    assert world.used_cents() == 5_000 * len(moved)


async def test_another_description_is_another_transfer(world: World) -> None:
    lost = await world.lose(moved=False, description="rent")
    await world.transfer(description="food")
    # The one that was found belongs to the attempt that completed; nothing is left for the lost one.
    assert of(await world.follow_up(), lost) == {Result.STILL_UNKNOWN}


@BOTH
@pytest.mark.parametrize(
    ("operation", "what"),
    [
        ("SelectSourceAndDestination", ["close"]),
        ("ActivityLogV2Transfers", ["close"]),
        ("ActivityLogV2Transfers", ["html"]),
        ("ActivityLogV2Transfers", ["organization.transferReferences.edges.0", "items.0"]),
        ("SelectSourceAndDestination", ["me.memberships.1.organization", "items.0"]),
        ("SelectSourceAndDestination", ["me.memberships.*.organization.pods", "items"]),
    ],
)
async def test_a_lookup_that_is_not_complete_decides_nothing(
    world: World, traveller: time_machine.Traveller, operation: str, what: list[str]
) -> None:
    await world.lose(moved=False)
    traveller.shift(700)
    fault = what[0] if len(what) == 1 else {"kind": "nulls", "paths": [what[world.upstream is Upstream.PLATFORM]]}
    world.fail(fault, operation=operation, when="before" if len(what) == 1 else "after")
    [finding] = await world.follow_up()
    assert finding.result is Result.STILL_UNKNOWN
    assert world.used_cents() == 5_000
    [finding] = await world.follow_up()
    assert finding.result is Result.NOT_EXECUTED


@BOTH
@pytest.mark.parametrize("path", ["source", "destination", "createdAt", "amount", "source.id"])
async def test_a_transfer_that_cannot_be_read_proves_no_absence(
    world: World, traveller: time_machine.Traveller, path: str
) -> None:
    await world.lose(moved=True)
    traveller.shift(700)
    if world.upstream is Upstream.GRAPHQL:
        path = f"organization.transferReferences.edges.0.node.{path}"
    else:
        path = f"items.0.{path}".replace("amount", "amountInCents")
    unreadable = {"kind": "nulls", "paths": [path]}
    world.fail(unreadable, operation="ActivityLogV2Transfers", when="after")
    [finding] = await world.follow_up()
    assert finding.result is Result.STILL_UNKNOWN
    await world.follow_up()
    assert world.states() == ["arrived"]


class TakenBackError(Exception):
    """Takes back what was decided."""


async def shown_as(world: World, **changes: object) -> Result:
    """Look long after the transfer was sent, find the transfer that moved, but shown differently, and take it back."""
    since, began_at = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(seconds=GRACE_SECONDS + 1)
    page = await world.gateway.client.activity(ORGANIZATION_ID, first=1)
    shown = page.transfers[0].model_copy(update=changes)
    accounts = await world.gateway.client.accounts()
    external_ids = frozenset(one.id for one in accounts.accounts)
    party_ids = frozenset(world.pod_ids.values()) | external_ids
    lookup = Lookup(began_at, since, (shown,), party_ids, external_ids, upstream=world.upstream)

    def decide(writer: Writer) -> None:
        grace = timedelta(seconds=GRACE_SECONDS)
        raise TakenBackError(decide_followed(writer, world.gateway.records.owners, lookup, grace)[0])

    with pytest.raises(TakenBackError) as decided:
        world.gateway.records.write(decide)
    result: Result = decided.value.args[0].result
    return result


SIMILAR: list[dict[str, object]] = [
    {"amount_cents": 4_850},
    {"activity_type": "ACH"},
    {"activity_type": "INSTANT_TRANSFER"},
    {"activity_type": "NEW"},
    {"created_at": datetime(2026, 11, 23, 11, 57, tzinfo=UTC)},
    {"created_at": None},
    {"description": "something else"},
]
ANOTHER: list[dict[str, object]] = [
    {"activity_type": "RULE"},
    {"created_at": datetime(2026, 11, 23, 11, 50, tzinfo=UTC)},
    {"created_at": datetime(2026, 11, 23, 16, tzinfo=UTC), "activity_type": "ACH"},
]


async def test_a_similar_transfer_near_that_time_speaks_against_absence(world: World) -> None:
    """The instance that failed: an activity that showed the transfer 150 cents smaller, and it was paid again."""
    await world.lose()
    for changes in SIMILAR:
        assert await shown_as(world, **changes) in {Result.STILL_UNKNOWN, Result.ACCEPTED}, changes
    # A rule's transfer, or one of another time, does not.
    for changes in ANOTHER:
        assert await shown_as(world, **changes) is Result.NOT_EXECUTED, changes


async def test_one_party_and_the_amount_speak_against_absence(world: World) -> None:
    await world.lose()
    page = await world.gateway.client.activity(ORGANIZATION_ID, first=1)
    for side, amount_cents in product(("source", "destination"), (None, 5_000)):
        other = {side: {"id": "elsewhere", "type": "POD"}, "amount_cents": amount_cents}
        changed = type(page.transfers[0]).model_validate(page.transfers[0].model_dump() | other)
        changes = {side: getattr(changed, side), "amount_cents": amount_cents}
        assert await shown_as(world, **changes) is Result.STILL_UNKNOWN, changes


@BOTH
async def test_a_connected_account_may_be_shown_without_its_id(world: World) -> None:
    account = (await world.gateway.client.accounts()).accounts[0]
    await world.lose(destination_id=account.id, destination_type="ACCOUNT")
    page = await world.gateway.client.activity(ORGANIZATION_ID, first=1)
    for kind in ("MERCHANT", "EXTERNAL_ENTITY"):
        party = page.transfers[0].destination.model_copy(update={"id": None, "type": kind})
        assert await shown_as(world, destination=party) is Result.STILL_UNKNOWN, kind


async def test_all_pages_are_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_up, "PAGE_TRANSFERS", 3)
    lost = await world.lose(moved=True, amount_cents=7_777)
    for number in range(7):
        await world.transfer(1_00, key=str(number))
    looks = len(world.requests("ActivityLogV2Transfers"))
    assert Result.ACCEPTED in of(await world.follow_up(), lost)
    assert len(world.requests("ActivityLogV2Transfers")) - looks >= 3


async def test_an_accepted_transfer_without_an_id_gets_it_later(
    world: World, traveller: time_machine.Traveller
) -> None:
    world.fail("hide_new_transfer", {"kind": "invisible_seconds", "seconds": 60}, when="after")
    completed = await world.transfer()
    assert completed.id is None
    [early] = await world.follow_up()
    assert early.result is Result.STILL_UNKNOWN
    assert world.files.events() == ["requested", "completed"]
    traveller.shift(61)
    findings = await world.follow_up()
    [moved] = await world.moved()
    assert of(findings, completed.attempt_id) >= {Result.IDENTIFIED}
    assert world.attempt(completed.attempt_id).transfer_id == moved["id"]
    assert world.files.events()[:3] == ["requested", "completed", "identified"]
    assert world.files.trail()[2]["transfer_id"] == moved["id"]


async def test_a_younger_equal_attempt_is_not_released_because_an_older_one_has_its_transfer(
    world: World, traveller: time_machine.Traveller
) -> None:
    """Sequence shows the older transfer after the younger one, which the older attempt has claimed by then."""
    world.fail("hide_new_transfer", {"kind": "invisible_seconds", "seconds": 200})
    older = await world.transfer()
    assert older.id is None
    traveller.shift(30)
    younger = await world.lose(moved=True)
    findings = await world.follow_up()
    assert Result.IDENTIFIED in of(findings, older.attempt_id)
    assert of(findings, younger) == {Result.STILL_UNKNOWN}
    traveller.shift(GRACE_SECONDS + 1)
    await world.follow_up()
    assert {attempt.transfer_id for attempt in world.attempts()} == {moved["id"] for moved in await world.moved()}


@pytest.mark.parametrize("description", ["Invoice 20261123", "Rent  May", "x" * 255])
async def test_a_description_that_sequence_shows_differently_hides_nothing(
    world: World, traveller: time_machine.Traveller, description: str
) -> None:
    await world.lose(moved=True, description=description)
    traveller.shift(GRACE_SECONDS + 1)
    await world.follow_up()
    assert world.states()[0] in {"arrived", "unknown"}
    assert world.used_cents() == 5_000


async def test_the_owners_own_equal_transfer_is_not_taken_for_an_end(
    world: World, traveller: time_machine.Traveller
) -> None:
    lost = await world.lose(moved=True)
    await world.transfer_outside()
    [finding] = await world.follow_up()
    assert finding.result is Result.STILL_UNKNOWN  # two transfers, one attempt: which one it is cannot be told
    assert world.used_cents() == 5_000
    first, _ = await world.moved()
    assert resolve(world.gateway.records, lost, first["id"]).state == "accepted"


async def test_while_an_equal_transfer_is_in_flight_nothing_is_claimed(world: World) -> None:
    lost = await world.lose(moved=True)
    second = await world.open_process()
    world.fail({"kind": "delay", "seconds": 0.3})
    in_flight = asyncio.create_task(world.transfer(process=second, channel=Channel.CLI))
    while "sending" not in world.states():  # noqa: ASYNC110 - the database has no event
        await asyncio.sleep(0.005)
    assert of(await world.follow_up(), lost) == {Result.STILL_UNKNOWN}
    await in_flight


class TestArrival:
    @BOTH
    async def test_accepted_until_it_arrived(self, world: World, traveller: time_machine.Traveller) -> None:
        completed = await world.transfer(key="k")
        assert completed.state == "accepted"
        await world.follow_up()
        assert world.attempt(completed.attempt_id).state == "accepted"
        await follow_until_over(world, traveller)
        attempt = world.attempt(completed.attempt_id)
        assert (attempt.state, attempt.transfer_status) == ("arrived", "COMPLETE")
        assert world.files.events() == ["requested", "completed", "arrived"]
        again = await world.transfer(key="k")
        assert (again.state, again.status, again.id) == ("arrived", "COMPLETE", completed.id)
        assert (again.reason, again.retry) == (None, None)

    @BOTH
    @pytest.mark.parametrize(
        "fault",
        [
            {"kind": "fail_after_seconds", "seconds": 3600, "reason": "ACCOUNT_CLOSED"},
            {"kind": "return_after_seconds", "seconds": 3600, "status": "FAILED", "reason": "ACCOUNT_CLOSED"},
            {"kind": "return_after_seconds", "seconds": 3600, "status": "CANCELLED", "reason": "ACCOUNT_CLOSED"},
        ],
        ids=lambda fault: f"{fault['kind']} {fault.get('status', '')}",
    )
    async def test_returned_later_across_restarts(
        self, world: World, traveller: time_machine.Traveller, fault: dict[str, object]
    ) -> None:
        world.fail(fault, when="after")
        completed = await world.transfer(key="k")
        await follow_until_over(world, traveller)
        assert world.attempt(completed.attempt_id).state in {"accepted", "arrived"}
        await world.close(world.gateway)
        await world.open_process()
        traveller.shift(3700)
        await world.follow_up()
        attempt = world.attempt(completed.attempt_id)
        assert (attempt.state, attempt.error) == ("returned", "ACCOUNT_CLOSED")
        assert world.files.events()[-1] == "returned"
        again = await world.transfer(key="k")
        assert (again.state, again.reason, again.retry) == ("returned", "ACCOUNT_CLOSED", "never")
        assert len(await world.moved()) == 1
        assert world.used_cents() == 5_000  # it counts on its day all the same

    @BOTH
    async def test_a_fee_does_not_hide_it(self, world: World, traveller: time_machine.Traveller) -> None:
        world.fail({"kind": "fee_cents", "cents": 150}, "close", when="after")
        with pytest.raises(OutcomeUnknownError) as unknown:
            await world.transfer()
        traveller.shift(GRACE_SECONDS + 1)
        await world.follow_up()
        assert world.attempt(unknown.value.attempt_id or "").state == "unknown"
        assert world.used_cents() == 5_000

    async def test_after_two_weeks_it_is_no_longer_followed(
        self, tmp_path: Path, sandbox: Sandbox, traveller: time_machine.Traveller
    ) -> None:
        async with open_world(tmp_path, sandbox, token_seconds=100 * 86_400) as world:
            world.fail({"kind": "fail_after_seconds", "seconds": 30 * 86_400, "reason": "late"}, when="after")
            completed = await world.transfer()
            traveller.shift(14 * 86_400 + 60)
            assert of(await world.follow_up(), completed.attempt_id) == {Result.NO_LONGER_FOLLOWED}
            attempt = world.attempt(completed.attempt_id)
            assert (attempt.state, attempt.followed_until) == ("accepted", None)
            assert await world.follow_up() == []


async def test_a_person_can_decide(world: World) -> None:
    first, second = await world.lose(moved=True), await world.lose(moved=False, instant=True)
    [moved] = await world.moved()
    records = world.gateway.records
    assert resolve(records, first, moved["id"]).state == "accepted"
    with pytest.raises(InvalidRequestError):
        resolve(records, second, moved["id"])
    assert resolve(records, second, None).state == "not_executed"
    for attempt_id in (first, second):
        with pytest.raises(InvalidRequestError):
            resolve(records, attempt_id, None)
    with pytest.raises(NotFoundError):
        resolve(records, "nobody", None)
    assert world.used_cents() == 5_000
    assert [line.get("resolved") for line in world.files.trail()[-2:]] == [True, True]


async def test_every_attempt_can_be_asked_for_for_ever(world: World, traveller: time_machine.Traveller) -> None:
    attempt_id = await world.lose(moved=True)
    assert world.attempt(attempt_id).state == "unknown"
    await world.follow_up()
    traveller.shift(400 * 86_400)
    assert world.attempt(attempt_id).state == "accepted"
    with pytest.raises(NotFoundError):
        world.attempt("nobody")


async def test_several_processes_that_look_at_once_end_an_attempt_once(world: World) -> None:
    other = await world.open_process()
    await world.lose()
    await asyncio.gather(world.follow_up(), world.follow_up(other), world.follow_up())
    assert world.files.events().count("completed") == 1


@pytest.mark.parametrize("state", [State.RESERVED, State.SENDING])
async def test_what_a_killed_process_left_is_ended(
    world: World, traveller: time_machine.Traveller, state: State
) -> None:
    attempt_id = await world.leave(state)
    await world.open_process()
    shown = world.attempt(attempt_id).state
    assert shown == ("failed" if state is State.RESERVED else "unknown")
    assert world.used_cents() == (0 if state is State.RESERVED else 5_000)
    await world.follow_up()
    assert world.attempt(attempt_id).state == shown
    assert world.files.events(attempt_id) == (["failed"] if state is State.RESERVED else ["requested", "failed"])


async def test_what_ended_beside_an_old_unknown_one_ends_once(world: World, traveller: time_machine.Traveller) -> None:
    await world.lose(moved=False)
    world.fail({"kind": "refuse", "message": "no"})
    with pytest.raises(RefusedError):
        await world.transfer(instant=True)
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
    assert finding.result is Result.STILL_UNKNOWN
    assert world.used_cents() == 5_000


async def test_a_transfer_just_before_the_announcement_speaks_against_absence(
    world: World, traveller: time_machine.Traveller
) -> None:
    """Our clock may have been ahead then, and may have been corrected since."""
    await world.transfer_outside()
    traveller.shift(90)
    lost = await world.lose(moved=False)
    traveller.shift(GRACE_SECONDS + 1)
    assert of(await world.follow_up(), lost) == {Result.STILL_UNKNOWN}


async def test_a_transfer_that_two_pages_show_serves_one(world: World) -> None:
    attempts = [await world.lose(moved=True), await world.lose(moved=False, instant=True)]
    page = await world.gateway.client.activity(ORGANIZATION_ID, first=10)
    since = datetime.now(UTC) - timedelta(days=1)
    lookup = Lookup(datetime.now(UTC), since, page.transfers * 2, frozenset(world.pod_ids.values()))
    world.gateway.records.write(
        lambda writer: decide_followed(writer, world.gateway.records.owners, lookup, timedelta(seconds=GRACE_SECONDS))
    )
    assert [world.attempt(attempt_id).state for attempt_id in attempts] == ["accepted", "unknown"]


async def test_a_request_that_waits_for_a_transfer_has_it_looked_up_until_it_arrived(
    world: World, traveller: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "WAIT_POLL_SECONDS", 0.01)
    monkeypatch.setattr(transfers, "LOOK_SECONDS", 0.05)
    following = asyncio.create_task(world.gateway.follow_up.run_for_ever())  # it looks once a minute
    done = await world.transfer()
    waiting = asyncio.create_task(world.gateway.transfers.wait_for_change(done.attempt_id, THE_DEFAULT, 30))
    looks = len(world.requests("ActivityLogV2Transfers"))
    async with asyncio.timeout(20):
        while len(world.requests("ActivityLogV2Transfers")) < looks + 2:  # noqa: ASYNC110 - it is not told
            await asyncio.sleep(0.005)
        assert not waiting.done()
        traveller.shift(15)
        assert (await waiting).state is State.ARRIVED
    following.cancel()


async def test_requests_that_wait_ask_for_few_lookups(
    world: World, traveller: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "WAIT_POLL_SECONDS", 0.01)
    asked: list[None] = []
    monkeypatch.setattr(world.gateway.transfers, "_on_open", lambda: asked.append(None))
    attempt_id = (await world.transfer()).attempt_id

    async def wait() -> None:
        statuses = [world.gateway.transfers.wait_for_change(attempt_id, THE_DEFAULT, 0.05) for _ in range(3)]
        assert {status.state for status in await asyncio.gather(*statuses)} == {State.ACCEPTED}

    for _ in range(2):
        await wait()
    assert len(asked) == 1
    monkeypatch.setattr(transfers, "LOOK_SECONDS", 0.0)
    await wait()
    assert len(asked) > 3
    asked.clear()
    traveller.shift(180)  # what has not arrived by now takes hours
    await wait()
    assert asked == []
