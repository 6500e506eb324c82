"""Tables, facts and bars, drawn with Rich on a terminal and as plain aligned text elsewhere.

Everything is drawn to a string and then written by `terminal.write`. Text from outside is never taken for markup.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions, RenderableType
from rich.table import Table
from rich.text import Text

from pysequence_api.cli.terminal import COLUMN_GAP, UNKNOWN, is_color_allowed, is_interactive, safe, write

if TYPE_CHECKING:
    from pysequence_api.models import Moment, Party, Transfer

BAR_WIDTH_CELLS = 20
TABLE_EDGE_CELLS = 3
"""The border and padding of one column."""
ID_WIDTH = 36
"""The length of an id. In a table with borders, text up to this length is never broken."""
INDENT = "  "
NOTHING = "-"
BAR_CHARACTERS, PLAIN_BAR_CHARACTERS = ("█", "▓", "░"), ("#", "+", ".")
"""Used, added and free; they differ without colors too."""
YELLOW_FROM, RED_FROM = 0.75, 0.95
"""The shares of a limit from which its bar is yellow or red."""

Fact = tuple[str, str | Text]
"""A name and a value. A `Text` is drawn as it is, so everything in it must be safe."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: the heading.
        right: it has numbers, which are right-aligned and never wrapped.
        whole: it is never wrapped.
        is_id: it has ids, which come last where a row takes several lines.
    """

    title: str
    right: bool = False
    whole: bool = False
    is_id: bool = False

    @property
    def style(self) -> str:
        """How the cells look."""
        return "dim" if self.is_id else ""

    @property
    def is_wrapped(self) -> bool:
        """Whether long text in it may be wrapped."""
        return not (self.right or self.whole or self.is_id)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], total: Sequence[str] | None = None) -> None:
    """Print a table, and under it a row of totals.

    In a window too narrow for the table, each row takes several lines, without borders.
    """
    if not is_interactive(sys.stdout):
        write(sys.stdout, _aligned(columns, [*rows, total] if total else rows))
    elif _fits(columns, [*rows, total] if total else rows):
        write(sys.stdout, _drawn(sys.stdout, _table(columns, rows, total)))
    else:
        print_text(_stacked(columns, rows, total))


def print_facts(facts: Sequence[Fact], stream: TextIO | None = None) -> None:
    """Print names and values, one pair on a line, on standard output or another stream."""
    stream = stream or sys.stdout
    write(stream, _facts(stream, facts))


def print_text(text: Text) -> None:
    """Print a line of safe text with styles."""
    write(sys.stdout, _drawn(sys.stdout, text))


def print_bar(used: int, maximum: int) -> None:
    """Print a bar that shows how much of a limit is used, but only on a terminal."""
    if is_interactive(sys.stdout):
        percent = 100 * used // maximum if maximum else 100
        print_text(Text.assemble(_bar(sys.stdout, used, 0, maximum), f" {percent} % used"))


def with_bar(stream: TextIO | None, text: str, used: int, adding: int, maximum: int) -> str | Text:
    """Return a text, on a terminal with a bar before it.

    Args:
        stream: where the text will be written.
        text: what the bar shows, in words.
        used: how much of the limit is used.
        adding: how much would be added.
        maximum: the limit.
    """
    if not is_interactive(stream):
        return text
    return Text.assemble(_bar(stream, used, adding, maximum), f" {safe(text)}")


@contextmanager
def progress(action: str, unit: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on standard error, if it is a terminal. Call the result to advance the bar."""
    if not is_interactive(sys.stderr):
        yield lambda _count: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415 - seldom needed

    known = (TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn())
    counts = known if total else (TextColumn(f"{{task.completed:.0f}} {unit}"),)
    with Progress(
        TextColumn(action), BarColumn(), *counts, console=_console(sys.stderr), transient=True, redirect_stdout=False
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.advance(task, done)


def clear_screen() -> None:
    """Clear the terminal."""
    write(sys.stdout, "\x1b[H\x1b[2J")


def window_size(stream: TextIO | None = None) -> ConsoleDimensions:
    """Return the current width and height of the window."""
    return _console(stream or sys.stdout).size


def shown_time(moment: datetime) -> str:
    """Format a time: on a terminal in the local time zone, elsewhere in UTC."""
    if is_interactive(sys.stdout):
        return moment.astimezone().isoformat(" ", "seconds")
    return moment.astimezone(UTC).isoformat(timespec="seconds")


# Amounts in words.

ONES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
TENS = ["-", "-", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SCALES = ((1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand"), (100, "hundred"))


def cents_in_words(cents: int) -> str:
    """Spell out an amount, which makes a mistyped digit visible."""
    dollars, rest = divmod(cents, 100)
    parts = [_counted(dollars, "dollar")] if dollars or not rest else []
    parts += [_counted(rest, "cent")] if rest else []
    return " and ".join(parts)


def _counted(number: int, unit: str) -> str:
    return f"{_in_words(number)} {unit}{'' if number == 1 else 's'}"


def _in_words(number: int) -> str:
    for size, name in SCALES:
        if number >= size:
            whole, rest = divmod(number, size)
            return f"{_in_words(whole)} {name}" + (f" {_in_words(rest)}" if rest else "")
    if number < len(ONES):
        return ONES[number]
    tens, ones = divmod(number, 10)
    return TENS[tens] + (f"-{ONES[ones]}" if ones else "")


# Transfers that Sequence lists.

TRANSFER_COLUMNS = (
    Column("Created", whole=True),
    Column("Status", whole=True),
    Column("Amount", right=True),
    Column("From"),
    Column("To"),
    Column("What"),
    Column("Id", is_id=True),
)


def transfer_row(transfer: "Transfer") -> tuple[str, ...]:
    """Return a row of `TRANSFER_COLUMNS`."""
    what = transfer.error_reason or transfer.description or (transfer.activity_type or "").replace("_", " ").lower()
    return (
        shown_moment(transfer.created_at),
        transfer.status or UNKNOWN,
        transfer.amount or UNKNOWN,
        shown_party(transfer.source),
        shown_party(transfer.destination),
        what,
        transfer.id,
    )


def shown_moment(moment: "Moment | None") -> str:
    """Format a time, or a day if Sequence gives only that."""
    if isinstance(moment, datetime):
        return shown_time(moment)
    return UNKNOWN if moment is None else moment.isoformat()


def shown_party(party: "Party") -> str:
    """Return the name of a party, else its id."""
    return party.name or party.id or UNKNOWN


def name_or_id(party_id: str | None, names: Mapping[str, str]) -> str:
    """Return the known name of a party, else its id."""
    return names.get(party_id or "", party_id or NOTHING)


# Text on as many lines as the window needs.


def flowed(parts: Iterable[Text]) -> Text:
    """Put parts one after another, as many on a line as fit. Further lines are indented, and no word is broken."""
    columns = window_size().width
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + len(COLUMN_GAP) + part.cell_len <= columns:
            lines[-1] = Text.assemble(lines[-1], COLUMN_GAP, part)
            continue
        for piece in _wrapped(part, columns - len(INDENT)):
            lines.append(Text.assemble(INDENT if lines else "", piece))
    return Text("\n").join(lines)


def _wrapped(text: Text, columns: int) -> list[Text]:
    # A word longer than the line stays whole: the terminal wraps it, and it can still be copied.
    if text.cell_len <= columns:
        return [text]
    lines: list[Text] = []
    for word in text.split(" "):
        if lines and lines[-1].cell_len + 1 + word.cell_len <= columns:
            lines[-1] = Text.assemble(lines[-1], " ", word)
        else:
            lines.append(word)
    for line in lines:
        line.rstrip()
    return lines


# How tables, facts and bars become text.


def _console(stream: TextIO | None) -> Console:
    no_color = None if is_color_allowed() else True
    return Console(file=stream, force_terminal=True, no_color=no_color, markup=False, highlight=False, emoji=False)


def _drawn(stream: TextIO | None, renderable: RenderableType) -> str:
    if not is_interactive(stream):
        return f"{renderable.plain}\n" if isinstance(renderable, Text) else ""
    console = _console(stream)
    with console.capture() as capture:
        console.print(renderable, soft_wrap=isinstance(renderable, Text))  # the terminal wraps; it can be resized
    drawn = capture.get()
    return drawn if drawn.endswith("\n") else f"{drawn}\n"


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    texts = zip([column.title for column in columns], *rows, strict=True)
    return [max(cell_len(safe(text)) for text in cells) for cells in texts]


def _fits(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> bool:
    needed = (
        min(width, ID_WIDTH) if column.is_wrapped else width
        for column, width in zip(columns, _widths(columns, rows), strict=True)
    )
    return sum(needed) + TABLE_EDGE_CELLS * len(columns) + 1 <= window_size().width


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]], total: Sequence[str] | None) -> Table:
    table = Table(show_footer=total is not None, header_style="bold", footer_style="bold")
    for column, footer in zip(columns, total or [""] * len(columns), strict=True):
        table.add_column(
            Text(column.title),
            Text(safe(footer)),
            justify="right" if column.right else "left",
            style=column.style,
            overflow="fold",  # long text wraps; nothing is cut off
            no_wrap=not column.is_wrapped,
        )
    for row in rows:
        table.add_row(*(Text(safe(cell)) for cell in row))
    return table


def _stacked(columns: Sequence[Column], rows: Sequence[Sequence[str]], total: Sequence[str] | None) -> Text:
    """Draw each row on several lines, the same cells on the same line, with the ids last."""
    widths = _widths(columns, [*rows, total] if total else rows)
    parts: list[list[int]] = []
    used = 0
    for number in sorted(range(len(columns)), key=lambda number: columns[number].is_id):
        if parts and used + len(COLUMN_GAP) + widths[number] <= window_size().width:
            parts[-1].append(number)
            used += len(COLUMN_GAP) + widths[number]
        else:
            used = widths[number] + (len(INDENT) if parts else 0)
            parts.append([number])
    lines = _stacked_row(parts, columns, widths, [column.title for column in columns], "bold")
    for row in rows:
        lines += _stacked_row(parts, columns, widths, row)
    lines += _stacked_row(parts, columns, widths, total, "bold") if total else []
    return Text("\n").join(lines)


def _stacked_row(
    parts: Sequence[Sequence[int]],
    columns: Sequence[Column],
    widths: Sequence[int],
    row: Sequence[str],
    style: str = "",
) -> list[Text]:
    lines: list[Text] = []
    for part in parts:
        cells = [Text(_padded(columns[each], safe(row[each]), widths[each]), columns[each].style) for each in part]
        line = Text(COLUMN_GAP).join(cells)
        line.rstrip()
        if line:
            lines += [
                Text.assemble(INDENT if lines else "", piece, style=style)
                for piece in _wrapped(line, window_size().width - (len(INDENT) if lines else 0))
            ]
    return lines


def _aligned(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    widths = _widths(columns, rows)
    lines = []
    for row in [[column.title.upper() for column in columns], *rows]:
        cells = [_padded(column, safe(cell), width) for cell, column, width in zip(row, columns, widths, strict=True)]
        lines.append(COLUMN_GAP.join(cells).rstrip() + "\n")
    return "".join(lines)


def _padded(column: Column, cell: str, width: int) -> str:
    padding = " " * (width - cell_len(cell))
    return padding + cell if column.right else cell + padding


def _facts(stream: TextIO | None, facts: Sequence[Fact]) -> str:
    width = max(cell_len(name) for name, _ in facts)
    if not is_interactive(stream):
        return "".join(f"{name:{width}}{COLUMN_GAP}{_plain(value)}\n" for name, value in facts)
    columns = window_size(stream).width - width - len(COLUMN_GAP)
    lines = []
    for name, value in facts:
        pieces = _wrapped(value if isinstance(value, Text) else Text(safe(value)), columns)
        for title, piece in zip_longest([name], pieces, fillvalue=Text()):
            lines.append(Text.assemble((f"{title!s:{width}}", "dim"), COLUMN_GAP, piece))
    return _drawn(stream, Text("\n").join(lines))


def _plain(value: str | Text) -> str:
    return value.plain if isinstance(value, Text) else safe(value)


def _bar(stream: TextIO | None, used: int, adding: int, maximum: int) -> Text:
    share = (used + adding) / maximum if maximum else 1.0
    color = "red" if share >= RED_FROM else "yellow" if share >= YELLOW_FROM else "green"
    full = min(BAR_WIDTH_CELLS, round(share * BAR_WIDTH_CELLS))
    full = max(full, 1) if used + adding else full  # even the smallest amount is visible
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
