"""The system kills a process that takes old files over, at each of its system calls that change a file."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.records.test_takeover import OldDirectory, old_content, snapshot

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

PROGRAM = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from pysequence_api.records import open_records
records = open_records(Path(sys.argv[1]), lambda: datetime(2026, 11, 23, 12, tzinfo=UTC))
records.write(lambda _: None)
"""
CALLS = ("write", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "unlink", "fchmod", "chmod")
KILLED = 137


def take_over(path: Path, *before: str) -> int:
    """Take over in a process of its own, and return its exit status."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [*before, sys.executable, "-c", PROGRAM, str(path)]
    return subprocess.run(command, env=environment, timeout=120, check=False).returncode


def new_directory(path: Path) -> OldDirectory:
    path.mkdir()
    old = OldDirectory(path)
    old_content(old)
    return old


def calls_of(tmp_path: Path) -> Counter[str]:
    """Count the calls of a takeover that is not killed."""
    old, trace = new_directory(tmp_path / "counted"), tmp_path / "trace"
    assert take_over(old.path, "strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={','.join(CALLS)}") == 0
    return Counter(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))


@pytest.mark.parametrize("call", CALLS)
def test_killed_at_any_call_the_next_start_begins_again(tmp_path: Path, call: str) -> None:
    count = calls_of(tmp_path)[call]
    whole = new_directory(tmp_path / "whole")
    before, wanted = whole.content(), snapshot(whole)
    for number in range(1, count + 1):
        old = new_directory(tmp_path / f"killed-{number}")
        inject = f"inject={call}:signal=SIGKILL:when={number}"
        status = take_over(old.path, "strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e", inject)
        assert status in {KILLED, -9}, number
        if not (old.path / ".records.db").exists():
            assert {name: content for name, content in old.content().items() if name in before} == before, number
        assert snapshot(old) == wanted, number


def test_these_are_all_the_calls_that_change_a_file(tmp_path: Path) -> None:
    old, trace = new_directory(tmp_path / "data"), tmp_path / "trace"
    others = "link,linkat,symlink,renameat,renameat2,unlinkat,truncate,pwritev,pwritev2,writev,sendfile,copy_file_range"
    more = "fallocate,fchmodat,mkdir,mkdirat,rmdir,sync_file_range,syncfs,msync"
    assert take_over(old.path, "strace", "-f", "-qq", "-y", "-o", str(trace), "-e", f"trace={others},{more}") == 0
    found = [line for line in trace.read_text().splitlines() if str(old.path) in line and "EEXIST" not in line]
    # The directory of the owners, and the index of the log, are not of what is taken over.
    assert [line for line in found if ".owners" not in line and "-shm" not in line] == []
