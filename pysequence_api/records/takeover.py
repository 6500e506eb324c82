"""Filling a new database from the files of an earlier version, or of the existing PySequence server.

An attempt that is in only one of ledger and audit trail is taken over, and counts. Where both know it and differ, a
certain end in the trail holds, which was always written last; otherwise what counts more holds. What the trail lacks of
what the ledger knows is added to it as new events, marked as recovered, with the times that the ledger has.
"""

import errno
import os
import sqlite3
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pysequence_api.clock import from_micros, read_time
from pysequence_api.files import holder_of, open_own
from pysequence_api.records.attempts import COLUMNS, FOLLOWED, WINDOW_MARGIN, Attempt, Writer, caller_of
from pysequence_api.records.audit import ChainVerifier, Channel, Event, EventType, Line, hash_bytes, read_utc
from pysequence_api.records.copies import LIMITS_FILE_NAME
from pysequence_api.records.database import FILE_NAME, unavailable
from pysequence_api.records.history import Folded, History, add_lines, foreign_id
from pysequence_api.records.old_files import (
    MAX_RECORDED_CENTS,
    Entry,
    Head,
    Listed,
    NewerFileError,
    OldFileError,
    read_head,
    read_ledger,
    read_names,
)
from pysequence_api.records.owners import Owners
from pysequence_api.records.retiring import HEAD_FILE_NAME
from pysequence_api.records.states import RULES, TAKEN_STATES, State
from pysequence_api.records.trail import FILE_NAME as TRAIL_FILE_NAME

SAME_TRANSFER = timedelta(seconds=60)
"""How far apart the existing server's ledger and audit trail may name the time of one transfer."""
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""A time outside of these is taken for the nearer one, so that a few days more or less can be reckoned."""

_STATES = {Listed.RESERVED: State.RESERVED, Listed.UNKNOWN: State.UNKNOWN, Listed.SETTLED: State.ACCEPTED}
_PARTIES = ("source", "destination")
_EITHER = (
    "source_type",
    "source_id",
    "destination_type",
    "destination_id",
    "organization_id",
    "description",
    "request_sha256",
    "key_sha256",
    "upstream_status",
    "upstream_created_at",
    "transfer_id",
)
"""What is taken from the ledger, or else from the audit trail."""
_SENT_STATES = {State.UNKNOWN, State.REFUSED, State.NOT_EXECUTED, *TAKEN_STATES}
"""An attempt in one of them was announced."""
_CERTAIN_ENDS = {State.FAILED, State.REFUSED, State.NOT_EXECUTED}
_DIED = "the process that sent it ended"
_NEVER_SENT = "its process ended before it was sent"


def fill(connection: sqlite3.Connection, directory: Path) -> None:
    """Fill an empty database from what a data directory holds. Nothing in the directory is changed.

    Args:
        connection: to the database, whose tables exist.
        directory: the data directory, under its lock.

    Raises:
        SafeguardsUnavailableError: there was a database and it is gone, an earlier version still runs, or a file
            cannot be trusted or read.
    """
    now = from_micros(connection.execute("SELECT created_at FROM store").fetchone()[0])
    try:
        head = read_head(directory)
        _require_alone(directory)
        entries = read_ledger(directory)
        trail = _TrailImport(directory, head, {one.audit_head for one in entries if one.audit_head is not None})
        trail.run(connection)
        _take_over(connection, entries, trail, now)
    except NewerFileError as error:
        raise unavailable(
            f"{FILE_NAME} is missing, and {error} shows that there was one. Put it back, or run"
            " `pysequence-api records restore`"
        ) from error
    except OldFileError as error:
        raise unavailable(f"{error}. {_ADVICE[error.name]}") from error
    except OSError as error:
        raise unavailable(f"{error.filename or directory} cannot be read ({error.strerror})") from error
    connection.executemany("INSERT INTO name(id, name) VALUES(?, ?)", read_names(directory).items())


_ADVICE = {
    LIMITS_FILE_NAME: (
        f"Put a good copy of it back. If there is none, and {TRAIL_FILE_NAME} has every transfer of yesterday and"
        f" today, move {LIMITS_FILE_NAME} away: what counts is then read from the audit trail alone"
    ),
    TRAIL_FILE_NAME: (
        f"Put good copies of {TRAIL_FILE_NAME} and {HEAD_FILE_NAME} back. If there are none, and {LIMITS_FILE_NAME} has"
        " every transfer of yesterday and today, move both away: what counts is then read from that file alone, and the"
        " history and older idempotency keys are lost"
    ),
    HEAD_FILE_NAME: (
        f"Put a good copy of it back. If there is none, and {TRAIL_FILE_NAME} is known to be whole, move"
        f" {HEAD_FILE_NAME} away"
    ),
}
"""What to do about a file that cannot be trusted."""


def _require_alone(directory: Path) -> None:
    """Check that no process of an earlier version works in the data directory.

    Raises:
        SafeguardsUnavailableError: one does.
    """
    try:
        running = Owners(directory).others()
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return  # nobody works on a read-only disk
    if running:
        raise unavailable(
            f"{holder_of(running[0])} works in {directory} with an earlier version, which keeps its records in"
            f" {LIMITS_FILE_NAME}. Stop it; its records are taken over after that"
        )


class _TrailImport:
    """Imports the audit trail, and checks it while it is read.

    Args:
        directory: the data directory.
        head: what was noted of its newest line.
        wanted: hashes of lines to look for.
    """

    def __init__(self, directory: Path, head: Head | None, wanted: set[str]) -> None:
        self.history = History()
        self._found: set[str] = set()
        self._path = directory / TRAIL_FILE_NAME
        self._head = head
        self._wanted = wanted
        self._count = 0
        self._raw = b""
        self._chain = ChainVerifier()

    def run(self, connection: sqlite3.Connection) -> None:
        """Import all lines.

        Raises:
            NewerFileError: a line is of a version that had a database.
            OldFileError: the trail was cut off or changed.
            OSError: it cannot be read.
        """
        with suppress(FileNotFoundError), os.fdopen(open_own(self._path, os.O_RDONLY), "rb") as file:
            add_lines(connection, map(self._next, file), self._take)
            connection.execute("UPDATE store SET trail_synced = ?", (file.tell(),))  # `keep_copies` syncs it
        if self._head is not None and self._count < self._head.count:
            raise OldFileError(
                TRAIL_FILE_NAME,
                f"has {self._count} lines, and {HEAD_FILE_NAME} counts {self._head.count}: its end was cut off",
            )

    def proves_unsent(self, entry: Entry) -> bool:
        """Say whether the trail, if it shows no announcement of a reservation, proves that there was none.

        It does if it still has the line that was its newest when the amount was reserved, and can be read from there.
        """
        return self._count == 0 if entry.audit_head is None else entry.audit_head in self._found

    def _next(self, raw: bytes) -> bytes:
        self._raw = raw.removesuffix(b"\n")
        return self._raw

    def _take(self, line: Line) -> None:
        self._count += 1
        problem = self._chain.take(self._raw, line)
        if self._head is not None and self._count == self._head.count and self._chain.newest != self._head.sha256:
            problem = f"is not the line that {HEAD_FILE_NAME} names: it, or one before it, was changed or removed"
        if line.amount_cents is not None and line.amount_cents > MAX_RECORDED_CENTS:
            problem = f"says {line.amount_cents} cents, which is impossible"
        if problem is not None:
            raise OldFileError(TRAIL_FILE_NAME, f"cannot be trusted: line {self._count} {problem}")
        if line.caller is not None:
            raise NewerFileError(TRAIL_FILE_NAME)
        if line.unreadable is not None:
            self._found.clear()  # it can be any announcement
        if self._chain.newest in self._wanted:
            self._found.add(self._chain.newest)
        self.history.take(line)


@dataclass(frozen=True, slots=True)
class _Merged:
    """An attempt as it is taken over, and as the audit trail knows it, if it does."""

    attempt: Attempt
    told: Attempt | None


def _take_over(connection: sqlite3.Connection, entries: list[Entry], trail: _TrailImport, now: datetime) -> None:
    merged = sorted(_merged(entries, trail, now), key=lambda one: (one.attempt.created_at, one.attempt.id))
    merged = list(_each_transfer_once(merged))
    marks = ", ".join("?" * len(COLUMNS.split(",")))
    rows = (one.attempt.as_row() for one in merged)
    connection.executemany(f"INSERT INTO attempt({COLUMNS}) VALUES({marks})", rows)
    connection.executemany("INSERT INTO idempotency(caller, key_sha256, attempt_id) VALUES(?, ?, ?)", _keys(merged))
    writer = Writer(connection, now)
    for one in merged:
        for event in _missing(one.attempt, one.told, now):
            writer.add_event(event)


def _keys(merged: list[_Merged]) -> Iterator[tuple[str, bytes, str]]:
    """Bind each idempotency key to its newest attempt, of those that keep it if there are any."""
    bound: dict[tuple[str, bytes], str] = {}
    for attempt in sorted((one.attempt for one in merged), key=lambda one: RULES[one.state].keeps_key):
        if attempt.key_sha256 is not None:
            bound[attempt.caller, attempt.key_sha256] = attempt.id
    return ((caller, key, attempt_id) for (caller, key), attempt_id in bound.items())


def _each_transfer_once(merged: list[_Merged]) -> Iterator[_Merged]:
    """Leave each transfer to the oldest attempt that has it."""
    claimed: set[str] = set()
    for one in merged:
        transfer_id = one.attempt.transfer_id
        if transfer_id is None:
            yield one
        elif transfer_id in claimed:
            yield _Merged(replace(one.attempt, transfer_id=None), one.told)
        else:
            claimed.add(transfer_id)
            yield one


def _merged(entries: list[Entry], trail: _TrailImport, now: datetime) -> Iterator[_Merged]:
    listed = {one.attempt_id: one for one in entries if one.attempt_id is not None}
    told = {key: one for key, one in trail.history.attempts.items() if not one.is_foreign}
    for attempt_id in listed.keys() | told.keys():
        entry, folded = listed.get(attempt_id), told.get(attempt_id)
        yield _merge(
            None if entry is None else _listed(entry, attempt_id),
            None if folded is None else _told(folded, now),
            now,
            unsent=entry is not None and trail.proves_unsent(entry),
        )
    foreign = [one for one in trail.history.attempts.values() if one.is_foreign]
    yield from _merged_foreign([one for one in entries if one.attempt_id is None], foreign, now)


def _listed(entry: Entry, attempt_id: str) -> Attempt:
    """Return an attempt as the ledger knows it."""
    channel = entry.via or Channel.API.value
    state = State(entry.outcome.value) if entry.outcome is not None else _STATES[entry.state]
    created_at = read_time(entry.timestamp) or entry.newest_time
    attempt = Attempt(
        id=attempt_id,
        caller=caller_of(channel),
        channel=channel,
        state=state,
        amount_cents=entry.amount_cents,
        source_id=entry.source_id or None,
        destination_id=entry.destination_id or None,
        organization_id=entry.organization_id,
        description=entry.description or None,
        request_sha256=hash_bytes(entry.request_sha256),
        key_sha256=hash_bytes(entry.key_sha256),
        error=entry.error,
        created_at=_usable(created_at),
        ended_at=None if entry.is_open else _usable(entry.newest_time),
        transfer_id=entry.known_transfer_id,
    )
    return attempt if entry.answer is None else _answered(attempt, entry.answer)


def _answered(attempt: Attempt, answer: dict[str, Any]) -> Attempt:
    """Add what only the answer to the caller tells, which a replay gives again."""
    status, created_at = answer.get("status"), read_time(_text(answer.get("created_at")))
    if created_at is not None and attempt.ended_at is not None and created_at < attempt.ended_at - WINDOW_MARGIN:
        created_at = None  # as far from its end, it could count on another day than it did
    types = [part.get("type") if isinstance(part := answer.get(name), dict) else None for name in _PARTIES]
    return replace(
        attempt,
        upstream_status=_text(status),
        upstream_created_at=None if created_at is None else _usable(created_at),
        source_type=_text(types[0]),
        destination_type=_text(types[1]),
    )


def _told(folded: Folded, now: datetime) -> Attempt:
    """Return an attempt as the audit trail knows it. What has no time that can be read counts today."""
    channel = folded.channel or Channel.API.value
    created_at = folded.first_at or now
    is_open = folded.state in {State.SENDING, State.UNKNOWN}
    return Attempt(
        id=folded.attempt_id,
        caller=caller_of(channel),
        channel=channel,
        state=folded.state,
        amount_cents=folded.amount_cents,
        source_id=folded.source_id,
        destination_id=folded.destination_id,
        description=folded.description,
        request_sha256=folded.request_sha256,
        key_sha256=folded.key_sha256,
        error=folded.error,
        created_at=_usable(created_at),
        announced_at=_usable(folded.announced_at or created_at) if folded.is_announced else None,
        ended_at=None if is_open else _usable(folded.ended_at or now),
        transfer_id=folded.transfer_id,
    )


def _merge(listed: Attempt | None, told: Attempt | None, now: datetime, *, unsent: bool = False) -> _Merged:
    """Make one attempt of what ledger and audit trail know of it."""
    known = [one for one in (listed, told) if one is not None]
    first = known[0]
    state = _state(listed.state if listed else None, told.state if told else None, unsent=unsent)
    says_so = next((one for one in known if one.state is state), None)
    changes: dict[str, Any] = {"state": state, "amount_cents": max(one.amount_cents for one in known)}
    if len(known) > 1:
        changes |= {name: _first(getattr(one, name) for one in known) for name in _EITHER}
    if state in TAKEN_STATES:
        changes["error"] = None
    else:
        changes["error"] = _first(one.error for one in (says_so or first, *known))
        changes["transfer_id"] = None
    if says_so is None or state is State.UNKNOWN:
        changes["error"] = changes["error"] or (_NEVER_SENT if state is State.FAILED else _DIED)
    if says_so is not None:
        changes["ended_at"] = says_so.ended_at
    else:
        changes["ended_at"] = None if state is State.UNKNOWN else now
    announced_at = told.announced_at if told is not None else None
    if announced_at is None and state in _SENT_STATES:
        announced_at = first.created_at
    changes["announced_at"] = announced_at
    followed_since = announced_at if state is State.ACCEPTED else changes["ended_at"]
    changes["followed_until"] = _followed_until(state, followed_since, now)
    changes = {name: value for name, value in changes.items() if value != getattr(first, name)}
    return _Merged(replace(first, **changes) if changes else first, told)


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not None), None)


def _state(listed: State | None, told: State | None, *, unsent: bool) -> State:
    """Decide the state of an attempt.

    Args:
        listed: what the ledger says.
        told: what the audit trail says.
        unsent: whether a trail without its announcement proves that it was not sent.
    """
    if told in TAKEN_STATES or listed is None:
        return State.UNKNOWN if told is None or told is State.SENDING else told
    if listed is State.ACCEPTED:
        return listed
    if told in _CERTAIN_ENDS:
        return State.NOT_EXECUTED if listed is State.NOT_EXECUTED else told
    if listed in _CERTAIN_ENDS:
        return listed
    return State.FAILED if listed is State.RESERVED and told is None and unsent else State.UNKNOWN


def _followed_until(state: State, since: datetime | None, now: datetime) -> datetime | None:
    if since is None or state not in {State.ACCEPTED, State.NOT_EXECUTED}:
        return None
    until = min(since, now) + FOLLOWED
    return until if until > now else None


def _missing(attempt: Attempt, told: Attempt | None, now: datetime) -> Iterator[Event]:
    """Make the events that the audit trail lacks: a crash can have kept them from being written."""
    if attempt.announced_at is not None and (told is None or told.announced_at is None):
        yield attempt.event(
            EventType.REQUESTED,
            attempt.announced_at,
            description=attempt.description,
            request_sha256=attempt.request_sha256 and attempt.request_sha256.hex(),
            key_sha256=attempt.key_sha256 and attempt.key_sha256.hex(),
            recovered=True,
        )
    more: dict[str, Any] = {"recovered": True, "transfer_id": attempt.transfer_id}
    if told is not None and told.state is attempt.state:
        if attempt.transfer_id is not None and told.transfer_id is None:
            yield attempt.event(EventType.IDENTIFIED, attempt.ended_at or now, **more)
    elif attempt.state in TAKEN_STATES:
        yield attempt.event(EventType.COMPLETED, attempt.ended_at or now, **more)
    else:
        more |= {"outcome": attempt.state.value, "error": attempt.error}
        yield attempt.event(EventType.FAILED, attempt.ended_at or now, **more)


def _merged_foreign(entries: list[Entry], told: list[Folded], now: datetime) -> Iterator[_Merged]:
    """Take over what the existing server wrote, once where a ledger entry and a completion are of one transfer.

    It names no attempts, and its transfers are not followed.
    """
    completions: defaultdict[int, deque[Folded]] = defaultdict(deque)
    for one in sorted((one for one in told if one.is_completed and one.ended_at is not None), key=_ended):
        completions[one.amount_cents].append(one)
    numbers: Counter[str] = Counter()
    same: dict[str, Attempt] = {}
    for entry in sorted((one for one in entries if one.outcome is None), key=_foreign_time):
        text = entry.model_dump_json()
        numbers[text] += 1
        listed = _listed(entry, foreign_id(f"{text} {numbers[text]}"))
        completion = _take_same(completions[entry.amount_cents], _foreign_time(entry)) if entry.is_settled else None
        if completion is not None:
            same[completion.attempt_id] = listed
        else:
            merged = _merge(listed, None, now)
            yield _Merged(replace(merged.attempt, followed_until=None), None)
    for one in told:
        attempt = as_told = _told(one, now)
        if (listed_same := same.get(one.attempt_id)) is not None:
            ended_at = max(attempt.ended_at or now, listed_same.ended_at or now)
            transfer_id = attempt.transfer_id or listed_same.transfer_id
            attempt = replace(attempt, ended_at=ended_at, transfer_id=transfer_id)
        yield _Merged(attempt, as_told)


def _take_same(completions: deque[Folded], at: datetime) -> Folded | None:
    """Take the oldest completion near a time, and drop those that are too old for this entry and all later ones."""
    while completions and _ended(completions[0]) < at - SAME_TRANSFER:
        completions.popleft()
    return completions.popleft() if completions and _ended(completions[0]) <= at + SAME_TRANSFER else None


def _ended(folded: Folded) -> datetime:
    return folded.ended_at or EARLIEST


def _foreign_time(entry: Entry) -> datetime:
    return _usable(read_utc(entry.timestamp) or entry.newest_time)


def _usable(time: datetime) -> datetime:
    """Return a time, or the nearest one that can be reckoned with."""
    return min(max(time, EARLIEST), LATEST)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
