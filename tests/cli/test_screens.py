"""`limits show` and `audit tail` on a terminal: bars, names, local times, and lines that fit the window."""

import json
import re
import signal
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
import time_machine

from pysequence_api.errors import LimitExceededError, RefusedError
from pysequence_api.records import open_records
from pysequence_api.records.attempts import Writer
from pysequence_api.records.audit import Channel, Event, EventType
from pysequence_api.records.names import Names
from pysequence_api.records.states import State
from tests.cli.commands import call, draw, in_world, lose_transfers
from tests.processes import Environment, start_on_terminal, start_process, without_escapes
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


def test_the_bar_turns_yellow_and_red(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCE_MAX_DAILY_TRANSFER_CENTS", "600000")
    used_cents = 0
    for cents, color in ((100_000, "32"), (400_000, "33"), (90_000, "31")):
        call("transfer", "Emergency Fund", "Rent", "--cents", str(cents), "--yes")
        used_cents += cents
        drawn = draw("limits", "show")
        assert re.search(rf"\x1b\[{color}m█+", drawn)
        assert f"{100 * used_cents // 600_000} % used" in without_escapes(drawn)


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


ATTEMPT_ID = "62719c87-2239-50f1-87ac-f89d025fc5d6"


def test_an_event_is_complete_in_every_window(directory: Path) -> None:
    write(directory, EventType.FAILED, error=f"{ERROR}. " * 3, attempt_id=ATTEMPT_ID, description="Milk \x1b[2J")
    for columns, most_lines in ((40, 12), (60, 8), (80, 6), (200, 3)):
        drawn = without_escapes(draw("audit", "tail", columns=columns))
        lines = drawn.splitlines()
        assert len(lines) <= most_lines
        assert max(map(len, lines)) <= columns
        assert f"{datetime.now(UTC).year}-" in lines[0]
        assert "failed" in lines[0]
        assert "$25.00" in drawn
        assert all(line.startswith("  ") for line in lines[1:])
        assert ATTEMPT_ID in drawn
        flat = " ".join(drawn.split())
        assert "Groceries -> Rent [red]\\x1b[2J" in flat
        assert "via cli" in flat
        assert "Milk \\x1b[2J" in flat
        assert " ".join([f"{ERROR}."] * 3) in flat


def test_a_freeze_shows_its_reason(directory: Path) -> None:
    call("freeze", "--reason", "laptop lost")
    assert "laptop lost" in draw("audit", "tail").splitlines()[-1]


def test_names_that_another_process_learned_are_shown(sandbox: Environment, directory: Path) -> None:
    with start_on_terminal(sandbox, "audit", "tail", "-f") as terminal:
        write(directory, EventType.REQUESTED)
        terminal.wait_for("Groceries")
        records = open_records(directory)
        names = Names(records)
        names.learn("p-9", "Vacation")
        names.save()
        records.close()
        write(directory, EventType.REQUESTED, source="p-9")
        terminal.wait_for("Vacation -> Rent")


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
    write(directory, EventType.FAILED, error=ERROR, attempt_id=ATTEMPT_ID)
    written = draw("audit", "tail", is_terminal=False, columns=40)
    assert written.count("\n") == 1
    assert ATTEMPT_ID in written
    assert "via cli" in written
    assert written.rstrip().endswith(ERROR)
    assert "p-1 -> p-2" in written
    assert "\x1b" not in written


def test_following_draws_again_when_the_window_is_resized(sandbox: Environment, directory: Path) -> None:
    write(directory, EventType.FAILED, error=ERROR)
    with start_on_terminal(sandbox, "audit", "tail", "-f", columns=40) as terminal:
        terminal.wait_for("Insufficient funds")
        assert ERROR not in terminal.text
        terminal.resize(160)
        terminal.wait_for(f"via cli  {ERROR}")
        write(directory, EventType.COMPLETED, source="p-9")
        terminal.wait_for("p-9 -> Rent")
        terminal.type("\x03")
        assert terminal.wait_for_exit() == 128 + signal.SIGINT
    assert "Traceback" not in terminal.text


@pytest.mark.waits
def test_watching_shows_every_change_and_what_was_settled(sandbox: Environment, directory: Path) -> None:
    [attempt_id] = lose_transfers(directory, 2500)
    with start_on_terminal(sandbox, "limits", "show", "--watch", lines=40) as terminal:
        terminal.wait_for("Latest today")
        assert "Settled" not in terminal.text
        call("limits", "resolve", attempt_id, "--not-executed", "--yes")
        terminal.wait_for("Settled meanwhile")
        terminal.resize(60)
        terminal.wait_for(f"not_executed  $25.00\n  Emergency Fund  Rent  {attempt_id}")
        terminal.type("\x03")
        assert terminal.wait_for_exit() == 128 + signal.SIGINT
    assert "Traceback" not in terminal.text


def test_watching_in_a_pipe_gives_one_line_of_json_for_each_change(sandbox: Environment, directory: Path) -> None:
    [attempt_id] = lose_transfers(directory, 2500)
    with start_process(sandbox, "limits", "show", "--watch", "--json", stdout=PIPE) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert [one["attempt_id"] for one in first["unsettled"]] == [attempt_id]
        call("limits", "resolve", attempt_id, "--not-executed", "--yes")
        second = json.loads(process.stdout.readline())
        assert (second["used_cents"], second["unsettled"]) == (0, [])
        assert [(one["attempt_id"], one["state"]) for one in second["settled"]] == [(attempt_id, "not_executed")]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 128 + signal.SIGINT


def test_watching_needs_a_terminal_or_json() -> None:
    call("limits", "show", "--watch", code=2)
