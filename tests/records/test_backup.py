"""A backup is one private file that holds the records as they were at one moment."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from pysequence_api.errors import InvalidRequestError, SafeguardsUnavailableError
from pysequence_api.records import open_records
from pysequence_api.records.check import check, examine
from pysequence_api.records.database import connect
from pysequence_api.records.upkeep import back_up
from tests.world import World

from .conftest import come_to_rest, mixed_day

pytestmark = pytest.mark.anyio


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def test_a_backup_is_one_file_that_only_its_owner_can_read(world: World, tmp_path: Path) -> None:
    await mixed_day(world)
    directory = tmp_path / "backups"
    directory.mkdir()
    back_up(world.gateway.records, directory / "today.db")
    assert [path.name for path in directory.iterdir()] == ["today.db"]
    assert (directory / "today.db").stat().st_mode & 0o777 == 0o600
    found = check(world.gateway.records)
    assert count(directory / "today.db", "attempt") == found.attempts
    assert count(directory / "today.db", "audit") == found.events


async def test_backups_of_a_busy_server_are_consistent(world: World, tmp_path: Path) -> None:
    await world.transfer()
    paths = [tmp_path / f"{number}.db" for number in range(8)]

    async def back_up_often() -> None:
        for path in paths:
            await anyio.to_thread.run_sync(back_up, world.gateway.records, path)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(back_up_often)
        for _ in range(12):
            tasks.start_soon(partial(world.transfer, 100))
    for path in paths:
        with closing(connect(path, read_only=True)) as connection:
            assert examine(connection).intact
    await come_to_rest(world)
    assert check(open_records(world.files.path)).intact


async def test_a_file_that_exists_is_kept(world: World, tmp_path: Path) -> None:
    await world.transfer()
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(InvalidRequestError):
        back_up(world.gateway.records, path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["nowhere/today.db", "."])
async def test_a_file_that_cannot_be_written_is_reported(world: World, tmp_path: Path, name: str) -> None:
    await world.transfer()
    with pytest.raises(InvalidRequestError):
        back_up(world.gateway.records, tmp_path / name)


async def test_without_a_database_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError):
        back_up(open_records(tmp_path / "data"), tmp_path / "today.db")
    assert not (tmp_path / "today.db").exists()


async def test_a_damaged_database_is_no_backup(world: World, tmp_path: Path) -> None:
    await mixed_day(world)
    await come_to_rest(world)
    path = world.files.path / ".records.db"
    data = bytearray(path.read_bytes())
    at = data.index(b"transfer_completed")
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(SafeguardsUnavailableError):
        back_up(open_records(world.files.path), tmp_path / "today.db")
    assert not (tmp_path / "today.db").exists()
