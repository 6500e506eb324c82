"""Measures this program against what it is built on: one table, all of it from one run.

It needs Linux, which tells the CPU time and the memory of a process. Compare the ratios, not the times, with those of
another machine.
"""

import argparse
import asyncio
import os
import platform
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench import local, programs, requests
from bench.table import print_head, print_rows

PARTS = ("terminal", "server", "local")


def main() -> None:
    """Run the program."""
    options = _options()
    print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {platform.machine()},"
        f" {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}. CPU times are the least of {options.rounds} rounds.\n"
    )
    print_head()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if "terminal" in options.parts:
            print_rows(programs.measure(directory / "terminal", options.rounds))
        if "server" in options.parts:
            asyncio.run(_print_server_rows(directory, options))
        if "local" in options.parts:
            print_rows(local.measure(directory, options.entries, options.lines, options.rounds))
    print("\nThe tests are measured apart: `time .venv/bin/pytest -q`, at most 90 s on two cores.")


async def _print_server_rows(directory: Path, options: argparse.Namespace) -> None:
    async for row in requests.measure(directory, options.rounds, options.seconds, options.requests):
        print_rows([row])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=_number(float, 0.01, 60), default=2.0, help="of each round of requests")
    parser.add_argument("--rounds", type=_number(int, 1, 100), default=5, help="of each measurement")
    parser.add_argument("--entries", type=_number(int, 1, 100_000), default=10_000, help="transfers on a long day")
    parser.add_argument("--lines", type=_number(int, 2, 2_000_000), default=1_000_000, help="of a long audit trail")
    parser.add_argument("--requests", type=_number(int, 1, 1_000_000), default=100_000, help="until memory is read")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    return parser.parse_args()


def _number(kind: type[float], least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be from {least:g} to {most:g}")
        return value

    return read


if __name__ == "__main__":
    main()
