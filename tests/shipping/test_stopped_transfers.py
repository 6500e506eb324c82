"""What stops transfers is in the table of ``docs/operations.md``, under words of its message."""

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.records.owners import Owners
from tests.shipping.documented import table_rows
from tests.shipping.files import OPERATIONS
from tests.world import open_world

DATABASE, TRAIL, LEDGER, HEAD = ".records.db", ".audit.jsonl", ".daily_limits.json", ".audit.head.json"
CAUSES = [re.findall(r"`([^`]+)`", row[0]) for row in table_rows(OPERATIONS, "When transfers stop")]


def remove_database(directory: Path) -> None:
    for path in directory.glob(f"{DATABASE}*"):
        path.unlink()


def start_over(directory: Path) -> None:
    """Leave the files of an earlier version: an empty ledger, and a trail of one line."""
    remove_database(directory)
    (directory / HEAD).unlink()
    line = {"event_type": "transfer_requested", "amount_cents": 1, "prev": "0" * 64}
    (directory / TRAIL).write_text(f"{json.dumps(line)}\n")
    (directory / LEDGER).write_text("{}")


def earlier_version(name: str, content: str) -> Callable[[Path], None]:
    """Leave the files of an earlier version, one of them damaged."""

    def damage(directory: Path) -> None:
        start_over(directory)
        (directory / name).write_text(content)

    return damage


def set_version(directory: Path) -> None:
    with closing(sqlite3.connect(directory / DATABASE)) as connection:
        connection.execute("PRAGMA user_version = 99")


def keep_an_earlier_version_running(directory: Path) -> None:
    start_over(directory)
    running.append(Owners(directory))
    running[-1].own_id()


running: list[Owners] = []
DAMAGE: dict[str, Callable[[Path], object]] = {
    "is ahead of .records.db": lambda path: (path / TRAIL).write_bytes((path / TRAIL).read_bytes() + b"{}\n"),
    "its end was cut off": lambda path: (path / TRAIL).write_bytes((path / TRAIL).read_bytes()[:-9]),
    "it was changed": lambda path: (path / TRAIL).write_bytes((path / TRAIL).read_bytes()[::-1]),
    ".audit.jsonl is missing": lambda path: (path / TRAIL).unlink(),
    ".records.db is missing": remove_database,
    "is not a database": lambda path: (path / DATABASE).write_bytes(b"something else"),
    "knows versions up to": set_version,
    "with an earlier version": keep_an_earlier_version_running,
    ".daily_limits.json is damaged": earlier_version(LEDGER, "{"),
    ".audit.jsonl cannot be trusted": earlier_version(TRAIL, '{"prev": "1"}\n'),
    ".audit.head.json is damaged": earlier_version(HEAD, "{"),
}
"""What is done to the files while nothing runs, by the words that the message must have."""


@pytest.mark.anyio
async def test_what_was_damaged_while_nothing_ran(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.transfer()
        await world.close(world.gateway)
        good = {name: (tmp_path / name).read_bytes() for name in (DATABASE, TRAIL, LEDGER, HEAD)}
        for words, damage in DAMAGE.items():
            remove_database(tmp_path)
            for name, content in good.items():
                (tmp_path / name).write_bytes(content)
            damage(tmp_path)
            process = await world.open_process()
            with pytest.raises(SafeguardsUnavailableError) as stopped:
                await world.transfer()
            await world.close(process)
            while running:
                running.pop().close()
            assert words in str(stopped.value)
            assert [words in cause for cause in CAUSES].count(True) == 1, words


@pytest.mark.anyio
async def test_a_file_that_was_replaced_while_a_process_runs(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.transfer()
        (tmp_path / "copy").write_bytes((tmp_path / TRAIL).read_bytes())
        (tmp_path / "copy").replace(tmp_path / TRAIL)
        with pytest.raises(SafeguardsUnavailableError) as stopped:
            await world.transfer()
    words = "was replaced while this program was running"
    assert words in str(stopped.value)
    assert any(words in cause for cause in CAUSES)
