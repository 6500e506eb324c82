"""What an attack on the safeguards found, each as it was done."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine

from pysequence_api import files
from pysequence_api.errors import (
    InvalidRequestError,
    KeyReusedError,
    LimitExceededError,
    RefusedError,
    SafeguardsUnavailableError,
)
from pysequence_api.models import AccountType, Party
from pysequence_api.records import audit, repair
from pysequence_api.records.audit import Channel
from pysequence_api.safeguards.recovery import Lookup, Result
from pysequence_api.safeguards.reservations import Attempt
from pysequence_api.sandbox import ORGANIZATION_ID, Sandbox
from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
from tests.world import GRACE_SECONDS, World, open_world

from .conftest import SetClock, announced, open_records

pytestmark = pytest.mark.anyio


async def test_a_key_moves_money_once_however_old_it_is(world: World, traveller: time_machine.Traveller) -> None:
    first = await world.transfer(1_000, key="rent-2026-11")
    with pytest.raises(RefusedError):
        await world.transfer(2_000, source="Empty Envelope", key="refused")
    for _ in range(3):
        traveller.shift(5 * 86_400)
        await world.transfer(100)  # drops the days of the others
    again = await world.transfer(1_000, key="rent-2026-11")
    assert (again.replayed, again.id, again.attempt_id) == (True, first.id, first.attempt_id)
    with pytest.raises(KeyReusedError):
        await world.transfer(1_001, key="rent-2026-11")
    with pytest.raises(RefusedError):
        await world.transfer(2_000, source="Empty Envelope", key="refused")
    assert len(await world.moved()) == 4


async def test_a_key_of_what_was_never_sent_is_free_however_old(
    world: World, traveller: time_machine.Traveller
) -> None:
    attempt = Attempt(world.order(), Channel.API, "free")
    world.gateway.records.reserve(attempt)
    world.gateway.records.release(attempt, "no connection", refused=False)
    traveller.shift(5 * 86_400)
    await world.transfer(100)
    assert not (await world.transfer(key="free")).replayed


async def test_around_midnight_an_unknown_clock_counts_as_the_worst_one(
    world: World, traveller: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    traveller.move_to(datetime(2026, 11, 23, 23, 58, 30, tzinfo=UTC))
    await world.gateway.client.pods()
    for _ in range(2):
        await world.transfer(1_000_000)
    traveller.shift(95)
    monkeypatch.setattr(GraphQLSequenceClient, "clock_offset_seconds", None)
    with pytest.raises(LimitExceededError):
        await world.transfer(1_000_000)


async def test_what_was_sent_counts_although_a_person_took_it_for_not_executed(world: World) -> None:
    attempt = announced(world)
    world.gateway.records.store.owners.running.discard(attempt.attempt_id)  # as if it were not under way
    world.gateway.recovery.resolve(attempt.attempt_id, None)
    assert await world.used_cents() == 0
    world.gateway.records.settle(attempt, [], organization_id=None, last=True)
    assert await world.used_cents() == 5_000
    assert world.files.events() == ["requested", "failed", "completed"]
    assert repair.propose(world.gateway.records.store).used_cents == 5_000


async def test_a_line_that_a_failed_sync_left_whole_is_not_written_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.lose()

    def unsynced(path: Path, content: bytes) -> None:
        files.append_lines(path, content)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(audit, "append_lines", unsynced)
        with pytest.raises(SafeguardsUnavailableError):
            await world.follow_up()
    await world.follow_up()
    assert world.files.events() == ["requested", "failed", "completed"]


async def test_what_could_not_be_written_of_a_decision_is_written_by_the_next_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.lose()

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(audit, "append_lines", full)
        with pytest.raises(SafeguardsUnavailableError):
            await world.follow_up()
    await world.follow_up()
    assert world.files.events() == ["requested", "failed", "completed"]
    assert world.files.trail()[-1]["recovered"] is True


@pytest.mark.parametrize("days", [2.2, 20])
async def test_a_missing_ledger_is_noticed_while_an_old_attempt_has_no_end(
    tmp_path: Path, sandbox: Sandbox, traveller: time_machine.Traveller, days: float
) -> None:
    async with open_world(tmp_path, sandbox) as world:
        await world.lose(key="k")
        traveller.shift(days * 86_400)
        (tmp_path / ".daily_limits.json").unlink()
        with pytest.raises(SafeguardsUnavailableError, match="limits repair"):
            await world.transfer(key="k")
        assert len(await world.moved()) == 1


async def test_a_person_ends_what_was_never_sent_with_a_beginning(world: World) -> None:
    attempt = Attempt(world.order(), Channel.API)
    world.gateway.records.reserve(attempt)
    world.gateway.records.store.owners.running.discard(attempt.attempt_id)
    with pytest.raises(InvalidRequestError, match="never sent"):
        world.gateway.recovery.resolve(attempt.attempt_id, "some-transfer")
    world.gateway.recovery.resolve(attempt.attempt_id, None)
    await world.follow_up()
    assert world.files.events() == ["requested", "failed"]


async def test_a_transfer_in_the_trail_belongs_to_its_attempt(world: World, traveller: time_machine.Traveller) -> None:
    first = await world.transfer(5_000)
    traveller.shift(5 * 86_400)
    lost = await world.lose(amount_cents=7_000)
    with pytest.raises(InvalidRequestError, match="belongs to another"):
        world.gateway.recovery.resolve(lost, first.id)


def test_the_existing_servers_trail_alone_frees_nothing(tmp_path: Path, clock: SetClock) -> None:
    line = {"timestamp": "2026-11-23T09:00:00+00:00", "event_type": "transfer_requested", "amount_cents": 2_000_000}
    (tmp_path / ".audit.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(SafeguardsUnavailableError, match="limits repair"):
        open_records(tmp_path, clock).limits()


def test_a_time_at_the_end_of_all_times_counts(tmp_path: Path, clock: SetClock) -> None:
    entry = {"transfer_id": "t", "amount_cents": 2_400_000, "timestamp": "9999-12-31T23:59:59+00:00"}
    (tmp_path / ".daily_limits.json").write_text(json.dumps({"2026-11-23": [entry]}))
    records = open_records(tmp_path, clock)
    assert records.store.load().used_cents(clock(), timedelta(seconds=120)) == 2_400_000


async def test_repair_frees_nothing_that_a_good_ledger_counts(world: World) -> None:
    await world.transfer(5_000)
    for name in (".audit.jsonl", ".audit.head.json"):
        (world.files.path / name).unlink()
    proposed = repair.propose(world.gateway.records.store)
    assert (proposed.counted_cents, proposed.used_cents) == (5_000, 0)
    with pytest.raises(SafeguardsUnavailableError, match="would free"):
        repair.carry_out(world.gateway.records.store, proposed)
    assert await world.used_cents() == 5_000


async def look(world: World, **changes: Any) -> Result:
    """Look long after the announcement, and find the transfer that moved, but shown otherwise."""
    since, began_at = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(seconds=GRACE_SECONDS + 1)
    page = await world.gateway.client.activity(ORGANIZATION_ID, first=1)
    shown = page.transfers[0].model_copy(update=changes)
    accounts = await world.gateway.client.accounts()
    external_ids = frozenset(one.id for one in accounts.accounts)
    party_ids = frozenset(world.pod_ids.values()) | external_ids
    world.gateway.recovery.begin()
    [finding] = world.gateway.recovery.decide(Lookup(began_at, since, (shown,), party_ids, external_ids))
    return finding.result


@pytest.mark.parametrize("kind", ["ACH", "INSTANT_TRANSFER", "MANUAL", "RULE", "DIRECT_DEPOSIT", "NEW"])
async def test_a_transfer_of_another_kind_is_no_proof_that_nothing_moved(world: World, kind: str) -> None:
    await world.lose()
    assert await look(world, activity_type=kind) is Result.IN_DOUBT


@pytest.mark.parametrize("kind", ["EXTERNAL_ENTITY", "MERCHANT"])
async def test_a_connected_account_may_be_shown_as_where_it_is(world: World, kind: str) -> None:
    account = (await world.gateway.client.accounts()).accounts[0]
    order = world.order().model_copy(update={"destination_id": account.id, "destination_type": AccountType.ACCOUNT})
    attempt = announced(world, order)
    world.gateway.records.doubt(attempt, "no answer")
    world.gateway.records.let_go(attempt)
    await world.transfer()
    shown = {"source": Party(id=order.source_id), "destination": Party(id=None, name="A bank", type=kind)}
    assert await look(world, id="another", **shown) is Result.IN_DOUBT


async def test_a_clock_that_was_set_right_frees_nothing_around_midnight(
    world: World, traveller: time_machine.Traveller
) -> None:
    traveller.move_to(datetime(2026, 11, 23, 23, 58, 20, tzinfo=UTC))  # and at Sequence it is tomorrow
    await world.gateway.client.pods()
    for _ in range(2):
        await world.transfer(1_000_000)
    traveller.move_to(datetime(2026, 11, 24, 0, 0, 5, tzinfo=UTC))
    await world.gateway.client.pods()
    with pytest.raises(LimitExceededError):
        await world.transfer(1_000_000)


async def test_a_ledger_that_is_older_than_the_trail_is_not_trusted(world: World) -> None:
    attempt = announced(world)
    older = (world.files.path / ".daily_limits.json").read_bytes()
    world.gateway.records.settle(attempt, [], organization_id=None, last=True)
    (world.files.path / ".daily_limits.json").write_bytes(older)
    with pytest.raises(SafeguardsUnavailableError, match=r"older.*limits repair"):
        await world.follow_up()
    repair.carry_out(world.gateway.records.store, repair.propose(world.gateway.records.store))
    assert await world.used_cents() == 5_000
    assert world.files.events() == ["requested", "completed"]


async def test_repair_counts_what_began_in_another_trail(world: World) -> None:
    attempt = announced(world)
    for name in (".audit.jsonl", ".audit.head.json"):
        (world.files.path / name).unlink()
    world.gateway.records.settle(attempt, [], organization_id=None, last=True)
    assert repair.propose(world.gateway.records.store).used_cents == 5_000


async def test_repair_drops_nothing_by_a_clock_that_is_ahead(world: World, traveller: time_machine.Traveller) -> None:
    await world.transfer(5_000)
    (world.files.path / ".daily_limits.json").unlink()
    traveller.shift(5 * 86_400)
    assert len(list(repair.propose(world.gateway.records.store).ledger.entries())) == 1
