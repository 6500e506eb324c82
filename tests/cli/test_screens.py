"""`limits show` and `audit tail` for somebody who looks: bars, names, local times, and lines that fit the window."""

import json
import re
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pysequence_api.cli.events import transfers_of
from pysequence_api.names import Names
from pysequence_api.safeguards.audit import AuditTrail, Event, EventType, Via
from tests.cli.processes import Environment, run, seated

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
            via=Via.CLI,
            **more,
        )
        trail.append(event)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A data directory in which names are known."""
    directory = tmp_path / "sandbox"
    directory.mkdir()
    Names(directory).remember({"p-1": "Groceries", "p-2": "Rent [red]\x1b[2J"})
    return directory


def ledger(directory: Path, amount_cents: int) -> None:
    moment = datetime.now(UTC)
    entry = {"transfer_id": "t-1", "amount_cents": amount_cents, "timestamp": moment.isoformat()}
    (directory / ".daily_limits.json").write_text(json.dumps({str(moment.date()): {"__global__": [entry]}}))


@pytest.mark.parametrize(("cents", "color"), [(100_000, "32"), (2_000_000, "33"), (2_450_000, "31")])
def test_the_bar_turns_yellow_and_red(sandbox: Environment, directory: Path, cents: int, color: str) -> None:
    ledger(directory, cents)
    with seated(sandbox, "limits", "show") as seat:
        assert seat.end() == 0, seat.text
    assert re.search(rf"\x1b\[{color}m█+", seat.raw)
    assert f"{100 * cents // 2_500_000} % used" in seat.text


def test_the_last_transfers_of_the_day_are_shown_as_they_stand(directory: Path) -> None:
    write(directory, EventType.REQUESTED, EventType.COMPLETED, attempt_id="a-1", amount_cents=100)
    write(directory, EventType.REQUESTED, EventType.FAILED, attempt_id="a-2", amount_cents=200, outcome="unknown")
    write(directory, EventType.REQUESTED, attempt_id="a-3", amount_cents=300)
    write(directory, EventType.REJECTED, EventType.REJECTED, amount_cents=400)
    trail, today = AuditTrail(directory), datetime.now(UTC).date()
    shown = [(one.line.amount_cents, one.state) for one in transfers_of(today, trail, 10)]
    ends = [(300, "on its way, or unknown"), (200, "outcome unknown"), (100, "completed")]
    assert shown == [(400, "rejected"), (400, "rejected"), *ends]
    assert len(transfers_of(today, trail, 2)) == 2
    assert transfers_of(today + timedelta(days=1), trail, 10) == []


def test_transfers_are_below_the_limits_with_their_names(sandbox: Environment, directory: Path) -> None:
    write(directory, EventType.REJECTED)
    shown = run(sandbox, "limits", "show").stdout
    assert "LAST TODAY" in shown
    assert re.search(r"rejected +\$25\.00 +Groceries +Rent", shown)


def test_the_day_ends_in_the_operators_own_zone(sandbox: Environment) -> None:
    with seated(sandbox | {"TZ": "Asia/Tokyo"}, "limits", "show") as seat:
        assert seat.end() == 0
    assert re.search(r"ends \d{4}-\d\d-\d\d 09:00:00\+09:00, in \d+ h \d+ min", seat.text)


def test_a_line_fits_the_window_and_names_the_parties(sandbox: Environment, directory: Path) -> None:
    write(directory, EventType.FAILED, error=ERROR * 3)
    for columns in (40, 80, 130):
        with seated(sandbox, "audit", "tail", columns=columns) as seat:
            assert seat.end() == 0
        lines = seat.text.splitlines()
        assert len(lines) == 1
        assert len(lines[0]) <= columns
        assert "failed" in lines[0]
        assert "$25.00" in lines[0]
        if columns > 40:
            assert "Groceries -> Rent [red]\\x1b[2J" in lines[0]
        assert lines[0].endswith("…")


def test_a_pipe_gets_everything(sandbox: Environment, directory: Path) -> None:
    write(directory, EventType.FAILED, error=ERROR)
    result = run(sandbox | {"COLUMNS": "40"}, "audit", "tail")
    assert result.stdout.rstrip().endswith(ERROR)
    assert "p-1 -> p-2" in result.stdout
    assert "\x1b" not in result.stdout


def test_following_draws_anew_when_the_window_is_resized(sandbox: Environment, directory: Path) -> None:
    write(directory, EventType.FAILED, error=ERROR)
    with seated(sandbox, "audit", "tail", "-f", columns=60) as seat:
        seat.wait_for("failed")
        assert ERROR not in seat.text
        seat.resize(160)
        seat.wait_for(ERROR)
        write(directory, EventType.COMPLETED, source="p-9")
        seat.wait_for("p-9 -> Rent")
        seat.type("\x03")
        assert seat.end() == 128 + signal.SIGINT
    assert "Traceback" not in seat.text
