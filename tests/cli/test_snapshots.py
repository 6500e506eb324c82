"""The output of commands, plain in a pipe and colored on a terminal, compared with stored text.

After an intended change: `REWRITE_SNAPSHOTS=1 pytest tests/cli/test_snapshots.py -n0`, and review the difference.
"""

import os
import re
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import time_machine

from tests.cli.commands import call, call_json, draw

pytestmark = pytest.mark.usefixtures("directory", "no_server")
COLUMNS = 170
SNAPSHOTS = Path(__file__).parent / "snapshots"
MOMENT = datetime(2026, 11, 23, 12, 0, 20, tzinfo=ZoneInfo("Europe/Berlin"))
COMMANDS = {
    "pods": "pods",
    "pods-show": "pods show Groceries",
    "accounts": "accounts",
    "activity": "activity",
    "activity-summary": "activity summary",
    "transfer": "transfer Groceries Rent $125.50 --dry-run",
    "limits-show": "limits show",
    "audit-tail": "audit tail",
    "doctor": "doctor",
    "policy-apply": "policy apply new.toml --yes",
    "policy-history": "policy history",
    "policy-explain": "policy explain openclaw groceries rent $80.00",
    "policy-replay": "policy replay strict.toml",
}
POLICY = """version = 1
[accounts]
savings = "POD:{savings}"
groceries = "POD:{groceries}"
rent = "POD:{rent}"
[callers.openclaw]
scopes = ["move"]
day_cents = 20000
rules = [{{ name = "rent", from = ["groceries"], to = ["rent"], max_cents = {max_cents}, day_cents = 15000 }}]
[callers.default]
scopes = ["move"]
rules = [{{ name = "rent", from = ["savings", "groceries"], to = ["rent"], max_cents = 1000000 }}]
"""
NORMALIZED = (
    (
        re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
        "00000000-0000-0000-0000-000000000000",
    ),
    (re.compile(r"(?<![0-9a-f])[0-9a-f]{64}"), "0" * 64),
    (re.compile(r"(\d\d:\d\d):\d\d"), r"\1:00"),
    (re.compile(r"key \.\.\.\w{4}"), "key ...abcd"),
    (re.compile(r"in \d+ ms"), "in 9 ms"),
    (re.compile(r"[0-9.]+ GiB free"), "9.9 GiB free"),
    (re.compile(r"127\.0\.0\.1:\d+ \(.*?\)"), "127.0.0.1:8720 (Connection refused)"),
    (re.compile(r"(file system +)(\x1b\[0m)?[\w.]+, local"), r"\1ext4, local"),
    (re.compile(r"--after \S+"), "--after CURSOR"),
    (re.compile(r"[ ]+((?:\x1b\[0m)?)$", re.MULTILINE), r"\1"),
)


@pytest.mark.parametrize("watched", [False, True], ids=["plain", "colored"])
def test_output_is_as_stored(tmp_path: Path, watched: bool) -> None:
    differing = []
    with time_machine.travel(MOMENT, tick=False) as traveller:
        draw("transfer", "Emergency Fund", "Rent", "$9,000", "--yes")
        traveller.shift(1)
        draw("transfer", "Groceries", "Rent", "$25", "--yes")
        write_policies()
        for name, command in COMMANDS.items():
            shown = draw(*command.split(), is_terminal=watched, columns=COLUMNS).replace(str(tmp_path), "/data")
            for pattern, text in NORMALIZED:
                shown = pattern.sub(text, shown)
            path = SNAPSHOTS / f"{name}-{'colored' if watched else 'plain'}.txt"
            if os.environ.get("REWRITE_SNAPSHOTS"):
                path.write_text(shown)
            if path.read_text() != shown:
                differing.append(f"{path.name}:\n{shown}")
    assert not differing, "\n".join(differing)


def write_policies() -> None:
    """Apply a policy, and write two others to files."""
    ids = {pod["name"]: pod["id"] for pod in call_json("pods")["pods"]}
    pods = {"savings": ids["Emergency Fund"], "groceries": ids["Groceries"], "rent": ids["Rent"]}
    for name, max_cents in (("old", 10_000), ("new", 5_000), ("strict", 2_000)):
        Path(f"{name}.toml").write_text(POLICY.format(max_cents=max_cents, **pods))
    call("callers", "add", "openclaw")
    call("policy", "apply", "old.toml", "--yes")
