"""`limits show` and `audit tail` on a terminal: bars, names, local times, and lines that fit the window."""

import json
import re
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pysequence_api.cli.limits import latest_transfers
from pysequence_api.records.audit import AuditTrail, Channel, Event, EventType
from pysequence_api.records.names import Names
from tests.cli.commands import call, draw
from tests.processes import Environment, start_on_terminal, without_escapes

pytestmark = pytest.mark.usefixtures("directory")
ERROR = "Sequence refused the transfer: Insufficient funds"


def write(directory: Path, *events: EventType, amount_cents: int = 2_500, source: str = "p-1", **more: Any) -> None:
    directory.mkdir(exist_ok=True)
    trail = AuditTrail(directory)
    for event_type in events:
        moment = datetime.now(UTC)
        event = Event(
            timestamp=moment,
            event_type=event_type,
            amount_cents=amount_cents,
            source=source,
            destination="p-2",
            via=Channel.CLI,
            **more,
        )
        trail.append(event)


@pytest.fixture
def directory(directory: Path) -> Path:
    """Return a data directory with known names."""
    directory.mkdir()
    Names(directory).remember({"p-1": "Groceries", "p-2": "Rent [red]\x1b[2J"})
    return directory


def ledger(directory: Path, amount_cents: int) -> None:
    moment = datetime.now(UTC)
    entry = {"transfer_id": "t-1", "amount_cents": amount_cents, "timestamp": moment.isoformat()}
    (directory / ".daily_limits.json").write_text(json.dumps({str(moment.date()): {"__global__": [entry]}}))


@pytest.mark.parametrize(("cents", "color"), [(100_000, "32"), (2_000_000, "33"), (2_450_000, "31")])
def test_the_bar_turns_yellow_and_red(directory: Path, cents: int, color: str) -> None:
    ledger(directory, cents)
    drawn = draw("limits", "show")
    assert re.search(rf"\x1b\[{color}m█+", drawn)
    assert f"{100 * cents // 2_500_000} % used" in without_escapes(drawn)


def test_the_latest_transfers_of_the_day_have_their_status(directory: Path) -> None:
    write(directory, EventType.REQUESTED, EventType.COMPLETED, attempt_id="a-1", amount_cents=100)
    write(directory, EventType.REQUESTED, EventType.FAILED, attempt_id="a-2", amount_cents=200, outcome="unknown")
    write(directory, EventType.REQUESTED, attempt_id="a-3", amount_cents=300)
    write(directory, EventType.REJECTED, EventType.REJECTED, amount_cents=400)
    trail, today = AuditTrail(directory), datetime.now(UTC).date()
    shown = [(one.line.amount_cents, one.status) for one in latest_transfers(today, trail, 10)]
    older = [(300, "in progress or unknown"), (200, "outcome unknown"), (100, "completed")]
    assert shown == [(400, "rejected"), (400, "rejected"), *older]
    assert len(latest_transfers(today, trail, 2)) == 2
    assert latest_transfers(today + timedelta(days=1), trail, 10) == []


def test_limits_show_the_latest_transfers_with_names(directory: Path) -> None:
    write(directory, EventType.REJECTED)
    shown = call("limits", "show").stdout
    assert re.search(r"rejected +\$25\.00 +Groceries +Rent", shown)


def test_the_day_ends_in_the_local_time_zone() -> None:
    drawn = without_escapes(draw("limits", "show", variables={"TZ": "Asia/Tokyo"}))
    assert re.search(r"ends \d{4}-\d\d-\d\d 09:00:00\+09:00, in \d+ h \d+ min", drawn)


@pytest.mark.parametrize(
    ("columns", "parties"),
    [(40, "Groce"), (80, "Groceries -> Rent [red]\\x1b[2J"), (130, "Groceries -> Rent [red]\\x1b[2J")],
)
def test_a_line_fits_the_window_and_names_the_parties(directory: Path, columns: int, parties: str) -> None:
    write(directory, EventType.FAILED, error=ERROR * 3)
    [line] = without_escapes(draw("audit", "tail", columns=columns)).splitlines()
    assert len(line) <= columns
    assert "failed" in line
    assert "$25.00" in line
    assert parties in line
    assert line.endswith("…")


def test_a_terminal_shows_local_times_and_no_injected_markup(directory: Path) -> None:
    event = {"timestamp": "2026-07-01T22:30:00+00:00", "event_type": "transfer_failed", "amount_cents": 5}
    evil = event | {"source": "[red]a[/red]\x1b[2J\x1b]0;x\x07", "destination": "b"}
    (directory / ".audit.jsonl").write_text(json.dumps(evil) + "\n")
    drawn = draw("audit", "tail", columns=200)
    assert "2026-07-02 00:30:00+02:00" in drawn
    assert "[red]a[/red]\\x1b[2J\\x1b]0;x\\x07 -> b" in drawn
    assert "\x1b[2J" not in drawn
    assert "\x1b]" not in drawn


def test_a_pipe_gets_complete_lines(directory: Path) -> None:
    write(directory, EventType.FAILED, error=ERROR)
    written = draw("audit", "tail", is_terminal=False, columns=40)
    assert written.rstrip().endswith(ERROR)
    assert "p-1 -> p-2" in written
    assert "\x1b" not in written


def test_following_draws_again_when_the_window_is_resized(sandbox: Environment, directory: Path) -> None:
    write(directory, EventType.FAILED, error=ERROR)
    with start_on_terminal(sandbox, "audit", "tail", "-f", columns=60) as terminal:
        terminal.wait_for("failed")
        assert ERROR not in terminal.text
        terminal.resize(160)
        terminal.wait_for(ERROR)
        write(directory, EventType.COMPLETED, source="p-9")
        terminal.wait_for("p-9 -> Rent")
        terminal.type("\x03")
        assert terminal.wait_for_exit() == 128 + signal.SIGINT
    assert "Traceback" not in terminal.text
