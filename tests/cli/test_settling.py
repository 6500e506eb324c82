"""`limits reconcile`, `resolve` and `repair`, and how the trail shows what nobody knew."""

import json
from pathlib import Path

import pytest

from tests.cli.in_process import call, call_json, draw

pytestmark = pytest.mark.usefixtures("directory")


@pytest.fixture
def attempt_id() -> str:
    """An attempt of which nobody knows what became of it: Sequence does not know this KYC application."""
    call("transfer", "Groceries", "Rent", "$25", "--yes", "--kyc-id", "nobody", code=5)
    unsettled: str = call_json("limits", "show")["unsettled"][0]["attempt_id"]
    return unsettled


def test_nothing_is_unsettled() -> None:
    assert call("limits", "reconcile").stdout == "Nothing is unsettled.\n"


def test_what_is_in_doubt_is_listed_and_stays(attempt_id: str) -> None:
    shown = call("limits", "reconcile").stdout
    assert attempt_id in shown
    assert "not there yet" in shown
    assert call_json("limits", "show")["used_cents"] == 2500


def test_a_person_decides_once_and_on_purpose(attempt_id: str) -> None:
    refused = call("limits", "resolve", attempt_id, "--not-executed", code=2)
    assert "$25.00" in refused.stderr
    assert "--yes" in refused.stderr
    assert call_json("limits", "show")["used_cents"] == 2500
    assert call_json("limits", "resolve", attempt_id, "--not-executed", "--yes")["status"] == "not_executed"
    assert call_json("limits", "show")["used_cents"] == 0
    assert "by a person's word" in call("audit", "tail").stdout
    call("limits", "resolve", attempt_id, "--completed", "t-1", "--yes", code=2)


@pytest.mark.parametrize("said", [[], ["--completed", ""], ["--completed", "t", "--not-executed"]])
def test_a_decision_is_one_of_two(attempt_id: str, said: list[str]) -> None:
    call("limits", "resolve", attempt_id, *said, "--yes", code=2)


@pytest.mark.parametrize("columns", [80, 130])
def test_an_unknown_outcome_is_no_failure_in_the_trail(attempt_id: str, columns: int) -> None:
    [line] = [line for line in draw("audit", "tail", "-n", "1", columns=columns).splitlines() if line]
    assert "unknown" in line[:70]
    assert "failed" not in line
    assert "outcome unknown" in call("audit", "tail", "-n", "1").stdout


def test_an_unsettled_attempt_is_shown_with_an_id_to_copy(attempt_id: str) -> None:
    assert attempt_id in draw("limits", "show", columns=80)


def test_repair_shows_what_it_would_write_and_asks(directory: Path) -> None:
    call("transfer", "Groceries", "Rent", "$25", "--yes")
    path = directory / ".daily_limits.json"
    path.write_text("{")
    asked = call("limits", "repair", code=2)
    assert "is damaged" in asked.stderr
    assert "it would count $25.00 today. All its entries (1):" in asked.stderr
    assert path.read_text() == "{"
    written = call_json("limits", "repair", "--yes")
    assert (written["entries"], written["used_cents"]) == (1, 2500)
    assert Path(written["old_file"]).read_text() == "{"
    assert call_json("limits", "show")["used_cents"] == 2500


def test_repair_of_a_good_ledger_never_frees(directory: Path) -> None:
    call("transfer", "Groceries", "Rent", "$25", "--yes")
    for name in (".audit.jsonl", ".audit.head.json"):
        (directory / name).unlink()
    result = call("limits", "repair", "--yes", code=3)
    assert "counts $25.00 today" in result.stderr
    assert "would free" in result.stderr
    assert call_json("limits", "show")["used_cents"] == 2500


@pytest.mark.parametrize(
    "arguments",
    ["audit tail --event nope", "audit verify --expect abc", "audit export --from 2026-02-02 --to 2026-02-01"],
)
def test_a_question_that_cannot_be_meant_is_2(arguments: str) -> None:
    call(*arguments.split(), code=2)


def test_the_head_of_an_empty_trail_can_be_expected() -> None:
    assert json.loads(call("audit", "verify", "--expect", "0" * 64, "--json").stdout)["intact"] is True


def test_a_replay_says_so_in_json() -> None:
    arguments = ("transfer", "Groceries", "Rent", "$25", "--yes", "--idempotency-key", "once")
    assert [call_json(*arguments)["replayed"] for _ in range(2)] == [False, True]


def test_statuses_are_found_in_small_letters_too() -> None:
    found = [call_json("activity", "--status", status)["transfers"] for status in ("failed", "FAILED")]
    assert found[0] == found[1] != []


@pytest.mark.parametrize("command", ["accounts", "activity"])
def test_an_amount_is_never_broken(command: str) -> None:
    amounts = {word for word in call(command).stdout.split() if word.startswith("$")}
    shown = draw(command, columns=80)
    assert amounts
    assert all(amount in shown for amount in amounts)
