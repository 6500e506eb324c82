"""A confirmation worth reading, a rehearsal that changes nothing, and a screen that says what is waited for."""

import json
from pathlib import Path
from typing import Any

import pytest

from pysequence_api.cli.words import cents_in_words
from pysequence_api.errors import GatewayError
from pysequence_api.sandbox import Sandbox
from pysequence_api.sequence.telemetry import Phase, observed, report
from tests.cli.in_process import call, draw
from tests.cli.processes import without_escapes
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
def test_an_amount_in_words_shows_a_slipped_digit(cents: int, words: str) -> None:
    assert cents_in_words(cents) == words


def test_the_confirmation_shows_balances_before_and_after() -> None:
    shown = call("transfer", "Groceries", "Rent", "$25", "--dry-run").stderr
    assert "balance $876.43, after this $851.43" in shown
    assert "balance $4,125.00, after this $4,150.00" in shown
    assert "twenty-five dollars" in shown
    assert "after this $24,975.00" in shown


def test_a_rehearsal_changes_nothing(directory: Path) -> None:
    call("transfer", "Groceries", "Rent", "$25", "--yes")
    before = files(directory)
    document: dict[str, Any] = json.loads(call("transfer", "Groceries", "Rent", "$25", "--dry-run", "--json").stdout)
    assert document["would_be_sent"] is True
    assert document["source"]["balance_after_cents"] == document["source"]["balance_cents"] - 2500
    assert document["daily_remaining_cents"] == 2_495_000
    assert files(directory) == before
    assert "Nothing was sent." in call("transfer", "Groceries", "Rent", "$25", "--dry-run").stdout


@pytest.mark.parametrize(("amount", "limit"), [("$15,000", "per-transfer limit"), ("$3,000", "daily remaining limit")])
def test_a_rehearsal_of_what_would_be_refused_is_3_and_leaves_no_trace(
    amount: str, limit: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQUENCE_MAX_DAILY_TRANSFER_CENTS", "200000")
    result = call("transfer", "Emergency Fund", "Rent", amount, "--dry-run", code=3)
    assert limit in result.stderr
    assert result.stdout == ""
    assert files(directory) == {".audit.jsonl": b""}


def test_a_rehearsal_warns_of_too_little_money() -> None:
    result = call("transfer", "Empty Envelope", "Rent", "$5", "--dry-run", "--json")
    assert "holds less" in result.stderr
    assert any("holds less" in warning for warning in json.loads(result.stdout)["warnings"])


def test_a_rehearsal_with_a_used_key_says_so() -> None:
    arguments = ("transfer", "Groceries", "Rent", "$25", "--idempotency-key", "once")
    call(*arguments, "--yes")
    assert "was used before" in call(*arguments, "--dry-run").stdout
    assert json.loads(call(*arguments, "--dry-run", "--json").stdout)["would_be_sent"] is False
    call("transfer", "Groceries", "Rent", "$26", "--idempotency-key", "once", "--dry-run", code=3)


def test_a_damaged_ledger_refuses_a_rehearsal_too(directory: Path) -> None:
    call("transfer", "Groceries", "Rent", "$1", "--yes")
    (directory / ".daily_limits.json").write_text("{")
    call("transfer", "Groceries", "Rent", "$1", "--dry-run", code=3)


@pytest.mark.parametrize(("source", "near"), [("Grozeries", "'Groceries'"), ("Emergancy Fund", "'Emergency Fund'")])
def test_a_typo_proposes_the_nearest_and_sends_nothing(source: str, near: str) -> None:
    assert f"Did you mean {near}" in call("transfer", source, "Rent", "$1", "--yes", code=2).stderr
    assert near in call("transfer", source, "Rent", "$1", "--yes", "--source-type", "POD", code=2).stderr
    assert call("audit", "tail").stdout == ""


def test_the_limits_are_bars_with_this_transfer_in_them() -> None:
    drawn = draw("transfer", "Emergency Fund", "Rent", "$9,800.00", "--dry-run")
    text = without_escapes(drawn)
    assert "▓" * 20 + " at most $10,000.00" in text
    assert "\x1b[1;31m" in drawn, "a limit that is nearly reached is red"
    assert "▓" * 8 + "░" * 12 in text


def test_what_is_waited_for_is_on_the_screen() -> None:
    slow = {"SEQUENCE_REQUEST_INTERVAL_SECONDS": "0.8"}
    drawn = draw("transfer", "Groceries", "Rent", "$25", "--yes", variables=slow)
    waiting, _, rest = drawn.rpartition("\r\x1b[K")
    assert "waiting for its turn" in waiting
    assert "waiting" not in rest, "it is taken away again"
    assert "Transferred $25.00 from Groceries to Rent." in rest


@pytest.mark.anyio
async def test_a_transfer_tells_what_it_waits_for(tmp_path: Path) -> None:
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


def test_nobody_has_to_look() -> None:
    report(Phase.TURN)
    seen: list[Phase] = []
    with observed(seen.append):
        report(Phase.SIGN_IN)
    report(Phase.ANSWER)
    assert seen == [Phase.SIGN_IN]
