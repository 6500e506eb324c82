"""The work of the database for a transfer, in steps of SQLite's virtual machine: the same on every machine."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bench.local import fill, transfer
from pysequence_api.records import database, open_records
from pysequence_api.records.database import Database
from tests.policies import apply_text

ATTEMPTS = 400
A_MONTH = timedelta(days=40)
BUDGETS = """
version = 1
[accounts]
source = "POD:pod_source"
destination = "POD:pod_destination"
[callers.default]
scopes = ["move"]
day_cents = 1000000
month_cents = 2000000
[[callers.default.rules]]
name = "rent"
from = ["source"]
to = ["destination"]
max_cents = 1000
hour_count = 1000000
day_cents = 1000000
month_cents = 2000000
"""
MAX_STEPS_OF_HISTORY = 30
"""A few for a tree that has one more level."""
MAX_STEPS_PER_ATTEMPT_OF_TODAY = 8
"""Two sums, of three steps for each attempt, and a few to spare."""


class Steps:
    """Counts the steps of all connections."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._count = 0
        self._connections: list[sqlite3.Connection] = []
        self._connect = database.connect
        monkeypatch.setattr(database, "connect", self._connect_and_keep)

    def of_a_transfer(self, directory: Path, attempts: int, age: timedelta, policy: str | None = None) -> int:
        """Return the steps of a transfer in a new directory with so many attempts of that age."""
        with self._filled(directory, attempts, age) as records:
            if policy is not None:
                apply_text(records, policy)
            return self._of(lambda: transfer(records))

    def of_a_look(self, directory: Path, attempts: int) -> int:
        """Return the steps of looking for what is followed, with so many attempts that are not."""
        with self._filled(directory, attempts, A_MONTH) as records:
            transfer(records)
            return self._of(lambda: records.read(lambda reader: reader.followed_attempts()))

    def _of(self, work: Callable[[], object]) -> int:
        work()  # which opens the connections that it needs
        for connection in self._connections:
            with suppress(sqlite3.ProgrammingError):  # it is closed
                connection.set_progress_handler(self._count_one, 1)
        self._count = 0
        work()
        return self._count

    @contextmanager
    def _filled(self, directory: Path, attempts: int, age: timedelta) -> Iterator[Database]:
        records = open_records(directory)
        records.write(lambda writer: fill(writer, attempts, age))
        records.write(lambda writer: writer.now)  # completes the audit trail
        try:
            yield records
        finally:
            records.close()

    def _connect_and_keep(self, *arguments: Any, **more: Any) -> sqlite3.Connection:
        connection = self._connect(*arguments, **more)
        self._connections.append(connection)
        return connection

    def _count_one(self) -> None:
        self._count += 1


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


@pytest.mark.parametrize("policy", [None, BUDGETS], ids=["limits", "policy"])
def test_the_history_costs_nothing(steps: Steps, tmp_path: Path, policy: str | None) -> None:
    few = steps.of_a_transfer(tmp_path / "few", 1, A_MONTH, policy)
    many = steps.of_a_transfer(tmp_path / "many", ATTEMPTS, A_MONTH, policy)
    assert many <= few + MAX_STEPS_OF_HISTORY


def test_looking_for_what_is_followed_does_not_read_the_history(steps: Steps, tmp_path: Path) -> None:
    few = steps.of_a_look(tmp_path / "few", 1)
    many = steps.of_a_look(tmp_path / "many", ATTEMPTS)
    assert many <= few + MAX_STEPS_OF_HISTORY


def test_the_day_costs_two_sums(steps: Steps, tmp_path: Path) -> None:
    few = steps.of_a_transfer(tmp_path / "few", 1, timedelta())
    many = steps.of_a_transfer(tmp_path / "many", ATTEMPTS, timedelta())
    assert many - few <= MAX_STEPS_PER_ATTEMPT_OF_TODAY * ATTEMPTS
