"""``audit export``: one row for each transfer, or the events of the audit trail."""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from pysequence_api.cli.audit import is_between, read_when
from pysequence_api.cli.terminal import note, print_json, print_line
from pysequence_api.errors import InvalidRequestError
from pysequence_api.records import read_records
from pysequence_api.records.attempts import Attempt
from pysequence_api.records.database import Database
from pysequence_api.records.states import OPEN_STATES, State
from pysequence_api.records.trail import Trail
from pysequence_api.safeguards.now import state_now
from pysequence_api.settings import Settings

TRANSFER_COLUMNS = (
    *("requested_at", "ended_at", "amount", "amount_cents", "requested_amount", "state"),
    *("source", "destination", "description", "source_id", "destination_id"),
    *("transfer_id", "attempt_id", "via", "error"),
)
EVENT_COLUMNS = (
    *("timestamp", "event_type", "amount_cents", "source", "destination", "transfer_id", "attempt_id", "via"),
    *("outcome", "error", "unreadable"),
)
MOVED_STATES = {State.ACCEPTED, State.ARRIVED}
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
FORMULA = re.compile(
    r"(^|[;\t\r\n])(?=[\s\u200b-\u200d\ufeff]*[=+\-@\u2212\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20])|^(?=[\t\r])"
)
"""Where a spreadsheet could see a formula: at a sign, of any width, that begins a cell or follows a separator."""


class ExportFormat(StrEnum):
    """The formats of an export."""

    CSV = "csv"
    JSON = "json"


def export(
    form: Annotated[ExportFormat, typer.Option("--format", help="CSV of transfers, or JSON of events.")] = (
        ExportFormat.CSV
    ),
    begin: Annotated[str | None, typer.Option("--from", metavar="TIME", help="First day, or earliest time.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Last day, or latest time.")] = None,
    events: Annotated[bool, typer.Option("--events", help="Export events of the audit trail as CSV.")] = False,
) -> None:
    """Export transfers as CSV, or the audit trail.

    The CSV has one row for each transfer that was requested in this time. The sum of its column `amount`, in dollars,
    is what moved. It is 0 where nothing moved or the money came back, and empty where that is not known yet. With
    --events or --format json, each event of the audit trail is exported instead.

    Writes to standard output. A day is a UTC day.

    \b
    Example:
      pysequence-api audit export --from 2026-01-01 --to 2026-12-31 > 2026.csv
      pysequence-api audit export --format json --from 30d
    """
    first, last = read_when(begin) if begin else None, read_when(end, end_of_day=True) if end else None
    if first and last and first >= last:
        raise InvalidRequestError("--from is after --to. Swap them.")
    directory = Settings.load().data_directory
    if form is ExportFormat.CSV and not events:
        _export_transfers(read_records(directory), first or BEGINNING, last)
        return
    lines = (line for line in Trail(directory).oldest_first() if is_between(line, first, last))
    if form is ExportFormat.JSON:
        print_json([line.as_json() for line in lines])
        return
    _print_row(EVENT_COLUMNS)
    for line in lines:
        _print_row(getattr(line, name) for name in EVENT_COLUMNS)


def _export_transfers(records: Database, first: datetime, last: datetime | None) -> None:
    attempts, names, overdue = records.read(
        lambda reader: (reader.attempts_since(first), reader.names(), reader.overdue_approvals())
    )
    _print_row(TRANSFER_COLUMNS)
    not_known = 0
    for attempt in attempts:
        if last is None or attempt.created_at < last:
            state = state_now(attempt, records.owners, overdue)
            not_known += state in OPEN_STATES
            _print_row(_transfer_row(attempt, state, names)[name] for name in TRANSFER_COLUMNS)
    if not_known:
        note(f"The amount of {not_known} transfers is empty: it is not known yet whether they moved money.")


def _transfer_row(attempt: Attempt, state: State, names: Mapping[str, str]) -> dict[str, object]:
    moved_cents = attempt.amount_cents if state in MOVED_STATES else None if state in OPEN_STATES else 0
    return {
        "requested_at": attempt.created_at.isoformat(timespec="seconds"),
        "ended_at": attempt.ended_at and attempt.ended_at.isoformat(timespec="seconds"),
        "amount": None if moved_cents is None else _dollars(moved_cents),
        "amount_cents": moved_cents,
        "requested_amount": _dollars(attempt.amount_cents),
        "state": state,
        "source": names.get(attempt.source_id or ""),
        "destination": names.get(attempt.destination_id or ""),
        "description": attempt.description,
        "source_id": attempt.source_id,
        "destination_id": attempt.destination_id,
        "transfer_id": attempt.transfer_id,
        "attempt_id": attempt.id,
        "via": attempt.channel,
        "error": attempt.error,
    }


def _dollars(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _print_row(cells: Iterable[object]) -> None:
    row = io.StringIO()
    harmless = [FORMULA.sub(r"\1'", cell) if isinstance(cell, str) else cell for cell in cells]
    csv.writer(row, lineterminator="").writerow(harmless)
    print_line(row.getvalue())
