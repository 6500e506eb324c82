"""A database of an earlier version is brought to the newest one, whatever happens meanwhile."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pysequence_api.clock import utc_now
from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.records import database as databases
from pysequence_api.records import open_records, read_records
from pysequence_api.records.attempts import Attempt
from pysequence_api.records.audit import Channel
from pysequence_api.records.check import check
from pysequence_api.records.database import VERSION, Database, connect, create_tables
from pysequence_api.records.owners import Owners
from pysequence_api.records.upkeep import back_up, restore
from pysequence_api.safeguards.follow_up import LONG_AGO
from tests.starter import python
from tests.world import open_world

VERSIONS = (1, 2)
STATES = ["accepted", "refused", "rejected", "rejected", "unknown", "accepted"]
PROGRAM = """
import sys
from pathlib import Path
from pysequence_api.records import open_records
open_records(Path(sys.argv[1])).write(lambda _: None)
"""
CALLS = ("write", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "unlink", "openat")


def put_version(version: int, directory: Path) -> Path:
    """Make a data directory as an earlier version left it."""
    directory.mkdir(exist_ok=True)
    left = Path(__file__).parent / f"version_{version}"
    with closing(sqlite3.connect(directory / ".records.db")) as connection:
        connection.executescript((left / "records.sql").read_text())
        connection.execute("PRAGMA journal_mode = WAL")
    (directory / ".records.db").chmod(0o600)
    shutil.copyfile(left / "audit.jsonl", directory / ".audit.jsonl")
    return directory


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> int:
    """An earlier version."""
    return int(request.param)


@pytest.fixture
def directory(tmp_path: Path, version: int) -> Path:
    """A data directory of that version."""
    return put_version(version, tmp_path / "data")


@pytest.fixture
def records(directory: Path) -> Iterator[Database]:
    """Its records."""
    records = open_records(directory)
    yield records
    records.close()


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def attempts_in(records: Database) -> list[Attempt]:
    return records.read(lambda reader: reader.attempts_since(LONG_AGO))


def migrate_in_process(directory: Path, *before: str) -> int:
    """Open the records in a process of its own, and return its exit status."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [*before, sys.executable, "-c", PROGRAM, str(directory)]
    return subprocess.run(command, env=environment, timeout=120, check=False).returncode


def test_the_first_write_migrates_and_keeps_the_versions_before(
    directory: Path, records: Database, version: int
) -> None:
    before = attempts_in(records)
    assert [attempt.state.value for attempt in before] == STATES
    assert version_of(directory / ".records.db") == version
    records.write(lambda _: None)
    assert version_of(directory / ".records.db") == VERSION
    kept = {number: directory / f".records.db.version-{number}" for number in range(version, VERSION)}
    assert {number: version_of(path) for number, path in kept.items()} == {number: number for number in kept}
    assert {path.stat().st_mode & 0o777 for path in kept.values()} == {0o600}
    assert attempts_in(records) == before
    assert check(records).problems == ()
    names = {path.name for path in directory.iterdir()}
    assert not [name for name in names if name.endswith(".new")]


def test_a_migrated_database_is_like_a_new_one(directory: Path, records: Database) -> None:
    records.write(lambda _: None)
    with closing(connect(Path(":memory:"))) as new, closing(connect(directory / ".records.db")) as migrated:
        create_tables(new, utc_now)
        assert _schema(migrated) == _schema(new)


def _schema(connection: sqlite3.Connection) -> dict[str, Any]:
    rows = connection.execute("SELECT name, type, sql FROM sqlite_schema WHERE sql NOTNULL").fetchall()
    texts = {name: " ".join(re.sub(r"--.*", "", sql).split()) for name, _, sql in rows if name != "attempt"}
    columns = connection.execute("SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('attempt')")
    return texts | {"columns of attempt": set(columns.fetchall())}


@pytest.mark.anyio
async def test_transfers_go_on_after_the_migration(directory: Path) -> None:
    async with open_world(directory) as world:
        done = await world.transfer(900, channel=Channel.CLI)
        assert world.states() == [*STATES, "accepted"]
        assert world.files.trail()[-1]["attempt_id"] == done.attempt_id


def test_processes_at_once_migrate_once(tmp_path: Path) -> None:
    directory = put_version(VERSIONS[0], tmp_path / "data")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [*python(), "-c", PROGRAM, str(directory)]
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    assert sum(f"was brought to version {VERSION}" in error for error in errors) == 1
    assert check(open_records(directory)).intact


def failing(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def half_a_script(connection: sqlite3.Connection, _version: int) -> int:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("ALTER TABLE attempt ADD COLUMN half TEXT")
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("function", "replacement"),
    [("back_up", failing), ("put_in_place", failing), ("migrate_once", failing), ("migrate_once", half_a_script)],
)
def test_interrupted_anywhere_the_next_start_begins_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch, version: int, function: str, replacement: Callable[..., Any]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(databases, function, replacement)
        interrupted = open_records(directory)
        with pytest.raises(KeyboardInterrupt):
            interrupted.write(lambda _: None)
        interrupted.abandon()
    assert version_of(directory / ".records.db") == version
    records = open_records(directory)
    records.write(lambda _: None)
    assert [attempt.state.value for attempt in attempts_in(records)] == STATES
    assert check(records).problems == ()
    records.close()


@pytest.mark.crash
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("call", CALLS)
def test_killed_at_any_call_the_next_start_begins_again(tmp_path: Path, call: str) -> None:
    before = VERSIONS[-1]
    counted, trace = put_version(before, tmp_path / "counted"), tmp_path / "trace"
    watched = f"trace={','.join(CALLS)}"
    assert migrate_in_process(counted, "strace", "-f", "-qq", "-P", str(counted), "-o", str(trace), "-e", watched) == 0
    count = Counter(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))[call]
    for number in range(1, count + 1):
        killed = put_version(before, tmp_path / f"killed-{number}")
        inject = f"inject={call}:signal=SIGKILL:when={number}"
        kept = killed / f".records.db.version-{before}.new"
        paths = ("-P", str(killed / ".records.db"), "-P", str(kept), "-P", str(killed))
        migrate_in_process(killed, "strace", "-f", "-qq", "-o", os.devnull, *paths, "-e", inject)
        assert migrate_in_process(killed) == 0
        records = open_records(killed)
        assert [attempt.state.value for attempt in attempts_in(records)] == STATES
        assert check(records).problems == ()


def test_a_process_of_the_earlier_version_must_end_first(directory: Path) -> None:
    old, records = Owners(directory), open_records(directory)
    old.own_id()
    with pytest.raises(SafeguardsUnavailableError, match="earlier version"):
        records.write(lambda _: None)
    assert len(attempts_in(records)) == len(STATES)
    old.close()
    records.write(lambda _: None)
    assert version_of(directory / ".records.db") == VERSION
    records.close()


def test_reading_migrates_nothing_and_follows_what_the_earlier_version_writes(directory: Path, version: int) -> None:
    records = read_records(directory)
    assert len(attempts_in(records)) == len(STATES)
    assert check(records).problems == ()
    with closing(sqlite3.connect(directory / ".records.db")) as connection:
        connection.execute(
            "INSERT INTO attempt(id, caller, channel, state, amount_cents, created_at)"
            " VALUES('new', 'default', 'api', 'reserved', 1, 1900000000000000)"
        )
        connection.commit()
    assert len(attempts_in(records)) == len(STATES) + 1
    assert version_of(directory / ".records.db") == version
    records.close()


def test_backups_of_all_versions_are_restored(directory: Path, records: Database, tmp_path: Path) -> None:
    back_up(records, tmp_path / "before.db")
    shutil.copyfile(directory / ".records.db", tmp_path / "copied.db")
    records.write(lambda _: None)
    back_up(records, tmp_path / "after.db")
    records.close()
    for name in ("before.db", "copied.db", "after.db"):
        restore(directory, tmp_path / name)
        restored = open_records(directory)
        assert len(attempts_in(restored)) == len(STATES)
        assert check(restored).problems == ()
        restored.close()


@pytest.mark.parametrize("unknown", [0, VERSION + 1])
def test_a_version_that_is_not_known_is_refused(directory: Path, records: Database, unknown: int) -> None:
    with closing(sqlite3.connect(directory / ".records.db")) as connection:
        connection.execute(f"PRAGMA user_version = {unknown}")
    for use in (records.write, records.read):
        with pytest.raises(SafeguardsUnavailableError):
            use(lambda _: None)
    assert version_of(directory / ".records.db") == unknown
