"""A transfer's process is killed at each write, sync, rename and send in turn, and a restart finds out.

`strace` kills it, so that the program needs no hook for it. It counts calls per thread and path; each target is tried
with the first call, the second, and so on, until a run ends by itself. How the records are built, in a new directory or
from older files, `tests/records/test_takeover_kills.py` interrupts at each call; here, only the last steps of it.
"""

import os
import re
import shutil
import subprocess
from itertools import permutations
from pathlib import Path

import pytest

from tests.crash.restart import Restart
from tests.processes import COMMAND, SandboxProcess, run_process

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

PODS = ["Emergency Fund", "House Down Payment", "Rent", "Groceries", "Vacation / Travel", "50% Rule", "Taxes 2025"]
PAIRS = list(permutations(PODS, 2))
"""Each run moves money between two pods of its own. Otherwise a transfer of another run, near that time and of no
attempt in this data directory, would keep an attempt from being taken for not executed."""
FIRST_CENTS = 1_000
KILLED = {137, -9}
DATABASE, LOG, INDEX = ".records.db", ".records.db-wal", ".records.db-shm"
TRAIL, LIMITS = ".audit.jsonl", ".daily_limits.json.new"
TARGETS = [
    ("pwrite64", LOG),
    ("fdatasync", LOG),
    ("pwrite64", INDEX),
    ("ftruncate", INDEX),
    ("pwrite64", DATABASE),
    ("ftruncate", DATABASE),
    ("fdatasync", DATABASE),
    ("chmod", DATABASE),
    ("fdatasync", "."),
    ("pwrite64", TRAIL),
    ("fsync", TRAIL),
    ("fsync", "."),
    ("write", LIMITS),
    ("rename", LIMITS),
    ("unlink", None),
    ("fchmod", None),
    ("sendto", None),
]
BUILDING = [
    ("rename", ".records.db.new"),
    ("fsync", ".records.db.new"),
    ("rename", ".audit.head.json.new"),
    ("fsync", "."),
]
ANYWHERE = {"unlink", "fchmod", "sendto", "sendmsg"}
"""The files of these calls have random names, or none."""
CHANGES = (
    "write,pwrite64,pwritev,pwritev2,writev,sendfile,copy_file_range,fsync,fdatasync,sync_file_range,syncfs,msync,"
    "ftruncate,truncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,mkdir,mkdirat,rmdir,"
    "chmod,fchmod,fchmodat,sendto,sendmsg,sendmmsg"
)
CALL = re.compile(r"\d+ +(\w+)\((?:\d+<([^>]*)>|(?:AT_FDCWD(?:<[^>]*>)?, )?\"([^\"]*)\")")


@pytest.fixture
def used(sequence: SandboxProcess, tmp_path: Path) -> Path:
    """A data directory that has its records already, to be copied."""
    directory = tmp_path / "used"
    assert run_process(sequence.environment(directory), "pods").returncode == 0
    assert (directory / DATABASE).exists()
    return directory


def kill_at(call: str, path: Path | None, number: int) -> tuple[str, ...]:
    """Make the command that kills a program at a call, which is then not carried out."""
    which = ("-P", str(path)) if path else ()
    inject = f"inject={call}:signal=SIGKILL:when={number}"
    return ("strace", "-f", "-qq", "-o", os.devnull, *which, "-e", f"trace={call}", "-e", inject)


def transfer(at: Restart, number: int, *before: str) -> "subprocess.CompletedProcess[str]":
    """Make a transfer with the command line."""
    source, destination = PAIRS[number]
    arguments = ("transfer", source, destination, "--cents", str(FIRST_CENTS + number), "--yes")
    return run_process(at.environment(), *arguments, command=(*before, *COMMAND))


def kill_at_each(
    sequence: SandboxProcess,
    tmp_path: Path,
    template: Path | None,
    call: str,
    name: str | None,
    *,
    upstream: str = "graphql",
) -> None:
    for number in range(1, len(PAIRS)):
        directory = tmp_path / f"data-{number}"
        if template is None:
            directory.mkdir(mode=0o700)
        else:
            shutil.copytree(template, directory)
        at = Restart(sequence, directory, upstream)
        ended = transfer(at, number, *kill_at(call, directory / name if name else None, number))
        if ended.returncode == 0:
            assert number > 1, "there was no such call"
            return
        assert ended.returncode in KILLED, ended.stderr
        at.expect_nothing_lost(f"killed at {call} {name} number {number}")
    pytest.fail("there is no end of calls")


@pytest.mark.parametrize(("call", "name"), TARGETS)
def test_a_kill_at_any_call_loses_nothing(
    sequence: SandboxProcess, tmp_path: Path, used: Path, call: str, name: str | None
) -> None:
    kill_at_each(sequence, tmp_path, used, call, name)


@pytest.mark.parametrize(("call", "name"), [("fdatasync", LOG), ("pwrite64", TRAIL), ("sendto", None)])
def test_a_kill_while_sending_again_is_possible_loses_nothing(
    sequence: SandboxProcess, tmp_path: Path, used: Path, call: str, name: str | None
) -> None:
    kill_at_each(sequence, tmp_path, used, call, name, upstream="platform")


@pytest.mark.parametrize(("call", "name"), BUILDING)
def test_a_kill_in_a_new_data_directory_loses_nothing(
    sequence: SandboxProcess, tmp_path: Path, call: str, name: str
) -> None:
    kill_at_each(sequence, tmp_path, None, call, name)


def test_these_are_all_the_calls_that_there_are(sequence: SandboxProcess, tmp_path: Path, used: Path) -> None:
    trace = tmp_path / "trace"
    before = ("strace", "-f", "-qq", "-y", "-o", str(trace), "-e", f"trace={CHANGES}")
    assert transfer(Restart(sequence, used), 0, *before).returncode == 0
    seen: set[tuple[str, str | None]] = set()
    for line in trace.read_text().splitlines():
        match = CALL.match(line)
        if match is None or " = -1 E" in line:
            continue
        call, place = match[1], match[2] or match[3]
        if call.startswith("send"):
            seen.add((call, None))
        elif place.startswith(str(used)):
            seen.add((call, None if call in ANYWHERE else os.path.relpath(place, used)))
    assert seen == set(TARGETS)
