"""Damage is found by the check, and stops transfers or is harmless; reads go on."""

import random
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from pysequence_api.clock import to_micros, utc_now
from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.records import open_records
from pysequence_api.records.check import check
from pysequence_api.records.database import Database, remove
from pysequence_api.records.takeover import fill
from pysequence_api.sandbox import Sandbox
from tests.processes import environment, run_process
from tests.world import World, open_world

from .conftest import come_to_rest, mixed_day

pytestmark = pytest.mark.anyio
DATABASE, LOG, TRAIL, LIMITS = ".records.db", ".records.db-wal", ".audit.jsonl", ".daily_limits.json"
FILES = (DATABASE, LOG, f"{DATABASE}-shm", TRAIL, LIMITS)
DECISIVE = (
    # The end of what is open is written when it ends, and that of what was refused counts nowhere.
    "SELECT id, caller, state, amount_cents, source_id, destination_id, transfer_id, created_at, announced_at,"
    " iif(state = 'rejected', 0, request_sha256), key_sha256,"
    " iif(state IN ('accepted', 'arrived', 'returned'), coalesce(upstream_created_at, ended_at), 0) FROM attempt"
    " ORDER BY id",
    "SELECT * FROM idempotency ORDER BY attempt_id",
    "SELECT frozen_at NOTNULL, frozen_callers_only, max_transfer_cents, max_daily_cents, restored_at FROM store",
    "SELECT seq, line FROM audit ORDER BY seq",
    "SELECT * FROM caller",
    "SELECT sha256, caller, revoked_at FROM caller_key",
    "SELECT version, sha256, text FROM policy",
)


async def expect_reads_only(world: World) -> None:
    """Check that no transfer is possible, and that reads go on."""
    moved = len(await world.moved())
    with pytest.raises(SafeguardsUnavailableError):
        await world.transfer(10)
    assert len(await world.moved()) == moved
    assert len(await world.gateway.client.pods()) > 1


def intact(directory: Path) -> bool:
    """Check the records in a directory that nobody else has open."""
    records = open_records(directory)
    try:
        return check(records).intact
    finally:
        records.close_reading()


def saved(directory: Path, to: Path) -> Path:
    """Copy the files of the records."""
    to.mkdir(exist_ok=True)
    for path in directory.iterdir():
        if path.is_file() and path.name.startswith((DATABASE, TRAIL, LIMITS)):
            shutil.copyfile(path, to / path.name)
    return to


def put_back(directory: Path, copy: Path, *names: str) -> None:
    """Put copies in the place of files, as new files."""
    for name in names:
        (directory / name).unlink(missing_ok=True)
        if (copy / name).exists():
            shutil.copyfile(copy / name, directory / name)


async def test_a_mixed_day_is_intact_while_the_server_runs(world: World) -> None:
    assert check(world.gateway.records).intact  # there is nothing yet
    await mixed_day(world)
    found = check(world.gateway.records)
    assert found.problems == ()
    assert (found.attempts, found.open_attempts, found.idempotency_keys) == (5, 1, 3)
    assert found.events == len(world.files.trail())
    assert found.trail_bytes == (world.files.path / TRAIL).stat().st_size
    assert found.events_not_in_trail == 0
    await world.follow_up()
    await come_to_rest(world)
    assert check(open_records(world.files.path)).intact


async def test_a_check_beside_busy_processes_finds_nothing(world: World) -> None:
    other = await world.open_process()

    async def transfers(process: Any) -> None:
        for _ in range(6):
            await world.transfer(10, process=process)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(transfers, world.gateway)
        tasks.start_soon(transfers, other)
        for _ in range(20):
            found = await anyio.to_thread.run_sync(check, other.records)
            assert found.intact, found.problems


# Bits that flip.


def decisive(path: Path) -> list[list[tuple[Any, ...]]]:
    """Read everything that a decision depends on."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return [connection.execute(question).fetchall() for question in DECISIVE]


def pages(path: Path) -> Iterator[tuple[int, int]]:
    """Go through the pages of a database: where each begins, and its size."""
    data = path.read_bytes()
    size = int.from_bytes(data[16:18], "big")
    return ((start, size) for start in range(0, len(data), size))


@pytest.mark.parametrize("bits_per_page", [2, pytest.param(12, marks=pytest.mark.crash)])
async def test_a_flipped_bit_in_any_page_is_found_or_changes_nothing_that_decides(
    world: World, bits_per_page: int
) -> None:
    await mixed_day(world)
    world.gateway.records.write(lambda writer: writer.record_limits(1_000_000, 2_000_000))
    await come_to_rest(world)
    path = world.files.path / DATABASE
    good, wanted = path.read_bytes(), decisive(path)
    randomness = random.Random(12)
    harmless = 0
    for start, size in pages(path):
        for at in randomness.sample(range(start, start + size), bits_per_page):
            data = bytearray(good)
            data[at] ^= 1 << randomness.randrange(8)
            path.write_bytes(data)
            if intact(world.files.path):
                harmless += 1
                assert decisive(path) == wanted, f"byte {at}"
            remove(path)
    assert harmless > 0


def places_of(wanted: bytes, data: bytes) -> list[int]:
    """Find where bytes are in others."""
    return [found.start() for found in re.finditer(re.escape(wanted), data)]


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.crash)])
async def test_flipped_bits_of_what_decides_are_found(world: World, every: int) -> None:
    await mixed_day(world)
    [attempt] = [one for one in world.attempts() if one.state == "accepted"]
    ran_at = attempt.upstream_created_at or attempt.ended_at
    assert ran_at is not None
    await come_to_rest(world)
    path = world.files.path / DATABASE
    good = path.read_bytes()
    texts = (attempt.id, "accepted", "default", "transfer_requested", *world.pod_ids.values())
    places = [place for text in texts for place in places_of(text.encode(), good)[::every]]
    times = places_of(to_micros(ran_at).to_bytes(8, "big"), good)
    assert len(times) > 1  # in the table, and in the index that the limits are read from
    for at in places + times:
        data = bytearray(good)
        data[at + 1] ^= 4
        path.write_bytes(data)
        if intact(world.files.path):
            assert at in places
            assert decisive(path) == decisive_of(good, world.files.path), at


async def test_a_damaged_schema_stops_transfers_though_its_error_is_no_text(world: World) -> None:
    await mixed_day(world)
    await come_to_rest(world)
    path = world.files.path / DATABASE
    name, statement = b"attempt_moves", b"attemptCREATE"
    good = path.read_bytes()
    assert name + statement in good
    path.write_bytes(good.replace(name + statement, b"\xa0" * len(name) + b"attemptCREATX"))
    records = open_records(world.files.path)
    assert not check(records).intact
    for use in (lambda: records.read(lambda reader: reader.freeze()), lambda: records.write(lambda writer: writer.now)):
        with pytest.raises(SafeguardsUnavailableError):
            use()


def decisive_of(good: bytes, directory: Path) -> list[list[tuple[Any, ...]]]:
    (directory / "good.db").write_bytes(good)
    return decisive(directory / "good.db")


CHANGES = {
    "an amount": "UPDATE attempt SET amount_cents = 1 WHERE state = 'unknown'",
    "an end": "UPDATE attempt SET state = 'failed' WHERE state = 'unknown'",
    "a party": "UPDATE attempt SET source_id = destination_id WHERE state = 'accepted'",
    "a transfer": "UPDATE attempt SET transfer_id = 'other' WHERE state = 'accepted'",
    "a key": "UPDATE attempt SET key_sha256 = zeroblob(32) WHERE state = 'unknown'",
    "a key gone": "DELETE FROM idempotency WHERE attempt_id IN (SELECT id FROM attempt WHERE state = 'accepted')",
    "an attempt gone": "DELETE FROM attempt WHERE state = 'unknown'",
    "another sender": "UPDATE attempt SET caller = 'owner' WHERE state = 'unknown'",
    "an event": "UPDATE audit SET line = CAST(replace(CAST(line AS TEXT), '3000', '3001') AS BLOB) WHERE seq = 7",
    "an event with its hash": "UPDATE audit SET line = x'7b7d', sha256 = zeroblob(32) WHERE seq = 5",
    "an event gone": "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)",
    "whose event": "UPDATE audit SET attempt_id = NULL WHERE seq = 2",
    "a freeze": "UPDATE store SET frozen_at = 1, frozen_reason = 'because'",
}


async def test_what_somebody_changed_in_the_database_is_found(world: World) -> None:
    await mixed_day(world)
    await come_to_rest(world)
    path = world.files.path / DATABASE
    with closing(sqlite3.connect(path)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.commit()
    good = path.read_bytes()
    for change, statement in CHANGES.items():
        assert intact(world.files.path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(statement)
            connection.commit()
        assert not intact(world.files.path), change
        remove(path)
        path.write_bytes(good)


# Older copies, and files that are missing or replaced.


@pytest.mark.parametrize("how", ["closed", "killed"])
async def test_an_older_copy_of_a_file_stops_transfers_or_is_harmless(world: World, tmp_path: Path, how: str) -> None:
    async def end() -> None:
        await (come_to_rest(world) if how == "closed" else world.kill(world.gateway))

    await world.transfer(1_000)
    await end()
    older = saved(world.files.path, tmp_path / "older")
    await world.open_process()
    await world.transfer(2_000)
    await world.lose(amount_cents=3_000)
    used_cents = world.used_cents()
    await end()
    newer = saved(world.files.path, tmp_path / "newer")
    sets: list[tuple[str, ...]] = [(DATABASE,), (DATABASE, LOG), (LOG,), (TRAIL,), (LIMITS,)]
    if how == "closed":  # after a kill, these two are all there is, and who puts back everything cannot be noticed
        sets.append((LOG, TRAIL))
    for names in sets:
        put_back(world.files.path, newer, *FILES)
        put_back(world.files.path, older, *names)
        await world.open_process()
        is_intact = check(world.gateway.records).intact
        moved = len(await world.moved())
        try:
            await world.transfer(10)
        except SafeguardsUnavailableError:
            assert not is_intact, names
            assert names != (LIMITS,)
            assert len(await world.moved()) == moved
        else:
            assert world.used_cents() == used_cents + 10, names
            assert len(world.files.trail()) == 8
            assert check(world.gateway.records).intact
        assert len(await world.gateway.client.pods()) > 1
        await come_to_rest(world)


async def test_a_database_put_beside_the_log_of_another_one_stops_transfers(world: World, tmp_path: Path) -> None:
    await world.transfer(1_000)
    await come_to_rest(world)
    older = saved(world.files.path, tmp_path / "older")
    await world.open_process()
    for _ in range(5):
        await world.transfer(2_000)
    await world.kill(world.gateway)
    assert (world.files.path / LOG).stat().st_size > 0
    (older / DATABASE).replace(world.files.path / DATABASE)  # and its log stays
    await world.open_process()
    used_cents = world.used_cents()
    is_intact = check(world.gateway.records).intact
    if is_intact:  # the log holds every page that has changed since
        assert used_cents == 11_000
    else:
        await expect_reads_only(world)


TRAILS: dict[str, Callable[[bytes], bytes | None]] = {
    "ahead": lambda trail: trail + b'{"event_type": "transfer_completed"}\n',
    "cut off": lambda trail: trail[:-100],
    "changed": lambda trail: trail.replace(b'"amount_cents": 1000', b'"amount_cents": 1001', 1),
    "empty": lambda _: b"",
    "missing": lambda _: None,
}


async def test_a_trail_that_is_not_the_databases_stops_transfers(world: World) -> None:
    await mixed_day(world)
    await come_to_rest(world)
    path = world.files.path / TRAIL
    trail = path.read_bytes()
    for how, damage in TRAILS.items():
        path.write_bytes(trail)
        changed = damage(trail)
        world.files.damage(TRAIL, changed)
        await world.open_process()
        assert not check(world.gateway.records).intact, how
        if how != "changed":  # below the mark, only the check reads it
            await expect_reads_only(world)
        await come_to_rest(world)
        assert (path.read_bytes() if path.exists() else None) == changed  # nothing is overwritten


async def test_a_trail_that_lacks_what_was_not_synced_is_completed(world: World) -> None:
    await world.transfer(1_000)
    await world.kill(world.gateway)
    trail = (world.files.path / TRAIL).read_bytes()
    world.files.damage(TRAIL, trail[:-200] + b"\0" * 50)
    await world.open_process()
    found = check(world.gateway.records)
    assert found.intact
    assert found.events_not_in_trail == 1
    await world.transfer(2_000)
    assert (world.files.path / TRAIL).read_bytes().startswith(trail)
    assert check(world.gateway.records).events_not_in_trail == 0


async def test_a_database_that_is_gone_stops_transfers(world: World) -> None:
    await world.transfer(1_000)
    await come_to_rest(world)
    world.files.damage(DATABASE)
    await world.open_process()
    assert not check(world.gateway.records).intact
    await expect_reads_only(world)
    assert not (world.files.path / DATABASE).exists()


async def test_a_file_replaced_under_a_running_process_stops_transfers(world: World, tmp_path: Path) -> None:
    await world.transfer(1_000)
    for name in (DATABASE, LOG, TRAIL):
        for how in ("replaced", "removed"):
            await come_to_rest(world)
            good = saved(world.files.path, tmp_path / f"{name} before it is {how}")
            await world.open_process()
            await world.transfer(1)
            path = world.files.path / name
            copy = shutil.copyfile(path, path.with_name("copy"))
            path.unlink()
            if how == "replaced":
                copy.replace(path)
            await expect_reads_only(world)
            await world.kill(world.gateway)
            put_back(world.files.path, good, *FILES)


async def test_what_is_no_database_is_reported(world: World) -> None:
    await world.transfer(1_000)
    for content in (b"", b"not a database" * 1000):
        await come_to_rest(world)
        world.files.damage(DATABASE, content)
        await world.open_process()
        assert not check(world.gateway.records).intact
        await expect_reads_only(world)


# Read-only copies.


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Mount a directory read-only somewhere else, where that is allowed."""
    path = tmp_path / "read-only"
    path.mkdir()

    def mount(directory: Path) -> Path:
        for command in (["mount", "--bind", str(directory), str(path)], ["mount", "-o", "remount,bind,ro", str(path)]):
            try:
                subprocess.run(command, check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                pytest.skip("nothing can be mounted here")
        return path

    yield mount
    with suppress(OSError):
        subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True)


@pytest.mark.parametrize("how", ["closed", "killed"])
async def test_a_read_only_copy_can_be_checked(
    tmp_path: Path, sandbox: Sandbox, read_only: Callable[[Path], Path], how: str
) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    async with open_world(directory, sandbox) as world:
        await mixed_day(world)
        await (come_to_rest(world) if how == "closed" else world.kill(world.gateway))
    copy = saved(directory, tmp_path / "copy")
    found = check(Database(read_only(copy), utc_now, fill))
    assert found.problems == ()
    assert found.attempts == 5
    trail = (copy / TRAIL).read_bytes()
    (copy / TRAIL).write_bytes(trail[:-10] + b"0123456789")
    assert not check(Database(tmp_path / "read-only", utc_now, fill)).intact


async def test_what_only_reads_works_on_a_read_only_directory(
    tmp_path: Path, sandbox: Sandbox, read_only: Callable[[Path], Path]
) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    async with open_world(directory, sandbox) as world:
        attempt_id = (await world.transfer()).attempt_id
    env = environment(read_only(saved(directory, tmp_path / "copy")))
    commands = ("audit tail", "audit verify", "audit export", "limits show", "records check")
    for command in (*commands, f"transfers status {attempt_id}", f"records backup {tmp_path / 'backup.db'}"):
        done = await anyio.to_thread.run_sync(run_process, env, *command.split())
        assert done.returncode == 0, (command, done.stderr)
