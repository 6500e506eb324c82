"""``activity``: transfers in the account, whoever made them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Annotated, Any

import typer

from pysequence_api.account.scoped import ScopedReads
from pysequence_api.cli.completion import completer
from pysequence_api.cli.drawing import TRANSFER_COLUMNS, print_facts, print_table, progress, transfer_row
from pysequence_api.cli.running import Interrupts, run
from pysequence_api.cli.terminal import UNKNOWN, note, print_json, warn
from pysequence_api.cli.upstream import Fresh, is_fresh, open_with_status, reading
from pysequence_api.errors import InvalidRequestError
from pysequence_api.gateway import open_gateway
from pysequence_api.models import (
    ACTIVITY_TYPES,
    DIRECTIONS,
    TRANSFER_STATUSES,
    ActivityFilter,
    ActivityPage,
    ActivitySummary,
    Transfer,
)
from pysequence_api.settings import Settings

MAX_PAGE_TRANSFERS = 100
DEFAULT_PAGE_TRANSFERS = 10
MAX_PAGES = 100
"""The most that ``--all`` reads. Requests are paced, so this takes minutes; the cursor says where to continue."""
DAY_FORMATS = ["%Y-%m-%d"]

Values = list[str]


@dataclass(frozen=True, slots=True)
class _Query:
    org_id: str | None
    first: int
    after: str
    only: ActivityFilter
    max_pages: int
    fresh: bool


def _filter(option: str, known: Sequence[str]) -> Any:
    return typer.Option(
        option,
        metavar=option.removeprefix("--").upper(),
        help=f"Only {', '.join(known[:-1])} or {known[-1]}. Can be repeated.",
        autocompletion=completer(known),
    )


def list_activity(
    context: typer.Context,
    first: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of transfers, by default 10; with --all, transfers per page.",
            min=1,
            max=MAX_PAGE_TRANSFERS,
        ),
    ] = None,
    after: Annotated[str, typer.Option(metavar="CURSOR", help="Continue after this cursor of an earlier page.")] = "",
    org_id: Annotated[str | None, typer.Option(metavar="ORG_ID", help="Override SEQUENCE_ORG_ID.")] = None,
    status: Annotated[Values | None, _filter("--status", TRANSFER_STATUSES)] = None,
    direction: Annotated[Values | None, _filter("--direction", DIRECTIONS)] = None,
    kind: Annotated[Values | None, _filter("--type", ACTIVITY_TYPES)] = None,
    any_status: Annotated[
        bool, typer.Option("--any-status", help="Pass values of --status, --direction and --type on, known or not.")
    ] = False,
    begin: Annotated[
        datetime | None, typer.Option("--from", metavar="DAY", formats=DAY_FORMATS, help="First day, like 2026-01-31.")
    ] = None,
    end: Annotated[datetime | None, typer.Option("--to", metavar="DAY", formats=DAY_FORMATS, help="Last day.")] = None,
    hide_internal: Annotated[bool, typer.Option("--hide-internal", help="Hide transfers within the account.")] = False,
    name: Annotated[str, typer.Option(help="Only transfers from or to a name that contains this.")] = "",
    every: Annotated[bool, typer.Option("--all", help=f"Read all pages, at most {MAX_PAGES}.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print GET /api/activity, without `next`.")] = False,
    fresh: Fresh = False,
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
        statuses=_values("--status", status, () if any_status else TRANSFER_STATUSES),
        directions=_values("--direction", direction, () if any_status else DIRECTIONS),
        activity_types=_values("--type", kind, () if any_status else ACTIVITY_TYPES),
        date_start=_day(begin),
        date_end=_day(end),
        hide_internal=hide_internal,
        name=name,
    )
    page_transfers = first or (MAX_PAGE_TRANSFERS if every else DEFAULT_PAGE_TRANSFERS)
    query = _Query(org_id, page_transfers, after, only, MAX_PAGES if every else 1, fresh)
    page = run(partial(_read, Settings.load(), query))
    if as_json:
        print_json(page.model_dump(mode="json"))
    else:
        print_table(TRANSFER_COLUMNS, [transfer_row(transfer) for transfer in page.transfers])
    _note_what_is_missing(page, every=every)


def summary(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the response of GET /api/activity/summary.")] = False,
    fresh: Fresh = False,
) -> None:
    """Show this month in numbers, over all organizations.

    \b
    Example:
      pysequence-api activity summary
    """
    found = run(partial(_read_summary, Settings.load(), is_fresh(context, fresh=fresh)))
    if not found.complete:
        warn("Sequence left out a part of the summary, or sent something that cannot be read.")
    if as_json or (context.parent is not None and context.parent.params["as_json"]):
        print_json(found.model_dump(mode="json"))
        return
    print_facts(
        [
            ("Transfers", _number(found.transfer_count)),
            ("Rules executed", _number(found.rule_executions)),
            ("Incoming", found.total_incoming or UNKNOWN),
        ]
    )


def _values(option: str, values: Values | None, known: Sequence[str]) -> tuple[str, ...]:
    """Accept repeated and comma-separated values, as the API does, and only known ones, unless none are given."""
    parts = tuple(part.strip().upper() for value in values or [] for part in value.split(",") if part.strip())
    unknown = [part for part in parts if known and part not in known]
    if unknown:
        raise InvalidRequestError(
            f"{option} {unknown[0][:40]!r} is not known. Use one of: {', '.join(known)}."
            " If Sequence has it all the same, add --any-status."
        )
    return parts


def _day(moment: datetime | None) -> date | None:
    return None if moment is None else moment.date()


def _number(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


async def _read_summary(settings: Settings, fresh: bool, _: Interrupts) -> ActivitySummary:
    async with open_with_status(settings) as gateway:
        with reading(gateway, fresh=fresh) as reads:
            return await reads.activity_summary()


async def _read(settings: Settings, query: _Query, _: Interrupts) -> ActivityPage:
    if query.max_pages == 1:
        async with open_with_status(settings) as gateway:
            with reading(gateway, fresh=query.fresh) as reads:
                return await _read_page(reads, query.org_id or gateway.organization_id, query, query.after)
    async with open_gateway(settings, is_owner=True) as gateway:
        # Sequence does not say how many there are.
        with reading(gateway, fresh=query.fresh) as reads, progress("reading", "transfers") as advance:
            return await _read_pages(reads, query.org_id or gateway.organization_id, query, advance)


async def _read_pages(
    reads: ScopedReads, organization_id: str, query: _Query, advance: Callable[[int], None]
) -> ActivityPage:
    transfers: list[Transfer] = []
    after, complete = query.after, True
    for _ in range(query.max_pages):
        page = await _read_page(reads, organization_id, query, after)
        transfers += page.transfers
        complete = complete and page.complete
        advance(len(page.transfers))
        # A cursor that stays the same would return the same page forever.
        if not page.page_info.has_next_page or page.page_info.end_cursor in {"", after}:
            break
        after = page.page_info.end_cursor
    return ActivityPage(transfers=tuple(transfers), page_info=page.page_info, complete=complete)


async def _read_page(reads: ScopedReads, organization_id: str, query: _Query, after: str) -> ActivityPage:
    return await reads.activity(organization_id, first=query.first, after=after, only=query.only)


def _note_what_is_missing(page: ActivityPage, *, every: bool) -> None:
    if not page.complete:
        warn("Sequence left out some transfers of this list.")
    if page.page_info.has_next_page:
        note(f"For more, use --after {page.page_info.end_cursor}{'' if every else ', or --all'}")
