"""How things are drawn: for a person who looks, or as plain text for what reads a pipe.

Results go to standard output, everything else to standard error. No text from elsewhere is markup, and none of its
control characters reach the terminal. Everything is drawn to a string first and then written in one place, so that a
reader who has gone is noticed there and nowhere else.
"""

import json
import os
import stat
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from select import POLLERR, POLLHUP, poll
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from pysequence_api.errors import GatewayError

UNKNOWN = "unknown"
COLUMN_GAP = "  "
BAR_WIDTH_CELLS = 20
TABLE_EDGE_CELLS = 3
"""What a column of a drawn table has around it."""
BAR_CHARACTERS, PLAIN_BAR_CHARACTERS = ("█", "▓", "░"), ("#", "+", ".")
"""Used, added and free; told apart without colours too."""
YELLOW_FROM, RED_FROM = 0.75, 0.95
"""The shares of a limit from which its bar warns."""
_choices = {"color": True, "status": False}
_JOINERS = "\u200c\u200d"  # invisible, but a part of emoji and of words in some scripts
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
Fact = tuple[str, str | Text]
"""A name and its value; a `Text` is drawn as it is, and holds nothing that is not safe."""


class ReaderGoneError(Exception):
    """Who read standard output has gone, as ``head`` does when it has enough. No failure, but the end of writing."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. Numbers stand at its right, and are never broken; nor is what must stay ``whole``."""

    title: str
    right: bool = False
    whole: bool = False
    style: str = ""


def is_watched(stream: TextIO | None) -> bool:
    """Say whether a person looks at a stream, on a terminal that can do more than print characters."""
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def use_color(wanted: bool) -> None:
    """Say whether colours may be used at all; ``NO_COLOR`` in the environment forbids them in any case."""
    _choices["color"] = wanted


def new_console(stream: TextIO | None) -> Console:
    """Make a console on a stream that a person looks at."""
    no_color = None if _choices["color"] else True  # None: as the environment says
    return Console(file=stream, force_terminal=True, no_color=no_color, markup=False, highlight=False, emoji=False)


def is_terminal(stream: TextIO | None) -> bool:
    """Say whether a stream is a terminal."""
    return stream is not None and not stream.closed and stream.isatty()


def safe(text: str) -> str:
    """Make a text harmless: what is invisible, or would steer the terminal, is written out, as in ``\\x1b``."""
    return "".join(_written_out(character) for character in text)


def shown_time(moment: datetime) -> str:
    """Write a time of the result: in the zone of whoever looks, else in UTC."""
    if is_watched(sys.stdout):
        return moment.astimezone().isoformat(" ", "seconds")
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def print_line(text: str | Text = "") -> None:
    """Write a line of the result."""
    _write(sys.stdout, _drawn(sys.stdout, text) if isinstance(text, Text) else safe(text) + "\n")


def print_json(document: Any) -> None:
    """Write the result as one JSON document, in ASCII, so that no name in it can steer a terminal."""
    _write(sys.stdout, json.dumps(document, indent=2) + "\n")


def print_json_line(document: Any) -> None:
    """Write a part of the result as one line of JSON."""
    _write(sys.stdout, json.dumps(document) + "\n")


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], total: Sequence[str] | None = None) -> None:
    """Write a table of the result.

    Args:
        columns: what stands above, and how.
        rows: a text for each column.
        total: a last row that sums up.
    """
    if not is_watched(sys.stdout):
        return _write(sys.stdout, _aligned(columns, [*rows, total] if total else rows))
    keep_whole = _fits([column.right or column.whole for column in columns], columns, rows)
    table = Table(show_footer=total is not None, header_style="bold", footer_style="bold")
    for column, footer in zip(columns, total or [""] * len(columns), strict=True):
        table.add_column(
            Text(column.title),
            Text(safe(footer)),
            justify="right" if column.right else "left",
            style=column.style,
            overflow="fold",  # what is too long goes on in the next line; nothing is cut off
            no_wrap=keep_whole and (column.right or column.whole),
        )
    for row in rows:
        table.add_row(*(Text(safe(cell)) for cell in row))
    return _write(sys.stdout, _drawn(sys.stdout, table))


def _fits(chosen: Sequence[bool], columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> bool:
    """Say whether some columns leave a third of the window to the others: in a narrower one, they must break too."""
    widths = [
        max(cell_len(text) for text in texts) for texts in zip([one.title for one in columns], *rows, strict=True)
    ]
    protected = sum(width for width, is_chosen in zip(widths, chosen, strict=True) if is_chosen)
    return protected + TABLE_EDGE_CELLS * len(columns) <= window_columns() * 2 // 3


def print_facts(facts: Sequence[Fact]) -> None:
    """Write things of the result that have a name each, one a line."""
    _write(sys.stdout, _facts(sys.stdout, facts))


def print_bar(used: int, maximum: int) -> None:
    """Draw how much of a limit is used; only for a person."""
    if is_watched(sys.stdout):
        percent = 100 * used // maximum if maximum else 100
        print_line(Text.assemble(_bar(sys.stdout, used, 0, maximum), f" {percent} % used"))


def with_bar(stream: TextIO | None, text: str, used: int, adding: int, maximum: int) -> str | Text:
    """Put a bar before a text, if a person looks at the stream.

    Args:
        stream: where it will be written.
        text: what the bar shows, in words.
        used: how much of the limit is used.
        adding: how much would be added.
        maximum: the limit.
    """
    if not is_watched(stream):
        return text
    return Text.assemble(_bar(stream, used, adding, maximum), f" {safe(text)}")


def print_cut(text: Text) -> None:
    """Write a line of the result: cut to the window's width for a person, else whole."""
    if is_watched(sys.stdout):
        text.truncate(window_columns(), overflow="ellipsis" if _can_encode(sys.stdout, "…") else "crop")
    print_line(text)


def clear_screen() -> None:
    """Begin the screen of the result again."""
    _write(sys.stdout, "\x1b[H\x1b[2J")


def window_columns() -> int:
    """Give the width of the window, as it is now."""
    return new_console(sys.stdout).width


def window_lines() -> int:
    """Give the height of the window, as it is now."""
    return new_console(sys.stdout).height


def show_status(text: str) -> None:
    """Show a line beside the result that the next one, or anything else that is written, replaces."""
    width = new_console(sys.stderr).width - 1  # the last column would make some terminals wrap
    end_status()
    _write(sys.stderr, f"\r{safe(text)[:width]}")
    _choices["status"] = True


def end_status() -> None:
    """Take the line of `show_status` away, if one is shown."""
    if _choices["status"]:
        _choices["status"] = False
        _write(sys.stderr, "\r\x1b[K")


def note(text: str, style: str = "") -> None:
    """Say something beside the result."""
    _write(sys.stderr, _drawn(sys.stderr, Text(_safe_lines(text), style)))


def note_facts(facts: Sequence[Fact]) -> None:
    """Say things beside the result that have a name each, one a line."""
    _write(sys.stderr, _facts(sys.stderr, facts))


def warn(text: str) -> None:
    """Warn of something."""
    note(f"Warning: {text}", "yellow")


def fail(text: str) -> None:
    """Say why the program ends: what, why, what to do."""
    note(f"Error: {text}", "bold red")


def ask_without_line_end(question: str) -> None:
    """Write a question, so that the answer can be typed beside it."""
    _write(sys.stderr, f"{safe(question)} ")


def wait_for_reader(seconds: float) -> None:
    """Wait, as ``time.sleep`` does, but not longer than somebody reads standard output.

    Raises:
        ReaderGoneError: nobody does any more.
    """
    poller = poll()
    if sys.stdout is not None and _is_pipe(sys.stdout):
        poller.register(sys.stdout, 0)
    if any(event & (POLLERR | POLLHUP) for _, event in poller.poll(seconds * 1000)):
        raise ReaderGoneError


def _is_pipe(stream: TextIO) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except OSError:
        return False  # no file at all
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _written_out(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _INVISIBLE:
        return character
    return character.encode("unicode_escape").decode("ascii")


def _safe_lines(text: str) -> str:
    return "\n".join(map(safe, text.split("\n")))


def _aligned(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    table = [[column.title.upper() for column in columns], *([safe(cell) for cell in row] for row in rows)]
    widths = [max(map(cell_len, cells)) for cells in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            _padding(cell, width) + cell if column.right else cell + _padding(cell, width)
            for cell, column, width in zip(row, columns, widths, strict=True)
        ]
        lines.append(COLUMN_GAP.join(cells).rstrip() + "\n")
    return "".join(lines)


def _padding(cell: str, width: int) -> str:
    return " " * (width - cell_len(cell))


def _facts(stream: TextIO | None, facts: Sequence[Fact]) -> str:
    width = max(cell_len(name) for name, _ in facts)
    if not is_watched(stream):
        return "".join(f"{name:{width}}{COLUMN_GAP}{_plain(value)}\n" for name, value in facts)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(Text(name), value if isinstance(value, Text) else Text(safe(value)))
    return _drawn(stream, grid)


def _plain(value: str | Text) -> str:
    return value.plain if isinstance(value, Text) else safe(value)


def _bar(stream: TextIO | None, used: int, adding: int, maximum: int) -> Text:
    share = (used + adding) / maximum if maximum else 1.0
    color = "red" if share >= RED_FROM else "yellow" if share >= YELLOW_FROM else "green"
    full = min(BAR_WIDTH_CELLS, round(share * BAR_WIDTH_CELLS))
    # What is added shows, however little it is.
    full = max(full, 1) if used + adding else full
    added = min(full, max(1, round(adding / maximum * BAR_WIDTH_CELLS) if maximum else full)) if adding else 0
    used_one, added_one, free = BAR_CHARACTERS if _can_encode(stream, "".join(BAR_CHARACTERS)) else PLAIN_BAR_CHARACTERS
    return Text.assemble(
        (used_one * (full - added), color),
        (added_one * added, f"bold {color}"),
        (free * (BAR_WIDTH_CELLS - full), f"dim {color}"),
    )


def _can_encode(stream: TextIO | None, text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _drawn(stream: TextIO | None, renderable: RenderableType) -> str:
    """Draw for a stream: with colours and line breaks for a person, else only the characters."""
    if not is_watched(stream):
        return f"{renderable.plain}\n" if isinstance(renderable, Text) else ""
    console = new_console(stream)
    with console.capture() as capture:
        console.print(renderable, soft_wrap=isinstance(renderable, Text))  # the terminal wraps; it can be resized
    drawn = capture.get()
    return drawn if drawn.endswith("\n") else f"{drawn}\n"  # a bar has no line end of its own


def _write(stream: TextIO | None, text: str) -> None:
    """The one place where anything is written.

    Raises:
        ReaderGoneError: to standard output, and nobody reads it.
        GatewayError: to standard output, and that is not possible.
    """
    end_status()
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        _give_up(stream)
        if stream is sys.stderr:
            return  # nobody is left to be told, and a transfer must not stop half way for that
        if isinstance(error, BrokenPipeError):
            raise ReaderGoneError from error
        raise GatewayError(f"The result cannot be written to standard output ({error.strerror}).") from error


def _give_up(stream: TextIO) -> None:
    # What is left in the buffer would fail again when the interpreter ends, with a traceback.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
