"""A restore makes nothing count less: what the trail knows is taken over, and what cannot be known is unknown."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pyotp
import pytest
import time_machine

import pysequence_api
from pysequence_api.errors import (
    FrozenError,
    InvalidRequestError,
    LimitExceededError,
    OutcomeUnknownError,
    SafeguardsUnavailableError,
    WrongCodeError,
)
from pysequence_api.records import open_records
from pysequence_api.records.attempts import Attempt
from pysequence_api.records.audit import Channel
from pysequence_api.records.check import check
from pysequence_api.records.control import freeze, unfreeze
from pysequence_api.records.states import State
from pysequence_api.records.upkeep import back_up, restore
from pysequence_api.safeguards.follow_up import Result
from pysequence_api.safeguards.owner import new_secret
from tests.starter import python
from tests.world import GRACE_SECONDS, World

from .conftest import come_to_rest, content, mixed_day, restored

pytestmark = pytest.mark.anyio
DATABASE, TRAIL = ".records.db", ".audit.jsonl"
DAY = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """Return where a test writes its backup."""
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere" / "backup.db"


# What the audit trail knows beyond the backup.


async def test_what_happened_after_the_backup_counts_and_keeps_its_keys(world: World, backup: Path) -> None:
    await world.transfer(500, key="before")
    back_up(world.gateway.records, backup)
    await mixed_day(world)
    states, used_cents, trail = sorted(world.states()), world.used_cents(), world.files.trail()
    done = await restored(world, backup)
    assert done.events == len(trail) - 2
    assert done.unknown == ()
    assert world.used_cents() == used_cents == 4_500
    assert sorted(world.states()) == states
    assert world.files.trail()[: len(trail)] == trail
    assert check(world.gateway.records).intact
    for key, amount_cents in (("before", 500), ("accepted", 1_000)):
        assert (await world.transfer(amount_cents, key=key)).replayed
    with pytest.raises(OutcomeUnknownError):
        await world.transfer(3_000, key="unknown")
    assert len(await world.moved()) == 3


async def test_everything_is_restored_from_the_trail_alone(world: World) -> None:
    await mixed_day(world)
    states, used_cents = world.states(), world.used_cents()
    await come_to_rest(world)
    world.files.damage(DATABASE)
    await world.open_process()
    with pytest.raises(SafeguardsUnavailableError):
        await world.transfer()
    assert not check(world.gateway.records).intact
    await restored(world, None)
    assert sorted(world.states()) == sorted(states)
    assert world.used_cents() == used_cents == 4_000
    assert (await world.transfer(1_000, key="accepted")).replayed
    with pytest.raises(OutcomeUnknownError):
        await world.transfer(3_000, key="unknown")
    assert check(world.gateway.records).intact


async def test_transfers_are_frozen_for_everybody_after_a_restore(world: World, backup: Path) -> None:
    await world.transfer()
    back_up(world.gateway.records, backup)
    await come_to_rest(world)
    restore(world.files.path, backup)
    assert world.files.events()[-2:] == ["records_restored", "frozen"]  # without any other process
    await world.open_process()
    for channel in (Channel.API, Channel.CLI):
        with pytest.raises(FrozenError):
            await world.transfer(channel=channel)
    assert world.gateway.limits().frozen
    assert unfreeze(world.gateway.records) is not None
    await world.transfer()


async def test_freezes_and_limits_of_the_backup_do_not_get_lost(world: World, backup: Path) -> None:
    world.gateway.records.write(lambda writer: writer.record_limits(7_000, 9_000))
    freeze(world.gateway.records, "a laptop was stolen")
    back_up(world.gateway.records, backup)
    await restored(world, backup)
    assert world.gateway.limits().max_daily_cents == 9_000


@pytest.mark.parametrize("state", [State.RESERVED, State.SENDING])
async def test_what_the_backup_holds_open_is_unknown_until_a_grace_after_the_restore(
    world: World, backup: Path, traveller: time_machine.Traveller, state: State
) -> None:
    await world.open_process()
    attempt_id = await world.leave(state, process=world.gateway, amount_cents=7_000, key="open")
    back_up(world.gateway.records, backup)
    traveller.shift(10 * GRACE_SECONDS)
    done = await restored(world, backup)
    assert done.unknown == (attempt_id,)
    assert world.used_cents() == 7_000
    [finding] = await world.follow_up()
    assert finding.result is Result.STILL_UNKNOWN
    with pytest.raises(OutcomeUnknownError):
        await world.transfer(7_000, key="open")
    await world.transfer(10)  # what is missing is counted, and that ends no grace
    traveller.shift(GRACE_SECONDS / 2)
    findings = {one.attempt_id: one.result for one in await world.follow_up()}
    assert findings[attempt_id] is Result.STILL_UNKNOWN
    traveller.shift(GRACE_SECONDS)
    findings = {one.attempt_id: one.result for one in await world.follow_up()}
    assert findings[attempt_id] is Result.NOT_EXECUTED
    assert check(world.gateway.records).intact


async def test_what_was_sent_after_the_backup_is_found_though_the_trail_is_lost(world: World, backup: Path) -> None:
    await world.open_process()
    attempt_id = await world.leave(State.RESERVED, process=world.gateway, amount_cents=7_000, key="sent")
    back_up(world.gateway.records, backup)
    await world.transfer_outside(7_000)  # as if it had gone on
    await come_to_rest(world)
    world.files.damage(TRAIL)
    await restored(world, backup)
    assert [one.result for one in await world.follow_up()] == [Result.ACCEPTED, Result.NOT_ARRIVED]
    assert world.attempt(attempt_id).transfer_id == (await world.moved())[-1]["id"]
    assert (await world.transfer(7_000, key="sent")).replayed
    assert len(await world.moved()) == 1


@pytest.mark.parametrize("end", ["accepted", "refused", "failed", "cancelled", "unknown"])
async def test_an_end_that_the_trail_knows_is_taken_over(world: World, backup: Path, end: str) -> None:
    more: dict[str, Any] = {"key": "late"}
    match end:
        case "refused":
            more["source"] = "Empty Envelope"
        case "failed":
            world.fail({"kind": "status", "status": 429})
        case "unknown":
            world.fail("close", when="after")
    prepare = world.gateway.client.prepare_transfer

    async def prepare_later(order: Any, **more: Any) -> Any:
        back_up(world.gateway.records, backup)  # while it is reserved
        if end == "cancelled":
            freeze(world.gateway.records)
            await asyncio.sleep(10)
        return await prepare(order, **more)

    world.gateway.client.prepare_transfer = prepare_later  # type: ignore[method-assign]
    result = (await asyncio.gather(world.transfer(**more), return_exceptions=True))[0]
    assert isinstance(result, Exception) == (end != "accepted")
    [before] = world.attempts()
    assert before.state == end
    await restored(world, backup)
    [after] = world.attempts()
    # What no event tells is gone.
    told = ("id", "caller", "state", "order", "key_sha256", "request_sha256", "code", "error", "announced_at")
    assert [getattr(after, name) for name in told] == [getattr(before, name) for name in told]
    assert after.transfer_id == before.transfer_id
    assert (after.ended_at is None) == (before.ended_at is None)
    assert check(world.gateway.records).intact


async def test_pending_approvals_expire(world: World, backup: Path) -> None:
    pending = Attempt(
        id="pending",
        caller="default",
        channel="api",
        state=State.AWAITING_APPROVAL,
        amount_cents=5_000,
        created_at=datetime.now(UTC),
        source_id=world.pod_ids["Rent"],
        destination_id=world.pod_ids["Emergency Fund"],
    )
    world.gateway.records.write(lambda writer: writer.add_attempt(pending))
    back_up(world.gateway.records, backup)
    assert (await restored(world, backup)).expired == ("pending",)
    assert world.attempt("pending").state is State.EXPIRED
    assert world.used_cents() == 0
    assert check(world.gateway.records).intact


# A trail that does not fit.


def without_second_line(trail: bytes) -> bytes:
    lines = trail.splitlines(keepends=True)
    return b"".join(lines[:1] + lines[2:])


BELOW_THE_BACKUP: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut off": lambda trail: trail[:100],
    "changed": lambda trail: trail.replace(b'"amount_cents": 1000', b'"amount_cents": 1001', 1),
    "without a line": without_second_line,
    "another one": lambda trail: trail.replace(b"accepted", b"refused_", 1)[::-1],
}


async def test_a_trail_that_disagrees_with_the_backup_is_refused(world: World, backup: Path) -> None:
    await mixed_day(world)
    world.gateway.records.sync_trail()
    back_up(world.gateway.records, backup)
    await world.transfer(20)
    await come_to_rest(world)
    trail = (world.files.path / TRAIL).read_bytes()
    for how, damage in BELOW_THE_BACKUP.items():
        world.files.damage(TRAIL, damage(trail))
        before = content(world.files.path)
        with pytest.raises(SafeguardsUnavailableError):
            restore(world.files.path, backup)
        assert content(world.files.path) == before, how
    # Whoever knows what that means can move it away; the backup then writes it again.
    (world.files.path / TRAIL).rename(world.files.path / "trail-of-somebody")
    restore(world.files.path, backup)
    await world.open_process()
    assert world.files.events()[-2:] == ["records_restored", "frozen"]
    assert check(world.gateway.records).intact


async def test_a_trail_whose_chain_is_broken_beyond_the_backup_is_refused(world: World, backup: Path) -> None:
    await world.transfer(20)
    back_up(world.gateway.records, backup)
    await mixed_day(world)
    await come_to_rest(world)
    path = world.files.path / TRAIL
    lines = path.read_bytes().splitlines(keepends=True)
    changed = lines[3].replace(b'"amount_cents": 1000', b'"amount_cents": 1')
    assert changed != lines[3]
    for instead in ([changed], [], [lines[3], lines[3]]):
        path.write_bytes(b"".join([*lines[:3], *instead, *lines[4:]]))
        before = content(world.files.path)
        with pytest.raises(SafeguardsUnavailableError):
            restore(world.files.path, backup)
        with pytest.raises(SafeguardsUnavailableError):
            restore(world.files.path, None)
        assert content(world.files.path) == before, instead


async def test_an_end_that_a_crash_left_is_kept(world: World, backup: Path) -> None:
    await world.transfer(1_000)
    back_up(world.gateway.records, backup)
    await world.transfer(2_000)
    used_cents = 3_000
    for tail in (b'{"timestamp": "2026-11-2', b"\0" * 100, b"\0" * 30 + b"\n", b"\n\n"):
        await come_to_rest(world)
        before = (world.files.path / TRAIL).read_bytes() + tail
        world.files.damage(TRAIL, before)
        await restored(world, backup)
        await world.transfer(500)
        used_cents += 500
        assert (world.files.path / TRAIL).read_bytes().startswith(before), tail
        assert world.used_cents() == used_cents
        assert check(world.gateway.records).intact
        assert world.gateway.records.trail.verify().intact


async def test_a_trail_that_a_power_cut_shortened_is_completed(world: World, backup: Path) -> None:
    await world.transfer(1_000)
    await world.kill(world.gateway)  # so that nothing was synced
    await world.open_process()
    trail = (world.files.path / TRAIL).read_bytes()
    back_up(world.gateway.records, backup)
    world.gateway.records.abandon()
    world.files.damage(TRAIL, trail[: len(trail) // 2] + b"\0" * 50)
    restore(world.files.path, backup)
    assert (world.files.path / TRAIL).read_bytes().startswith(trail)
    assert check(open_records(world.files.path)).intact


async def test_a_trail_that_contradicts_the_backup_is_refused(world: World, backup: Path) -> None:
    world.fail({"kind": "status", "status": 429})
    await asyncio.gather(world.transfer(1_000), return_exceptions=True)
    assert world.states() == ["failed"]
    back_up(world.gateway.records, backup)
    [attempt] = world.attempts()
    await come_to_rest(world)
    path = world.files.path / TRAIL
    prev = open_records(world.files.path).read(lambda reader: reader.audit_head())
    line = {"timestamp": "2026-11-23T12:00:00+00:00", "event_type": "transfer_completed", "amount_cents": 1_000}
    path.write_bytes(path.read_bytes() + json.dumps(line | {"attempt_id": attempt.id, "prev": prev}).encode() + b"\n")
    with pytest.raises(SafeguardsUnavailableError):
        restore(world.files.path, backup)


# What can be restored, and when.


async def test_nothing_is_restored_beside_a_running_process(world: World, backup: Path) -> None:
    await world.transfer()
    back_up(world.gateway.records, backup)
    before = content(world.files.path)
    with pytest.raises(SafeguardsUnavailableError, match=rf"Process {os.getpid()} "):
        restore(world.files.path, backup)
    assert content(world.files.path) == before
    await world.transfer()


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def of_another_program(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE attempt(id)")


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"transfer_completed")] ^= 1
    path.write_bytes(data)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def directory_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


SPOILED: dict[str, Callable[[Path], object]] = {
    "newer": newer,
    "of another program": of_another_program,
    "flipped": flipped,
    "half": half,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a database" * 100),
    "missing": lambda path: path.unlink(),
    "directory": directory_instead,
}


async def test_what_is_no_sound_backup_of_ours_is_refused(world: World, backup: Path) -> None:
    await world.transfer()
    back_up(world.gateway.records, backup)
    await come_to_rest(world)
    before = content(world.files.path)
    for how, spoil in SPOILED.items():
        spoiled = shutil.copyfile(backup, backup.with_name(f"{how}.db"))
        spoil(spoiled)
        with pytest.raises(InvalidRequestError):
            restore(world.files.path, spoiled)
        assert content(world.files.path) == before, how
    restore(world.files.path, backup)


async def test_a_plain_copy_of_a_closed_database_is_a_backup_too(world: World, backup: Path) -> None:
    await world.transfer(1_000)
    await come_to_rest(world)
    shutil.copyfile(world.files.path / DATABASE, backup)
    restore(world.files.path, backup)
    restore(world.files.path, world.files.path / DATABASE)
    await world.open_process()
    assert world.used_cents() == 1_000
    assert check(world.gateway.records).intact


async def test_without_backup_and_trail_there_is_nothing_to_restore(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError):
        restore(tmp_path / "data", None)


async def test_files_of_an_earlier_version_are_taken_over_not_restored(tmp_path: Path) -> None:
    line = {"timestamp": "2026-11-23T12:00:00", "event_type": "transfer_requested", "amount_cents": 5_000}
    (tmp_path / TRAIL).write_text(json.dumps(line) + "\n")
    with pytest.raises(InvalidRequestError):
        restore(tmp_path, None)


async def test_the_database_before_is_kept(world: World, backup: Path) -> None:
    await world.transfer(1_000)
    back_up(world.gateway.records, backup)
    await world.transfer(2_000)
    first = (await restored(world, backup)).replaced
    second = (await restored(world, backup)).replaced
    assert first is not None
    assert second not in {None, first}
    assert (world.files.path / first).stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(first)) as connection:
        assert connection.execute("SELECT amount_cents FROM attempt ORDER BY 1").fetchall() == [(1_000,), (2_000,)]


async def test_a_damaged_database_is_kept_as_it_is(world: World, backup: Path) -> None:
    await world.transfer(1_000)
    back_up(world.gateway.records, backup)
    await world.kill(world.gateway)  # so that its log stays
    log = (world.files.path / ".records.db-wal").read_bytes()
    world.files.damage(DATABASE, b"x" * 8192)
    done = restore(world.files.path, backup)
    assert (world.files.path / f"{done.replaced}").read_bytes() == b"x" * 8192
    assert (world.files.path / f"{done.replaced}-wal").read_bytes() == log
    await world.open_process()
    assert world.used_cents() == 1_000


async def test_nothing_of_the_old_database_gets_into_the_new_one(world: World, backup: Path) -> None:
    await world.transfer(1_000)
    back_up(world.gateway.records, backup)
    await world.kill(world.gateway)
    directory = world.files.path
    assert (directory / ".records.db-wal").stat().st_size > 0
    # A journal that SQLite would roll back into whatever is beside it.
    journal = directory / "elsewhere.db"
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("CREATE TABLE t(x)")
        connection.execute("PRAGMA cache_size = 1")
        connection.executemany("INSERT INTO t VALUES(?)", [(b"x" * 4000,) for _ in range(100)])
        shutil.copyfile(f"{journal}-journal", directory / ".records.db.new-journal")
    restore(directory, backup)
    assert {path.name for path in directory.glob(".records.db*")} == {
        DATABASE,
        *(path.name for path in directory.glob(".records.db.replaced-*")),
    }
    assert check(open_records(directory)).intact


# Kills.

USED_CENTS = 4_250
ROOT = Path(pysequence_api.__file__).parent.parent
KILL_AT_FILE_OPERATIONS = """
import os, shutil, signal, sys
from pathlib import Path
from pysequence_api.records.upkeep import restore

EVENTS = {"open", "os.rename", "os.remove", "os.chmod", "os.mkdir", "sqlite3.connect", "shutil.copyfile"}


def restore_and_die(directory, backup, die_at):
    seen = 0

    def watch(event, arguments):
        nonlocal seen
        if event in EVENTS and str(directory) in str(arguments[0]):
            seen += 1
            if seen == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    restore(directory, backup)
    os._exit(0)


source, backup, copies = map(Path, sys.argv[1:4])
every = int(sys.argv[4])
status, die_at = -1, 1 - every
while status:
    die_at += every
    directory = copies / f"{die_at:03}"
    shutil.copytree(source, directory, ignore=shutil.ignore_patterns("sequence*", "elsewhere", "copies"))
    child = os.fork()
    if not child:
        restore_and_die(directory, backup, die_at)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, -signal.SIGKILL}, status
"""


async def expect_one_or_the_other(directory: Path, backup: Path) -> bool:
    """Check that one of two databases is whole and in place, and restoring works. Return whether it is the new one."""
    records = open_records(directory)
    found = check(records)
    assert found.intact, found.problems
    is_new = records.read(lambda reader: reader.restored_at()) is not None
    records.close_reading()
    restore(directory, backup)
    records = open_records(directory)
    assert check(records).intact
    counted = records.read(lambda reader: reader.attempts_counted_since(DAY))
    records.close_reading()
    assert sum(one.amount_cents for one in counted) == USED_CENTS
    return is_new


async def before_a_restore(world: World, backup: Path, rest: str) -> None:
    """Make a backup, and one more transfer; then the process closes or is killed."""
    await mixed_day(world)
    back_up(world.gateway.records, backup)
    await world.transfer(250)
    await (come_to_rest(world) if rest == "closed" else world.kill(world.gateway))


@pytest.mark.parametrize(
    ("rest", "every"),
    [
        ("killed", 7),
        pytest.param("killed", 1, marks=pytest.mark.crash),
        pytest.param("closed", 1, marks=pytest.mark.crash),
    ],
)
async def test_killed_at_file_operations_the_next_try_works(
    world: World, backup: Path, tmp_path: Path, rest: str, every: int
) -> None:
    await before_a_restore(world, backup, rest)
    copies = tmp_path / "copies"
    copies.mkdir()
    await anyio.run_process(
        [*python(), "-c", KILL_AT_FILE_OPERATIONS, str(world.files.path), str(backup), str(copies), str(every)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=None,
    )
    new = [await expect_one_or_the_other(directory, backup) for directory in sorted(copies.iterdir())]
    assert len(new) > 20 // every
    assert new == sorted(new)
    assert {True, False} == set(new)


@pytest.mark.crash
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("call", ["pwrite64", "write", "fsync", "fdatasync", "ftruncate", "unlink", "rename", "openat"])
async def test_killed_at_each_system_call_the_next_try_works(
    world: World, backup: Path, tmp_path: Path, call: str
) -> None:
    await before_a_restore(world, backup, "killed")
    program = "import sys; from pathlib import Path; from pysequence_api.records.upkeep import restore;"
    program += "restore(Path(sys.argv[1]), Path(sys.argv[2]))"
    names = {".records.db", ".records.db.new", ".records.db.replaced", ".audit.jsonl", ".daily_limits.json.new"}
    names |= {f"{name}{suffix}" for name in names for suffix in ("-wal", "-shm", "-journal")} | {"."}
    result, number, new = -1, 0, []
    while result:
        number += 1
        directory = tmp_path / f"copy-{number}"
        ignored = shutil.ignore_patterns("copy-*", "sequence*", "elsewhere")
        shutil.copytree(world.files.path, directory, ignore=ignored)
        paths = [part for name in sorted(names) for part in ("-P", str(directory / name))]
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", *paths, "-e", f"trace={call}"]
        kill = ["-e", f"inject={call}:signal=KILL:when={number}"]
        restoring = [sys.executable, "-c", program, str(directory), str(backup)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        result = (await anyio.run_process([*strace, *kill, *restoring], env=environment, check=False)).returncode
        assert result in {0, -signal.SIGKILL, 128 + signal.SIGKILL}
        new.append(await expect_one_or_the_other(directory, backup))
        shutil.rmtree(directory)
    assert new == sorted(new)


# What Sequence moved that no attempt has.


async def test_transfers_that_nobody_here_knows_count_before_the_first_one(world: World, backup: Path) -> None:
    await world.transfer(1_000)
    back_up(world.gateway.records, backup)
    await world.transfer(2_000)
    await world.transfer_outside(4_000)
    await come_to_rest(world)
    world.files.damage(TRAIL)
    await restored(world, backup)
    assert world.used_cents() == 1_000
    await world.transfer(8_000)
    assert world.used_cents() == 15_000
    added = [one for one in world.attempts() if one.channel == "restore"]
    assert [one.amount_cents for one in added[-2:]] == [2_000, 4_000]
    assert all(one.state is State.ACCEPTED and one.transfer_id and one.followed_until is None for one in added)
    assert all(one.upstream_created_at for one in added)
    assert check(world.gateway.records).intact
    lookups = len(world.requests("ActivityLogV2Transfers"))
    await world.transfer(1)
    assert len(world.requests("ActivityLogV2Transfers")) == lookups
    # Restored again, nothing is counted twice.
    await restored(world, backup)
    await world.transfer(1)
    assert world.used_cents() == 15_002


@pytest.mark.upstream("graphql", "platform")
async def test_the_limit_holds_over_a_restore(world: World, backup: Path) -> None:
    await world.transfer(100)
    back_up(world.gateway.records, backup)
    left_cents = world.gateway.limits().remaining_cents
    while left_cents:
        amount_cents = min(left_cents, world.settings.max_transfer_cents)
        await world.transfer_outside(amount_cents)
        left_cents -= amount_cents
    await restored(world, backup)
    for _ in range(2):
        with pytest.raises(LimitExceededError):
            await world.transfer(100)


NULLS = {"kind": "nulls", "paths": ["organization.transferReferences.edges.0.node"]}


async def test_without_the_whole_activity_no_transfer_is_sent(world: World, backup: Path) -> None:
    await world.transfer(1_000)
    back_up(world.gateway.records, backup)
    await restored(world, backup)
    moved = len(await world.moved())
    faults: tuple[Any, ...] = ({"kind": "status", "status": 500}, "close", "garbage", NULLS)
    for fault in faults:
        world.fail(fault, operation="ActivityLogV2Transfers", when="after", count=20)
        with pytest.raises(SafeguardsUnavailableError):
            await world.transfer(2_000)
        assert len(await world.moved()) == moved, fault
        assert world.states() == ["accepted"]
        world.sandbox.faults.clear()
    await world.transfer(2_000)


async def test_what_may_be_an_open_attempts_transfer_stays_free_for_it(world: World, backup: Path) -> None:
    attempt_id = await world.lose(amount_cents=3_000, key="lost")
    back_up(world.gateway.records, backup)
    await world.transfer_outside(3_000)  # the owner's own equal one: whose is which is not known
    await restored(world, backup)
    await world.transfer(10)
    assert world.attempt(attempt_id).state is State.UNKNOWN
    assert world.used_cents() == 3_000 + 2 * 3_000 + 10  # too much rather than too little
    assert [one.transfer_id for one in world.attempts() if one.channel == "restore"][-2:] == [None, None]
    with pytest.raises(OutcomeUnknownError):
        await world.transfer(3_000, key="lost")


async def test_concurrent_first_transfers_count_once(world: World, backup: Path) -> None:
    await world.transfer(1_000)
    back_up(world.gateway.records, backup)
    await world.transfer_outside(4_000)
    await restored(world, backup)
    other = await world.open_process()
    await asyncio.gather(*(world.transfer(10, process=one) for one in (world.gateway, other) for _ in range(3)))
    assert world.used_cents() == 5_060


async def test_nothing_is_asked_of_sequence_while_transfers_are_frozen(world: World, backup: Path) -> None:
    await world.transfer(1_000)
    back_up(world.gateway.records, backup)
    await come_to_rest(world)
    restore(world.files.path, backup)
    await world.open_process()
    await world.gateway.client.pods()
    before = len(world.requests())
    with pytest.raises(FrozenError):
        await world.transfer()
    assert len(world.requests()) - before <= 1  # its clock


async def test_a_restore_brings_back_no_session_no_code_and_nothing_that_was_replaced(
    world: World, backup: Path, traveller: time_machine.Traveller
) -> None:
    """The owner replaced what was stolen, and signed out: a backup from before must not undo that."""

    def code(secret: str) -> str:
        traveller.shift(30)
        return pyotp.TOTP(secret).at(world.gateway.records.now())

    stolen, new = new_secret(), new_secret()
    owner = world.gateway.owner
    owner.set_code(stolen, code(stolen))
    owner.set_password("the-first-password", code(stolen))
    session = owner.session()
    back_up(world.gateway.records, backup)
    owner.use_code(used := code(stolen))
    await restored(world, backup)
    owner = world.gateway.owner
    with pytest.raises(WrongCodeError):
        owner.use_code(used)
    assert owner.session().secret != session.secret
    traveller.shift(30)
    owner.sign_in("the-first-password", code(stolen))
    owner.set_code(new, code(new), old_code=None, lost=True)
    await restored(world, backup)
    assert not world.gateway.owner.has_code()
    assert world.gateway.owner.has_password()
    world.gateway.owner.set_code(new, code(new))
    world.gateway.owner.set_password("the-second-password", code(new))
    await restored(world, backup)
    assert not world.gateway.owner.has_password()
    assert check(world.gateway.records).intact
