"""``audit tail``: what happened to transfers. Reads one file only."""

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice
from signal import SIGINT
from typing import Annotated, Any

import typer

from pysequence_api.cli.events import fitting, whole
from pysequence_api.cli.following import LiveScreen
from pysequence_api.cli.known import known_names
from pysequence_api.cli.output import is_watched, note, print_cut, print_json_line, print_line, wait_for_reader
from pysequence_api.cli.program import SIGNALLED
from pysequence_api.cli.trail import line_filter
from pysequence_api.errors import SettingsError
from pysequence_api.gateway import open_records
from pysequence_api.records.audit import AuditTrail, Line
from pysequence_api.settings import Settings

MAX_LINES = 100_000

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
    one. A terminal gets local times, names where they are known, and what fits its width; a pipe gets everything.
    Needs neither Sequence nor a network.

    \b
    Example:
      pysequence-api audit tail -n 50
      pysequence-api audit tail -f --json | jq 'select(.event_type == "transfer_failed")'
    """
    settings = Settings.load()
    trail = open_records(settings).audit
    print_one = _printer(settings, as_json=as_json)
    is_wanted = line_filter(event, since, attempt, min_cents)
    try:
        if follow:
            _follow(trail, count, is_wanted, print_one)
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


def _follow(
    trail: AuditTrail, count: int, is_wanted: Callable[[Line], bool], print_one: Callable[[Line], None]
) -> None:
    # What is drawn for a window is drawn again when that changes; what goes into a pipe is written once.
    is_window = is_watched(sys.stdout)
    screen = LiveScreen(print_one)
    show, wait = (screen.show, screen.wait) if is_window else (print_one, wait_for_reader)
    try:
        with screen.watching() if is_window else nullcontext():
            for line in filter(is_wanted, trail.follow(count, wait=wait)):
                show(line)
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


def _printer(settings: Settings, *, as_json: bool) -> Callable[[Line], None]:
    if as_json:
        return _print_json
    if not is_watched(sys.stdout):
        return lambda line: print_line(whole(line))
    names = known_names(settings)
    return lambda line: print_cut(fitting(line, names))
