"""The files of earlier versions, and of the existing PySequence server, as a data directory still holds them.

`.daily_limits.json` was the ledger of what counts against the daily limit:
``{"2026-11-23": {"__global__": [{"transfer_id", "amount_cents", "timestamp"}]}}``, or the older
``{"2026-11-23": [...]}``. Earlier versions added fields to the entries, and kept what ended without counting under
``__ended__``. `.audit.head.json` named the newest line of the audit trail, and `.names.json` held names for screens.
"""

import json
from contextlib import suppress
from datetime import UTC, date, datetime, time
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pysequence_api.clock import read_time
from pysequence_api.files import read_bytes
from pysequence_api.records.audit import whole_characters
from pysequence_api.records.copies import LIMITS_FILE_NAME
from pysequence_api.records.history import NO_TRANSFER_ID
from pysequence_api.records.retiring import HEAD_FILE_NAME, NAMES_FILE_NAME, is_moved
from pysequence_api.records.states import State

MAX_RECORDED_CENTS = 10**15
"""No entry can have more than this."""
MAX_NAMES = 10_000
MAX_NAME_CHARACTERS = 200

_ENDED_KEY = "__ended__"


class OldFileError(Exception):
    """An old file cannot be trusted.

    Args:
        name: of the file.
        problem: completes "This file ...".
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}")
        self.name = name


class NewerFileError(Exception):
    """A file was written by a version that had a database. Its text is the name of the file."""


class Listed(StrEnum):
    """How far an entry says that its attempt has come. All three count."""

    RESERVED = "reserved"
    UNKNOWN = "unknown"
    SETTLED = "settled"


class Outcome(StrEnum):
    """How an attempt ended that does not count."""

    FAILED = "failed"
    REFUSED = "refused"
    NOT_EXECUTED = "not_executed"


Text = Annotated[str, Field(strict=True)]


class Entry(BaseModel):
    """What the ledger says about one attempt. An entry of the existing server has no attempt id.

    Attributes:
        day: the UTC day that it stands under.
        timestamp: when it was reserved.
        outcome: set where it ended and does not count; otherwise ``state`` says how far it has come.
        audit_head: the hash of the newest line of the audit trail when it was reserved; ``None`` if there was no line.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    day: date
    amount_cents: Annotated[int, Field(strict=True, ge=1, le=MAX_RECORDED_CENTS)]
    timestamp: Text | None = None
    attempt_id: Text | None = None
    transfer_id: Text | None = None
    state: Listed = Listed.SETTLED
    source_id: Text | None = None
    destination_id: Text | None = None
    organization_id: Text | None = None
    description: Text | None = None
    via: Text | None = None
    request_sha256: Text | None = None
    key_sha256: Text | None = None
    error: Text | None = None
    settled_at: Text | None = None
    answer: dict[str, Any] | None = None
    audit_head: Text | None = None
    outcome: Outcome | None = None
    ended_at: Text | None = None

    @property
    def is_open(self) -> bool:
        """Whether it counts and has not ended."""
        return self.outcome is None and self.state is not Listed.SETTLED

    @property
    def is_settled(self) -> bool:
        """Whether Sequence took it."""
        return self.outcome is None and self.state is Listed.SETTLED

    @cached_property
    def newest_time(self) -> datetime:
        """The newest of its times; the end of its day if none can be read, so that it counts on that day."""
        times = (read_time(self.timestamp), read_time(self.settled_at), read_time(self.ended_at))
        readable = [one for one in times if one is not None]
        return max(readable) if readable else datetime.combine(self.day, time.max, UTC)

    @property
    def known_transfer_id(self) -> str | None:
        """Its transfer's id, if that is one."""
        return None if self.transfer_id in {"", NO_TRANSFER_ID} else self.transfer_id


class _Ended(Entry):
    outcome: Outcome


_ENTRIES = TypeAdapter(list[Entry])
_ENDED = TypeAdapter(list[_Ended])


def read_ledger(directory: Path) -> list[Entry]:
    """Read and check the whole ledger; no entries if there is no file.

    Raises:
        OldFileError: it is damaged.
        NewerFileError: it is the copy that follows a database.
        OSError: it cannot be read.
    """
    content = read_bytes(directory / LIMITS_FILE_NAME)
    if content is None:
        return []
    try:
        document = whole_characters(json.loads(content, object_pairs_hook=_unique, parse_constant=_no_constant))
    except (ValueError, RecursionError) as error:
        raise _damaged(f"it is not valid JSON: {str(error)[:100]}") from error
    if not isinstance(document, dict):
        raise _damaged("it is not a JSON object")
    entries = [entry for key, value in document.items() for entry in _entries_of(key, value)]
    ids = [entry.attempt_id for entry in entries if entry.attempt_id is not None]
    if len(ids) != len(set(ids)):
        raise _damaged("it has one attempt twice")
    return entries


def _entries_of(key: str, value: object) -> list[Entry]:
    if key.startswith("__") and not isinstance(value, list):
        return []
    try:
        day = date.fromisoformat(key)
    except ValueError:
        raise _damaged("one of its keys is not a date") from None
    if day.isoformat() != key:
        raise _damaged("one of its keys is not a date")
    parts = {"": value} if isinstance(value, list) else value
    if not isinstance(parts, dict):
        raise _damaged(f"{key} has neither an object nor a list")
    entries: list[Entry] = []
    for name, part in parts.items():
        try:
            if isinstance(part, list):
                _require_old(part)
                entries += _ENTRIES.validate_python([_with(one, day=day, outcome=None) for one in part])
            elif name == _ENDED_KEY and isinstance(part, dict):
                entries += _ENDED.validate_python([_with(one, day=day) for one in part.values()])
            elif name == _ENDED_KEY:
                raise _damaged(f"{key}, {name} is not an object")
        except ValidationError as error:
            detail = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(one) for one in detail["loc"])
            raise _damaged(f"{key}, entry {place[:100]}: {detail['msg']}") from None
    return entries


def _with(entry: object, **more: object) -> object:
    return entry | more if isinstance(entry, dict) else entry


def _require_old(part: list[object]) -> None:
    newer = set(State) - set(Listed)
    for entry in part:
        if isinstance(entry, dict) and isinstance(entry.get("state"), str) and entry["state"] in newer:
            raise NewerFileError(LIMITS_FILE_NAME)


class Head(BaseModel):
    """The newest line of the audit trail that an earlier version noted: its number, from 1, and its hash."""

    count: Annotated[int, Field(strict=True, ge=0)]
    sha256: Annotated[str, Field(strict=True, pattern=r"^[0-9a-f]{64}$")]


def read_head(directory: Path) -> Head | None:
    """Read what was noted of the audit trail's newest line; ``None`` if nothing was.

    Raises:
        OldFileError: it is damaged.
        NewerFileError: it says that there is a database.
        OSError: it cannot be read.
    """
    content = read_bytes(directory / HEAD_FILE_NAME)
    if content is None:
        return None
    if is_moved(content):
        raise NewerFileError(HEAD_FILE_NAME)
    try:
        return Head.model_validate_json(content)
    except ValueError as error:
        raise OldFileError(HEAD_FILE_NAME, "is damaged") from error


def read_names(directory: Path) -> dict[str, str]:
    """Read the names that were seen, by id; nothing if the file is missing or damaged: it is only for screens."""
    with suppress(OSError, ValueError, RecursionError):
        document = whole_characters(json.loads(read_bytes(directory / NAMES_FILE_NAME) or b"{}"))
        if isinstance(document, dict):
            named = [(key, name) for key, name in document.items() if _is_name(name)]
            return dict(named[-MAX_NAMES:])
    return {}


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARACTERS


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is there twice")
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _damaged(why: str) -> OldFileError:
    return OldFileError(LIMITS_FILE_NAME, f"is damaged ({why})")
