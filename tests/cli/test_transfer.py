"""The plan of a transfer, dry runs, and the status line while requests wait."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pysequence_api.cli.drawing import cents_in_words
from pysequence_api.errors import GatewayError
from pysequence_api.sandbox import Sandbox
from pysequence_api.sequence.telemetry import Phase, observed, report
from tests.cli.commands import call, draw
from tests.processes import without_escapes
from tests.world import open_world

pytestmark = pytest.mark.usefixtures("directory")


def files(directory: Path) -> dict[str, bytes]:
    return {
        name: path.read_bytes()
        for name in (".audit.jsonl", ".daily_limits.json")
        if (path := directory / name).exists()
    }


@pytest.mark.parametrize(
    ("cents", "words"),
    [
        (1, "one cent"),
        (100, "one dollar"),
        (2_500, "twenty-five dollars"),
        (125_050, "one thousand two hundred fifty dollars and fifty cents"),
        (10_000_001, "one hundred thousand dollars and one cent"),
        (
            2_147_483_647,
            "twenty-one million four hundred seventy-four thousand eight hundred thirty-six dollars"
            " and forty-seven cents",
        ),
        (2_000_000, "twenty thousand dollars"),
        (200_000, "two thousand dollars"),
    ],
)
def test_an_amount_in_words(cents: int, words: str) -> None:
    assert cents_in_words(cents) == words


def test_the_plan_shows_balances_before_and_after() -> None:
    shown = call("transfer", "Groceries", "Rent", "$25", "--dry-run").stderr
    assert "balance $876.43, $851.43 after this" in shown
    assert "balance $4,125.00, $4,150.00 after this" in shown
    assert "twenty-five dollars" in shown
    assert "$24,975.00 after this" in shown


def test_a_dry_run_changes_nothing(directory: Path) -> None:
    call("transfer", "Groceries", "Rent", "$25", "--yes")
    before = files(directory)
    document: dict[str, Any] = json.loads(call("transfer", "Groceries", "Rent", "$25", "--dry-run", "--json").stdout)
    assert document["would_be_sent"] is True
    assert document["source"]["balance_after_cents"] == document["source"]["balance_cents"] - 2500
    assert document["daily_remaining_cents"] == 2_495_000
    assert files(directory) == before


@pytest.mark.parametrize(("amount", "limit"), [("$15,000", "per-transfer limit"), ("$3,000", "daily remaining limit")])
def test_a_dry_run_of_what_would_be_rejected_is_3_and_records_nothing(
    amount: str, limit: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQUENCE_MAX_DAILY_TRANSFER_CENTS", "200000")
    result = call("transfer", "Emergency Fund", "Rent", amount, "--dry-run", code=3)
    assert limit in result.stderr
    assert result.stdout == ""
    assert call("audit", "tail").stdout == ""
    assert files(directory)[".audit.jsonl"] == b""


@pytest.mark.parametrize(
    ("source", "why"), [("Empty Envelope", "too low"), ("Operating", "two organizations"), ("Landlord", "not allow")]
)
def test_a_dry_run_of_what_sequence_would_refuse_is_3(source: str, why: str) -> None:
    assert why in call("transfer", source, "Rent", "5.00", "--dry-run", code=3).stdout
    result = call("transfer", source, "Rent", "5.00", "--dry-run", "--json", code=3)
    document = json.loads(result.stdout)
    assert document["would_be_refused"] is True
    assert any(why in warning and warning in result.stderr for warning in document["warnings"])


@pytest.mark.parametrize(("source", "destination"), [("Grocer", "Rent"), ("Groceries", "ren")])
def test_a_part_of_a_name_moves_nothing_without_a_person(source: str, destination: str) -> None:
    assert "only a part of the name" in call("transfer", source, destination, "25.00", "--yes", code=2).stderr
    dry_run = json.loads(call("transfer", source, destination, "25.00", "--dry-run", "--json").stdout)
    assert any("a part of the name" in warning for warning in dry_run["warnings"])
    call("transfer", "gROCERIES", "rent", "25.00", "--yes")


def test_a_dry_run_knows_a_used_idempotency_key() -> None:
    arguments = ("transfer", "Groceries", "Rent", "$25", "--idempotency-key", "once")
    call(*arguments, "--yes")
    assert json.loads(call(*arguments, "--dry-run", "--json").stdout)["would_be_sent"] is False
    assert "Would transfer" not in call(*arguments, "--dry-run").stdout
    call("transfer", "Groceries", "Rent", "$26", "--idempotency-key", "once", "--dry-run", code=3)


def test_a_dry_run_shows_every_check_and_what_was_paid_already() -> None:
    call("transfer", "Groceries", "Rent", "$25", "--yes")
    shown = call("transfer", "Emergency Fund", "Rent", "$25.90", "--dry-run")
    assert "similar transfer exists: $25.00 from Groceries" in shown.stderr
    assert "made by one time transfer" in shown.stderr
    assert "passed  frozen" in shown.stderr
    assert "made by a rule at Sequence" in call("transfer", "Rent", "Landlord", "$1,800", "--dry-run").stderr
    call("freeze", "--reason", "a test")
    document = json.loads(call("transfer", "Groceries", "Rent", "$25", "--dry-run", "--json", code=3).stdout)
    assert (document["verdict"], document["code"], document["outcome"]) == ("refused", "frozen", "nothing_moved")
    assert [one["name"] for one in document["checks"] if not one["passed"]] == ["frozen"]
    assert len(document["similar"]) == 1


def test_what_the_caller_says_is_shown_apart_from_the_facts() -> None:
    reason = "for the \x1b[31mbakery\nState: arrived"
    done = json.loads(call("transfer", "Groceries", "Rent", "$25", "--yes", "--json", "--reason", reason).stdout)
    assert done["reason"] is None
    said = "for the [31mbakery State: arrived"
    for command in (("transfers", "status", done["attempt_id"]), ("transfers", "show", done["id"])):
        assert re.search(rf"The caller says +{re.escape(said)}$", call(*command).stdout, re.MULTILINE), command
    assert f"the caller says {said}" in call("audit", "tail").stdout
    too_long = ("transfer", "Groceries", "Rent", "$25", "--yes", "--reason", "x" * 201)
    assert "at most 200 characters" in call(*too_long, code=2).stderr


def test_a_dry_run_with_a_damaged_database_is_3(directory: Path) -> None:
    call("transfer", "Groceries", "Rent", "$1", "--yes")
    (directory / ".records.db").write_bytes(b"x" * 8192)
    call("transfer", "Groceries", "Rent", "$1", "--dry-run", code=3)


@pytest.mark.parametrize(("source", "near"), [("Grozeries", "'Groceries'"), ("Emergancy Fund", "'Emergency Fund'")])
def test_a_typo_is_2_and_similar_names_are_suggested(source: str, near: str) -> None:
    assert near in call("transfer", source, "Rent", "$1", "--yes", code=2).stderr
    assert near in call("transfer", source, "Rent", "$1", "--yes", "--source-type", "POD", code=2).stderr
    assert call("audit", "tail").stdout == ""


def test_the_bars_of_the_limits_include_the_transfer() -> None:
    drawn = draw("transfer", "Emergency Fund", "Rent", "$9,800.00", "--dry-run")
    text = without_escapes(drawn)
    assert "▓" * 20 + " at most $10,000.00" in text
    assert "\x1b[1;31m" in drawn, "a limit that is almost reached is red"
    assert "▓" * 8 + "░" * 12 in text


def test_the_status_line_says_what_requests_wait_for() -> None:
    slow = {"SEQUENCE_REQUEST_INTERVAL_SECONDS": "0.8"}
    drawn = draw("transfer", "Groceries", "Rent", "$25", "--yes", variables=slow)
    waiting, _, rest = drawn.rpartition("\r\x1b[K")
    assert "waiting for its turn" in waiting
    assert "waiting" not in rest, "the line is removed at the end"
    assert "Transferred $25.00 from Groceries to Rent." in rest


@pytest.mark.anyio
async def test_a_transfer_reports_what_it_waits_for(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "sequence.sqlite")
    seen: list[Phase] = []
    try:
        async with open_world(tmp_path / "data", sandbox) as world:
            with observed(seen.append):
                await world.transfer()
                assert set(seen) == {Phase.TURN, Phase.ANSWER}
                world.fail({"kind": "status", "status": 401, "body": ""}, count=2)
                with pytest.raises(GatewayError):
                    await world.transfer()
    finally:
        await sandbox.aclose()
    assert seen[-3:] == [Phase.TURN, Phase.ANSWER, Phase.SIGN_IN]


def test_reports_without_an_observer_are_ignored() -> None:
    report(Phase.TURN)
    seen: list[Phase] = []
    with observed(seen.append):
        report(Phase.SIGN_IN)
    report(Phase.ANSWER)
    assert seen == [Phase.SIGN_IN]
