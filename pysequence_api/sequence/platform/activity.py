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
from pysequence_api.models import ActivityFilter, Transfer
from pysequence_api.sequence.platform.parsing import DIRECTIONS, ORIGINS, STATUSES

PAGE_TRANSFERS = 100
"""The size of the pages that Sequence is asked for: the largest that it allows."""
MAX_POSITION = 1_000_000
RESOLUTION = timedelta(milliseconds=1)
"""How exactly Sequence shows times."""
LAST_TIME = time(23, 59, 59, 999_000)
INTERNAL = "INTERNAL"
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
            raise InvalidRequestError(
                "`after` is not a cursor of this list. Pass the `end_cursor` of the page before."
            ) from None


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
