"""`limits reconcile`, `resolve` and `repair`, and how an unknown outcome is shown."""

import json
from pathlib import Path

import pytest

from tests.cli.commands import call, call_json, draw

pytestmark = pytest.mark.usefixtures("directory")


@pytest.fixture
def attempt_id() -> str:
    """Make an attempt with an unknown outcome: Sequence does not know its KYC id."""
    call("transfer", "Groceries", "Rent", "$25", "--yes", "--kyc-id", "nobody", code=5)
    unsettled: str = call_json("limits", "show")["unsettled"][0]["attempt_id"]
    return unsettled


def test_reconcile_without_unsettled_transfers() -> None:
    assert call_json("limits", "reconcile") == []
    assert call("limits", "reconcile").stdout.count("\n") == 1


def test_reconcile_lists_what_stays_unsettled_and_counted(attempt_id: str) -> None:
    shown = call("limits", "reconcile").stdout
    assert attempt_id in shown
    assert call_json("limits", "show")["used_cents"] == 2500


def test_resolve_asks_first_and_decides_only_once(attempt_id: str) -> None:
    asked = call("limits", "resolve", attempt_id, "--not-executed", code=2)
    assert "$25.00" in asked.stderr
    assert "--yes" in asked.stderr
    assert call_json("limits", "show")["used_cents"] == 2500
    assert call_json("limits", "resolve", attempt_id, "--not-executed", "--yes")["status"] == "not_executed"
    assert call_json("limits", "show")["used_cents"] == 0
    assert json.loads(call("audit", "tail", "-n", "1", "--json").stdout)["resolved"] is True
    call("limits", "resolve", attempt_id, "--completed", "t-1", "--yes", code=2)


@pytest.mark.parametrize("options", [[], ["--completed", ""], ["--completed", "t", "--not-executed"]])
def test_resolve_needs_exactly_one_outcome(attempt_id: str, options: list[str]) -> None:
    call("limits", "resolve", attempt_id, *options, "--yes", code=2)


@pytest.mark.parametrize("columns", [80, 130])
def test_an_unknown_outcome_is_not_shown_as_failed(attempt_id: str, columns: int) -> None:
    [line] = [line for line in draw("audit", "tail", "-n", "1", columns=columns).splitlines() if line]
    assert "unknown" in line[:70]
    assert "failed" not in line
    assert "outcome unknown" in call("audit", "tail", "-n", "1").stdout


def test_limits_show_the_id_of_an_unsettled_attempt_unbroken(attempt_id: str) -> None:
    assert attempt_id in draw("limits", "show", columns=80)


def test_repair_shows_what_it_would_write_and_asks_first(directory: Path) -> None:
    call("transfer", "Groceries", "Rent", "$25", "--yes")
    path = directory / ".daily_limits.json"
    path.write_text("{")
    asked = call("limits", "repair", code=2)
    assert "$25.00" in asked.stderr
    assert path.read_text() == "{"
    written = call_json("limits", "repair", "--yes")
    assert (written["entries"], written["used_cents"]) == (1, 2500)
    assert Path(written["old_file"]).read_text() == "{"
    assert call_json("limits", "show")["used_cents"] == 2500


def test_repair_never_releases_what_a_valid_ledger_counts(directory: Path) -> None:
    call("transfer", "Groceries", "Rent", "$25", "--yes")
    for name in (".audit.jsonl", ".audit.head.json"):
        (directory / name).unlink()
    result = call("limits", "repair", "--yes", code=3)
    assert "$25.00" in result.stderr
    assert call_json("limits", "show")["used_cents"] == 2500


@pytest.mark.parametrize(
    "arguments",
    ["audit tail --event nope", "audit verify --expect abc", "audit export --from 2026-02-02 --to 2026-02-01"],
)
def test_invalid_options_of_audit_are_2(arguments: str) -> None:
    call(*arguments.split(), code=2)


def test_the_head_of_an_empty_trail_can_be_expected() -> None:
    assert json.loads(call("audit", "verify", "--expect", "0" * 64, "--json").stdout)["intact"] is True


def test_json_marks_a_replayed_transfer() -> None:
    arguments = ("transfer", "Groceries", "Rent", "$25", "--yes", "--idempotency-key", "once")
    assert [call_json(*arguments)["replayed"] for _ in range(2)] == [False, True]


def test_statuses_in_lower_case_are_found() -> None:
    found = [call_json("activity", "--status", status)["transfers"] for status in ("failed", "FAILED")]
    assert found[0] == found[1] != []


@pytest.mark.parametrize("command", ["accounts", "activity"])
def test_amounts_are_never_wrapped(command: str) -> None:
    amounts = {word for word in call(command).stdout.split() if word.startswith("$")}
    shown = draw(command, columns=80)
    assert amounts
    assert all(amount in shown for amount in amounts)
