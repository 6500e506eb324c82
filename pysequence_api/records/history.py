"""What the lines of an audit trail say: imported as rows of the database, and folded into attempts."""

import hashlib
import json
import sqlite3
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from pysequence_api.clock import to_micros
from pysequence_api.records.audit import Decision, EventType, Line, hash_bytes, read_utc
from pysequence_api.records.states import TAKEN_STATES, State

UNREADABLE = "unreadable"
"""The event type of a row whose line cannot be read."""
NO_TRANSFER_ID = "unknown"
"""What the existing PySequence server writes as the id of every transfer."""

_FOREIGN_IDS = UUID("6f5b1c1e-4c0f-4a55-9d0c-6f9e5f0a2b11")
_ROW = "INSERT INTO audit(seq, start, line, sha256, at, event_type, attempt_id, caller) VALUES(?, ?, ?, ?, ?, ?, ?, ?)"
_OUTCOMES = {state.value: state for state in (State.FAILED, State.REFUSED, State.UNKNOWN, State.NOT_EXECUTED)}
_UNSENT = {
    EventType.REJECTED: State.REJECTED,
    EventType.CANCELLED: State.CANCELLED,
    EventType.APPROVAL_DENIED: State.DENIED,
    EventType.EXPIRED: State.EXPIRED,
}
"""The events that end an attempt before it was sent."""
_EVENTS = set(EventType)
_FOREIGN_EVENTS = {EventType.REQUESTED, EventType.COMPLETED, EventType.FAILED}


@dataclass(slots=True)
class Folded:
    """What the events of one attempt add up to. A time is ``None`` where it is not known or cannot be read.

    Attributes:
        state: `sending` after a request without an end.
        is_foreign: the existing PySequence server wrote it. Its failures are not certain, so it is always `accepted`.
        is_announced: whether there is a `transfer_requested`.
        is_completed: whether there is a `transfer_completed`.
        ended_at: when it left `sending` or `unknown`, or ended before it was sent.
        more_keys: the idempotency keys beside ``key_sha256`` that were bound to it while it waited for an approval.
        approval_sha256: what the owner was asked to decide about.
        decision: what the owner decided, when, and how.
    """

    attempt_id: str
    state: State
    amount_cents: int
    is_foreign: bool = False
    is_announced: bool = False
    is_completed: bool = False
    first_at: datetime | None = None
    announced_at: datetime | None = None
    ended_at: datetime | None = None
    caller: str | None = None
    channel: str | None = None
    source_id: str | None = None
    destination_id: str | None = None
    description: str | None = None
    reason: str | None = None
    request_sha256: bytes | None = None
    key_sha256: bytes | None = None
    upstream: str | None = None
    rule: str | None = None
    policy_version: int | None = None
    transfer_id: str | None = None
    error: str | None = None
    code: str | None = None
    more_keys: set[bytes] = field(default_factory=set)
    approval_sha256: bytes | None = None
    decision: tuple[Decision, datetime | None, str | None] | None = None

    def take(self, line: Line) -> None:
        """Take the next line about it.

        Lines that contradict each other happen only in files that somebody changed; then it stays what counts.
        """
        time = read_utc(line.timestamp)
        self.first_at = self.first_at or time
        self.amount_cents = max(self.amount_cents, line.amount_cents or 0)
        self.caller = self.caller or line.caller
        self.channel = self.channel or line.via
        self.source_id = self.source_id or line.source or None
        self.destination_id = self.destination_id or line.destination or None
        self.description = self.description or line.description
        self.reason = self.reason or line.reason
        self.request_sha256 = self.request_sha256 or hash_bytes(line.request_sha256)
        self.key_sha256 = self.key_sha256 or hash_bytes(line.key_sha256)
        self.upstream = self.upstream or line.upstream
        self.rule = line.rule or self.rule
        self.policy_version = line.policy_version or self.policy_version
        match line.event_type:
            case EventType.REQUESTED:
                self._requested(line, time)
            case EventType.COMPLETED:
                self._completed(line, time)
            case EventType.FAILED if self.state not in TAKEN_STATES:
                state = _OUTCOMES.get(line.outcome or "", State.UNKNOWN)
                self._ended(state, line, None if state is State.UNKNOWN else time)
            case event_type if event_type in _UNSENT and self.state not in TAKEN_STATES:
                self._ended(_UNSENT[EventType(event_type)], line, time)
            case EventType.APPROVAL_REQUESTED if self.state is State.SENDING and not self.is_announced:
                self.state, self.approval_sha256 = State.AWAITING_APPROVAL, hash_bytes(line.approval_sha256)
            case EventType.APPROVAL_KEY_BOUND:
                self.more_keys |= {key} if (key := hash_bytes(line.key_sha256)) is not None else set()
            case EventType.APPROVAL_GRANTED if self.state is State.AWAITING_APPROVAL:
                self.state, self.decision = State.RESERVED, ("approved", time, line.via)
            case EventType.IDENTIFIED:
                self.transfer_id = _transfer_id(line) or self.transfer_id
            case EventType.ARRIVED if self.state is not State.RETURNED:
                self._taken(State.ARRIVED, line, time)
            case EventType.RETURNED:
                self._taken(State.RETURNED, line, time)
                self.error = line.error

    def _requested(self, line: Line, time: datetime | None) -> None:
        was_written_later = bool((line.model_extra or {}).get("recovered"))
        has_ended = self.is_announced or self.state is not State.SENDING
        self.is_announced, self.announced_at = True, self.announced_at or time
        if self.state not in TAKEN_STATES and not (was_written_later and has_ended):
            self.state, self.ended_at = State.SENDING, None

    def _completed(self, line: Line, time: datetime | None) -> None:
        self.is_completed = True
        self.transfer_id = _transfer_id(line) or self.transfer_id
        if self.state not in TAKEN_STATES:
            self.state, self.ended_at, self.error, self.code = State.ACCEPTED, time, None, None

    def _ended(self, state: State, line: Line, time: datetime | None) -> None:
        if state is State.DENIED:
            self.decision = "denied", time, line.via
        self.state, self.ended_at, self.error, self.code = state, time, line.error, line.code

    def _taken(self, state: State, line: Line, time: datetime | None) -> None:
        self.transfer_id = _transfer_id(line) or self.transfer_id
        if self.state not in TAKEN_STATES:
            self.ended_at = time
        self.state, self.error = state, None


class History:
    """Folds lines, oldest first, into `attempts`, by attempt id."""

    def __init__(self) -> None:
        self.attempts: dict[str, Folded] = {}
        self._foreign: Counter[str] = Counter()
        self._foreign_open: defaultdict[tuple[object, ...], deque[Folded]] = defaultdict(deque)

    def take(self, line: Line) -> None:
        """Take the next line."""
        amount_cents = line.amount_cents or 0
        if line.attempt_id is None:
            if line.event_type in _FOREIGN_EVENTS and amount_cents > 0:
                self._take_foreign(line, amount_cents)
        elif line.event_type in _EVENTS:
            folded = self.attempts.get(line.attempt_id)
            if folded is None and amount_cents > 0:
                folded = self.attempts[line.attempt_id] = Folded(line.attempt_id, State.SENDING, amount_cents)
            if folded is not None:
                folded.take(line)

    def _take_foreign(self, line: Line, amount_cents: int) -> None:
        """Take a line of the existing server, which names no attempt: its end follows the oldest equal request."""
        open_requests = self._foreign_open[(line.source, line.destination, amount_cents)]
        if line.event_type == EventType.REQUESTED or not open_requests:
            folded = Folded(self._foreign_id(line), State.ACCEPTED, amount_cents, is_foreign=True)
            self.attempts[folded.attempt_id] = folded
            if line.event_type == EventType.REQUESTED:
                open_requests.append(folded)
        else:
            folded = open_requests.popleft()
        folded.take(line)
        folded.ended_at = read_utc(line.timestamp) or folded.ended_at
        if line.event_type == EventType.FAILED:
            folded.error = line.error

    def _foreign_id(self, line: Line) -> str:
        text = json.dumps(line.model_dump(exclude_unset=True), sort_keys=True)
        self._foreign[text] += 1
        return foreign_id(f"{text} {self._foreign[text]}")


def fold(lines: Iterable[Line]) -> dict[str, Folded]:
    """Fold the lines of an audit trail, oldest first, into the attempts that they are about, by attempt id.

    A line of the existing PySequence server names no attempt; its attempts get ids that depend on the lines alone.
    """
    history = History()
    for line in lines:
        history.take(line)
    return history.attempts


def add_lines(
    connection: sqlite3.Connection, raw_lines: Iterable[bytes], take: Callable[[Line], None] = lambda _: None
) -> None:
    """Import lines of an existing audit trail as they stand there, after the rows that are in the database.

    Args:
        connection: to the database, in a transaction.
        raw_lines: without their line breaks; also empty and unreadable ones, so that the file equals the rows.
        take: gets each line that is not empty.
    """
    connection.executemany(_ROW, _rows(connection, raw_lines, take))


def _rows(
    connection: sqlite3.Connection, raw_lines: Iterable[bytes], take: Callable[[Line], None]
) -> Iterator[tuple[Any, ...]]:
    newest = connection.execute(
        "SELECT seq, start + length(line) + 1, at FROM audit ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    seq, start, at = newest or (0, 0, 0)
    for raw in raw_lines:
        line = Line.parse(raw) if raw else Line(unreadable="")
        if raw:
            take(line)
        time = read_utc(line.timestamp)
        at = at if time is None else to_micros(time)  # what names no time is as old as the line before it
        seq += 1
        event_type = line.event_type or UNREADABLE
        yield seq, start, raw, hashlib.sha256(raw).digest(), at, event_type, line.attempt_id, line.caller
        start += len(raw) + 1


def foreign_id(text: str) -> str:
    """Make the attempt id of something that the existing PySequence server wrote."""
    return str(uuid5(_FOREIGN_IDS, text))


def _transfer_id(line: Line) -> str | None:
    return None if line.transfer_id in {None, "", NO_TRANSFER_ID} else line.transfer_id
