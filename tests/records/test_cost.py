"""The work of the database for a transfer, in steps of SQLite's virtual machine: the same on every machine."""

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bench.local import fill, transfer
from pysequence_api.records import database, open_records

ATTEMPTS = 400
MAX_STEPS_PER_ATTEMPT_OF_TODAY = 8
"""Two sums, of three steps for each attempt, and a few to spare."""


class Steps:
    """Counts the steps of all connections that are opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._count = 0
        self._connect = database.connect
        monkeypatch.setattr(database, "connect", self._connect_and_count)

    def of_a_transfer(self, directory: Path, attempts: int, age: timedelta) -> int:
        """Return the steps of a transfer in a new directory with so many attempts of that age."""
        records = open_records(directory)
        records.write(lambda writer: fill(writer, attempts, age))
        transfer(records)  # completes the audit trail first
        self._count = 0
        transfer(records)
        counted = self._count
        records.close()
        return counted

    def _connect_and_count(self, *arguments: Any, **more: Any) -> sqlite3.Connection:
        connection = self._connect(*arguments, **more)
        connection.set_progress_handler(self._count_one, 1)
        return connection

    def _count_one(self) -> None:
        self._count += 1


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def test_the_history_costs_nothing(steps: Steps, tmp_path: Path) -> None:
    a_month = timedelta(days=31)
    few = steps.of_a_transfer(tmp_path / "few", 1, a_month)
    many = steps.of_a_transfer(tmp_path / "many", ATTEMPTS, a_month)
    assert many <= few + 10


def test_the_day_costs_two_sums(steps: Steps, tmp_path: Path) -> None:
    few = steps.of_a_transfer(tmp_path / "few", 1, timedelta())
    many = steps.of_a_transfer(tmp_path / "many", ATTEMPTS, timedelta())
    assert many - few <= MAX_STEPS_PER_ATTEMPT_OF_TODAY * ATTEMPTS
