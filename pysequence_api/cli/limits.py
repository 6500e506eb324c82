"""``limits``: what may still move today, and transfers whose outcome is not known yet."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import Annotated

import typer
from rich.text import Text

from pysequence_api.cli.drawing import (
    Column,
    clear_screen,
    name_or_id,
    print_bar,
    print_facts,
    print_table,
    print_text,
    shown_time,
    window_size,
)
from pysequence_api.cli.live import until_interrupted, wait_for_reader
from pysequence_api.cli.terminal import UNKNOWN, is_interactive, note, print_json, print_json_line, print_line, safe
from pysequence_api.errors import InvalidRequestError
from pysequence_api.money import format_cents
from pysequence_api.records import read_records
from pysequence_api.records.attempts import Attempt
from pysequence_api.records.names import known_names
from pysequence_api.safeguards.now import MaxCents, state_now
from pysequence_api.safeguards.status import AttemptStatus, Limits, UnsettledAttempt, read_attempt, read_limits
from pysequence_api.settings import Settings

UNSETTLED_COLUMNS = (
    Column("Attempt", is_id=True),
    Column("Unsettled since", whole=True),
    Column("Amount", right=True),
    Column("State", whole=True),
    Column("From"),
    Column("To"),
    Column("Reason"),
)
LATEST_COLUMNS = (
    Column("Latest today", whole=True),
    Column("State", whole=True),
    Column("Amount", right=True),
    Column("From"),
    Column("To"),
)
SETTLED_COLUMNS = (Column("Settled meanwhile", is_id=True), Column("Requested", whole=True), *LATEST_COLUMNS[1:])
MAX_TRANSFERS_SHOWN = 5
WATCH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _State:
    """What `limits show` shows.

    Attributes:
        limits: the limits, with unsettled attempts.
        latest: the latest attempts of the day, newest first.
        settled: attempts that were unsettled before.
        names: names of pods, ports and accounts by id.
    """

    limits: Limits
    latest: tuple[Attempt, ...]
    settled: tuple[AttemptStatus, ...]
    names: Mapping[str, str]


def show(
    as_json: Annotated[bool, typer.Option("--json", help="Print the response of GET /api/limits.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show every change, until Ctrl-C; with --json, one line for each.")
    ] = False,
) -> None:
    """Show the limits and what is left today.

    Also lists transfers with an unknown outcome, which count as used, and the latest transfers of the day. A day is a
    UTC day. Reads the data directory; makes no upstream call.

    With --watch, the transfers that were unsettled stay in sight when they are settled; in JSON as `settled`.

    \b
    Example:
      pysequence-api limits show
      pysequence-api limits show --json | jq .remaining_cents
      pysequence-api limits show --watch
    """
    settings = Settings.load()
    if watch:
        _watch(settings, as_json=as_json)
        return
    state = _read(settings)
    if as_json:
        print_json(state.limits.model_dump(mode="json"))
    else:
        _draw(state, settings)


def _read(settings: Settings, followed: Iterable[str] = ()) -> _State:
    records = read_records(settings.data_directory)  # each time, because the database can be replaced by a backup
    try:
        limits = read_limits(records, MaxCents.of(settings))
        day = datetime.combine(limits.date, time(), UTC)
        attempts, overdue = records.read(lambda reader: (reader.attempts_since(day), reader.overdue_approvals()))
        latest = attempts[: -MAX_TRANSFERS_SHOWN - 1 : -1]
        unsettled = {one.attempt_id for one in limits.unsettled}
        return _State(
            limits=limits,
            latest=tuple(replace(one, state=state_now(one, records.owners, overdue)) for one in latest),
            settled=tuple(read_attempt(records, each) for each in followed if each not in unsettled),
            names=known_names(records),
        )
    finally:
        records.close()


def _watch(settings: Settings, *, as_json: bool) -> None:
    if not as_json and not is_interactive(sys.stdout):
        raise InvalidRequestError("--watch draws on a terminal. Elsewhere, add --json.")
    followed: dict[str, None] = {}
    shown: object = None
    with until_interrupted():
        while True:
            state = _read(settings, followed)
            followed |= dict.fromkeys(one.attempt_id for one in state.limits.unsettled)
            document = state.limits.model_dump(mode="json")
            document["settled"] = [one.model_dump(mode="json") for one in state.settled]
            current = document if as_json else (state, window_size(), _time_until(_end_of(state.limits)))
            if current != shown and as_json:
                print_json_line(document)
            elif current != shown:
                clear_screen()
                _draw(state, settings)
            shown = current
            wait_for_reader(WATCH_SECONDS)


def _draw(state: _State, settings: Settings) -> None:
    limits, names = state.limits, state.names
    if limits.frozen:
        since = shown_time(limits.frozen_since) if limits.frozen_since else UNKNOWN
        print_text(Text(f"FROZEN since {since}: {safe(limits.frozen_reason or UNKNOWN)}", "bold red"))
    for one in limits.frozen_callers:
        print_text(Text(f"{safe(one.caller)} is FROZEN since {shown_time(one.since)}: {safe(one.reason)}", "bold red"))
    end = _end_of(limits)
    print_facts(
        [
            ("Per transfer", f"at most {format_cents(limits.max_transfer_cents)}"),
            ("Per day", f"at most {format_cents(limits.max_daily_cents)}"),
            ("Used today", format_cents(limits.used_cents)),
            ("Left today", format_cents(limits.remaining_cents)),
            ("Day", f"{limits.date} (UTC), ends {shown_time(end)}, {_time_until(end)}"),
            ("Unsettled", str(len(limits.unsettled))),
            ("Audit head", limits.audit_head or "none yet"),
            ("Data directory", str(settings.data_directory.absolute())),
        ]
    )
    print_bar(limits.used_cents, limits.max_daily_cents)
    _draw_table(UNSETTLED_COLUMNS, [_unsettled_row(one, names) for one in limits.unsettled])
    if limits.unsettled:
        note(
            "Unsettled transfers count as used. `limits reconcile` looks them up; `limits resolve` records an outcome."
        )
    _draw_table(SETTLED_COLUMNS, [(one.attempt_id, *_attempt_row(one, names)) for one in state.settled])
    _draw_table(LATEST_COLUMNS, [_attempt_row(one, names) for one in state.latest])


def _draw_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        print_line()
        print_table(columns, rows)


def _unsettled_row(one: UnsettledAttempt, names: Mapping[str, str]) -> tuple[str, ...]:
    return (
        one.attempt_id,
        shown_time(one.since),
        format_cents(one.amount_cents),
        one.state,
        name_or_id(one.source_id, names),
        name_or_id(one.destination_id, names),
        one.reason or UNKNOWN,
    )


def _end_of(limits: Limits) -> datetime:
    return datetime.combine(limits.date + timedelta(days=1), time(), UTC)


def _time_until(end: datetime) -> str:
    minutes = max(0, int((end - datetime.now(UTC)).total_seconds() // 60))
    return f"in {minutes // 60} h {minutes % 60} min"


def _attempt_row(one: Attempt | AttemptStatus, names: Mapping[str, str]) -> tuple[str, ...]:
    return (
        shown_time(one.created_at),
        one.state,
        format_cents(one.amount_cents),
        name_or_id(one.source_id, names),
        name_or_id(one.destination_id, names),
    )
