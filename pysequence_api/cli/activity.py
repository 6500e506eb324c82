"""``activity``: what moved, and how far it has come."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Annotated

import typer

from pysequence_api.cli.moves import MOVE_COLUMNS, move_row
from pysequence_api.cli.output import UNKNOWN, is_watched, new_console, note, print_facts, print_json, print_table, warn
from pysequence_api.cli.running import Interrupts, run
from pysequence_api.cli.waiting import open_watched
from pysequence_api.errors import InvalidRequestError
from pysequence_api.gateway import Gateway, open_gateway
from pysequence_api.models import ActivityFilter, ActivityPage, ActivitySummary, Transfer
from pysequence_api.settings import Settings

MAX_PAGE_TRANSFERS = 100
DEFAULT_PAGE_TRANSFERS = 10
MAX_PAGES = 100
"""How far ``--all`` goes. Pages are paced, so that this takes minutes; the cursor says where to go on."""
DAY_FORMATS = ["%Y-%m-%d"]

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
Values = list[str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for on the command line."""

    org_id: str | None
    first: int
    after: str
    only: ActivityFilter
    max_pages: int


@app.callback()
def list_activity(
    context: typer.Context,
    first: Annotated[
        int | None,
        typer.Option(help="How many; with --all, how many a page.", min=1, max=MAX_PAGE_TRANSFERS, show_default="10"),
    ] = None,
    after: Annotated[str, typer.Option(metavar="CURSOR", help="Go on after this, the end of a page before.")] = "",
    org_id: Annotated[str | None, typer.Option(metavar="ORG_ID", help="Instead of SEQUENCE_ORG_ID.")] = None,
    status: Annotated[Values | None, typer.Option(help="PENDING, PROCESSING, COMPLETE, FAILED; repeatable.")] = None,
    direction: Annotated[Values | None, typer.Option(help="INTERNAL, INCOMING, OUTGOING; repeatable.")] = None,
    kind: Annotated[
        Values | None, typer.Option("--type", help="ONE_TIME_TRANSFER, RULE, DIRECT_DEPOSIT, ACH; repeatable.")
    ] = None,
    begin: Annotated[datetime | None, typer.Option("--from", formats=DAY_FORMATS, help="Not before this day.")] = None,
    end: Annotated[datetime | None, typer.Option("--to", formats=DAY_FORMATS, help="Not after this day.")] = None,
    hide_internal: Annotated[bool, typer.Option("--hide-internal", help="Only what comes in or goes out.")] = False,
    name: Annotated[str, typer.Option(help="Only those with this in a name.")] = "",
    every: Annotated[bool, typer.Option("--all", help=f"Follow the pages to the end, {MAX_PAGES} at most.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what GET /api/activity answers.")] = False,
) -> None:
    """List transfers, newest first.

    \b
    Example:
      pysequence-api activity --status FAILED --from 2026-01-01
      pysequence-api activity --all --json | jq '[.transfers[].amount_cents] | add'
      pysequence-api activity summary
    """
    if context.invoked_subcommand is not None:
        return
    if begin and end and begin > end:
        raise InvalidRequestError("--from is after --to. Swap them.")
    only = ActivityFilter(
        statuses=_split(status),
        directions=_split(direction),
        activity_types=_split(kind),
        date_start=_day(begin),
        date_end=_day(end),
        hide_internal=hide_internal,
        name=name,
    )
    page_transfers = first or (MAX_PAGE_TRANSFERS if every else DEFAULT_PAGE_TRANSFERS)
    wanted = Wanted(org_id, page_transfers, after, only, MAX_PAGES if every else 1)
    page = run(partial(_read, Settings.load(), wanted))
    if as_json:
        print_json(page.model_dump(mode="json"))
    else:
        print_table(MOVE_COLUMNS, [move_row(transfer) for transfer in page.transfers])
    _say_what_is_missing(page, every=every)


@app.command("summary")
def summary(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print what GET /api/activity/summary answers.")] = False,
) -> None:
    """Show this month in numbers.

    \b
    Example:
      pysequence-api activity summary
    """
    found = run(partial(_read_summary, Settings.load()))
    if as_json or (context.parent is not None and context.parent.params["as_json"]):
        print_json(found.model_dump(mode="json"))
        return
    print_facts(
        [
            ("Transfers", _number(found.transfer_count)),
            ("Rules executed", _number(found.rule_executions)),
            ("Came in", found.total_incoming or UNKNOWN),
        ]
    )


def _split(values: Values | None) -> tuple[str, ...]:
    """Take repeated values and comma-separated ones, as the API does."""
    parts = (part.strip() for value in values or [] for part in value.split(","))
    return tuple(part for part in parts if part)


def _day(moment: datetime | None) -> date | None:
    return None if moment is None else moment.date()


def _number(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


async def _read_summary(settings: Settings, _: Interrupts) -> ActivitySummary:
    async with open_watched(settings) as gateway:
        return await gateway.client.activity_summary()


async def _read(settings: Settings, wanted: Wanted, _: Interrupts) -> ActivityPage:
    if wanted.max_pages == 1:
        async with open_watched(settings) as gateway:
            return await _read_page(gateway, wanted, wanted.after)
    async with open_gateway(settings) as gateway:
        with _progress() as advance:
            return await _read_pages(gateway, wanted, advance)


async def _read_pages(gateway: Gateway, wanted: Wanted, advance: Callable[[int], None]) -> ActivityPage:
    transfers: list[Transfer] = []
    after, complete = wanted.after, True
    for _ in range(wanted.max_pages):
        page = await _read_page(gateway, wanted, after)
        transfers += page.transfers
        complete = complete and page.complete
        advance(len(page.transfers))
        # A cursor that does not move would give the same page for ever.
        if not page.page_info.has_next_page or page.page_info.end_cursor in {"", after}:
            break
        after = page.page_info.end_cursor
    return ActivityPage(transfers=tuple(transfers), page_info=page.page_info, complete=complete)


async def _read_page(gateway: Gateway, wanted: Wanted, after: str) -> ActivityPage:
    organization_id = wanted.org_id or gateway.organization_id
    return await gateway.client.activity(organization_id, first=wanted.first, after=after, only=wanted.only)


def _say_what_is_missing(page: ActivityPage, *, every: bool) -> None:
    if not page.complete:
        warn("Sequence left out some transfers of this list.")
    if page.page_info.has_next_page:
        note(f"There are more: --after {page.page_info.end_cursor}{'' if every else ', or --all for every page'}")


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Show how many were read. How many there are, Sequence does not say, so that the bar only moves."""
    if not is_watched(sys.stderr):
        yield lambda _transfers: None
        return
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (TextColumn("reading"), BarColumn(), TextColumn("{task.completed:.0f} transfers"))
    with Progress(*columns, console=new_console(sys.stderr), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("", total=None)
        yield lambda transfers: progress.advance(task, transfers)
