"""``limits``: what may still move today, and transfers whose outcome is not known yet."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from pysequence_api.cli.attempts import print_status
from pysequence_api.cli.drawing import (
    Column,
    name_or_id,
    print_bar,
    print_facts,
    print_table,
    print_text,
    shown_time,
)
from pysequence_api.cli.running import confirm_or_exit
from pysequence_api.cli.terminal import UNKNOWN, is_interactive, note, print_json, print_line, safe
from pysequence_api.errors import InvalidRequestError
from pysequence_api.money import format_cents
from pysequence_api.records import open_records, read_records
from pysequence_api.records.attempts import Attempt
from pysequence_api.records.names import known_names
from pysequence_api.safeguards.decide import MaxCents, state_now
from pysequence_api.safeguards.transfers import Limits, UnsettledAttempt, read_attempt, read_limits, resolve_all
from pysequence_api.settings import Settings

UNSETTLED_COLUMNS = (
    Column("Attempt"),
    Column("Since"),
    Column("Amount", right=True),
    Column("State", whole=True),
    Column("Reason"),
    Column("Source", style="dim"),
    Column("Destination", style="dim"),
)
LATEST_COLUMNS = (
    Column("Latest today"),
    Column("State", whole=True),
    Column("Amount", right=True),
    Column("From"),
    Column("To"),
)
MAX_TRANSFERS_SHOWN = 5


def show(
    as_json: Annotated[bool, typer.Option("--json", help="Print the response of GET /api/limits.")] = False,
) -> None:
    """Show the limits and what is left today.

    Also lists transfers with an unknown outcome, which count as used, and the latest transfers of the day. A day is a
    UTC day. Reads the data directory; makes no upstream call.

    \b
    Example:
      pysequence-api limits show
      pysequence-api limits show --json | jq .remaining_cents
    """
    settings = Settings.load()
    records = read_records(settings.data_directory)
    limits = read_limits(records, MaxCents.of(settings))
    if as_json:
        print_json(limits.model_dump(mode="json"))
        return
    _draw(limits, settings.data_directory.absolute())
    day = datetime.combine(limits.date, time(), UTC)
    attempts = records.read(lambda reader: reader.attempts_since(day))
    latest = [replace(one, state=state_now(one, records.owners)) for one in attempts[: -MAX_TRANSFERS_SHOWN - 1 : -1]]
    _draw_latest(latest, known_names(records))


def resolve(
    attempt_ids: Annotated[
        list[str], typer.Argument(metavar="ATTEMPT...", help="Attempt ids, from `pysequence-api limits show`.")
    ],
    completed: Annotated[
        str | None,
        typer.Option(metavar="TRANSFER_ID", help="Record that it was executed, as this transfer. For one attempt."),
    ] = None,
    not_executed: Annotated[
        bool, typer.Option("--not-executed", help="Record that they were not executed. They then no longer count.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation. Required in scripts.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the attempts as one JSON list.")] = False,
) -> None:
    """Record the outcome of transfers yourself.

    First check in Sequence's application whether each transfer was executed. Your decision is recorded in the audit
    trail and cannot be changed: for all of the attempts, or for none if one of them cannot be resolved. Reads the data
    directory; makes no upstream call.

    \b
    Example:
      pysequence-api limits resolve 1dc004ac-bd0f-41da-b780-b4d026138697 --not-executed
    """
    if (completed is not None) == not_executed or completed == "":
        raise InvalidRequestError("Pass either --completed TRANSFER_ID or --not-executed.")
    attempt_ids = list(dict.fromkeys(attempt_ids))
    if completed is not None and len(attempt_ids) > 1:
        raise InvalidRequestError(
            "--completed TRANSFER_ID is the transfer of one attempt. Pass one attempt id with it."
        )
    records = open_records(Settings.load().data_directory)
    outcome = "was not executed" if completed is None else f"was executed as transfer {completed!r}"
    for attempt_id in attempt_ids:
        status = read_attempt(records, attempt_id)
        parties = f"from {status.source_id} to {status.destination_id}"
        note(f"The transfer of {format_cents(status.amount_cents)} {parties} {outcome} (attempt {attempt_id}).")
    confirm_or_exit("Record this? It cannot be changed later.", yes=yes)
    try:
        resolved = resolve_all(records, attempt_ids, completed)
        records.write_limits()
    finally:
        records.close()
    if as_json:
        print_json([one.model_dump(mode="json") for one in resolved])
        return
    for number, one in enumerate(resolved):
        if number:
            print_line()
        print_status(one, as_json=False)


def _draw(limits: Limits, directory: Path) -> None:
    if limits.frozen:
        since = shown_time(limits.frozen_since) if limits.frozen_since else UNKNOWN
        print_text(Text(f"FROZEN since {since}: {safe(limits.frozen_reason or UNKNOWN)}", "bold red"))
    end = datetime.combine(limits.date + timedelta(days=1), time(), UTC)
    print_facts(
        [
            ("Per transfer", f"at most {format_cents(limits.max_transfer_cents)}"),
            ("Per day", f"at most {format_cents(limits.max_daily_cents)}"),
            ("Used today", format_cents(limits.used_cents)),
            ("Left today", format_cents(limits.remaining_cents)),
            ("Day", f"{limits.date} (UTC), ends {shown_time(end)}, {_time_until(end)}"),
            ("Unsettled", str(len(limits.unsettled))),
            ("Audit head", limits.audit_head or "none yet"),
            ("Data directory", str(directory)),
        ]
    )
    print_bar(limits.used_cents, limits.max_daily_cents)
    if limits.unsettled:
        _draw_unsettled([_unsettled_row(one) for one in limits.unsettled])
        note(
            "Unsettled transfers count as used. `limits reconcile` looks them up; `limits resolve` records an outcome."
        )


def _draw_unsettled(rows: Sequence[Sequence[str]]) -> None:
    if not is_interactive(sys.stdout):
        print_line()
        print_table(UNSETTLED_COLUMNS, rows)
        return
    for row in rows:  # as facts, because a narrow column would break the ids that people copy
        print_line()
        print_facts([(column.title, cell) for column, cell in zip(UNSETTLED_COLUMNS, row, strict=True)])


def _unsettled_row(one: UnsettledAttempt) -> tuple[str, ...]:
    return (
        one.attempt_id,
        shown_time(one.since),
        format_cents(one.amount_cents),
        one.state,
        one.reason or UNKNOWN,
        one.source_id or UNKNOWN,
        one.destination_id or UNKNOWN,
    )


def _time_until(end: datetime) -> str:
    minutes = max(0, int((end - datetime.now(UTC)).total_seconds() // 60))
    return f"in {minutes // 60} h {minutes % 60} min"


def _draw_latest(latest: Sequence[Attempt], names: Mapping[str, str]) -> None:
    if latest:
        print_line()
        print_table(LATEST_COLUMNS, [_latest_row(one, names) for one in latest])


def _latest_row(one: Attempt, names: Mapping[str, str]) -> tuple[str, ...]:
    return (
        shown_time(one.created_at),
        one.state,
        format_cents(one.amount_cents),
        name_or_id(one.source_id, names),
        name_or_id(one.destination_id, names),
    )
