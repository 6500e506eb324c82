"""`limits reconcile` and `resolve`, and how an unknown outcome is shown."""

import json
from pathlib import Path

import pytest

from tests.cli.commands import call, call_json, draw, lose_transfers

pytestmark = pytest.mark.usefixtures("directory")


@pytest.fixture
def attempt_id(directory: Path) -> str:
    """Make an attempt with an unknown outcome, which moved nothing."""
    return lose_transfers(directory, 2500)[0]


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
    [resolved] = call_json("limits", "resolve", attempt_id, "--not-executed", "--yes")
    assert resolved["state"] == "not_executed"
    assert call_json("limits", "show")["used_cents"] == 0
    assert call_json("transfers", "status", attempt_id) == resolved
    assert json.loads(call("audit", "tail", "-n", "1", "--json").stdout)["resolved"] is True
    call("limits", "resolve", attempt_id, "--completed", "t-1", "--yes", code=2)


def test_resolve_takes_several_attempts(directory: Path) -> None:
    attempt_ids = lose_transfers(directory, 2500, 2600, 2700)
    asked = call("limits", "resolve", *attempt_ids[:2], "--not-executed", code=2)
    for attempt_id, amount in zip(attempt_ids, ["$25.00", "$26.00"], strict=False):
        assert attempt_id in asked.stderr
        assert amount in asked.stderr
    resolved = call_json("limits", "resolve", *attempt_ids[:2], attempt_ids[0], "--not-executed", "--yes")
    assert [(one["attempt_id"], one["state"]) for one in resolved] == [(one, "not_executed") for one in attempt_ids[:2]]
    assert call_json("limits", "show")["used_cents"] == 2700


def test_resolve_records_all_of_several_attempts_or_none(directory: Path) -> None:
    first, second = lose_transfers(directory, 2500, 2600)
    call("limits", "resolve", first, "nobody", "--not-executed", "--yes", code=2)
    call("limits", "resolve", first, second, "--completed", "t-1", "--yes", code=2)
    assert call_json("limits", "show")["used_cents"] == 5100
    call("limits", "resolve", second, "--not-executed", "--yes")
    call("limits", "resolve", first, second, "--not-executed", "--yes", code=2)
    assert call_json("limits", "show")["used_cents"] == 2500


def test_resolve_names_the_transfer_of_an_attempt(directory: Path) -> None:
    first, second = lose_transfers(directory, 2500, 2600)
    [resolved] = call_json("limits", "resolve", first, "--completed", "t-1", "--yes")
    assert (resolved["state"], resolved["transfer_id"]) == ("accepted", "t-1")
    call("limits", "resolve", second, "--completed", "t-1", "--yes", code=2)
    counted = json.loads((directory / ".daily_limits.json").read_text()).values()
    assert {entry["attempt_id"]: entry["state"] for day in counted for entry in day["__global__"]} == {
        first: "accepted",
        second: "unknown",
    }


@pytest.mark.parametrize("options", [[], ["--completed", ""], ["--completed", "t", "--not-executed"]])
def test_resolve_needs_exactly_one_outcome(attempt_id: str, options: list[str]) -> None:
    call("limits", "resolve", attempt_id, *options, "--yes", code=2)


@pytest.mark.parametrize("columns", [80, 130])
def test_an_unknown_outcome_is_not_shown_as_failed(attempt_id: str, columns: int) -> None:
    drawn = draw("audit", "tail", "-n", "1", columns=columns)
    assert "unknown" in drawn.splitlines()[0][:70]
    assert "failed" not in drawn
    assert "outcome unknown" in call("audit", "tail", "-n", "1").stdout


def test_limits_show_says_first_that_transfers_are_frozen() -> None:
    call("freeze", "--reason", "laptop lost")
    assert "laptop lost" in call("limits", "show").stdout.splitlines()[0]
    limits = call_json("limits", "show")
    assert (limits["frozen"], limits["frozen_reason"]) == (True, "laptop lost")


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
