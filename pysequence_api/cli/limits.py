"""``limits show``: what may still move today. Reads files only."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated

import typer

from pysequence_api.cli.events import Recent, named, transfers_of
from pysequence_api.cli.known import known_names
from pysequence_api.cli.output import (
    UNKNOWN,
    Column,
    is_watched,
    note,
    print_bar,
    print_facts,
    print_json,
    print_line,
    print_table,
    shown_time,
)
from pysequence_api.clock import read_time
from pysequence_api.gateway import open_records
from pysequence_api.money import format_cents
from pysequence_api.safeguards.reservations import Limits, Unsettled
from pysequence_api.settings import Settings

COLUMNS = (
    Column("Attempt"),
    Column("Since"),
    Column("Amount", right=True),
    Column("State", whole=True),
    Column("Why"),
    Column("Source", style="dim"),
    Column("Destination", style="dim"),
)
TRANSFER_COLUMNS = (
    Column("Last today"),
    Column("Became", whole=True),
    Column("Amount", right=True),
    Column("From"),
    Column("To"),
)
MAX_TRANSFERS_SHOWN = 5

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The per-transfer and the daily limit.")


@app.command("show")
def show(
    as_json: Annotated[bool, typer.Option("--json", help="Print what GET /api/limits answers.")] = False,
) -> None:
    """Show both limits, what is used and left today, what has not ended, and the last transfers of the day.

    A day is a UTC day. What is unsettled counts as used. Needs neither Sequence nor a network.

    \b
    Example:
      pysequence-api limits show
      pysequence-api limits show --json | jq .remaining_cents
    """
    settings = Settings.load()
    records = open_records(settings)
    limits = records.limits()
    if as_json:
        print_json(limits.model_dump(mode="json"))
        return
    _draw(limits, settings.data_directory.absolute())
    _draw_transfers(transfers_of(limits.date, records.audit, MAX_TRANSFERS_SHOWN), known_names(settings))


def _draw(limits: Limits, directory: Path) -> None:
    print_facts(
        [
            ("Per transfer", f"at most {format_cents(limits.max_transfer_cents)}"),
            ("Per day", f"at most {format_cents(limits.max_daily_cents)}"),
            ("Used today", format_cents(limits.used_cents)),
            ("Left today", format_cents(limits.remaining_cents)),
            ("Day", f"{limits.date} (UTC), ends {shown_time(end_of(limits.date))}, {_left(end_of(limits.date))}"),
            ("Unsettled", str(len(limits.unsettled))),
            ("Audit head", limits.audit_head or "none yet"),
            ("Data directory", str(directory)),
        ]
    )
    print_bar(limits.used_cents, limits.max_daily_cents)
    if limits.unsettled:
        _draw_unsettled([_row(one) for one in limits.unsettled])
        note("It counts until it is known. `limits reconcile` finds out; `limits resolve` lets you decide.")


def _draw_unsettled(rows: Sequence[Sequence[str]]) -> None:
    if not is_watched(sys.stdout):
        print_line()
        print_table(COLUMNS, rows)
        return
    for row in rows:  # one below the other: ids that must be copied fit into no narrow column
        print_line()
        print_facts([(column.title, cell) for column, cell in zip(COLUMNS, row, strict=True)])


def end_of(day: date) -> datetime:
    """Give the moment at which a UTC day ends."""
    return datetime.combine(day + timedelta(days=1), time(), UTC)


def _left(end: datetime) -> str:
    minutes = max(0, int((end - datetime.now(UTC)).total_seconds() // 60))
    return f"in {minutes // 60} h {minutes % 60} min"


def _draw_transfers(recent: Sequence[Recent], names: Mapping[str, str]) -> None:
    if recent:
        print_line()
        print_table(TRANSFER_COLUMNS, [_transfer_row(one, names) for one in recent])


def _transfer_row(one: Recent, names: Mapping[str, str]) -> tuple[str, ...]:
    moment, cents = read_time(one.line.timestamp), one.line.amount_cents
    return (
        shown_time(moment) if moment else UNKNOWN,
        one.state,
        UNKNOWN if cents is None else format_cents(cents),
        named(one.line.source, names),
        named(one.line.destination, names),
    )


def _row(one: Unsettled) -> tuple[str, ...]:
    return (
        one.attempt_id or UNKNOWN,
        shown_time(one.since) if one.since else UNKNOWN,
        format_cents(one.amount_cents),
        one.state,
        one.reason or UNKNOWN,
        one.source_id or UNKNOWN,
        one.destination_id or UNKNOWN,
    )
