"""Answers that are kept until the database changes."""

from pathlib import Path

from pysequence_api.records import open_records
from pysequence_api.records.attempts import Reader
from pysequence_api.records.control import freeze
from pysequence_api.records.database import Database


def is_frozen(records: Database, asked: list[int]) -> bool:
    def ask(reader: Reader) -> bool:
        asked.append(1)
        return reader.freeze() is not None

    return records.read_kept("frozen", ask)


def test_an_answer_is_kept_until_any_process_changes_the_database(tmp_path: Path) -> None:
    records, other = open_records(tmp_path), open_records(tmp_path)
    records.write(lambda writer: writer.now)
    asked: list[int] = []
    assert [is_frozen(records, asked) for _ in range(3)] == [False] * 3
    assert len(asked) == 1
    freeze(other, "test")
    assert is_frozen(records, asked)
    assert len(asked) == 2
    other.close()
    records.close()


def test_an_answer_that_does_not_last_is_not_kept(tmp_path: Path) -> None:
    records = open_records(tmp_path)
    numbers = iter(range(9))
    found = [records.read_kept("number", lambda _: next(numbers), lambda _: False) for _ in range(3)]
    assert found == [0, 1, 2]
    records.close()
