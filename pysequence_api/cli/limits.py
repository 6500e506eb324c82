"""``limits``: what may still move today, and transfers whose outcome is not known yet."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from pysequence_api.cli.drawing import (
    NOTHING,
    UNKNOWN_OUTCOME,
    Column,
    name_or_id,
    print_bar,
    print_facts,
    print_table,
    shown_time,
)
from pysequence_api.cli.running import Interrupts, confirm_or_exit, run
from pysequence_api.cli.terminal import UNKNOWN, is_interactive, note, print_json, print_line
from pysequence_api.cli.transfers import print_status
from pysequence_api.clock import read_time
from pysequence_api.errors import InvalidRequestError
from pysequence_api.gateway import open_gateway, open_names, open_records, open_recovery
from pysequence_api.money import format_cents
from pysequence_api.records.audit import AuditTrail, EventType, Line
from pysequence_api.records.repair import carry_out, propose
from pysequence_api.safeguards.reservations import Limits, Unsettled
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
    Column("Status", whole=True),
    Column("Amount", right=True),
    Column("From"),
    Column("To"),
)
FINDING_COLUMNS = (
    Column("Attempt"),
    Column("Amount", right=True),
    Column("Result"),
    Column("Transfer or reason"),
)
MAX_TRANSFERS_SHOWN = 5
MAX_LINES_READ = 1000
"""How far back `show` looks in the audit trail."""


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
    records = open_records(settings)
    limits = records.limits()
    if as_json:
        print_json(limits.model_dump(mode="json"))
        return
    _draw(limits, settings.data_directory.absolute())
    _draw_latest(latest_transfers(limits.date, records.audit, MAX_TRANSFERS_SHOWN), open_names(settings).read())


def reconcile(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON list.")] = False,
) -> None:
    """Look up transfers with an unknown outcome.

    Searches the account's activity. A transfer that was made is settled. A transfer that was not made no longer counts
    as used. Until it is certain which, the transfer stays unsettled and counts; the exit code is 0 then too.

    \b
    Example:
      pysequence-api limits reconcile
    """
    run(partial(_reconcile, Settings.load(), as_json))


def resolve(
    attempt_id: Annotated[
        str, typer.Argument(metavar="ATTEMPT", help="Attempt id, from `pysequence-api limits show`.")
    ],
    completed: Annotated[
        str | None, typer.Option(metavar="TRANSFER_ID", help="Record that it was executed, as this transfer.")
    ] = None,
    not_executed: Annotated[
        bool, typer.Option("--not-executed", help="Record that it was not executed. It then no longer counts.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation. Required in scripts.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the attempt as one JSON document.")] = False,
) -> None:
    """Record the outcome of a transfer yourself.

    First check in Sequence's application whether the transfer was executed. Your decision is recorded in the audit
    trail and cannot be changed. Reads the data directory; makes no upstream call.

    \b
    Example:
      pysequence-api limits resolve 1dc004ac-bd0f-41da-b780-b4d026138697 --not-executed
    """
    if (completed is not None) == not_executed or completed == "":
        raise InvalidRequestError("Pass either --completed TRANSFER_ID or --not-executed.")
    settings = Settings.load()
    recovery = open_recovery(settings, open_records(settings))
    status = recovery.status(attempt_id)
    outcome = "was not executed" if completed is None else f"was executed as transfer {completed!r}"
    parties = f"from {status.source_id} to {status.destination_id}"
    note(f"The transfer of {format_cents(status.amount_cents)} {parties} {outcome}.")
    confirm_or_exit("Record this? It cannot be changed later.", yes=yes)
    print_status(recovery.resolve(attempt_id, completed), as_json=as_json)


def repair(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation. Required in scripts.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as one JSON document.")] = False,
) -> None:
    """Rebuild the ledger from the audit trail.

    Use this if .daily_limits.json is damaged or missing. Shows what would be written and asks first. Every transfer
    that did not certainly fail counts, and idempotency keys are kept. The damaged file is kept under another name.
    Reads the data directory; makes no upstream call.

    \b
    Example:
      pysequence-api limits repair
    """
    store = open_records(Settings.load()).store
    proposed = propose(store)
    entries = [entry for _, entry in proposed.ledger.entries()]
    if proposed.counted_cents is None:
        note(proposed.problem or "")
    else:
        note(f"The existing ledger is valid and counts {format_cents(proposed.counted_cents)} today.")
    used_today = format_cents(proposed.used_cents)
    note(f"Rebuilt from the audit trail, it would count {used_today} today. All entries ({len(entries)}):")
    for entry in entries:
        amount = format_cents(entry.amount_cents)
        note(f"  {entry.timestamp}  {amount:>14}  {entry.state:8}  {entry.attempt_id or 'from another program'}")
    confirm_or_exit("Write it?", yes=yes)
    old_file = carry_out(store, proposed)
    if as_json:
        old_path = str(old_file) if old_file else None
        print_json({"entries": len(entries), "used_cents": proposed.used_cents, "old_file": old_path})
    else:
        print_facts(
            [
                ("Written", f"{len(entries)} entries"),
                ("Used today", format_cents(proposed.used_cents)),
                ("Old file", str(old_file) if old_file else "none"),
            ]
        )


@dataclass(frozen=True, slots=True)
class LatestTransfer:
    """The newest line of the audit trail about one transfer."""

    line: Line
    status: str


def latest_transfers(day: date, trail: AuditTrail, limit: int) -> list[LatestTransfer]:
    """Return the newest transfers of a UTC day with their status, newest first."""
    start = datetime.combine(day, time(), UTC)
    newest: dict[str, LatestTransfer] = {}
    for number, line in enumerate(_lines_since(start, trail)):
        newest.setdefault(line.attempt_id or f"line {number}", LatestTransfer(line, _status(line)))
    return list(islice(newest.values(), limit))


def _lines_since(start: datetime, trail: AuditTrail) -> Iterator[Line]:
    for line in islice(trail.newest_first(), MAX_LINES_READ):
        moment = read_time(line.timestamp)
        if moment is not None and moment < start:
            return
        if moment is not None:
            yield line


def _status(line: Line) -> str:
    if line.event_type == EventType.REQUESTED:
        return "in progress or unknown"
    if line.event_type == EventType.FAILED and line.outcome == UNKNOWN_OUTCOME:
        return "outcome unknown"
    if line.event_type == EventType.IDENTIFIED:
        return "completed"
    return (line.event_type or NOTHING).removeprefix("transfer_")


def _draw(limits: Limits, directory: Path) -> None:
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


def _unsettled_row(one: Unsettled) -> tuple[str, ...]:
    return (
        one.attempt_id or UNKNOWN,
        shown_time(one.since) if one.since else UNKNOWN,
        format_cents(one.amount_cents),
        one.state,
        one.reason or UNKNOWN,
        one.source_id or UNKNOWN,
        one.destination_id or UNKNOWN,
    )


def _time_until(end: datetime) -> str:
    minutes = max(0, int((end - datetime.now(UTC)).total_seconds() // 60))
    return f"in {minutes // 60} h {minutes % 60} min"


def _draw_latest(latest: Sequence[LatestTransfer], names: Mapping[str, str]) -> None:
    if latest:
        print_line()
        print_table(LATEST_COLUMNS, [_latest_row(one, names) for one in latest])


def _latest_row(one: LatestTransfer, names: Mapping[str, str]) -> tuple[str, ...]:
    moment, cents = read_time(one.line.timestamp), one.line.amount_cents
    return (
        shown_time(moment) if moment else UNKNOWN,
        one.status,
        UNKNOWN if cents is None else format_cents(cents),
        name_or_id(one.line.source, names),
        name_or_id(one.line.destination, names),
    )


async def _reconcile(settings: Settings, as_json: bool, _: Interrupts) -> None:
    async with open_gateway(settings) as gateway:
        findings = await gateway.follow_up.run()
    if as_json:
        print_json([finding.model_dump(mode="json") for finding in findings])
    elif not findings:
        print_line("Nothing is unsettled.")
    else:
        rows = [
            (one.attempt_id, format_cents(one.amount_cents), one.result.value, one.transfer_id or one.reason or NOTHING)
            for one in findings
        ]
        print_table(FINDING_COLUMNS, rows)
