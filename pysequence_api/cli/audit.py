"""``audit tail``: what happened to transfers. Reads one file only."""

import json
from collections.abc import Callable, Iterable
from itertools import islice
from signal import SIGINT
from typing import Annotated, Any

import typer
from rich.text import Text

from pysequence_api.cli.output import (
    COLUMN_GAP,
    note,
    print_json_line,
    print_line,
    safe,
    shown_time,
    wait_for_reader,
)
from pysequence_api.cli.program import SIGNALLED
from pysequence_api.cli.trail import line_filter
from pysequence_api.errors import SettingsError
from pysequence_api.gateway import open_records
from pysequence_api.money import format_cents
from pysequence_api.safeguards.audit import EventType, Line
from pysequence_api.safeguards.times import read_time
from pysequence_api.settings import Settings

MAX_LINES = 100_000
TIME_WIDTH, EVENT_WIDTH, AMOUNT_WIDTH = 25, 19, 14
NOTHING = "-"
STYLES = {
    EventType.REQUESTED: "cyan",
    EventType.COMPLETED: "green",
    EventType.IDENTIFIED: "green",
    EventType.FAILED: "bold red",
    EventType.REJECTED: "yellow",
}

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The audit trail.")


@app.command("tail")
def tail(
    count: Annotated[int, typer.Option("-n", "--lines", help="How many lines.", min=0, max=MAX_LINES)] = 10,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with every new line; Ctrl-C ends it.")] = False,
    event: Annotated[str | None, typer.Option(help="Only this event, such as transfer_failed, or failed.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only from then on: 2026-11-23, 2026-11-23T12:00Z, 30m, 2h, 7d.")
    ] = None,
    attempt: Annotated[str | None, typer.Option(metavar="ATTEMPT_ID", help="Only this attempt.")] = None,
    min_cents: Annotated[int | None, typer.Option(min=0, help="Only amounts of at least this many cents.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, as in the file.")] = False,
) -> None:
    """Show the end of the audit trail, and follow it.

    Each line has the time, what happened, the amount, source and destination, the transfer and the error, if there is
    one. Needs neither Sequence nor a network.

    \b
    Example:
      pysequence-api audit tail -n 50
      pysequence-api audit tail -f --json | jq 'select(.event_type == "transfer_failed")'
    """
    settings = Settings.load()
    trail = open_records(settings).audit
    print_one = _print_json if as_json else _print
    is_wanted = line_filter(event, since, attempt, min_cents)
    try:
        if follow:
            _follow(filter(is_wanted, trail.follow(count, wait=wait_for_reader)), print_one)
        else:
            lines = list(islice(filter(is_wanted, trail.newest_first()), count))[::-1]
            for line in lines:
                print_one(line)
            if not lines and count:
                note(f"No such line is recorded in {settings.data_directory.absolute()} yet.")
    except OSError as error:
        raise SettingsError(
            f"The audit trail in {settings.data_directory.absolute()} cannot be read ({error.strerror})."
            " Give it to this user, or set SEQUENCE_DATA_DIR."
        ) from error


def _follow(lines: Iterable[Line], print_one: Callable[[Line], None]) -> None:
    try:
        for line in lines:
            print_one(line)
    except KeyboardInterrupt:
        raise typer.Exit(SIGNALLED + SIGINT) from None  # the usual way to end it needs no words


def _print_json(line: Line) -> None:
    try:
        print_json_line(_finite(line.as_json()))
    except (ValueError, RecursionError):
        print_json_line({"unreadable": "a line that is no JSON for others"})


def _finite(value: dict[str, Any]) -> Any:
    # Python reads and writes NaN, which is no JSON.
    return json.loads(json.dumps(value), parse_constant=lambda _: None)


def _print(line: Line) -> None:
    if line.unreadable is not None:
        print_line(Text(f"unreadable line: {safe(line.unreadable)}", "bold red"))
        return
    moment = read_time(line.timestamp)
    time = shown_time(moment) if moment else safe(line.timestamp or NOTHING)
    event = safe(line.event_type or NOTHING)
    amount = NOTHING if line.amount_cents is None else format_cents(line.amount_cents)
    parties = f"{safe(line.source or NOTHING)} -> {safe(line.destination or NOTHING)}"
    rest = [parties, safe(line.transfer_id or NOTHING), safe(line.error or "")]
    print_line(
        Text.assemble(
            f"{time:{TIME_WIDTH}}{COLUMN_GAP}",
            (f"{event:{EVENT_WIDTH}}", _style(line)),
            f"{COLUMN_GAP}{amount:>{AMOUNT_WIDTH}}{COLUMN_GAP}{COLUMN_GAP.join(rest).rstrip()}",
        )
    )


def _style(line: Line) -> str:
    if line.outcome == "unknown":
        return "bold white on red"
    return next((style for event, style in STYLES.items() if event == line.event_type), "")
