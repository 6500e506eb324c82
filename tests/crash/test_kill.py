"""A transfer's process is killed at each write, sync, rename and send in turn, and a restart finds out.

`strace` kills it, so that the program needs no hook for it. It counts calls per thread and path; each target is tried
with the first call, the second, and so on, until a run ends by itself.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

PROGRAM = [sys.executable, "-m", "pysequence_api"]
LIMIT_CENTS = 1_000_000
AMOUNT_CENTS = 400_000
MAX_CALLS = 40
MAX_LOOKS = 20
KILLED = 137
LEDGER, TRAIL, HEAD = ".daily_limits.json.new", ".audit.jsonl", ".audit.head.json.new"
NAMES = ".names.json.new"
TARGETS = [
    ("write", LEDGER),
    ("fsync", LEDGER),
    ("rename", LEDGER),
    ("write", TRAIL),
    ("fsync", TRAIL),
    ("write", HEAD),
    ("fsync", HEAD),
    ("rename", HEAD),
    ("write", NAMES),
    ("fsync", NAMES),
    ("rename", NAMES),
    ("fsync", "."),
    ("sendto", None),
]
CHANGES = "write,pwrite64,writev,fsync,fdatasync,ftruncate,rename,renameat,renameat2,sendto,sendmsg"


@dataclass
class House:
    """A gateway's data directory, and the simulated Sequence over HTTP."""

    directory: Path
    variables: dict[str, str]
    moved_before_cents: int = 0

    @property
    def url(self) -> str:
        return self.variables["SEQUENCE_AUTH_URL"]

    def environment(self) -> dict[str, str]:
        """Give the variables of a gateway on this data directory."""
        return (os.environ | self.variables) | {
            "SEQUENCE_DATA_DIR": str(self.directory),
            "SEQUENCE_MAX_DAILY_TRANSFER_CENTS": str(LIMIT_CENTS),
            "SEQUENCE_REQUEST_INTERVAL_SECONDS": "0",
            "SEQUENCE_REQUEST_JITTER_SECONDS": "0",
            "SEQUENCE_REQUEST_TIMEOUT_SECONDS": "1",
            "SEQUENCE_RECONCILE_GRACE_SECONDS": "2",  # the simulated Sequence shows a transfer at once
        }

    def run(self, *arguments: str, before: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        command = [*before, *PROGRAM, *arguments]
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=120, check=False)

    def pods(self) -> list[dict[str, Any]]:
        pods: list[dict[str, Any]] = json.loads(self.run("pods", "--json").stdout)["pods"]
        return pods

    def transfer(self, amount_cents: int, *, before: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
        return self.run("transfer", "Emergency Fund", "Rent", "--cents", str(amount_cents), "--yes", before=before)

    def forget(self) -> None:
        """Begin to count anew what moves."""
        self.moved_before_cents = self._all_moved_cents()

    def moved_cents(self) -> int:
        return self._all_moved_cents() - self.moved_before_cents

    def _all_moved_cents(self) -> int:
        transfers = httpx.get(f"{self.url}/sandbox/transfers", trust_env=False).json()["transfers"]
        return sum(transfer["amount_cents"] for transfer in transfers)

    def limits(self) -> dict[str, Any]:
        limits: dict[str, Any] = json.loads(self.run("limits", "show", "--json").stdout)
        return limits

    def trail(self) -> list[dict[str, Any]]:
        path = self.directory / ".audit.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith(b"}")]

    def expect_nothing_lost(self, what: str) -> None:
        """Have a restart find out, and hold everything against what Sequence moved."""
        assert self.limits()["used_cents"] >= self.moved_cents(), what
        for _ in range(MAX_LOOKS):
            found = self.run("limits", "reconcile")
            assert found.returncode == 0, (what, found.stderr)
            if not self.limits()["unsettled"]:
                break
        limits = self.limits()
        assert limits["unsettled"] == [], what
        assert limits["used_cents"] == self.moved_cents() <= LIMIT_CENTS, what
        verified = self.run("audit", "verify")
        assert verified.returncode == 0, (what, verified.stdout)
        begun = [line["attempt_id"] for line in self.trail() if line["event_type"] == "transfer_requested"]
        ended = [
            line["attempt_id"]
            for line in self.trail()
            if line["event_type"] == "transfer_completed"
            or (line["event_type"] == "transfer_failed" and line["outcome"] != "unknown")
        ]
        assert sorted(begun) == sorted(ended), what


@pytest.fixture
def house(sequence: dict[str, str], tmp_path: Path) -> House:
    house = House(tmp_path / "data", sequence)
    house.forget()
    return house


def killed_at(call: str, path: Path | None, number: int) -> tuple[str, ...]:
    """Make the command that kills a program at a call, which is not carried out any more."""
    which = ("-P", str(path)) if path else ()
    inject = f"inject={call}:signal=SIGKILL:when={number}"
    return ("strace", "-f", "-qq", "-o", os.devnull, *which, "-e", f"trace={call}", "-e", inject)


@pytest.mark.parametrize(("call", "name"), TARGETS)
def test_a_kill_at_any_call_loses_nothing(house: House, tmp_path: Path, call: str, name: str | None) -> None:
    # Each run moves an amount of its own: equal transfers of another data directory would be taken for its own.
    first_amount_cents = AMOUNT_CENTS + TARGETS.index((call, name)) * MAX_CALLS
    kills = 0
    for number in range(1, MAX_CALLS):
        house.directory = tmp_path / f"data-{number}"
        house.directory.mkdir()
        house.forget()
        path = None if name is None else house.directory / name
        ended = house.transfer(first_amount_cents + number, before=killed_at(call, path, number))
        if ended.returncode == 0:
            break
        assert ended.returncode in {KILLED, -9}, ended.stderr
        kills += 1
        house.expect_nothing_lost(f"killed at {call} {name} number {number}")
    else:
        pytest.fail("there is no end of calls")
    assert kills > 0


def test_these_are_all_the_calls_that_there_are(house: House, tmp_path: Path) -> None:
    house.directory.mkdir()
    trace = tmp_path / "trace"
    before = ("strace", "-f", "-qq", "-y", "-o", str(trace), "-e", f"trace={CHANGES}")
    assert house.transfer(AMOUNT_CENTS - 1, before=before).returncode == 0
    seen: set[tuple[str, str | None]] = set()
    for line in trace.read_text().splitlines():
        if (match := re.match(r"\d+ +(\w+)\((?:\d+<([^>]*)>|\"([^\"]*)\")", line)) is None:
            continue
        call, place = match[1], match[2] or match[3]
        if call.startswith("send"):
            seen.add((call, None))
        elif place.startswith(str(house.directory)):
            seen.add((call, os.path.relpath(place, house.directory)))
    assert seen == set(TARGETS)
