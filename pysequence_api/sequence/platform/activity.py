"""Which transfers to ask the Platform API for, which of them to keep, and where the next page begins.

The Platform API takes at most one value for most filters, and has none for names. What it cannot filter is filtered
here. Its pages are numbered, so a new transfer would shift them: a cursor fixes the time up to which they reach.
"""

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Self

from pydantic import AwareDatetime, Field, TypeAdapter

from pysequence_api.errors import InvalidRequestError
from pysequence_api.models import ActivityFilter, ActivityPage, ActivitySummary, PageInfo, Transfer
from pysequence_api.sequence.client import NOT_A_CURSOR, Keep
from pysequence_api.sequence.nodes import Node
from pysequence_api.sequence.platform.answers import Answer
from pysequence_api.sequence.platform.parsing import (
    DIRECTIONS,
    ORIGINS,
    STATUSES,
    Page,
    created_at,
    index_of,
    is_simulated,
    party_ids,
    read_transfer,
)

PAGE_TRANSFERS = 100
"""The size of the pages that Sequence is asked for: the largest that it allows."""
MAX_POSITION = 1_000_000
RESOLUTION = timedelta(milliseconds=1)
"""How exactly Sequence shows times."""
LAST_TIME = time(23, 59, 59, 999_000)
RULE, INTERNAL, INCOMING = "RULE", "INTERNAL", "INCOMING"
CAME_TO_NOTHING = {"FAILED", "CANCELLED"}
Parameters = tuple[tuple[str, str], ...]

_Position = Annotated[int, Field(ge=0, le=MAX_POSITION)]
_CURSOR: TypeAdapter[tuple[int, datetime | None, str]] = TypeAdapter(tuple[_Position, AwareDatetime | None, str])


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins.

    Attributes:
        position: how many entries of Sequence's list come before it.
        until: up to when the list reaches; ``None`` for the newest.
        last_id: the entry before it, which is passed over if the list has shifted.
    """

    position: int = 0
    until: datetime | None = None
    last_id: str = ""

    def text(self) -> str:
        """Return the cursor as callers get it."""
        content = _CURSOR.dump_json((self.position, self.until, self.last_id))
        return base64.urlsafe_b64encode(content).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a cursor; the empty text is that of the first page.

        Raises:
            InvalidRequestError: it is not one.
        """
        if not text:
            return cls()
        try:
            padded = text + "=" * (-len(text) % 4)
            return cls(*_CURSOR.validate_json(base64.b64decode(padded, b"-_", validate=True)))
        except ValueError:
            raise InvalidRequestError(NOT_A_CURSOR) from None


@dataclass(frozen=True, slots=True)
class ActivityQuery:
    """A filter, as far as the Platform API has it, and the rest of it."""

    only: ActivityFilter
    until: datetime | None = None

    def parameters(self) -> Parameters:
        """Return the parameters of the query."""
        only = self.only
        start = None if only.date_start is None else datetime.combine(only.date_start, time.min, UTC)
        end = None if only.date_end is None else datetime.combine(only.date_end, LAST_TIME, UTC)
        until = min((moment for moment in (end, self.until) if moment is not None), default=None)
        values = {
            "from": start and write_time(start),
            "to": until and write_time(until),
            "status": _own_word(only.statuses, STATUSES),
            "direction": _own_word(only.directions, DIRECTIONS),
            "origin": _own_word(only.activity_types, ORIGINS),
        }
        return tuple((name, value) for name, value in values.items() if value)

    def keeps(self, transfer: Transfer) -> bool:
        """Say whether a transfer that Sequence listed matches the filter."""
        only = self.only
        if only.hide_internal and transfer.direction == INTERNAL:
            return False
        name = only.name.casefold()
        names = (transfer.source.name, transfer.destination.name)
        return (
            _is_among(only.statuses, transfer.status, transfer.upstream_status)
            and _is_among(only.directions, transfer.direction, transfer.upstream_direction)
            and _is_among(only.activity_types, transfer.activity_type, transfer.upstream_activity_type)
            and any(name in (one or "").casefold() for one in names)
        )


@dataclass(frozen=True, slots=True)
class Listed:
    """One page of Sequence's list of transfers. Its gaps are known once its entries were read."""

    answer: Answer
    page: Page
    has_all_accounts: bool

    @property
    def is_complete(self) -> bool:
        return self.has_all_accounts and not self.answer.gaps

    def party_ids(self) -> set[str]:
        return set().union(*(party_ids(node) for node in self.page.items))


class Totals:
    """Adds up transfers."""

    def __init__(self) -> None:
        self.complete = True
        self._transfers = 0
        self._executions: set[str] = set()
        self._rules_without_execution = 0
        self._incoming_cents = 0

    def add(self, node: Node) -> None:
        """Add an entry of a list."""
        transfer = None if is_simulated(node) else read_transfer(node)
        if transfer is None:
            return
        self._transfers += 1
        if execution := node.text("ruleExecutionId"):
            self._executions.add(execution)
        elif transfer.activity_type == RULE:
            self._rules_without_execution += 1
        if transfer.direction == INCOMING and transfer.status not in CAME_TO_NOTHING:
            self.complete = self.complete and transfer.amount_cents is not None
            self._incoming_cents += transfer.amount_cents or 0

    def summary(self) -> ActivitySummary:
        """Return the totals."""
        return ActivitySummary(
            transfer_count=self._transfers,
            rule_executions=len(self._executions) + self._rules_without_execution,
            total_incoming_cents=self._incoming_cents,
            complete=self.complete,
        )


class Collected:
    """Collects one page of ours from pages of Sequence's."""

    def __init__(self, first: int, only: ActivityFilter, cursor: Cursor, keep: Keep | None = None) -> None:
        self._first = first
        self._only = only
        self._keep = keep
        self._cursor = cursor
        self._last_id = cursor.last_id
        self._transfers: list[Transfer] = []
        self._is_complete = True
        self._has_more = True

    @property
    def query(self) -> ActivityQuery:
        """What to ask for."""
        return ActivityQuery(self._only, self._cursor.until)

    @property
    def page_number(self) -> int:
        """Which page to read next."""
        return self._cursor.position // PAGE_TRANSFERS + 1

    @property
    def is_done(self) -> bool:
        """Whether nothing more is to be read."""
        return len(self._transfers) == self._first or not self._has_more

    def add(self, listed: Listed) -> None:
        """Take what is wanted from a page."""
        begin = (self.page_number - 1) * PAGE_TRANSFERS
        until = self._cursor.until or _right_after(listed.page)
        position = begin + PAGE_TRANSFERS
        self._has_more = listed.page.has_next_page
        for node, at in self._new_items(listed.page, begin):
            self._last_id = node.quiet().identifier() or ""
            transfer = None if is_simulated(node) else read_transfer(node)
            if transfer is not None and self.query.keeps(transfer) and (self._keep is None or self._keep(transfer)):
                self._transfers.append(transfer)
            if len(self._transfers) == self._first:
                is_last = node is listed.page.items[-1]
                self._has_more = self._has_more or not is_last
                position = position if is_last else at + 1
                break
        self._is_complete = self._is_complete and listed.is_complete
        self._cursor = Cursor(position, until, self._last_id)

    def _new_items(self, page: Page, begin: int) -> list[tuple[Node, int]]:
        """Return the entries from the cursor on, with their positions."""
        items = [(node, begin + index_of(node)) for node in page.items]
        new = [(node, at) for node, at in items if at >= self._cursor.position]
        ids = [node.quiet().identifier() for node, _ in new]
        return new[ids.index(self._last_id) + 1 :] if self._last_id and self._last_id in ids else new

    def page(self) -> ActivityPage:
        """Return the page."""
        end_cursor = self._cursor.text() if self._has_more else ""
        return ActivityPage(
            transfers=tuple(self._transfers),
            page_info=PageInfo(end_cursor=end_cursor, has_next_page=self._has_more),
            complete=self._is_complete,
        )


def _right_after(page: Page) -> datetime | None:
    """Return a time right after the newest transfer of a page."""
    times = (created_at(node) for node in page.items)
    newest = max((moment for moment in times if moment is not None), default=None)
    return None if newest is None else newest + RESOLUTION


def write_time(moment: datetime) -> str:
    """Return a time as RFC 3339."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _own_word(wanted: tuple[str, ...], words: dict[str, str] | dict[str, str | None]) -> str | None:
    """Return the one word of Sequence's that covers what is wanted; ``None`` if there is not exactly one."""
    found = {own for own, common in words.items() if own in wanted or common in wanted}
    is_all_known = all(word in words or word in words.values() for word in wanted)
    return next(iter(found)) if len(found) == 1 and is_all_known else None


def _is_among(wanted: tuple[str, ...], common: str | None, own: str | None) -> bool:
    return not wanted or common in wanted or own in wanted
