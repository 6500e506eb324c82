"""``audit``: the audit trail. Reads the data directory; makes no upstream call."""

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Any

import typer
from rich.text import Text

from pysequence_api.cli.completion import completer
from pysequence_api.cli.drawing import print_text, shown_time
from pysequence_api.cli.events import event_text, full_line
from pysequence_api.cli.live import LiveScreen, until_interrupted, wait_for_reader
from pysequence_api.cli.terminal import is_interactive, note, print_json_line
from pysequence_api.clock import read_time
from pysequence_api.errors import InvalidRequestError, SafeguardError, SettingsError
from pysequence_api.records import read_records
from pysequence_api.records.audit import EventType, Line
from pysequence_api.records.names import known_names
from pysequence_api.records.trail import Trail
from pysequence_api.settings import Settings

MAX_LINES = 100_000
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
MAX_SPAN_DIGITS = 6
DAY_CHARACTERS = len("2026-11-23")
EVENT_NAMES = tuple(dict.fromkeys(name for one in EventType for name in (one.value, one.removeprefix("transfer_"))))


def tail(
    count: Annotated[int, typer.Option("-n", "--lines", help="Number of lines.", min=0, max=MAX_LINES)] = 10,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Print new lines as they come, until Ctrl-C.")] = False,
    event: Annotated[
        str | None,
        typer.Option(help="Only this event, such as transfer_failed or failed.", autocompletion=completer(EVENT_NAMES)),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only since 2026-11-23, 2026-11-23T12:00Z, 30m, 2h or 7d ago.")
    ] = None,
    attempt: Annotated[str | None, typer.Option(metavar="ATTEMPT_ID", help="Only this attempt.")] = None,
    min_cents: Annotated[int | None, typer.Option(min=0, help="Only amounts of at least this many cents.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line, as in the file.")] = False,
) -> None:
    """Show the end of the audit trail.

    Each event has a time, an amount, source and destination, and if there are any the transfer, the attempt, the
    channel (via), the description and the error. A terminal shows local times, names if they are known, and as many
    lines as the window needs; a pipe gets one line for each event.

    \b
    Example:
      pysequence-api audit tail -n 50
      pysequence-api audit tail -f --json | jq 'select(.event_type == "transfer_failed")'
    """
    settings = Settings.load()
    trail = Trail(settings.data_directory)
    draw = _drawer(settings) if is_interactive(sys.stdout) else full_line
    print_one = _print_json if as_json else lambda line: print_text(draw(line))
    note_freeze(settings)
    is_wanted = _line_filter(event, since, attempt, min_cents)
    try:
        if follow:
            screen = LiveScreen(draw) if is_interactive(sys.stdout) and not as_json else None
            show, wait = (screen.show, screen.wait) if screen else (print_one, wait_for_reader)
            with until_interrupted(), screen.watching_size() if screen else nullcontext():
                for line in filter(is_wanted, trail.follow(count, wait=wait)):
                    show(line)
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
    if event is not None and event not in EVENT_NAMES:
        names = ", ".join(one.value for one in EventType)
        raise InvalidRequestError(f"--event {event[:40]!r} is not an event. Use one of: {names}.")

    def is_wanted(line: Line) -> bool:
        return (
            (event is None or line.event_type in {event, f"transfer_{event}"})
            and is_between(line, first, None)
            and (attempt_id is None or line.attempt_id == attempt_id)
            and (min_cents is None or (line.amount_cents or 0) >= min_cents)
        )

    return is_wanted


def is_between(line: Line, first: datetime | None, last: datetime | None) -> bool:
    """Check whether an event has a time in this span; one without a time is in the span without limits only."""
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


def _drawer(settings: Settings) -> Callable[[Line], Text]:
    records = read_records(settings.data_directory)
    names = known_names(records)

    def draw(line: Line) -> Text:
        if not {line.source, line.destination} <= names.keys():
            names.update(known_names(records))  # another process may have learned them meanwhile
        return event_text(line, names)

    return draw


def _print_json(line: Line) -> None:
    try:
        print_json_line(_without_nan(line.as_json()))
    except (ValueError, RecursionError):
        print_json_line({"unreadable": "this line is not JSON for other programs"})


def _without_nan(value: dict[str, Any]) -> Any:
    # Python reads and writes NaN, which is not JSON.
    return json.loads(json.dumps(value), parse_constant=lambda _: None)
