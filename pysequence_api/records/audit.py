"""Audit events: what a line of the audit trail says, and the hash chain that runs through all lines.

Every line names in ``prev`` the SHA-256 of the line before it, whichever program wrote that one. A line that is
changed, removed, inserted or moved no longer fits the next one.
"""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer
from pydantic_core import from_json

from pysequence_api.clock import read_time
from pysequence_api.records.states import State

Decision = Literal["approved", "denied"]
"""What the owner decided about a transfer."""
FIRST_HASH = "0" * 64
"""What the first line of all names as the hash of the line before it."""


class EventType(StrEnum):
    """What can happen."""

    REQUESTED = "transfer_requested"
    COMPLETED = "transfer_completed"
    FAILED = "transfer_failed"
    IDENTIFIED = "transfer_identified"
    REJECTED = "transfer_rejected"
    CANCELLED = "transfer_cancelled"
    ARRIVED = "transfer_arrived"
    RETURNED = "transfer_returned"
    APPROVAL_REQUESTED = "approval_requested"
    APPROVAL_KEY_BOUND = "approval_key_bound"
    APPROVAL_GRANTED = "approval_granted"
    APPROVAL_DENIED = "approval_denied"
    EXPIRED = "approval_expired"
    FROZEN = "frozen"
    UNFROZEN = "unfrozen"
    RESTORED = "records_restored"
    KEY_ADDED = "key_added"
    KEY_REVOKED = "key_revoked"
    CALLER_REMOVED = "caller_removed"
    POLICY_APPLIED = "policy_applied"
    OWNER_CODE_CHANGED = "owner_code_changed"
    OWNER_PASSWORD_CHANGED = "owner_password_changed"
    OWNER_SIGNED_OUT = "owner_signed_out"


class Channel(StrEnum):
    """How a transfer was requested, or how the owner decided about one: `page` is the owner's page."""

    API = "api"
    CLI = "cli"
    PAGE = "page"


class Event(BaseModel):
    """One line of the trail. Only what applies is written.

    Of a transfer, ``reason`` is what its caller says.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    timestamp: datetime
    event_type: EventType
    amount_cents: int | None = None
    source: str | None = None
    destination: str | None = None
    transfer_id: str | None = None
    error: str | None = None
    code: str | None = None
    outcome: str | None = None
    attempt_id: str | None = None
    caller: str | None = None
    via: Channel | None = None
    description: str | None = None
    request_sha256: str | None = None
    key_sha256: str | None = None
    upstream: str | None = None
    reason: str | None = None
    caller_key_sha256: str | None = None
    hint: str | None = None
    rule: str | None = None
    policy_version: int | None = None
    policy_sha256: str | None = None
    from_file: bool | None = None
    approval_sha256: str | None = None
    expires_at: datetime | None = None
    lost: bool | None = None
    repeats: int | None = None
    reconciled: bool | None = None
    resolved: bool | None = None
    recovered: bool | None = None

    @field_serializer("timestamp", "expires_at")
    def _iso(self, time: datetime | None) -> str | None:
        return None if time is None else time.isoformat()

    def line(self, prev: str) -> bytes:
        """Write it as one line without its break, in ASCII, so that no character of a name can end it early.

        Args:
            prev: the hash of the line before, in hexadecimal.
        """
        return json.dumps(self.model_dump(mode="json", exclude_none=True) | {"prev": prev}).encode("ascii")


class Line(BaseModel):
    """A line as it is read back, whichever version or program wrote it.

    ``unreadable`` is set instead of everything else where a line is not such an object, as after a crash.
    """

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    timestamp: str | None = None
    event_type: str | None = None
    amount_cents: Annotated[int, Field(strict=True)] | None = None
    source: str | None = None
    destination: str | None = None
    transfer_id: str | None = None
    error: str | None = None
    code: str | None = None
    outcome: str | None = None
    attempt_id: str | None = None
    caller: str | None = None
    via: str | None = None
    description: str | None = None
    request_sha256: str | None = None
    key_sha256: str | None = None
    upstream: str | None = None
    reason: str | None = None
    caller_key_sha256: str | None = None
    hint: str | None = None
    rule: str | None = None
    policy_version: Annotated[int, Field(strict=True)] | None = None
    policy_sha256: str | None = None
    from_file: Annotated[bool, Field(strict=True)] | None = None
    approval_sha256: str | None = None
    expires_at: str | None = None
    prev: str | None = None
    unreadable: str | None = None

    @classmethod
    def parse(cls, line: bytes) -> "Line":
        """Read a line; a damaged one becomes an ``unreadable`` one, so that it shows."""
        with suppress(ValidationError):
            return cls.model_validate_json(line)  # twice as fast; what it refuses is read as it always was
        try:
            value = json.loads(line)
            return cls.model_validate(whole_characters(value) if b"\\ud" in line.lower() else value)
        except (ValueError, RecursionError, ValidationError):
            return cls(unreadable=line[:200].decode("utf-8", "replace"))

    def chained(self) -> dict[str, object]:
        """Return the line before that it names, if it names one, and its time."""
        return {"prev": self.prev, "timestamp": self.timestamp} if "prev" in self.model_fields_set else {}

    def as_json(self) -> dict[str, Any]:
        """Return what stood in the file."""
        return self.model_dump(mode="json", exclude_unset=True)


def whole_characters(document: Any) -> Any:
    """Replace halves of characters in a JSON document (``"\\ud800"``), which neither a screen nor SQLite takes."""
    return json.loads(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"))


def hash_of(line: bytes) -> str:
    """Return the SHA-256 of a line without its line break, in hexadecimal."""
    return hashlib.sha256(line).hexdigest()


class Verification(BaseModel):
    """What verifying the hash chain found.

    Attributes:
        entries: the number of lines.
        unbroken_since: the time of the first line that is bound to the one before it.
        head: the hash of the newest line.
        cut_short: the numbers of lines that a crash left unfinished, which is not tampering.
        line: the number of the line that is wrong, if one is.
        problem: what is wrong with it.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    entries: int
    unbroken_since: str | None = None
    head: str | None = None
    cut_short: tuple[int, ...] = ()
    line: int | None = None
    problem: str | None = None

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return self.problem is None


class ChainVerifier:
    """Checks each line against the one before it.

    Args:
        expect: a hash that was noted elsewhere, which some line must still have.
    """

    def __init__(self, expect: str | None = None) -> None:
        self._expect = None if expect == FIRST_HASH else expect  # which is the head of a trail without lines
        self._number = 0
        self._newest = FIRST_HASH
        self._since: str | None = None
        self._cut_short: list[int] = []

    @property
    def newest(self) -> str:
        """The hash of the newest line, in hexadecimal."""
        return self._newest

    def take(self, line: bytes, parsed: Line | None = None) -> str | None:
        """Take the next line, and return what is wrong with it.

        Args:
            line: as it stands in the file.
            parsed: the same line, if it was read already.
        """
        self._number += 1
        before, self._newest = self._newest, hash_of(line)
        if self._newest == self._expect:
            self._expect = None
        entry = _object(line) if parsed is None or parsed.unreadable is not None else parsed.chained()
        if entry is None:
            self._cut_short.append(self._number)
        elif "prev" in entry:
            if entry["prev"] != before and self._number == 1:
                return "names a line before it, and there is none: the beginning was removed"
            if entry["prev"] != before:
                return f"does not follow line {self._number - 1}: one of them was changed, inserted, moved or removed"
            self._since = self._since or str(entry.get("timestamp"))
        return None

    def finish(self, problem: str | None = None) -> Verification:
        """Return what was found, with a problem of the last line if there is one."""
        if problem is None and self._expect is not None:
            problem = "was reached without a line of the expected hash: this is not the trail that it was noted from"
        return Verification(
            entries=self._number,
            unbroken_since=self._since,
            head=self._newest,
            cut_short=tuple(self._cut_short),
            line=self._number if problem else None,
            problem=problem,
        )


def is_final(line: Line) -> bool:
    """Say whether a line ends an attempt."""
    ends = {EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED, EventType.REJECTED}
    return line.event_type in ends and line.outcome != State.UNKNOWN


def lines_of(content: Iterable[bytes]) -> Iterable[bytes]:
    """Remove the line breaks, and leave out empty lines."""
    return (line for raw in content if (line := raw.removesuffix(b"\n")))


def _object(line: bytes) -> dict[str, object] | None:
    try:
        value = from_json(line, cache_strings="keys")  # three times as fast, and refuses all that `json` refuses
    except ValueError:
        try:
            value = json.loads(line)  # takes more, such as halves of characters, deep nesting, and UTF-16
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def read_utc(text: str | None) -> datetime | None:
    """Read an ISO 8601 time of the audit trail, whose times are in UTC also where they name no time zone."""
    time = read_time(text)
    if time is None:
        with suppress(ValueError):
            time = datetime.fromisoformat(text or "").replace(tzinfo=UTC)
    return time


def hash_bytes(text: str | None) -> bytes | None:
    """Read a SHA-256 in hexadecimal; ``None`` if it is not one."""
    try:
        digest = bytes.fromhex(text or "")
    except ValueError:
        return None
    return digest if len(digest) == hashlib.sha256().digest_size else None
