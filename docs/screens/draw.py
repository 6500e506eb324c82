"""Draws the pictures in this directory: `python docs/screens/draw.py`.

Each command runs in this process, on a simulated Sequence in a temporary directory. Its output goes to a screen of a
fixed size, which Rich exports as an SVG.
"""

import io
import os
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pysequence_api.cli import app

HERE = Path(__file__).parent
COLUMNS = 96
BEFORE = (
    ["transfer", "Emergency Fund", "Rent", "$9,800", "--yes"],
    ["transfer", "Emergency Fund", "Groceries", "$9,500", "--yes"],
    ["transfer", "Empty Envelope", "Rent", "$40", "--yes"],
    ["transfer", "Emergency Fund", "Rent", "$15,000", "--yes"],
)
PICTURES = {
    "transfer": ["transfer", "Groceries", "Rent", "$25", "--dry-run"],
    "limits-show": ["limits", "show"],
    "audit-tail": ["audit", "tail"],
}


class Screen(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Return true."""
        return True


def run(arguments: list[str]) -> str:
    """Run a command and return its output."""
    screen = Screen()
    with redirect_stdout(screen), redirect_stderr(screen):
        try:
            app(arguments)
        except SystemExit as ended:
            return f"{screen.getvalue()}" if ended.code in {0, 3, 4} else sys.exit(screen.getvalue())
    return screen.getvalue()


def draw(name: str, arguments: list[str], directory: str) -> None:
    """Draw one picture."""
    shown = run(arguments).replace(directory, "/srv/money")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(shown.rstrip()))
    title = " ".join(f"'{each}'" if "$" in each else each for each in ["pysequence-api", *arguments])
    (HERE / f"{name}.svg").write_text(console.export_svg(title=title, unique_id=name))


def main() -> None:
    """Draw all pictures."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ |= {"SEQUENCE_SANDBOX": "1", "SEQUENCE_DATA_DIR": directory, "TERM": "xterm-256color"}
        os.environ |= {"COLUMNS": str(COLUMNS), "LINES": "40"}
        for arguments in BEFORE:
            run(arguments)
        for name, arguments in PICTURES.items():
            draw(name, arguments, directory)


if __name__ == "__main__":
    main()
