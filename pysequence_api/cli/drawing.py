"""Tables, facts and bars, drawn with Rich on a terminal and as plain aligned text elsewhere.

Everything is drawn to a string and then written by `terminal.write`. Text from outside is never taken for markup.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pysequence_api.cli.terminal import COLUMN_GAP, UNKNOWN, is_color_allowed, is_interactive, safe, write
from pysequence_api.clock import read_time
from pysequence_api.models import Moment, Party, Transfer
from pysequence_api.money import format_cents
from pysequence_api.records.audit import EventType, Line

BAR_WIDTH_CELLS = 20
TABLE_EDGE_CELLS = 3
"""The border and padding of one column."""
BAR_CHARACTERS, PLAIN_BAR_CHARACTERS = ("█", "▓", "░"), ("#", "+", ".")
"""Used, added and free; they differ without colors too."""
YELLOW_FROM, RED_FROM = 0.75, 0.95
"""The shares of a limit from which its bar is yellow or red."""

Fact = tuple[str, str | Text]
"""A name and a value. A `Text` is drawn as it is, so everything in it must be safe."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. Numbers are ``right``-aligned and never wrapped; ``whole`` columns are never wrapped."""

    title: str
    right: bool = False
    whole: bool = False
    style: str = ""


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], total: Sequence[str] | None = None) -> None:
    """Print a table, and under it a row of totals."""
    if not is_interactive(sys.stdout):
        write(sys.stdout, _aligned(columns, [*rows, total] if total else rows))
        return
    keep_whole = _fits([column.right or column.whole for column in columns], columns, rows)
    table = Table(show_footer=total is not None, header_style="bold", footer_style="bold")
    for column, footer in zip(columns, total or [""] * len(columns), strict=True):
        table.add_column(
            Text(column.title),
            Text(safe(footer)),
            justify="right" if column.right else "left",
            style=column.style,
            overflow="fold",  # long text wraps; nothing is cut off
            no_wrap=keep_whole and (column.right or column.whole),
        )
    for row in rows:
        table.add_row(*(Text(safe(cell)) for cell in row))
    write(sys.stdout, _drawn(sys.stdout, table))


def print_facts(facts: Sequence[Fact], stream: TextIO | None = None) -> None:
    """Print names and values, one pair on a line, on standard output or another stream."""
    stream = stream or sys.stdout
    write(stream, _facts(stream, facts))


def print_text(text: Text) -> None:
    """Print a line of safe text with styles."""
    write(sys.stdout, _drawn(sys.stdout, text))


def print_truncated(text: Text) -> None:
    """Print a line of safe text, on a terminal cut to the width of the window."""
    if is_interactive(sys.stdout):
        text.truncate(window_size().width, overflow="ellipsis" if _can_encode(sys.stdout, "…") else "crop")
    print_text(text)


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
    Column("Created"),
    Column("Status", whole=True),
    Column("Amount", right=True),
    Column("From"),
    Column("To"),
    Column("What"),
    Column("Id", style="dim"),
)


def transfer_row(transfer: Transfer) -> tuple[str, ...]:
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


def shown_moment(moment: Moment | None) -> str:
    """Format a time, or a day if Sequence gives only that."""
    if isinstance(moment, datetime):
        return shown_time(moment)
    return UNKNOWN if moment is None else moment.isoformat()


def shown_party(party: Party) -> str:
    """Return the name of a party, else its id."""
    return party.name or party.id or UNKNOWN


# Lines of the audit trail.

TIME_WIDTH, EVENT_WIDTH, AMOUNT_WIDTH = 25, 19, 14
SHORT_EVENT_WIDTH, SHORT_AMOUNT_WIDTH = 10, 10
WIDE_COLUMNS, MEDIUM_COLUMNS = 120, 80
"""A wide window shows full event names and time zones, a medium one shows days."""
NOTHING = "-"
UNKNOWN_OUTCOME, UNKNOWN_STYLE = "unknown", "bold white on red"
EVENT_STYLES = {
    EventType.REQUESTED: "cyan",
    EventType.COMPLETED: "green",
    EventType.IDENTIFIED: "green",
    EventType.FAILED: "bold red",
    EventType.REJECTED: "yellow",
}
FLAGS = {"resolved": "resolved by a person", "reconciled": "found later", "recovered": "written after a crash"}


def full_line(line: Line) -> Text:
    """Draw everything in a line of the audit trail."""
    if line.unreadable is not None:
        return _unreadable(line.unreadable)
    moment = read_time(line.timestamp)
    time = shown_time(moment) if moment else safe(line.timestamp or NOTHING)
    parties = f"{safe(line.source or NOTHING)} -> {safe(line.destination or NOTHING)}"
    outcome = ["outcome unknown"] if line.outcome == UNKNOWN_OUTCOME else []
    rest = [parties, safe(line.transfer_id or NOTHING), *outcome, *_flags(line), safe(line.error or "")]
    return Text.assemble(
        f"{time:{TIME_WIDTH}}{COLUMN_GAP}",
        (f"{safe(line.event_type or NOTHING):{EVENT_WIDTH}}", _event_style(line)),
        f"{COLUMN_GAP}{_amount(line):>{AMOUNT_WIDTH}}{COLUMN_GAP}{COLUMN_GAP.join(rest).rstrip()}",
    )


def short_line(line: Line, names: Mapping[str, str]) -> Text:
    """Draw a line of the audit trail for the window: the most important first, because the end may be cut off.

    Args:
        line: the line.
        names: names to show instead of ids.
    """
    if line.unreadable is not None:
        return _unreadable(line.unreadable)
    is_wide = window_size().width >= WIDE_COLUMNS
    event = "outcome_unknown" if line.outcome == UNKNOWN_OUTCOME else safe(line.event_type or NOTHING)
    event = event if is_wide else event.removeprefix("transfer_").removeprefix("outcome_")
    event_width, amount_width = (EVENT_WIDTH, AMOUNT_WIDTH) if is_wide else (SHORT_EVENT_WIDTH, SHORT_AMOUNT_WIDTH)
    parties = f"{name_or_id(line.source, names)} -> {name_or_id(line.destination, names)}"
    rest = COLUMN_GAP.join(filter(None, (*_flags(line), safe(line.error or ""), safe(line.transfer_id or ""))))
    drawn = Text.assemble(
        (_short_time(line), "dim"),
        COLUMN_GAP,
        (f"{event:{event_width}}", _event_style(line)),
        f"{COLUMN_GAP}{_amount(line):>{amount_width}}{COLUMN_GAP}",
        parties,
        COLUMN_GAP,
        (rest, "dim"),
    )
    drawn.rstrip()
    return drawn


def name_or_id(party_id: str | None, names: Mapping[str, str]) -> str:
    """Return the known name of a party, else its id."""
    return safe(names.get(party_id or "", party_id or NOTHING))


def _flags(line: Line) -> list[str]:
    return [text for flag, text in FLAGS.items() if getattr(line, flag, None) is True]


def _unreadable(text: str) -> Text:
    return Text(f"unreadable line: {safe(text)}", "bold red")


def _amount(line: Line) -> str:
    return NOTHING if line.amount_cents is None else format_cents(line.amount_cents)


def _short_time(line: Line) -> str:
    moment = read_time(line.timestamp)
    if moment is None:
        return safe(line.timestamp or NOTHING)
    local = moment.astimezone()
    columns = window_size().width
    if columns >= WIDE_COLUMNS:
        return local.isoformat(" ", "seconds")
    return f"{local:%Y-%m-%d %H:%M:%S}" if columns >= MEDIUM_COLUMNS else f"{local:%H:%M:%S}"


def _event_style(line: Line) -> str:
    if line.outcome == UNKNOWN_OUTCOME:
        return UNKNOWN_STYLE
    return next((style for event, style in EVENT_STYLES.items() if event == line.event_type), "")


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


def _fits(protected: Sequence[bool], columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> bool:
    # In a window too narrow to leave a third of it to the other columns, the protected ones must wrap too.
    widths = [
        max(cell_len(text) for text in texts) for texts in zip([one.title for one in columns], *rows, strict=True)
    ]
    needed = sum(width for width, is_protected in zip(widths, protected, strict=True) if is_protected)
    return needed + TABLE_EDGE_CELLS * len(columns) <= window_size().width * 2 // 3


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
    if not is_interactive(stream):
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
