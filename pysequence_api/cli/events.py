"""Events of the audit trail as text: one line each in a pipe, as many as the window needs on a terminal."""

from collections.abc import Mapping

from rich.text import Text

from pysequence_api.cli.drawing import NOTHING, flowed, name_or_id, shown_time, window_size
from pysequence_api.cli.terminal import COLUMN_GAP, safe
from pysequence_api.clock import read_time
from pysequence_api.money import format_cents
from pysequence_api.records.attempts import DEFAULT_CALLER, OWNER
from pysequence_api.records.audit import EventType, Line

TIME_WIDTH, EVENT_WIDTH, AMOUNT_WIDTH = 25, 19, 14
SHORT_EVENT_WIDTH, SHORT_AMOUNT_WIDTH = 10, 10
WIDE_COLUMNS = 120
"""A window this wide shows full event names and time zones."""
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
    """Draw everything in an event on one line."""
    if line.unreadable is not None:
        return _unreadable(line.unreadable)
    moment = read_time(line.timestamp)
    time = shown_time(moment) if moment else safe(line.timestamp or NOTHING)
    parties = f"{safe(line.source or NOTHING)} -> {safe(line.destination or NOTHING)}"
    outcome = ["outcome unknown"] if line.outcome == UNKNOWN_OUTCOME else []
    rest = [parties, safe(line.transfer_id or NOTHING), *outcome, *_details(line)]
    return Text.assemble(
        f"{time:{TIME_WIDTH}}{COLUMN_GAP}",
        (f"{safe(line.event_type or NOTHING):{EVENT_WIDTH}}", _style(line)),
        f"{COLUMN_GAP}{_amount(line):>{AMOUNT_WIDTH}}{COLUMN_GAP}{COLUMN_GAP.join(rest)}",
    )


def event_text(line: Line, names: Mapping[str, str]) -> Text:
    """Draw an event for the window: what happened first, then everything else about it, and nothing cut off.

    Args:
        line: the event.
        names: names to show instead of ids.
    """
    if line.unreadable is not None:
        return _unreadable(line.unreadable)
    is_wide = window_size().width >= WIDE_COLUMNS
    event = "outcome_unknown" if line.outcome == UNKNOWN_OUTCOME else safe(line.event_type or NOTHING)
    event = event if is_wide else event.removeprefix("transfer_").removeprefix("outcome_")
    event_width, amount_width = (EVENT_WIDTH, AMOUNT_WIDTH) if is_wide else (SHORT_EVENT_WIDTH, SHORT_AMOUNT_WIDTH)
    head = Text.assemble(
        (_short_time(line, is_wide=is_wide), "dim"),
        COLUMN_GAP,
        (f"{event:{event_width}}", _style(line)),
        f"{COLUMN_GAP}{_amount(line):>{amount_width}}",
    )
    parties = [f"{safe(name_or_id(line.source, names))} -> {safe(name_or_id(line.destination, names))}"]
    transfer = [f"transfer {safe(line.transfer_id)}"] if line.transfer_id else []
    details = (Text(each, "dim") for each in (*transfer, *_details(line)))
    return flowed([head, *map(Text, parties if line.source or line.destination else []), *details])


def _details(line: Line) -> list[str]:
    more = line.model_extra or {}
    details = {
        "attempt": line.attempt_id,
        "via": line.via,
        "caller": None if line.caller in {OWNER, DEFAULT_CALLER} else line.caller,
        "key": None if line.hint is None else f"...{line.hint}",
        "rule": line.rule,
        "policy": line.policy_version,
        "for": line.description,
        "the caller says" if line.attempt_id else "reason": line.reason,
        "repeats": more.get("repeats"),
    }
    flags = [text for flag, text in FLAGS.items() if more.get(flag) is True]
    shown = [f"{name} {safe(str(value))}" for name, value in details.items() if value]
    return [*shown, *flags, *([safe(line.error)] if line.error else [])]


def _unreadable(text: str) -> Text:
    return Text(f"unreadable line: {safe(text)}", "bold red")


def _amount(line: Line) -> str:
    return NOTHING if line.amount_cents is None else format_cents(line.amount_cents)


def _short_time(line: Line, *, is_wide: bool) -> str:
    moment = read_time(line.timestamp)
    if moment is None:
        return safe(line.timestamp or NOTHING)
    return shown_time(moment) if is_wide else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def _style(line: Line) -> str:
    if line.outcome == UNKNOWN_OUTCOME:
        return UNKNOWN_STYLE
    return next((style for event, style in EVENT_STYLES.items() if event == line.event_type), "")
