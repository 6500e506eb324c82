"""Checking the records: the pages of the database, the audit events, the attempts, and the audit trail against them.

SQLite has no checksums of its pages. The audit events have: each names the hash of the one before it, and together they
say what every attempt must be. So a flipped bit shows in one of these places, or changes nothing that decides.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field

from pysequence_api.clock import to_micros, utc_now
from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.records.attempts import COLUMNS, Attempt
from pysequence_api.records.audit import ChainVerifier, EventType, Line, hash_of, read_utc
from pysequence_api.records.database import FILE_NAME, RESTORE, Database, connect, create_tables, unusable
from pysequence_api.records.grants import apply, difference, is_grant
from pysequence_api.records.history import UNREADABLE, Folded, History
from pysequence_api.records.states import OPEN_STATES, RULES
from pysequence_api.records.trail import FILE_NAME as TRAIL_NAME

MAX_PROBLEMS = 20
"""So many are named; more say nothing new."""
MAX_PAGE_PROBLEMS = 3
WRITE_TRAIL_AGAIN = (
    f"Put the right {TRAIL_NAME} back. If there is none, the database can write it again: `pysequence-api records"
    f" backup FILE`, move {TRAIL_NAME} away, `pysequence-api records restore FILE`"
)
TRAIL_IS_AHEAD = (
    "An older database was put back, or another program wrote there. `pysequence-api records restore FILE`, with the"
    f" newest backup or with {FILE_NAME} itself, takes over what the database lacks"
)

_ROWS = "SELECT seq, start, line, sha256, at, event_type, attempt_id, caller FROM audit ORDER BY seq"
_KEEPS_KEY = ", ".join(repr(state.value) for state, rule in RULES.items() if rule.keeps_key)
_OTHER_KEYS = (
    "SELECT attempt_id, idempotency.key_sha256, attempt.id NOTNULL AND attempt.caller = idempotency.caller"
    " FROM idempotency LEFT JOIN attempt ON attempt.id = attempt_id WHERE attempt.id ISNULL"
    " OR attempt.caller <> idempotency.caller OR attempt.key_sha256 IS NOT idempotency.key_sha256"
)
_UNNAMED = (
    "SELECT count(*) FROM attempt AS one LEFT JOIN idempotency USING(caller, key_sha256)"
    " LEFT JOIN attempt AS named ON named.id = attempt_id WHERE one.key_sha256 NOTNULL AND (named.id ISNULL"
    f" OR (one.state IN ({_KEEPS_KEY}) AND named.state NOT IN ({_KEEPS_KEY})))"
)


class Check(BaseModel):
    """What a check of the records found."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    problems: tuple[str, ...] = Field((), description="What is wrong, and what to do about it")
    attempts: int = 0
    open_attempts: int = Field(0, description="Attempts that are reserved, being sent, or of unknown outcome")
    events: int = Field(0, description="Audit events")
    idempotency_keys: int = 0
    trail_bytes: int = Field(0, description="Size of .audit.jsonl")
    events_not_in_trail: int = Field(0, description="Events that the next write adds to .audit.jsonl")

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check(records: Database, progress: Callable[[int], None] = lambda _: None) -> Check:
    """Check everything, while processes may write, or on a read-only disk.

    Args:
        records: the database.
        progress: called for each audit event with its number of bytes.
    """
    trail = records.trail
    try:
        size = trail.size_bytes()
        if not records.path.exists():
            records.read(lambda reader: reader.now)  # says whether there should be one
            return Check(trail_bytes=size)
        with records.read_apart() as connection, ExitStack() as stack:
            file = None
            with suppress(FileNotFoundError):
                file = stack.enter_context(trail.open_to_read())
            # The database is always written before the trail, and the trail before its mark in the database. So what
            # was in the file before must be in the database now, and the file must reach the mark now.
            synced = synced_bytes(connection)
            size = max(size, min(trail.size_bytes(), synced))
            examined = examine(connection, TrailComparison(file, size, synced), progress)
            return examined.model_copy(update={"trail_bytes": size})
    except SafeguardsUnavailableError as error:
        return Check(problems=(str(error),))
    except sqlite3.Error as error:
        return Check(problems=(str(unusable("read", error)),))
    except OSError as error:
        return Check(problems=(f"{error.filename} cannot be read ({error.strerror}).",))


def synced_bytes(connection: sqlite3.Connection) -> int:
    """Return how many bytes of the audit trail were on the disk for certain."""
    return int(connection.execute("SELECT trail_synced FROM store").fetchone()[0])


class TrailComparison:
    """Compares the audit trail with the events of the database, oldest first.

    Args:
        file: the trail; ``None`` if there is none.
        size: how much of it is compared.
        synced: how much of it was on the disk for certain. Behind that, a power cut can leave the end out, or NULs.
    """

    def __init__(self, file: BinaryIO | None, size: int, synced: int) -> None:
        self._file = file
        self._size = size
        self._synced = synced
        self.behind = 0
        """How many events the trail lacks."""

    def begin(self) -> str | None:
        """Return what is wrong with the file as a whole."""
        if self._synced and self._file is None:
            return f"{TRAIL_NAME} is missing"
        if self._size < self._synced:
            cut = self._synced - self._size
            return f"{TRAIL_NAME} was cut off: at least {cut} bytes of its end are missing"
        return None

    def take(self, start: int, line: bytes) -> str | None:
        """Take the next event, and return what is wrong with its line in the file."""
        wanted = line + b"\n"
        length = max(0, min(len(wanted), self._size - start))
        there = self._file.read(length) if self._file is not None else b""
        if there == wanted:
            return None
        self.behind += 1
        certain = max(0, self._synced - start)
        unsynced = zip(there[certain:], wanted[certain:], strict=False)
        if there[:certain] != wanted[:certain] or any(byte not in {0, right} for byte, right in unsynced):
            return f"{TRAIL_NAME} was changed in the line at byte {start}"
        return None

    def end(self, end: int) -> int:
        """Return how many bytes the file has beyond the newest event, which ends at this byte."""
        return self._size - end

    @property
    def equal_bytes(self) -> int:
        """How much of the file is on the disk, once it is synced, as it should be."""
        return min(self._size, self._synced) if self.behind else self._size


def examine(
    connection: sqlite3.Connection,
    trail: TrailComparison | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Check:
    """Check a database, and the audit trail against it.

    Args:
        connection: to the database, which sees one moment of it.
        trail: the trail, if that is compared.
        progress: called for each audit event with its number of bytes.
    """
    with closing(connect(Path(":memory:"))) as said:
        create_tables(said, utc_now)
        return _examine(_Examination(connection, said, progress), trail)


def _examine(examination: "_Examination", trail: TrailComparison | None) -> Check:
    counts: dict[str, int] = {}
    try:
        examination.pages()
        if examination.events(trail):
            examination.attempts()
            examination.grants()
            examination.approvals()
        examination.keys()
        counts = examination.counts()
    except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
        # Text that is no UTF-8, times that are none, and the like: what flipped bits make of a row.
        examination.problems.append(f"{FILE_NAME} is damaged ({error}). {RESTORE}.")
    counts["events_not_in_trail"] = trail.behind if trail else 0
    return Check(problems=tuple(examination.problems[:MAX_PROBLEMS]), **counts)


class _Examination:
    """Collects what is wrong with a database.

    Args:
        connection: to the database.
        said: to an empty database, which gets what the audit events say of callers, keys and policies.
        progress: called for each audit event with its number of bytes.
    """

    def __init__(
        self, connection: sqlite3.Connection, said: sqlite3.Connection, progress: Callable[[int], None]
    ) -> None:
        self._connection = connection
        self._said = said
        self._progress = progress
        self._history = History()
        self._is_frozen = False
        self.problems: list[str] = []

    def pages(self) -> None:
        """Check the pages, the indexes and the constraints."""
        for pragma in (f"integrity_check({MAX_PAGE_PROBLEMS})", "foreign_key_check"):
            for row in self._connection.execute(f"PRAGMA {pragma}").fetchmany(MAX_PAGE_PROBLEMS):
                if row[0] != "ok":
                    found = " ".join(str(row[0]).split())
                    self.problems.append(f"{FILE_NAME} is damaged ({found}). {RESTORE}.")

    def events(self, trail: TrailComparison | None) -> bool:
        """Check the audit events and the trail, and return whether all events could be read."""
        if trail and (problem := trail.begin()) is not None:
            self._add(f"{problem}. {WRITE_TRAIL_AGAIN}.")
            trail = None
        chain, end = ChainVerifier(), 0
        for seq, row in enumerate(self._connection.execute(_ROWS), start=1):
            if row[:2] != (seq, end) or (why := self._wrong(row, chain)) is not None:
                why = why if row[:2] == (seq, end) else "is not where it should be"
                self._add(f"Event {seq} of {FILE_NAME} {why}. {RESTORE}.")
                return False
            if trail and (problem := trail.take(row[1], row[2])) is not None:
                self._add(f"{problem}. {WRITE_TRAIL_AGAIN}.")
                trail = None
            end += len(row[2]) + 1
            self._progress(len(row[2]) + 1)
        if trail and (more := trail.end(end)) > 0:
            self._add(f"{TRAIL_NAME} has {more} bytes more than {FILE_NAME} knows. {TRAIL_IS_AHEAD}.")
        return True

    def _wrong(self, row: tuple[Any, ...], chain: ChainVerifier) -> str | None:
        _, _, raw, sha256, at, event_type, attempt_id, caller = row
        if not raw:
            return None if sha256.hex() == hash_of(raw) else "is damaged"
        line = Line.parse(raw)
        problem = chain.take(raw, line)
        if chain.newest != sha256.hex():
            return "is damaged"
        if problem is not None:
            return problem
        time = read_utc(line.timestamp)
        told = (line.event_type or UNREADABLE, line.attempt_id, line.caller, at if time is None else to_micros(time))
        if told != (event_type, attempt_id, caller, at):
            return "is damaged"
        self._history.take(line)
        if is_grant(line):
            try:
                apply(self._said, line)
            except sqlite3.IntegrityError as error:
                return f"contradicts the ones before it ({error})"
        elif line.event_type in {EventType.FROZEN, EventType.UNFROZEN}:
            self._is_frozen = line.event_type == EventType.FROZEN
        return None

    def attempts(self) -> None:
        """Check what the events say about the attempts against the attempts, and whether transfers are frozen."""
        folded = dict(self._history.attempts)
        for attempt in self._all_attempts():
            said = folded.pop(attempt.id, None)
            difference = None if said is None else _difference(attempt, said)
            if difference is not None:
                self._add(f"Attempt {attempt.id} differs from its audit events ({difference}). {RESTORE}.")
        for attempt_id in folded:
            self._add(f"Attempt {attempt_id} has audit events and is missing in {FILE_NAME}. {RESTORE}.")
        is_frozen = self._connection.execute("SELECT frozen_at FROM store").fetchone()[0] is not None
        if is_frozen != self._is_frozen:
            says, command = ("frozen", "unfreeze") if is_frozen else ("not frozen", "freeze")
            self._add(
                f"{FILE_NAME} says that transfers are {says}, and its audit events say otherwise. `pysequence-api"
                f" {command}` makes them agree."
            )

    def _all_attempts(self) -> Iterator[Attempt]:
        for row in self._connection.execute(f"SELECT {COLUMNS} FROM attempt"):
            yield Attempt.from_row(row)

    def grants(self) -> None:
        """Check callers, keys and policies against what the events say about them."""
        table = difference(self._connection, self._said)
        if table is not None:
            self._add(f"The table {table} of {FILE_NAME} differs from the audit events. {RESTORE}.")
        for version, text, sha256 in self._connection.execute("SELECT version, text, sha256 FROM policy"):
            if text is not None and hash_of(text.encode()) != sha256.hex():
                self._add(f"Version {version} of the policy is damaged. {RESTORE}.")

    def keys(self) -> None:
        """Check what the idempotency keys name: an attempt of the key, or one that the events say it was bound to."""
        bound = {(one.attempt_id, key) for one in self._history.attempts.values() for key in one.more_keys}
        others = self._connection.execute(_OTHER_KEYS).fetchall()
        wrong = sum((attempt_id, key) not in bound or not is_own for attempt_id, key, is_own in others)
        unnamed = self._connection.execute(_UNNAMED).fetchone()[0]
        lost = self._lost_keys(bound - {(attempt_id, key) for attempt_id, key, _ in others})
        for count, what in (
            (wrong, "idempotency keys name an attempt that is missing, or has another key"),
            (unnamed, "attempts are not named by their idempotency key, nor is another one that keeps it"),
            (lost, "idempotency keys of a pending order do not name its attempt any more"),
        ):
            if count:
                self._add(f"{count} {what}. {RESTORE}.")

    def _lost_keys(self, missing: set[tuple[str, bytes]]) -> int:
        """Count the keys that were bound to an attempt that keeps its keys, and name another one, or none."""
        keeping = {attempt_id for attempt_id, _ in missing if RULES[self._history.attempts[attempt_id].state].keeps_key}
        return sum(attempt_id in keeping for attempt_id, _ in missing)

    def approvals(self) -> None:
        """Check what the owner was asked, and what was decided, against what the events say."""
        for attempt_id, sha256, decision in self._connection.execute(
            "SELECT attempt_id, bound_sha256, decision FROM approval"
        ):
            said = self._history.attempts.get(attempt_id)
            told = (said.approval_sha256, said.decision and said.decision[0]) if said else (None, None)
            if told != (sha256, decision):
                self._add(f"The approval of attempt {attempt_id} differs from its audit events. {RESTORE}.")

    def counts(self) -> dict[str, int]:
        """Count what there is."""
        opened = ", ".join(repr(state.value) for state in OPEN_STATES)
        questions = {
            "attempts": "attempt",
            "open_attempts": f"attempt WHERE state IN ({opened})",
            "events": "audit",
            "idempotency_keys": "idempotency",
        }
        count = self._connection.execute
        return {name: count(f"SELECT count(*) FROM {what}").fetchone()[0] for name, what in questions.items()}

    def _add(self, problem: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


def _difference(attempt: Attempt, said: Folded) -> str | None:
    """Say in which point an attempt is not what its events add up to."""
    if attempt.state is not said.state:
        return f"it is {attempt.state}, they say {said.state}"
    if attempt.amount_cents != said.amount_cents:
        return f"it has {attempt.amount_cents} cents, they say {said.amount_cents}"
    pairs = {
        "source": (said.source_id, attempt.source_id),
        "destination": (said.destination_id, attempt.destination_id),
        "caller": (said.caller, attempt.caller),
        "request": (said.request_sha256, attempt.request_sha256),
        "idempotency key": (said.key_sha256, attempt.key_sha256),
        "upstream": (said.upstream, attempt.upstream),
        "time of sending": (said.announced_at, attempt.announced_at),
    }
    for what, (told, kept) in pairs.items():
        if told is not None and told != kept:
            return f"its {what} is another one"
    if said.transfer_id != attempt.transfer_id:
        return "its transfer is another one"
    return None
