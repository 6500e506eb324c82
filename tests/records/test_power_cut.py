"""The power fails at any moment of transfers: no attempt that was sent is lost, and what counts goes on counting.

Processes make transfers under `strace`. From its log, each moment gives the directories that a disk may hold when the
power fails then, see `tests.records.disk`; each is opened as after a restart.
"""

import asyncio
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from pysequence_api.records import open_records
from pysequence_api.records.attempts import Attempt, Reader, Writer
from pysequence_api.records.check import check
from pysequence_api.records.database import Database
from pysequence_api.records.states import RULES, State
from pysequence_api.safeguards import decide
from pysequence_api.safeguards.follow_up import LONG_AGO
from pysequence_api.safeguards.now import day_begin
from pysequence_api.sandbox import Sandbox
from tests.processes import environment
from tests.records.disk import Disk, no_names, nothing_unsynced, random_loss, random_name_loss
from tests.records.strace import Mark, Operation, Sync, SyncDirectory, TraceReader, Write, needs_strace, run_traced
from tests.records.traced import NOON

pytestmark = [pytest.mark.crash, needs_strace]

SEED = 12
RANDOM_CUTS = 300
CUTS_AT_RARE_OPERATIONS = 2
PROCESSES = ("ends_of_all_kinds", "restored", "many")
"""They run one after the other. The first one is gone without closing anything."""
TAKEN_OVER_CENTS = 77
TAKEN_OVER_FILES = {
    ".daily_limits.json": {
        "2026-11-23": {
            "__global__": [
                {"transfer_id": "unknown", "amount_cents": TAKEN_OVER_CENTS, "timestamp": "2026-11-23T09:00:00"}
            ]
        }
    },
    ".audit.jsonl": {
        "timestamp": "2026-11-23T09:00:00",
        "event_type": "transfer_completed",
        "amount_cents": TAKEN_OVER_CENTS,
        "source": "pod_1",
        "destination": "pod_2",
        "transfer_id": "unknown",
    },
}
"""A data directory of the existing PySequence server."""


@dataclass
class Recording:
    """What the processes did.

    Attributes:
        files: what was in the directory before.
        operations: all of them, in their order.
        file_names: the name with which each file was created, by its number.
        moved_cents: the amounts of what Sequence moved; each transfer has an amount of its own.
    """

    files: dict[str, bytes]
    operations: list[Operation]
    file_names: list[str]
    moved_cents: set[int]


@dataclass
class Known:
    """What was known outside of the disk before the power cut.

    Attributes:
        sent: the amounts of the transfers that were sent.
        told: the state that the caller was told, by amount.
        is_frozen: whether somebody was told that transfers are frozen; ``None`` while that changes.
    """

    sent: set[int] = field(default_factory=set)
    told: dict[int, State] = field(default_factory=dict)
    is_frozen: bool | None = None

    def note(self, text: str) -> None:
        """Take note of a mark of the program."""
        match text.split():
            case ["sent", amount]:
                self.sent.add(int(amount))
            case ["told", amount, state]:
                self.told[int(amount)] = State(state)
            case ["frozen"]:
                self.is_frozen = True
            case ["unfreezing"]:
                self.is_frozen = None


def record(directory: Path, files: dict[str, bytes]) -> Recording:
    """Run the processes, and read what they did."""
    data, marks = directory / "data", directory / "marks"
    data.mkdir()
    for name, content in files.items():
        (data / name).write_bytes(content)
    reader, operations = TraceReader(data, marks, files), list[Operation]()
    for scenario in PROCESSES:
        log = directory / f"{scenario}.strace"
        command = (sys.executable, "-m", "tests.records.traced", scenario, str(data), str(marks))
        run_traced(log, command, environment(directory))
        operations += reader.read(log)
        log.unlink()
    return Recording(files, operations, reader.file_names, asyncio.run(moved_cents(directory / "sequence.sqlite")))


async def moved_cents(path: Path) -> set[int]:
    """Return the amounts of all transfers that Sequence moved."""
    sandbox = Sandbox(path)
    try:
        async with httpx.AsyncClient(transport=sandbox.transport(), base_url="http://sequence") as client:
            transfers: list[dict[str, Any]] = (await client.get("/sandbox/transfers")).json()["transfers"]
    finally:
        await sandbox.aclose()
    return {transfer["amount_cents"] for transfer in transfers}


@pytest.fixture(scope="module", params=["new directory", "directory of the existing server"])
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    files: dict[str, bytes] = {}
    if request.param != "new directory":
        files = {name: json.dumps(content).encode() + b"\n" for name, content in TAKEN_OVER_FILES.items()}
    return record(tmp_path_factory.mktemp("recording"), files)


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, if there is such a place: hundreds of directories are opened, and each is synced often."""
    place = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=place if place.is_dir() else tmp_path) as directory:
        yield Path(directory)


def clock() -> datetime:
    return NOON + timedelta(minutes=5)


def expect_nothing_lost(directory: Path, recording: Recording, known: Known) -> None:
    """Open a data directory as the next process does, and hold it against what is known."""
    records = open_records(directory, clock)
    try:
        records.write(lambda writer: go_on(writer, records))
        attempts = {attempt.amount_cents: attempt for attempt in records.read(all_attempts)}
        missing = known.sent - attempts.keys()
        assert not missing, "what was sent is missing"
        for amount_cents in known.sent:
            attempt = attempts[amount_cents]
            assert attempt.announced_at is not None
            if amount_cents in recording.moved_cents:
                assert RULES[attempt.state].counts, attempt
        for amount_cents, state in known.told.items():
            assert came_from(attempts[amount_cents].state, state), (attempts[amount_cents], state)
        used_cents = records.read(lambda reader: reader.used_cents(day_begin(reader.now)))
        assert used_cents >= sum(recording.moved_cents & known.sent) + (TAKEN_OVER_CENTS if recording.files else 0)
        if known.is_frozen:
            assert records.read(lambda reader: reader.freeze()) is not None, "the freeze is lost"
        found = check(records)
        assert (found.problems, found.events_not_in_trail) == ((), 0)
    finally:
        records.close()


def go_on(writer: Writer, records: Database) -> None:
    """Do what the next transfer does first."""
    decide.fail_dead(writer, records.owners)
    decide.require_trust(writer)


def all_attempts(reader: Reader) -> list[Attempt]:
    return reader.attempts_since(LONG_AGO)


def came_from(state: State, before: State) -> bool:
    """Say whether an attempt in a state can have been in another one before."""
    return state is before or any(came_from(one, before) for one in RULES[state].comes_from)


def walk(recording: Recording) -> Iterator[tuple[int, Operation, Disk, Known]]:
    """Go through the moments before each operation, and the one after the last."""
    disk, known = Disk(recording.files), Known()
    for number, operation in enumerate(recording.operations):
        yield number, operation, disk, known
        disk.apply(operation)
        if isinstance(operation, Mark):
            known.note(operation.text)


def lose_all_that_was_not_synced(recording: Recording, directory: Path) -> None:
    for number, operation, disk, known in walk(recording):
        if isinstance(operation, Sync | SyncDirectory | Mark):
            with fresh(directory / str(number)) as cut:
                disk.cut_power(cut, nothing_unsynced, no_names)
                expect_nothing_lost(cut, recording, known)


def test_what_was_not_synced_may_be_lost(recording: Recording, in_memory: Path) -> None:
    lose_all_that_was_not_synced(recording, in_memory)


def test_any_part_of_what_was_not_synced_may_be_lost(recording: Recording, in_memory: Path) -> None:
    chance = Random(SEED)
    numbers = range(len(recording.operations))
    rare = [number for number in numbers if not isinstance(recording.operations[number], Write | Sync | Mark)]
    moments = Counter(chance.choices(numbers, k=RANDOM_CUTS) + CUTS_AT_RARE_OPERATIONS * rare)
    for number, _, disk, known in walk(recording):
        for turn in range(moments[number]):
            with fresh(in_memory / f"{number}-{turn}") as cut:
                disk.cut_power(cut, random_loss(chance), random_name_loss(chance))
                expect_nothing_lost(cut, recording, known)


def test_a_program_that_did_not_sync_its_log_would_be_found_out(recording: Recording, in_memory: Path) -> None:
    operations = [one for one in recording.operations if not is_sync_of(one, ".records.db-wal", recording)]
    with pytest.raises(AssertionError, match="what was sent is missing"):
        lose_all_that_was_not_synced(replace(recording, operations=operations), in_memory)


def is_sync_of(operation: Operation, name: str, recording: Recording) -> bool:
    return isinstance(operation, Sync) and recording.file_names[operation.file] == name


@contextmanager
def fresh(directory: Path) -> Iterator[Path]:
    """Make a directory, and remove it afterwards."""
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)
