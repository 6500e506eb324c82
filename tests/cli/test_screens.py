"""`limits show` and `audit tail` on a terminal: bars, names, local times, and lines that fit the window."""

import json
import re
import signal
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import time_machine

from pysequence_api.errors import LimitExceededError, RefusedError
from pysequence_api.records import open_records
from pysequence_api.records.attempts import Writer
from pysequence_api.records.audit import Channel, Event, EventType
from pysequence_api.records.names import Names
from pysequence_api.records.states import State
from tests.cli.commands import call, draw, in_world
from tests.processes import Environment, start_on_terminal, without_escapes
from tests.world import World

pytestmark = pytest.mark.usefixtures("directory")
ERROR = "Sequence refused the transfer: Insufficient funds"


def write(directory: Path, *events: EventType, source: str = "p-1", **more: Any) -> None:
    """Add events to the records."""
    records = open_records(directory)
    for event_type in events:
        event = Event(
            timestamp=datetime.now(UTC),
            event_type=event_type,
            amount_cents=2_500,
            source=source,
            destination="p-2",
            via=Channel.CLI,
            **more,
        )
        records.write(partial(Writer.add_event, event=event))
    records.close()


@pytest.fixture
def directory(directory: Path) -> Path:
    """Return a data directory with known names."""
    records = open_records(directory)
    names = Names(records)
    names.learn("p-1", "Groceries")
    names.learn("p-2", "Rent [red]\x1b[2J")
    names.save()
    records.close()
    return directory


@pytest.mark.parametrize(("cents", "color"), [(100_000, "32"), (500_000, "33"), (590_000, "31")])
def test_the_bar_turns_yellow_and_red(directory: Path, monkeypatch: pytest.MonkeyPatch, cents: int, color: str) -> None:
    monkeypatch.setenv("SEQUENCE_MAX_DAILY_TRANSFER_CENTS", "600000")
    call("transfer", "Emergency Fund", "Rent", "--cents", str(cents), "--yes")
    drawn = draw("limits", "show")
    assert re.search(rf"\x1b\[{color}m█+", drawn)
    assert f"{100 * cents // 600_000} % used" in without_escapes(drawn)


def test_limits_show_the_latest_transfers_of_the_day_with_their_states(directory: Path) -> None:
    async def act(world: World) -> None:
        await world.transfer(100)
        world.fail({"kind": "refuse", "message": "no"})
        with pytest.raises(RefusedError):
            await world.transfer(200)
        await world.lose(amount_cents=300)
        for _ in range(2):
            with pytest.raises(LimitExceededError):
                await world.transfer(1_500_000)
        await world.leave(State.SENDING, await world.open_process(), amount_cents=400)

    in_world(directory, act)
    shown = call("limits", "show").stdout.partition("LATEST TODAY")[2]
    found = re.findall(r"\S+ +(\w+) +(\$[0-9.,]+) +Emergency Fund +Rent", shown)
    assert found == [
        ("unknown", "$4.00"),
        ("rejected", "$15,000.00"),
        ("rejected", "$15,000.00"),
        ("unknown", "$3.00"),
        ("refused", "$2.00"),
    ]
    with time_machine.travel(datetime.now(UTC) + timedelta(days=1)):
        assert "LATEST" not in call("limits", "show").stdout


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
