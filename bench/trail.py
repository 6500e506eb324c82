"""The audit trail at many lines: reading its end, and verifying it, against `tail` and `sha256sum`."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from bench.table import Row, in_turn, milliseconds
from pysequence_api.records.audit import Line
from pysequence_api.records.trail import Trail

LINES_SHOWN = 10
MB_OF_LINES = 3


def measure(directory: Path, short: Path, lines: int, rounds: int) -> Iterator[Row]:
    """Measure the reading of an audit trail, without the start of Python.

    Args:
        directory: has the long one.
        short: has a short one, with which the memory is compared.
        lines: of the long one, for the table.
        rounds: how often each is measured.
    """
    path = str(Trail(directory).path)
    for what, other, target in (
        ("tail", ("tail", f"-n{LINES_SHOWN}", path), 1),
        ("verify", ("sha256sum", path), 3),
    ):
        mine, theirs = in_turn(rounds, partial(_child_seconds, what, directory), partial(_cpu, other))
        how = f"`{other[0]}`, CPU time"
        shown = milliseconds(mine), milliseconds(theirs)
        yield Row(f"`audit {what}`, {lines:,} lines", how, *shown, mine / theirs, target)
    peak_mb, short_mb = (_child("verify", each)[1] for each in (directory, short))
    how = "peak memory, less that of a short one"
    yield Row("", how, f"{peak_mb:.0f} MB", f"{short_mb:.0f} MB", peak_mb - short_mb, MB_OF_LINES)


def _child_seconds(what: str, directory: Path) -> float:
    return _child(what, directory)[0]


def _child(what: str, directory: Path) -> tuple[float, float]:
    """Return the CPU seconds and the peak memory in MB of a process that reads a trail."""
    command = (sys.executable, "-m", "bench.trail", what, str(directory))
    seconds, peak_mb = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), float(peak_mb)


def _cpu(command: tuple[str, ...]) -> float:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return usage.ru_utime + usage.ru_stime


def _read(what: str, directory: Path) -> None:
    trail = Trail(directory)
    reads: dict[str, Callable[[], object]] = {
        "tail": lambda: [*islice(trail.newest_first(), LINES_SHOWN)],
        "verify": trail.verify,
    }
    Line.parse(b"{}")  # the first line builds what reads the others, which is a part of the start
    began_seconds = time.process_time()
    reads[what]()
    print(time.process_time() - began_seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


if __name__ == "__main__":
    _read(sys.argv[1], Path(sys.argv[2]))
