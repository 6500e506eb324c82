"""``audit``: the audit trail. Reads the data directory; makes no upstream call."""

import csv
import io
import json
import os
import re
import signal
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from select import POLLERR, POLLHUP, poll
from typing import Annotated, Any, TextIO

import typer

from pysequence_api.cli.drawing import (
    clear_screen,
    full_line,
    print_text,
    print_truncated,
    progress,
    short_line,
    shown_time,
    window_size,
)
from pysequence_api.cli.program import SIGNALED
from pysequence_api.cli.terminal import (
    ReaderGoneError,
    is_interactive,
    note,
    print_json,
    print_json_line,
    print_line,
)
from pysequence_api.clock import read_time
from pysequence_api.errors import InvalidRequestError, SafeguardError, SettingsError
from pysequence_api.records import read_records
from pysequence_api.records.audit import EventType, Line
from pysequence_api.records.check import check
from pysequence_api.records.names import known_names
from pysequence_api.records.trail import Trail
from pysequence_api.settings import Settings

MAX_LINES = 100_000
MAX_LINES_REDRAWN = 500
"""More than any window shows."""
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
MAX_SPAN_DIGITS = 6
DAY_CHARACTERS = len("2026-11-23")
EXPORTED = (
    "timestamp",
    "event_type",
    "amount_cents",
    "source",
    "destination",
    "transfer_id",
    "attempt_id",
    "via",
    "outcome",
    "error",
    "unreadable",
)
FORMULA_PREFIXES = tuple("=+-@\t\r")
"""Text that starts with these is a formula in a spreadsheet."""


class ExportFormat(StrEnum):
    """The formats of an export."""

    CSV = "csv"
    JSON = "json"


def tail(
    count: Annotated[int, typer.Option("-n", "--lines", help="Number of lines.", min=0, max=MAX_LINES)] = 10,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Print new lines as they come, until Ctrl-C.")] = False,
    event: Annotated[str | None, typer.Option(help="Only this event, such as transfer_failed or failed.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only since 2026-11-23, 2026-11-23T12:00Z, 30m, 2h or 7d ago.")
    ] = None,
    attempt: Annotated[str | None, typer.Option(metavar="ATTEMPT_ID", help="Only this attempt.")] = None,
    min_cents: Annotated[int | None, typer.Option(min=0, help="Only amounts of at least this many cents.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line, as in the file.")] = False,
) -> None:
    """Show the end of the audit trail.

    Each line has a time, an event, an amount, source and destination, the transfer, and an error if there is one. A
    terminal shows local times, names if they are known, and as much as fits; a pipe gets everything.

    \b
    Example:
      pysequence-api audit tail -n 50
      pysequence-api audit tail -f --json | jq 'select(.event_type == "transfer_failed")'
    """
    settings = Settings.load()
    trail = Trail(settings.data_directory)
    print_one = _printer(settings, as_json=as_json)
    note_freeze(settings)
    is_wanted = _line_filter(event, since, attempt, min_cents)
    try:
        if follow:
            _follow(trail, count, is_wanted, print_one)
        else:
            lines = list(islice(filter(is_wanted, trail.newest_first()), count))[::-1]
            for line in lines:
                print_one(line)
            if not lines and count:
                note(f"No matching events in {settings.data_directory.absolute()} yet.")
    except OSError as error:
        raise SettingsError(
            f"Cannot read the audit trail in {settings.data_directory.absolute()} ({error.strerror})."
            " Make it readable for this user, or set SEQUENCE_DATA_DIR."
        ) from error


def verify(
    expect: Annotated[
        str | None, typer.Option(metavar="HASH", help="Head that you saved elsewhere; some line must still have it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Verify the hash chain of the audit trail.

    Detects edits to earlier lines, and compares the trail with the database. Somebody who can write all files could
    also build a new chain. To detect that, save the head that `limits show` prints somewhere else, and pass it with
    --expect.

    \b
    Example:
      pysequence-api audit verify

    \b
    Exit codes:
      0  the chain is intact
      3  the chain is broken
    """
    if expect is not None and not re.fullmatch("[0-9a-fA-F]{64}", expect):
        raise InvalidRequestError("--expect needs a head: the 64 digits that `audit verify` and `limits show` print.")
    records = read_records(Settings.load().data_directory)
    with progress("verifying", "bytes", records.trail.size_bytes()) as advance:
        found = records.trail.verify(expect=expect and expect.lower(), progress=advance)
    problems = check(records).problems if records.path.exists() else ()
    if as_json:
        intact = found.intact and not problems
        print_json({"intact": intact} | found.model_dump(mode="json") | {"records": problems})
    elif found.problem is not None:
        print_line(f"Line {found.line} {found.problem}.")
    else:
        since = f"unbroken since {found.unbroken_since}" if found.unbroken_since else "no hash chain yet"
        print_line(f"{found.entries} entries, {since}, head {found.head}")
    for number in found.cut_short:
        note(f"Line {number} was cut short by a crash. This is not tampering.")
    for problem in problems:
        note(problem)
    if problems or not found.intact:
        raise typer.Exit(SafeguardError.exit_code)


def export(
    form: Annotated[ExportFormat, typer.Option("--format", help="Format of the export.")] = ExportFormat.CSV,
    begin: Annotated[str | None, typer.Option("--from", metavar="TIME", help="First day, or earliest time.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Last day, or latest time.")] = None,
) -> None:
    """Export the audit trail as CSV or JSON.

    Writes to standard output. A day is a UTC day.

    \b
    Example:
      pysequence-api audit export --from 2026-01-01 --to 2026-12-31 > 2026.csv
      pysequence-api audit export --format json --from 30d
    """
    first, last = read_when(begin) if begin else None, read_when(end, end_of_day=True) if end else None
    if first and last and first >= last:
        raise InvalidRequestError("--from is after --to. Swap them.")
    lines = (line for line in Trail(Settings.load().data_directory).oldest_first() if _is_between(line, first, last))
    if form is ExportFormat.JSON:
        print_json([line.as_json() for line in lines])
        return
    _print_csv(EXPORTED)
    for line in lines:
        _print_csv([getattr(line, name) for name in EXPORTED])


def read_when(text: str, *, end_of_day: bool = False) -> datetime:
    """Read a day, a time, or a time span before now.

    Args:
        text: such as 2026-11-23 (UTC), 2026-11-23T12:00Z, 30m, 2h or 7d; a time without a zone is local.
        end_of_day: return the end of a day instead of its start.

    Raises:
        InvalidRequestError: the text is not a time.
    """
    span, unit = text[:-1], text[-1:]
    try:
        if span.isdecimal() and unit in UNITS and len(span) <= MAX_SPAN_DIGITS:
            return datetime.now(UTC) - int(span) * UNITS[unit]
        time = datetime.fromisoformat(text)
        if len(text) <= DAY_CHARACTERS:
            return time.replace(tzinfo=UTC) + (UNITS["d"] if end_of_day else timedelta())
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequestError(
            f"{text[:40]!r} is not a time. Write 2026-11-23, 2026-11-23T12:00Z, 30m, 2h or 7d."
        ) from None


def _line_filter(
    event: str | None, since: str | None, attempt_id: str | None, min_cents: int | None
) -> Callable[[Line], bool]:
    first = read_when(since) if since else None
    events = {name for one in EventType for name in (one.value, one.value.removeprefix("transfer_"))}
    if event is not None and event not in events:
        names = ", ".join(one.value for one in EventType)
        raise InvalidRequestError(f"--event {event[:40]!r} is not an event. Use one of: {names}.")

    def is_wanted(line: Line) -> bool:
        return (
            (event is None or line.event_type in {event, f"transfer_{event}"})
            and _is_between(line, first, None)
            and (attempt_id is None or line.attempt_id == attempt_id)
            and (min_cents is None or (line.amount_cents or 0) >= min_cents)
        )

    return is_wanted


def _is_between(line: Line, first: datetime | None, last: datetime | None) -> bool:
    time = read_time(line.timestamp)
    if time is None:
        return first is None and last is None
    return (first is None or time >= first) and (last is None or time < last)


def note_freeze(settings: Settings) -> None:
    """Say on standard error that transfers are frozen, if they are."""
    try:
        freeze = read_records(settings.data_directory).read(lambda reader: reader.freeze())
    except SafeguardError:
        return  # the trail is shown in any case; `limits show` and `doctor` say what is wrong
    if freeze is not None:
        note(f"FROZEN since {shown_time(freeze.since)}: {freeze.reason}", color="red", bold=True)


def _printer(settings: Settings, *, as_json: bool) -> Callable[[Line], None]:
    if as_json:
        return _print_json
    if not is_interactive(sys.stdout):
        return lambda line: print_text(full_line(line))
    names = known_names(read_records(settings.data_directory))
    return lambda line: print_truncated(short_line(line, names))


def _print_json(line: Line) -> None:
    try:
        print_json_line(_without_nan(line.as_json()))
    except (ValueError, RecursionError):
        print_json_line({"unreadable": "this line is not JSON for other programs"})


def _without_nan(value: dict[str, Any]) -> Any:
    # Python reads and writes NaN, which is not JSON.
    return json.loads(json.dumps(value), parse_constant=lambda _: None)


def _print_csv(cells: Any) -> None:
    row = io.StringIO()
    harmless = [f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_PREFIXES) else cell for cell in cells]
    csv.writer(row, lineterminator="").writerow(harmless)
    print_line(row.getvalue())


# Following the trail.


def _follow(trail: Trail, count: int, is_wanted: Callable[[Line], bool], print_one: Callable[[Line], None]) -> None:
    screen = LiveScreen(print_one) if is_interactive(sys.stdout) else None
    show, wait = (screen.show, screen.wait) if screen else (print_one, _wait_for_reader)
    try:
        with screen.watching_size() if screen else nullcontext():
            for line in filter(is_wanted, trail.follow(count, wait=wait)):
                show(line)
    except KeyboardInterrupt:
        raise typer.Exit(SIGNALED + signal.SIGINT) from None  # the usual way to end it needs no message


class LiveScreen:
    """Draws lines as they come, and draws them again when the window is resized.

    Args:
        draw: prints one line.
    """

    def __init__(self, draw: Callable[[Line], None]) -> None:
        self._draw = draw
        self._lines: deque[Line] = deque(maxlen=MAX_LINES_REDRAWN)
        self._resized = False

    def show(self, line: Line) -> None:
        """Draw a line, and keep it."""
        self._lines.append(line)
        self._draw(line)

    def wait(self, seconds: float) -> None:
        """Wait, and draw again if the window was resized."""
        _wait_for_reader(seconds)
        if self._resized:
            self._resized = False
            clear_screen()
            for line in list(self._lines)[-max(1, window_size().height - 1) :]:
                self._draw(line)

    @contextmanager
    def watching_size(self) -> Iterator[None]:
        """Notice when the window is resized."""

        def resized(*_: Any) -> None:
            self._resized = True

        before = signal.signal(signal.SIGWINCH, resized)
        try:
            yield
        finally:
            signal.signal(signal.SIGWINCH, before)


def _wait_for_reader(seconds: float) -> None:
    """Sleep, but stop if the reader of standard output closes it."""
    poller = poll()
    if sys.stdout is not None and _is_pipe(sys.stdout):
        poller.register(sys.stdout, 0)
    if any(event & (POLLERR | POLLHUP) for _, event in poller.poll(seconds * 1000)):
        raise ReaderGoneError


def _is_pipe(stream: TextIO) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except OSError:
        return False  # not a file
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
