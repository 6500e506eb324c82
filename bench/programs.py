"""What it costs to start: the commands of the terminal, and the server. Measured as CPU time of the whole process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.table import Row, in_turn, milliseconds

OF_TYPER = "import typer, rich"
OF_RICH = "import typer, rich.console, rich.table"
A_TABLE = """
import typer
from rich.console import Console
from rich.table import Table
app = typer.Typer()
@app.command()
def show() -> None:
    table = Table("Name", "Amount")
    for number in range(5):
        table.add_row(f"Row {number}", "1.00")
    Console().print(table)
app()
"""


def measure(directory: Path, rounds: int) -> Iterator[Row]:
    """Measure the start of the terminal.

    Args:
        directory: gets a data directory with a simulated account.
        rounds: how often each program runs.
    """
    variables = {"SEQUENCE_SANDBOX": "1", "SEQUENCE_DATA_DIR": str(directory)}
    # However long the rounds take, what is measured as recent stays so.
    variables |= {"SEQUENCE_READ_MAX_AGE_SECONDS": "3600"}
    ours = ("-m", "pysequence_api")
    for command in ("pods", "transfer Groceries Rent 1.00 --yes"):
        # The account is made once, and the trail gets its first lines.
        _cpu_seconds((*ours, *command.split()), variables)
    table = "a Typer command that draws one Rich table"
    for what, command, how, other, target in (
        ("`--help`", "--help", f"`{OF_RICH}`", OF_RICH, 0.9),
        ("`limits show`", "limits show", table, A_TABLE, 1.5),
        ("`audit tail`", "audit tail", table, A_TABLE, 1.5),
        ("`pods` in the sandbox", "pods --fresh", f"`{OF_TYPER}`", OF_TYPER, 5),
        ("`pods` again, from a recent answer", "pods", f"`{OF_TYPER}`", OF_TYPER, 5),
    ):
        mine, theirs = in_turn(
            rounds,
            partial(_cpu_seconds, (*ours, *command.split()), variables),
            partial(_cpu_seconds, ("-c", other), variables),
        )
        shown = milliseconds(mine), milliseconds(theirs)
        yield Row(f"start of {what}", f"{how}, CPU time", *shown, mine / theirs, target)


def _cpu_seconds(arguments: tuple[str, ...], variables: dict[str, str]) -> float:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SEQUENCE_")}
    process = subprocess.Popen(
        (sys.executable, *arguments),
        env=inherited | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    problem = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)[:80]}: {problem}")
    return usage.ru_utime + usage.ru_stime
