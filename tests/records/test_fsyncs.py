"""How often a transfer waits for the disk, and what it does before it is sent."""

import os
import sys
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import pytest

from pysequence_api.records import database
from tests.processes import environment
from tests.records.strace import Mark, Operation, Sync, SyncDirectory, TraceReader, Write, needs_strace, run_traced
from tests.records.traced import FIRST_CENTS
from tests.world import open_world

SECOND_CENTS = FIRST_CENTS + 1
LOG, TRAIL = ".records.db-wal", ".audit.jsonl"


@pytest.mark.anyio
async def test_a_transfer_is_three_durable_transactions_and_syncs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    connect = database.connect

    def connect_and_listen(*arguments: Any, **more: Any) -> Any:
        connection = connect(*arguments, **more)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(database, "connect", connect_and_listen)
    async with open_world(tmp_path) as world:
        await world.transfer(FIRST_CENTS)
        monkeypatch.setattr(os, "fsync", statements.append)
        monkeypatch.setattr(os, "fdatasync", statements.append)
        statements.clear()
        await world.transfer(SECOND_CENTS)
        done = [one for one in statements if not isinstance(one, str) or one in {"COMMIT", "ROLLBACK"}]
        assert done == ["COMMIT"] * 3
        monkeypatch.undo()
        writing = world.gateway.records._writing
        assert writing is not None
        assert writing.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


@needs_strace
@pytest.mark.crash
def test_a_transfer_waits_for_the_disk_three_times(tmp_path: Path) -> None:
    data, marks, log = tmp_path / "data", tmp_path / "marks", tmp_path / "strace"
    data.mkdir()
    command = (sys.executable, "-m", "tests.records.traced", "two", str(data), str(marks))
    run_traced(log, command, environment(tmp_path))
    reader = TraceReader(data, marks)
    from_the_second_on = dropwhile(lambda one: one != Mark("begin"), list(reader.read(log)))
    second = takewhile(lambda one: one != Mark("end"), from_the_second_on)
    steps = [step for one in second if (step := describe(one, reader.file_names)) is not None]
    assert steps == [
        f"sync {LOG}",  # reserved
        f"sync {LOG}",  # announced
        f"write {TRAIL}",  # which is not synced
        f"sent {SECOND_CENTS}",
        f"sync {LOG}",  # ended
        f"write {TRAIL}",
        f"told {SECOND_CENTS} accepted",
    ]


def describe(operation: Operation, file_names: list[str]) -> str | None:
    """Describe what matters here: syncs, writes into the audit trail, and marks after the first one."""
    match operation:
        case Sync(file):
            return f"sync {file_names[file]}"
        case SyncDirectory():
            return "sync the directory"
        case Write(file) if file_names[file] == TRAIL:
            return f"write {TRAIL}"
        case Mark(text) if text != "begin":
            return text
    return None
