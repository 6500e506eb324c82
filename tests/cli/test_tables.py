"""Tables in windows of different widths, and the filters of `activity`."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import call, call_json, draw, lose_transfers
from tests.processes import without_escapes

pytestmark = pytest.mark.usefixtures("directory")
TABLES = ("pods", "accounts", "activity", "limits show", "transfers show {id}", "pods show Groceries")
WIDTHS = (60, 80, 200)
MOST_LINES_OF_A_ROW = {
    ("pods", 60): 2,
    ("pods", 80): 1,
    ("pods", 200): 1,
    ("accounts", 80): 2,
    ("accounts", 200): 1,
    ("activity", 60): 3,
    ("activity", 80): 2,
    ("activity", 200): 1,
}
IDS = {"id", "attempt_id", "transfer_id"}
EDGES = "┃│"


def ids_in(document: Any) -> set[str]:
    """Return the ids of all rows, but not those of parties, which are shown by name."""
    if isinstance(document, list):
        return set().union(*map(ids_in, document))
    if not isinstance(document, dict):
        return set()
    own = {value for name, value in document.items() if name in IDS and isinstance(value, str)}
    return own.union(*(ids_in(value) for name, value in document.items() if name not in {"source", "destination"}))


@pytest.mark.parametrize("table", TABLES)
def test_no_id_and_no_amount_is_broken(directory: Path, table: str) -> None:
    if table == "limits show":
        lose_transfers(directory, 2500, 2600)
    command = table.format(id=call_json("activity")["transfers"][0]["id"] if "{id}" in table else "").split()
    ids, amounts = ids_in(call_json(*command)), re.findall(r"\$[0-9.,]+", call(*command).stdout)
    assert ids
    for columns in WIDTHS:
        drawn = without_escapes(draw(*command, columns=columns))
        words = drawn.translate(str.maketrans(EDGES, "  ")).split()
        assert ids <= set(words)
        assert set(amounts) <= set(words)
        assert "…" not in drawn
        if (table, columns) not in MOST_LINES_OF_A_ROW:
            continue
        lines = drawn.splitlines()
        assert len(lines) <= MOST_LINES_OF_A_ROW[table, columns] * len(ids) + 8
        assert all(len(line) <= columns for line in lines if "Warning" not in line and "--after" not in line)


@pytest.mark.parametrize(
    ("option", "value", "unknown"),
    [("--status", "failed", "bogus"), ("--direction", "Outgoing", "out"), ("--type", "rule", "x,RULE")],
)
def test_unknown_filters_are_errors_that_list_the_known_values(option: str, value: str, unknown: str) -> None:
    found = [call_json("activity", option, each)["transfers"] for each in (value, value.upper())]
    assert found[0] == found[1] != []
    assert value.upper() in call("activity", option, unknown, code=2).stderr
    assert call_json("activity", option, f"{unknown},NEW", "--any-status")["page_info"] is not None
