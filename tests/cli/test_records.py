"""`records backup`, `restore` and `check`, and `freeze` and `unfreeze`."""

import json
from pathlib import Path

import pytest

from tests.cli.commands import call, call_json, draw

MOVE = ("transfer", "Groceries", "Rent", "$25", "--yes")


@pytest.fixture
def backup(tmp_path: Path, directory: Path) -> Path:
    """Make a transfer and a backup."""
    call(*MOVE)
    path = tmp_path / "backup.db"
    assert str(path) in call("records", "backup", str(path)).stdout
    return path


def test_a_backup_does_not_overwrite(backup: Path) -> None:
    call("records", "backup", str(backup), code=2)


def test_restoring_asks_first_freezes_and_counts_what_the_trail_knows(backup: Path, directory: Path) -> None:
    call(*MOVE)
    call("records", "restore", str(backup), code=2)
    assert not call_json("limits", "show")["frozen"]
    shown = call("records", "restore", str(backup), "--yes")
    assert "unfreeze" in shown.stderr
    limits = call_json("limits", "show")
    assert (limits["frozen"], limits["used_cents"]) == (True, 5_000)
    call(*MOVE, code=3)
    call("unfreeze", "--yes")
    call(*MOVE)
    assert call_json("records", "check")["intact"]


def test_everything_is_rebuilt_from_the_audit_trail(backup: Path, directory: Path) -> None:
    (directory / ".records.db").unlink()
    assert not json.loads(call("records", "check", "--json", code=3).stdout)["intact"]
    call("records", "restore", "--yes")
    assert call_json("limits", "show")["used_cents"] == 2_500
    assert "0" in call("records", "check").stdout


def test_what_cannot_be_restored_is_a_usage_error(backup: Path, tmp_path: Path) -> None:
    call("records", "restore", str(tmp_path / "missing.db"), "--yes", code=2)


def test_a_missing_trail_is_said_before_the_question(backup: Path, directory: Path) -> None:
    (directory / ".audit.jsonl").unlink()
    assert ".audit.jsonl" in call("records", "restore", str(backup), code=2).stderr


@pytest.mark.parametrize("columns", [60, 120])
def test_a_check_on_a_terminal_names_the_problem(backup: Path, directory: Path, columns: int) -> None:
    assert "Problems" in draw("records", "check", columns=columns)
    (directory / ".audit.jsonl").write_text("")
    assert ".audit.jsonl" in call("records", "check", code=3).stdout


def test_freezing_and_unfreezing(directory: Path) -> None:
    assert "laptop lost" in call("freeze", "--reason", "laptop lost").stdout
    call(*MOVE, code=3)
    assert "laptop lost" in call("freeze").stdout
    call("unfreeze", code=2)
    call(*MOVE, code=3)
    call("unfreeze", "--yes")
    call(*MOVE)
    assert "not frozen" in call("unfreeze").stdout


def test_freezing_one_caller(directory: Path) -> None:
    call("callers", "add", "openclaw")
    assert "openclaw" in call("freeze", "openclaw", "--reason", "it sends nonsense").stdout
    call(*MOVE)
    assert "not frozen" in call("unfreeze", "--yes").stdout
    for shown in (call("limits", "show").stdout, call("callers", "list").stdout):
        assert "openclaw" in shown
        assert "it sends nonsense" in shown
    assert "unfreeze openclaw" in call("doctor", "--json").stdout
    call("unfreeze", "openclaw", code=2)
    call("unfreeze", "openclaw", "--yes")
    assert "openclaw" not in call("limits", "show").stdout
    assert "no caller" in call("freeze", "nobody", code=2).stderr
