"""``audit verify`` and ``audit export``, and the filters of ``audit tail``."""

import csv
import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer

from pysequence_api.cli.output import is_watched, note, print_json, print_line
from pysequence_api.clock import read_time
from pysequence_api.errors import InvalidRequestError
from pysequence_api.gateway import open_records
from pysequence_api.records.audit import EventType, Line
from pysequence_api.settings import Settings

NOT_INTACT = 3
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
FORMULA_BEGINNINGS = tuple("=+-@\t\r")
"""A spreadsheet takes what begins so for a formula."""


class Format(StrEnum):
    """The forms of an export."""

    CSV = "csv"
    JSON = "json"


def verify(
    expect: Annotated[
        str | None, typer.Option(metavar="HASH", help="A head that you noted elsewhere; some line must still have it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the finding as one JSON document.")] = False,
) -> None:
    """Have the audit trail prove itself: each line against the one before it, the end against the head.

    Who can write both files can also make a trail that fits. A head that was noted elsewhere (`limits show` has it)
    tells such a trail from the true one. Exit codes: 0 unbroken, 3 not. Needs neither Sequence nor a network.

    \b
    Example:
      pysequence-api audit verify
    """
    if expect is not None and not re.fullmatch("[0-9a-fA-F]{64}", expect):
        raise InvalidRequestError("--expect is a head: the 64 digits that `audit verify` and `limits show` show.")
    store = open_records(Settings.load()).store
    with store.held(), _progress(store.audit.size_bytes()) as progress:
        found = store.audit.verify(expect=expect and expect.lower(), progress=progress)
    if as_json:
        print_json({"intact": found.intact} | found.model_dump(mode="json"))
    elif found.problem is not None:
        print_line(f"Line {found.line} {found.problem}.")
    else:
        since = f"unbroken since {found.unbroken_since}" if found.unbroken_since else "none bound to the one before"
        print_line(f"{found.entries} entries, {since}, head {found.head}")
    for number in found.cut_short:
        note(f"Line {number} was cut short by a crash, which is no tampering.")
    if not found.intact:
        raise typer.Exit(NOT_INTACT)


def export(
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.CSV,
    begin: Annotated[str | None, typer.Option("--from", metavar="TIME", help="From this day or time on.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Up to this time, or with this day.")] = None,
) -> None:
    """Write the audit trail for the accountant, to standard output. A day is a UTC day.

    \b
    Example:
      pysequence-api audit export --from 2026-01-01 --to 2026-12-31 > 2026.csv
      pysequence-api audit export --format json --from 30d
    """
    first, last = begin and read_when(begin), end and read_when(end, whole_day=True)
    if isinstance(first, datetime) and isinstance(last, datetime) and first >= last:
        raise InvalidRequestError("--from is after --to. Swap them.")
    lines = (line for line in open_records(Settings.load()).audit.oldest_first() if _between(line, first, last))
    if form is Format.JSON:
        print_json([line.as_json() for line in lines])
        return
    _print_csv(EXPORTED)
    for line in lines:
        _print_csv([getattr(line, name) for name in EXPORTED])


def line_filter(
    event: str | None, since: str | None, attempt_id: str | None, min_cents: int | None
) -> Callable[[Line], bool]:
    """Make a test that a line of the audit trail passes if it is wanted.

    Args:
        event: only this event, with or without its ``transfer_``.
        since: only from then on; see `read_when`.
        attempt_id: only this attempt.
        min_cents: only amounts of at least this many cents.

    Raises:
        InvalidRequestError: there is no such event, or no such time.
    """
    first = read_when(since) if since else None
    events = {name for one in EventType for name in (one.value, one.value.removeprefix("transfer_"))}
    if event is not None and event not in events:
        names = ", ".join(one.value for one in EventType)
        raise InvalidRequestError(f"--event {event[:40]!r} is no event. There are: {names}.")

    def is_wanted(line: Line) -> bool:
        return (
            (event is None or line.event_type in {event, f"transfer_{event}"})
            and _between(line, first, None)
            and (attempt_id is None or line.attempt_id == attempt_id)
            and (min_cents is None or (line.amount_cents or 0) >= min_cents)
        )

    return is_wanted


def read_when(text: str, *, whole_day: bool = False) -> datetime:
    """Read a day, a time, or a span before now.

    Args:
        text: like 2026-11-23 (UTC), 2026-11-23T12:00Z, 30m, 2h or 7d; a time without zone is local.
        whole_day: a day means its end.

    Raises:
        InvalidRequestError: it is none of them.
    """
    span, unit = text[:-1], text[-1:]
    try:
        if span.isdecimal() and unit in UNITS and len(span) <= MAX_SPAN_DIGITS:
            return datetime.now(UTC) - int(span) * UNITS[unit]
        time = datetime.fromisoformat(text)
        if len(text) <= DAY_CHARACTERS:
            return time.replace(tzinfo=UTC) + (UNITS["d"] if whole_day else timedelta())
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequestError(
            f"{text[:40]!r} is no time. Write 2026-11-23, 2026-11-23T12:00Z, 30m, 2h or 7d."
        ) from None


def _between(line: Line, first: datetime | str | None, last: datetime | str | None) -> bool:
    time = read_time(line.timestamp)
    if time is None:
        return first is None and last is None
    return (not isinstance(first, datetime) or time >= first) and (not isinstance(last, datetime) or time < last)


def _print_csv(cells: Any) -> None:
    row = io.StringIO()
    harmless = [f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_BEGINNINGS) else cell for cell in cells]
    csv.writer(row, lineterminator="").writerow(harmless)
    print_line(row.getvalue())


@contextmanager
def _progress(size_bytes: int) -> Iterator[Callable[[int], None]]:
    if not is_watched(sys.stderr):
        yield lambda _bytes: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("verifying", total=size_bytes)
        yield lambda read_bytes: progress.advance(task, read_bytes)
