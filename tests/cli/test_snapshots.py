"""Every screen as it looks, plain in a pipe and coloured on a terminal, held against stored text.

After a change that is meant: `REWRITE_SNAPSHOTS=1 pytest tests/cli/test_snapshots.py -n0`, and look at the
difference.
"""

import io
import os
import re
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import time_machine

from pysequence_api.cli import app

SNAPSHOTS = Path(__file__).parent / "snapshots"
MOMENT = datetime(2026, 11, 23, 12, 0, 20, tzinfo=ZoneInfo("Europe/Berlin"))
SCREENS = {
    "pods": "pods",
    "pods-show": "pods show Groceries",
    "accounts": "accounts",
    "activity": "activity",
    "activity-summary": "activity summary",
    "transfer": "transfer Groceries Rent $1,250.50 --dry-run",
    "limits-show": "limits show",
    "audit-tail": "audit tail",
    "doctor": "doctor",
}
NORMALISED = (
    (
        re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
        "00000000-0000-0000-0000-000000000000",
    ),
    (re.compile(r"(?<![0-9a-f])[0-9a-f]{64}"), "0" * 64),
    (re.compile(r"(\d\d:\d\d):\d\d"), r"\1:00"),
    (re.compile(r"in \d+ ms"), "in 9 ms"),
    (re.compile(r"[0-9.]+ GiB free"), "9.9 GiB free"),
    (re.compile(r"127\.0\.0\.1:\d+ \(.*?\)"), "127.0.0.1:8720 (Connection refused)"),
    (re.compile(r"(file system +)(\x1b\[0m)?[\w.]+, local"), r"\1ext4, local"),
    (re.compile(r"--after \S+"), "--after CURSOR"),
    (re.compile(r"[ ]+((?:\x1b\[0m)?)$", re.MULTILINE), r"\1"),
)


class Screen(io.StringIO):
    """A stream that says whether it is a terminal."""

    def __init__(self, *, watched: bool) -> None:
        super().__init__()
        self._watched = watched

    def isatty(self) -> bool:
        return self._watched


def draw(monkeypatch: pytest.MonkeyPatch, arguments: list[str], *, watched: bool) -> str:
    """Run a command with both streams on one screen."""
    screen = Screen(watched=watched)
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdout", screen)
        patched.setattr("sys.stderr", screen)
        with pytest.raises(SystemExit) as ended:
            app(arguments)
    assert ended.value.code == 0, screen.getvalue()
    return screen.getvalue()


@pytest.fixture(autouse=True)
def _operator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    variables = {"SANDBOX": "1", "DATA_DIR": str(tmp_path), "SERVER_PORT": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(f"SEQUENCE_{name}", value)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "170", "LINES": "50", "TZ": "Europe/Berlin"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()


@pytest.mark.parametrize("watched", [False, True], ids=["plain", "coloured"])
def test_every_screen_looks_as_it_did(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, watched: bool) -> None:
    differing = []
    with time_machine.travel(MOMENT, tick=False):
        draw(monkeypatch, ["transfer", "Emergency Fund", "Rent", "$9,000", "--yes"], watched=False)
        draw(monkeypatch, ["transfer", "Groceries", "Rent", "$25", "--yes"], watched=False)
        for name, command in SCREENS.items():
            shown = draw(monkeypatch, command.split(), watched=watched).replace(str(tmp_path), "/data")
            for pattern, text in NORMALISED:
                shown = pattern.sub(text, shown)
            path = SNAPSHOTS / f"{name}-{'coloured' if watched else 'plain'}.txt"
            if os.environ.get("REWRITE_SNAPSHOTS"):
                path.write_text(shown)
            if path.read_text() != shown:
                differing.append(f"{path.name}:\n{shown}")
    assert not differing, "\n".join(differing)
