"""How lines of the audit trail are drawn: whole for a pipe, and for a person one line each that fits the window."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import islice

from rich.text import Text

from pysequence_api.cli.output import COLUMN_GAP, safe, shown_time, window_columns
from pysequence_api.clock import read_time
from pysequence_api.money import format_cents
from pysequence_api.records.audit import AuditTrail, EventType, Line

TIME_WIDTH, EVENT_WIDTH, AMOUNT_WIDTH = 25, 19, 14
WIDE_COLUMNS, MEDIUM_COLUMNS = 120, 80
"""From these widths on, a time has its zone and an event its full name, and a time has its day."""
SHORT_EVENT_WIDTH, SHORT_AMOUNT_WIDTH = 10, 10
NOTHING = "-"
MAX_LINES_READ = 1000
"""How far back a screen of today looks; more in a day are seen in the trail itself."""
STYLES = {
    EventType.REQUESTED: "cyan",
    EventType.COMPLETED: "green",
    EventType.IDENTIFIED: "green",
    EventType.FAILED: "bold red",
    EventType.REJECTED: "yellow",
}
UNKNOWN_STYLE = "bold white on red"
UNKNOWN_OUTCOME = "unknown"
MARKS = {"resolved": "by a person's word", "reconciled": "found out later", "recovered": "written after a crash"}
"""Flags of a line, and what they mean."""


@dataclass(frozen=True, slots=True)
class Recent:
    """The newest that the audit trail says of one transfer."""

    line: Line
    state: str


def whole(line: Line) -> Text:
    """Draw a line with all that it says, for what reads a pipe."""
    if line.unreadable is not None:
        return _unreadable(line.unreadable)
    moment = read_time(line.timestamp)
    shown = shown_time(moment) if moment else safe(line.timestamp or NOTHING)
    parties = f"{safe(line.source or NOTHING)} -> {safe(line.destination or NOTHING)}"
    doubt = ["outcome unknown"] if line.outcome == UNKNOWN_OUTCOME else []
    rest = [parties, safe(line.transfer_id or NOTHING), *doubt, *_marks(line), safe(line.error or "")]
    return Text.assemble(
        f"{shown:{TIME_WIDTH}}{COLUMN_GAP}",
        (f"{safe(line.event_type or NOTHING):{EVENT_WIDTH}}", _style(line)),
        f"{COLUMN_GAP}{_amount(line):>{AMOUNT_WIDTH}}{COLUMN_GAP}{COLUMN_GAP.join(rest).rstrip()}",
    )


def fitting(line: Line, names: Mapping[str, str]) -> Text:
    """Draw a line for the window as it is now: what matters first, because the end may be cut off.

    Args:
        line: the line.
        names: what to write in the place of ids, where known.
    """
    if line.unreadable is not None:
        return _unreadable(line.unreadable)
    is_wide = window_columns() >= WIDE_COLUMNS
    event = "outcome_unknown" if line.outcome == UNKNOWN_OUTCOME else safe(line.event_type or NOTHING)
    event = event if is_wide else event.removeprefix("transfer_").removeprefix("outcome_")
    event_width, amount_width = (EVENT_WIDTH, AMOUNT_WIDTH) if is_wide else (SHORT_EVENT_WIDTH, SHORT_AMOUNT_WIDTH)
    parties = f"{named(line.source, names)} -> {named(line.destination, names)}"
    rest = COLUMN_GAP.join(filter(None, (*_marks(line), safe(line.error or ""), safe(line.transfer_id or ""))))
    drawn = Text.assemble(
        (_short_time(line), "dim"),
        COLUMN_GAP,
        (f"{event:{event_width}}", _style(line)),
        f"{COLUMN_GAP}{_amount(line):>{amount_width}}{COLUMN_GAP}",
        parties,
        COLUMN_GAP,
        (rest, "dim"),
    )
    drawn.rstrip()
    return drawn


def named(party_id: str | None, names: Mapping[str, str]) -> str:
    """Give the name that is remembered of a party, else its id."""
    return safe(names.get(party_id or "", party_id or NOTHING))


def transfers_of(day: date, trail: AuditTrail, most: int) -> list[Recent]:
    """Give the newest transfers of a UTC day, newest first, each as it stands.

    Args:
        day: the day.
        trail: where to look.
        most: how many at the most.
    """
    began_at = datetime.combine(day, time(), UTC)
    newest: dict[str, Recent] = {}
    for number, line in enumerate(_since(began_at, trail)):
        newest.setdefault(line.attempt_id or f"line {number}", Recent(line, _state(line)))
    return list(islice(newest.values(), most))


def _since(began_at: datetime, trail: AuditTrail) -> Iterator[Line]:
    for line in islice(trail.newest_first(), MAX_LINES_READ):
        moment = read_time(line.timestamp)
        if moment is not None and moment < began_at:
            return
        if moment is not None:
            yield line


def _state(line: Line) -> str:
    if line.event_type == EventType.REQUESTED:
        return "on its way, or unknown"
    if line.event_type == EventType.FAILED and line.outcome == UNKNOWN_OUTCOME:
        return "outcome unknown"
    if line.event_type == EventType.IDENTIFIED:
        return "completed"
    return (line.event_type or NOTHING).removeprefix("transfer_")


def _marks(line: Line) -> list[str]:
    return [text for flag, text in MARKS.items() if getattr(line, flag, None) is True]


def _unreadable(text: str) -> Text:
    return Text(f"unreadable line: {safe(text)}", "bold red")


def _amount(line: Line) -> str:
    return NOTHING if line.amount_cents is None else format_cents(line.amount_cents)


def _short_time(line: Line) -> str:
    moment = read_time(line.timestamp)
    if moment is None:
        return safe(line.timestamp or NOTHING)
    local = moment.astimezone()
    columns = window_columns()
    if columns >= WIDE_COLUMNS:
        return local.isoformat(" ", "seconds")
    return f"{local:%Y-%m-%d %H:%M:%S}" if columns >= MEDIUM_COLUMNS else f"{local:%H:%M:%S}"


def _style(line: Line) -> str:
    if line.outcome == UNKNOWN_OUTCOME:
        return UNKNOWN_STYLE
    return next((style for event, style in STYLES.items() if event == line.event_type), "")
