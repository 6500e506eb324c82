"""`audit export`: one row for each transfer, whose amounts add up to what moved."""

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from pysequence_api.errors import LimitExceededError
from pysequence_api.records import open_records
from pysequence_api.records.attempts import Attempt, Writer
from pysequence_api.records.states import State
from tests.cli.commands import call, draw, in_world
from tests.world import World

pytestmark = pytest.mark.usefixtures("directory")
SIGNS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
BEFORE_A_SIGN = ("", " ", "\u3000", "Rent;", "Rent; ", ";")


def exported(*options: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(call("audit", "export", *options).stdout)))


def test_the_amounts_of_an_export_add_up_to_what_moved(directory: Path) -> None:
    async def act(world: World) -> None:
        await world.transfer(100_050)
        await world.transfer(250)
        await world.lose(amount_cents=300)
        with pytest.raises(LimitExceededError):
            await world.transfer(1_500_000)
        await world.leave(State.SENDING, await world.open_process(), amount_cents=400)

    in_world(directory, act)
    call("transfer", "Empty Envelope", "Rent", "40.00", "--yes", code=4)
    rows = exported()
    assert [(row["amount"], row["amount_cents"], row["requested_amount"], row["state"]) for row in rows] == [
        ("1000.50", "100050", "1000.50", "accepted"),
        ("2.50", "250", "2.50", "accepted"),
        ("", "", "3.00", "unknown"),
        ("0.00", "0", "15000.00", "rejected"),
        ("", "", "4.00", "unknown"),
        ("0.00", "0", "40.00", "refused"),
    ]
    assert sum(Decimal(row["amount"] or 0) for row in rows) == Decimal("1003.00")
    assert {(row["source"], row["destination"]) for row in rows} == {
        ("Emergency Fund", "Rent"),
        ("Empty Envelope", "Rent"),
    }
    assert [bool(row["transfer_id"]) for row in rows] == [True, True, False, False, False, False]
    assert (rows[0]["via"], rows[-1]["via"]) == ("api", "cli")
    assert "Insufficient funds" in rows[-1]["error"]
    assert all(row["attempt_id"] and row["requested_at"] for row in rows)


def test_an_export_has_the_transfers_of_a_time() -> None:
    call("transfer", "Groceries", "Rent", "25.00", "--yes", "--description", "Milk")
    [row] = exported("--from", "1h")
    assert row["description"] == "Milk"
    assert exported("--to", "1h") == []
    assert exported("--from", "1d", "--to", "1h") == []


def test_no_cell_of_an_export_is_a_formula(directory: Path) -> None:
    texts = [f"{before}{sign}HYPERLINK(0)" for before in BEFORE_A_SIGN for sign in SIGNS]
    records = open_records(directory)
    for number, text in enumerate(texts):
        attempt = Attempt(
            id=f"attempt {number}",
            caller="owner",
            channel="cli",
            state=State.REJECTED,
            amount_cents=2_500,
            created_at=datetime.now(UTC),
            description=text,
        )
        records.write(partial(Writer.add_attempt, attempt=attempt))
    records.close()
    exported_text = call("audit", "export").stdout
    assert exported_text.count("HYPERLINK") == len(texts)
    for separator in (",", ";"):
        table = csv.reader(io.StringIO(exported_text), delimiter=separator)
        assert not [cell for row in table for cell in row if cell.strip().startswith(SIGNS)]


def test_the_events_can_be_exported() -> None:
    call("transfer", "Groceries", "Rent", "25.00", "--yes")
    expected = ["transfer_requested", "transfer_completed"]
    assert [row["event_type"] for row in exported("--events")] == expected
    events = json.loads(call("audit", "export", "--format", "json").stdout)
    assert [event["event_type"] for event in events] == expected


def test_an_export_says_how_many_outcomes_are_unknown(directory: Path) -> None:
    async def lose(world: World) -> None:
        await world.lose(amount_cents=300)

    in_world(directory, lose)
    assert "not known" in draw("audit", "export")
