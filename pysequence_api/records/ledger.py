"""The daily-limit ledger, `.daily_limits.json`: what counts against which UTC day.

The shape is the one of the existing PySequence server, so that its files load:
``{"2026-11-23": {"__global__": [{"transfer_id", "amount_cents", "timestamp"}]}}``, or the older
``{"2026-11-23": [...]}``.
What stands in a list counts. What does not count but must be remembered stands under other keys, whose values are no
lists. Fields and keys that this version does not know are kept.
"""

import json
import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pysequence_api.clock import read_time
from pysequence_api.errors import SafeguardsUnavailableError

FILE_NAME = ".daily_limits.json"
GLOBAL_LIST = "__global__"
ENDED_KEY = "__ended__"
KEPT_DAYS = 2
"""Days before today that are kept."""
DAYS_WITHOUT_ID = 7
"""Days before today that an id is looked for which Sequence did not show."""
MAX_RECORDED_CENTS = 10**15
"""More than this in one entry cannot be."""

_LONG_AGO = datetime.min
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class State(StrEnum):
    """How far an attempt has come. All three count."""

    RESERVED = "reserved"
    UNKNOWN = "unknown"
    SETTLED = "settled"


Text = Annotated[str, Field(strict=True)]


class Outcome(StrEnum):
    """How an attempt ended that does not count."""

    FAILED = "failed"
    """It was certainly never sent, or Sequence certainly did nothing; its idempotency key is free again."""
    REFUSED = "refused"
    """Sequence refused it."""
    NOT_EXECUTED = "not_executed"
    """Nobody knew, and then it was not in the activity, or a person said so."""


class _Record(BaseModel):
    """What is remembered of an attempt, whether it counts or not. It never changes: a `changed` one takes its place.

    ``timestamp`` is when it was reserved.
    """

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    amount_cents: Annotated[int, Field(strict=True, ge=1, le=MAX_RECORDED_CENTS)]
    timestamp: Text | None = None
    attempt_id: Text | None = None
    source_id: Text | None = None
    destination_id: Text | None = None
    description: Text | None = None
    via: Text | None = None
    request_sha256: Text | None = None
    key_sha256: Text | None = None
    error: Text | None = None

    @property
    def order(self) -> tuple[str | None, str | None, int]:
        """What makes two attempts alike."""
        return self.source_id, self.destination_id, self.amount_cents

    def changed(self, **values: Any) -> Self:
        """Make one that differs in these values."""
        return self.model_validate(self.model_dump(exclude_unset=True) | values)

    def changed_at(self) -> datetime | None:
        """Give the time of its last change that the audit trail has a line about."""
        times = (self.newest_time, read_time(getattr(self, "identified_at", None)))
        return max((time for time in times if time is not None), default=None)

    @cached_property
    def json_text(self) -> str:
        """How it stands in the file."""
        return json.dumps(self.model_dump(mode="json", exclude_unset=True))

    @cached_property
    def newest_time(self) -> datetime | None:
        """The newest of its times that can be read."""
        texts = (self.timestamp, getattr(self, "settled_at", None), getattr(self, "ended_at", None))
        return max((time for text in texts if (time := read_time(text)) is not None), default=None)


class Entry(_Record):
    """One thing that counts.

    An entry of another program has only a transfer id, an amount and a timestamp. ``settled_at`` is when it ended,
    which may be on a later day. ``answer`` is what the caller got, kept for its idempotency key. ``audit_head`` is the
    hash of the audit trail's newest line when it was reserved. ``identified_at`` is when it got its id, if later.
    """

    transfer_id: Text | None = None
    state: State = State.SETTLED
    owner: Text | None = None
    settled_at: Text | None = None
    organization_id: Text | None = None
    answer: dict[str, Any] | None = None
    audit_head: Text | None = None
    identified_at: Text | None = None

    @property
    def unsettled(self) -> bool:
        """Whether the attempt has not ended."""
        return self.state is not State.SETTLED

    @property
    def lacks_id(self) -> bool:
        """Whether it is one of ours that Sequence took under an id that is not known yet."""
        return self.attempt_id is not None and not self.unsettled and self.transfer_id is None

    def last_day(self, listed: date, margin: timedelta = timedelta()) -> date:
        """Give the last UTC day on which it may have run.

        Args:
            listed: the day that it stands under, which says so where no time of its own can be read.
            margin: how far Sequence's clock may be ahead of ours.
        """
        time = self.newest_time
        try:
            return listed if time is None else (time + margin).date()
        except OverflowError:
            return date.max


class Ended(_Record):
    """An attempt that ended and does not count, with everything that it is still asked for."""

    outcome: Outcome
    ended_at: Text | None = None


_ENTRIES = TypeAdapter(list[Entry])
_ENDED = TypeAdapter(dict[str, Ended])


class Ledger:
    """The content of the file while the data lock is held."""

    def __init__(self, days: dict[date, dict[str, Any]], other: dict[str, Any]) -> None:
        self._days = days
        self._other = other

    @classmethod
    def parse(cls, content: bytes | None) -> Self:
        """Read and check the whole file, all days of it.

        Args:
            content: what is in the file, ``None`` if there is none.

        Raises:
            SafeguardsUnavailableError: it cannot be read, or holds what cannot be.
        """
        if content is None:
            return cls({}, {})
        try:
            document = json.loads(content, object_pairs_hook=_unique, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise _damaged("it is no valid JSON") from error
        if not isinstance(document, dict):
            raise _damaged("it holds no object")
        days: dict[date, dict[str, Any]] = {}
        other: dict[str, Any] = {}
        for key, value in document.items():
            if _DAY.fullmatch(key):
                days[_day(key)] = _parse_day(key, value)
            elif key.startswith("__") and not isinstance(value, list):
                other[key] = value
            else:
                raise _damaged("one of its keys is no date")
        ledger = cls(days, other)
        attempts = [record.attempt_id for record in ledger.records() if record.attempt_id is not None]
        if len(attempts) != len(set(attempts)):
            raise _damaged("one attempt stands in it twice")
        return ledger

    def dump(self) -> bytes:
        """Write the file's new content, on one line.

        It is put together from what every entry remembers of its own text: a busy day has thousands of them.
        """
        days = {
            day.isoformat(): _object({name: _part_text(name, part) for name, part in lists.items()})
            for day, lists in sorted(self._days.items())
        }
        return (_object(days | {name: json.dumps(value) for name, value in self._other.items()}) + "\n").encode()

    def copy(self) -> Self:
        """Make one that can be changed without changing this one."""
        days = {
            day: {name: part.copy() if isinstance(part, (list, dict)) else part for name, part in lists.items()}
            for day, lists in self._days.items()
        }
        return type(self)(days, self._other)

    def entries(self) -> Iterator[tuple[date, Entry]]:
        """Go through everything that counts, with the day that it stands under; oldest day first."""
        for day, lists in sorted(self._days.items()):
            for value in lists.values():
                if isinstance(value, list):
                    for entry in value:
                        yield day, entry

    def find(self, attempt_id: str) -> Entry | None:
        """Find the entry of an attempt."""
        return next((entry for _, entry in self.entries() if entry.attempt_id == attempt_id), None)

    def used_cents(self, now: datetime, margin: timedelta = timedelta()) -> int:
        """Add up what counts today. Around midnight, while it is not certain which day Sequence has, both days count.

        That is what may have run today, what has not ended (nobody knows on which day it will run), and what stands
        on a day to come: a clock that was set back frees nothing.

        Args:
            now: the time.
            margin: how far Sequence's clock may be from ours.
        """
        today = (now - margin).date()
        return sum(
            entry.amount_cents
            for day, entry in self.entries()
            if entry.unsettled or entry.last_day(day, margin) >= today
        )

    def claimed(self) -> set[str]:
        """Give the ids of transfers that some attempt already has."""
        return {entry.transfer_id for _, entry in self.entries() if entry.transfer_id is not None}

    def ended(self) -> Iterator[Ended]:
        """Go through what ended and does not count."""
        for lists in self._days.values():
            yield from lists.get(ENDED_KEY, {}).values()

    def records(self) -> Iterator[Entry | Ended]:
        """Go through everything that is remembered."""
        yield from (entry for _, entry in self.entries())
        yield from self.ended()

    def add(self, day: date, entry: Entry) -> None:
        """Count something under a day."""
        self._days.setdefault(day, {}).setdefault(GLOBAL_LIST, []).append(entry)

    def replace(self, entry: Entry) -> None:
        """Put a changed entry in the place of what the ledger has of its attempt."""
        for lists in self._days.values():
            for value in lists.values():
                if isinstance(value, list):
                    value[:] = [entry if one.attempt_id == entry.attempt_id else one for one in value]

    def forget(self, attempt_id: str) -> None:
        """Remember nothing of an attempt."""
        for lists in self._days.values():
            for value in lists.values():
                if isinstance(value, list):
                    value[:] = [entry for entry in value if entry.attempt_id != attempt_id]
            lists.get(ENDED_KEY, {}).pop(attempt_id, None)

    def release(self, attempt_id: str, outcome: Outcome, ended_at: datetime, error: str | None) -> None:
        """Count an attempt no longer, because it certainly moved nothing, but remember it."""
        day, entry = next((day, entry) for day, entry in self.entries() if entry.attempt_id == attempt_id)
        self.forget(attempt_id)
        self.remember(day, entry, outcome, ended_at, error)

    def remember(self, day: date, entry: Entry, outcome: Outcome, ended_at: datetime, error: str | None) -> None:
        """Remember, under a day, something that does not count."""
        kept = entry.model_dump(include=set(_Record.model_fields), exclude_none=True) | {"error": error}
        ended = Ended(**kept, **(entry.model_extra or {}), outcome=outcome, ended_at=ended_at.isoformat())
        self._days.setdefault(day, {}).setdefault(ENDED_KEY, {})[entry.attempt_id or ""] = ended

    def prune(self, today: date) -> None:
        """Drop what ended before the kept days.

        What lacks its id stays while that is looked for. Of what is like an open attempt, or like one without an id,
        the claim stays: which transfer that one could be is told from what others have.
        """
        oldest = today - timedelta(days=KEPT_DAYS)
        oldest_without_id = today - timedelta(days=DAYS_WITHOUT_ID)
        open_orders = {
            entry.order
            for day, entry in self.entries()
            if entry.unsettled or (entry.lacks_id and _newest_day(entry, day) >= oldest_without_id)
        }
        for day in [day for day in self._days if day < oldest]:
            lists = self._days[day]
            for value in lists.values():
                if isinstance(value, list):
                    value[:] = [one for one in value if one.order in open_orders or _newest_day(one, day) >= oldest]
            ended: dict[str, Ended] = lists.get(ENDED_KEY, {})
            for attempt_id in [key for key, one in ended.items() if (one.newest_time or _LONG_AGO).date() < oldest]:
                del ended[attempt_id]
            if not ended and not any(value for value in lists.values() if isinstance(value, list)):
                del self._days[day]


def _newest_day(entry: Entry, listed: date) -> date:
    changed_at = entry.changed_at()
    return listed if changed_at is None else changed_at.date()


def _parse_day(key: str, value: object) -> dict[str, Any]:
    lists = {GLOBAL_LIST: value} if isinstance(value, list) else value
    if not isinstance(lists, dict):
        raise _damaged(f"{key} holds neither an object nor a list")
    try:
        return {name: _parse_part(name, part) for name, part in lists.items()}
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in detail["loc"])
        raise _damaged(f"{key}, entry {place}: {detail['msg']}") from None


def _parse_part(name: str, part: object) -> Any:
    if isinstance(part, list):
        return _ENTRIES.validate_python(part)
    return _ENDED.validate_python(part) if name == ENDED_KEY else part


def _part_text(name: str, part: Any) -> str:
    if isinstance(part, list):
        return f"[{', '.join(entry.json_text for entry in part)}]"
    if name == ENDED_KEY:
        return _object({attempt_id: one.json_text for attempt_id, one in part.items()})
    return json.dumps(part)


def _object(texts: dict[str, str]) -> str:
    return f"{{{', '.join(f'{json.dumps(name)}: {text}' for name, text in texts.items())}}}"


def _day(key: str) -> date:
    try:
        return date.fromisoformat(key)
    except ValueError:
        raise _damaged(f"{key} is no date") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _damaged(why: str) -> SafeguardsUnavailableError:
    return SafeguardsUnavailableError(
        f"No transfer is possible: {FILE_NAME} is damaged ({why}), so what was spent today is not known."
        " Put a good copy of it into the data directory, or run `pysequence-api limits repair`. Reads go on."
    )
