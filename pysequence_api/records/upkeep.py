"""Backups of the records, and restoring them.

A restore never makes anything count less: what the audit trail knows beyond the backup is taken over, what cannot be
known is unknown, and transfers are frozen until a person has looked.
"""

import shutil
import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field

from pysequence_api.clock import Clock, utc_now
from pysequence_api.errors import InvalidRequestError, SafeguardsUnavailableError
from pysequence_api.files import holder_of, locked, prepare_directory, read_bytes, replace_atomically
from pysequence_api.records.approvals import TOTP_STEP_SECONDS
from pysequence_api.records.attempts import FOLLOWED, Attempt, Writer, caller_of
from pysequence_api.records.audit import ChainVerifier, Channel, Decision, Event, EventType, Line
from pysequence_api.records.check import TrailComparison, examine, synced_bytes
from pysequence_api.records.database import (
    APPLICATION_ID,
    FILE_NAME,
    LOCK_FILE_NAME,
    NEW_FILE_NAME,
    VERSION,
    Database,
    connect,
    create_file,
    create_tables,
    migrate_once,
    open_for_reading,
    put_in_place,
    remove,
)
from pysequence_api.records.database import back_up as copy_database
from pysequence_api.records.grants import apply, is_grant
from pysequence_api.records.history import Folded, History, add_lines
from pysequence_api.records.old_files import NewerFileError, OldFileError, read_head
from pysequence_api.records.owners import Owners
from pysequence_api.records.states import OPEN_STATES, RULES, State
from pysequence_api.records.takeover import fill
from pysequence_api.records.trail import FILE_NAME as TRAIL_NAME
from pysequence_api.records.trail import Trail

FOLLOWED_STATES = {State.ACCEPTED, State.ARRIVED, State.NOT_EXECUTED}
UNSENT_STATES = {
    State.REJECTED,
    State.AWAITING_APPROVAL,
    State.DENIED,
    State.EXPIRED,
    State.CANCELLED,
    State.FAILED,
}
_OF_THE_OWNER = (EventType.OWNER_CODE_CHANGED, EventType.OWNER_PASSWORD_CHANGED)
KEPT_NAME = f"{FILE_NAME}.replaced"
NOT_KNOWN = "the records were restored, and its outcome is not in the audit trail"
CHOOSE_TRAIL = (
    f"Nothing was changed. Put the right {TRAIL_NAME} back; or, if there is none, move it away, and restore again"
)


class Restored(BaseModel):
    """What a restore did."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    source: str = Field(description="The backup, or the audit trail")
    events: int = Field(0, description="Events of the audit trail that were taken over")
    attempts: int = Field(0, description="Attempts that were added or changed by them")
    unknown: tuple[str, ...] = Field((), description="Attempts whose outcome is unknown since")
    expired: tuple[str, ...] = Field((), description="Approvals that expired")
    replaced: str | None = Field(None, description="Where the database before is kept, if there was one")


def back_up(records: Database, path: Path) -> None:
    """Copy the database as it is at one moment into one new file, while processes may write.

    Raises:
        InvalidRequestError: there is such a file already, it cannot be written, or there is no database yet.
        SafeguardsUnavailableError: the database cannot be read, or is damaged.
    """
    if not records.path.exists():
        raise InvalidRequestError(f"There is nothing to back up: {records.directory} has no {FILE_NAME} yet.")
    try:
        with records.read_apart() as connection:
            copy_database(connection, path)
    except FileExistsError:
        raise InvalidRequestError(f"{path} exists already. Name a new file.") from None
    except OSError as error:
        raise InvalidRequestError(f"{path} cannot be written ({error.strerror}).") from error
    except sqlite3.Error as error:
        raise InvalidRequestError(f"{path} cannot be made a backup ({error}).") from error
    with closing(connect(path, read_only=True)) as copy:
        problem = next(iter(examine(copy).problems), None)
    if problem is not None:
        remove(path)
        raise SafeguardsUnavailableError(f"No backup was written: {problem}")


def restore(directory: Path, backup: Path | None, clock: Clock = utc_now) -> Restored:
    """Put a backup in the place of the database, with all that the audit trail knows beyond it.

    Afterwards transfers are frozen. If this is killed, either the database before or the new one is in place.

    Args:
        directory: the data directory.
        backup: the backup; ``None`` to build the database from the audit trail alone.
        clock: returns the time in UTC.

    Raises:
        InvalidRequestError: the backup cannot be used, or there is nothing to restore from.
        SafeguardsUnavailableError: a process uses the data directory, or the audit trail does not fit; nothing changed.
        SettingsError: the data directory cannot be used.
    """
    prepare_directory(directory)
    new, path = directory / NEW_FILE_NAME, directory / FILE_NAME
    try:
        with _alone_in(directory):
            remove(new)
            create_file(new)
            try:
                with closing(connect(new)) as connection:
                    restored = _fill(connection, directory, backup, clock)
                replaced = _keep(path, clock)
                put_in_place(new, path)
            finally:
                remove(new)
        _write_copies(directory, clock)
    except OSError as error:
        raise SafeguardsUnavailableError(
            f"{error.filename or directory} cannot be read or written ({error.strerror})."
        ) from error
    except (sqlite3.Error, OverflowError) as error:
        raise SafeguardsUnavailableError(f"The new database cannot be built ({error}).") from error
    return restored.model_copy(update={"replaced": None if replaced is None else str(replaced)})


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    with locked(directory / LOCK_FILE_NAME):
        others = Owners(directory).others()
        if others:
            raise SafeguardsUnavailableError(
                f"{holder_of(others[0])} uses {directory}. Stop it, then restore. Nothing was changed."
            )
        yield


def _fill(connection: sqlite3.Connection, directory: Path, backup: Path | None, clock: Clock) -> Restored:
    """Fill the new database, and close off what was going on when the one before was lost."""
    trail = Trail(directory)
    if backup is not None:
        _copy_backup(backup, connection)
    elif trail.size_bytes():
        create_tables(connection, clock)
    else:
        raise InvalidRequestError(f"There is no audit trail in {directory} to restore from. Pass a backup.")
    trail.sync()
    connection.execute("BEGIN")
    writer = Writer(connection, clock())
    taken = _take_over(connection, writer, trail)
    if backup is None and not (directory / FILE_NAME).exists():
        _require_present_version(directory, taken)
    _secure_owner(writer, taken)
    unknown, expired = _close_off(writer)
    source = "the audit trail" if backup is None else backup.name
    writer.add_event(Event(timestamp=writer.now, event_type=EventType.RESTORED, reason=f"from {source}"))
    writer.set_freeze(f"restored from {source}")
    writer.set_restored(taken.equal_bytes)
    connection.execute("COMMIT")
    return Restored(source=source, events=taken.events, attempts=taken.attempts, unknown=unknown, expired=expired)


def _require_present_version(directory: Path, taken: "_Taken") -> None:
    """Check that there was a database: the records of earlier versions are more than their audit trail.

    Raises:
        InvalidRequestError: there was none.
    """
    try:
        read_head(directory)
    except NewerFileError:
        return
    except OldFileError as error:
        raise InvalidRequestError(f"{error}. Nothing was changed.") from error
    if not taken.names_callers:
        raise InvalidRequestError(
            f"The files in {directory} are of an earlier version. `serve`, or the first transfer, takes them over."
        )


def _copy_backup(backup: Path, connection: sqlite3.Connection) -> None:
    """Copy a backup into the new database, and check that it is a sound one of ours.

    Raises:
        InvalidRequestError: it is not.
    """
    if not backup.is_file():
        raise InvalidRequestError(f"There is no file {backup}.")
    try:
        with ExitStack() as stack:
            source = stack.enter_context(closing(open_for_reading(backup, stack)))
            application = source.execute("PRAGMA application_id").fetchone()[0]
            version = source.execute("PRAGMA user_version").fetchone()[0]
            if application != APPLICATION_ID or version < 1:
                raise InvalidRequestError(f"{backup} is not a backup of pysequence-api.")
            if version > VERSION:
                raise InvalidRequestError(
                    f"{backup} has version {version}, and this program knows versions up to {VERSION}. Install the"
                    " newer pysequence-api again."
                )
            source.backup(connection)
        connection.execute("PRAGMA journal_mode = DELETE")
        while version < VERSION:
            version = migrate_once(connection, version)
    except sqlite3.Error as error:
        raise InvalidRequestError(f"{backup} is not a backup of pysequence-api, or is damaged ({error}).") from error
    problem = next(iter(examine(connection).problems), None)
    if problem is not None:
        raise InvalidRequestError(f"{backup} is damaged; use another one. In the copy of it, {problem}")


# What the audit trail knows beyond the backup.


@dataclass
class _Taken:
    """What was taken over from the audit trail."""

    history: History = field(default_factory=History)
    changed_ids: set[str] = field(default_factory=set)
    grants: list[Line] = field(default_factory=list)
    """What the database lacked about callers, keys and policies."""
    events: int = 0
    attempts: int = 0
    equal_bytes: int = 0
    """How much of the trail equals the database."""
    names_callers: bool = False
    """Whether a line names a caller, which earlier versions did not write."""
    replaced: set[str] = field(default_factory=set)
    """What the owner replaced after the backup: the types of the events that say so."""

    def take(self, line: Line) -> None:
        """Take a line that the database lacked."""
        self.history.take(line)
        self.events += 1
        self.names_callers = self.names_callers or line.caller is not None
        if line.attempt_id is not None:
            self.changed_ids.add(line.attempt_id)
        if is_grant(line):
            self.grants.append(line)
        if line.event_type in _OF_THE_OWNER:
            self.replaced.add(line.event_type)


def _take_over(connection: sqlite3.Connection, writer: Writer, trail: Trail) -> _Taken:
    """Take over what the audit trail has beyond the database.

    Raises:
        SafeguardsUnavailableError: up to the end of the database it is another trail, or its hash chain is broken.
    """
    taken = _Taken()
    if not trail.path.exists():
        return taken
    with trail.open_to_read() as file:
        comparison = TrailComparison(file, trail.size_bytes(), synced_bytes(connection))
        chain = _compare(connection, comparison, taken.history)
        taken.equal_bytes = comparison.equal_bytes
        known_ids = set(taken.history.attempts)
        add_lines(connection, _checked(file, chain), taken.take)
    for line in taken.grants:
        apply(connection, line)
    for folded in taken.history.attempts.values():
        if folded.attempt_id in taken.changed_ids or folded.attempt_id not in known_ids:
            taken.attempts += _apply(writer, folded)
    return taken


def _compare(connection: sqlite3.Connection, comparison: TrailComparison, history: History) -> ChainVerifier:
    problem, chain = comparison.begin(), ChainVerifier()
    for start, line in connection.execute("SELECT start, line FROM audit ORDER BY seq"):
        problem = problem or comparison.take(start, line)
        if problem is not None:
            raise SafeguardsUnavailableError(f"{problem}, so it does not fit the backup. {CHOOSE_TRAIL}.")
        if line:
            parsed = Line.parse(line)
            chain.take(line, parsed)
            history.take(parsed)
    return chain


def _checked(file: BinaryIO, chain: ChainVerifier) -> Iterator[bytes]:
    for raw in file:
        line = raw.removesuffix(b"\n")  # the last one has none if a crash cut it off; the next event closes it
        problem = chain.take(line) if line else None
        if problem is not None:
            number = chain.finish(problem).line
            raise SafeguardsUnavailableError(f"Line {number} of {TRAIL_NAME} {problem}. {CHOOSE_TRAIL}.")
        yield line


def _apply(writer: Writer, folded: Folded) -> bool:
    """Add an attempt, or move it to where its events say that it is. Return whether that changed anything.

    Raises:
        SafeguardsUnavailableError: it cannot have come there.
    """
    attempt = writer.attempt(folded.attempt_id)
    if attempt is None:
        added = _new_attempt(writer, folded)
        writer.add_attempt(added)
        _bind_more_keys(writer, added, folded)
        return True
    way = _way(attempt.state, folded.state)
    if way is None:
        raise SafeguardsUnavailableError(
            f"{TRAIL_NAME} says that attempt {attempt.id} is {folded.state}, and the backup that it is {attempt.state}."
            f" {CHOOSE_TRAIL}."
        )
    announced_at = attempt.announced_at or folded.announced_at
    if {State.SENDING, State.UNKNOWN}.intersection(way):
        announced_at = announced_at or attempt.created_at
    changed = writer.update(
        attempt,
        announced_at=announced_at,
        transfer_id=attempt.transfer_id or _free_transfer_id(writer, folded),
    )
    for state in way:
        if changed.state is State.AWAITING_APPROVAL and folded.decision is not None:
            writer.decide_approval(attempt.id, *_decided(folded, attempt.created_at))
        ended = {"ended_at": folded.ended_at, "error": folded.error, "code": folded.code}
        changed = writer.move(
            changed, state, **ended, followed_until=_followed_until(state, folded.ended_at, writer.now)
        )
    _bind_more_keys(writer, changed, folded)
    return changed != attempt


def _decided(folded: Folded, default: datetime) -> tuple[Decision, str | None, datetime]:
    assert folded.decision is not None
    decision, decided_at, channel = folded.decision
    return decision, channel, decided_at or default


def _bind_more_keys(writer: Writer, attempt: Attempt, folded: Folded) -> None:
    """Have the keys that were bound to an attempt while it waited name it, as long as it keeps them."""
    for key in folded.more_keys if RULES[attempt.state].keeps_key else ():
        writer.bind_key(attempt, key)


def _new_attempt(writer: Writer, folded: Folded) -> Attempt:
    channel = folded.channel or Channel.API.value
    created_at = folded.first_at or writer.now
    is_unsent = folded.state in UNSENT_STATES
    ended_at = folded.ended_at or (None if folded.state in OPEN_STATES else created_at)
    return Attempt(
        id=folded.attempt_id,
        caller=folded.caller or caller_of(channel),
        channel=channel,
        state=folded.state,
        amount_cents=folded.amount_cents,
        created_at=created_at,
        source_id=folded.source_id,
        destination_id=folded.destination_id,
        description=folded.description,
        reason=folded.reason,
        request_sha256=folded.request_sha256,
        key_sha256=folded.key_sha256,
        upstream=folded.upstream,
        rule=folded.rule,
        policy_version=folded.policy_version,
        code=folded.code,
        error=folded.error,
        announced_at=folded.announced_at or (None if is_unsent else created_at),
        ended_at=ended_at,
        followed_until=None if folded.is_foreign else _followed_until(folded.state, ended_at, writer.now),
        transfer_id=_free_transfer_id(writer, folded),
    )


def _free_transfer_id(writer: Writer, folded: Folded) -> str | None:
    """Return the transfer of an attempt, unless another attempt has it already."""
    transfer_id = folded.transfer_id
    return None if transfer_id is None or writer.is_claimed(transfer_id) else transfer_id


def _followed_until(state: State, ended_at: datetime | None, now: datetime) -> datetime | None:
    until = ended_at + FOLLOWED if ended_at is not None and state in FOLLOWED_STATES else None
    return until if until is not None and until > now else None


def _way(begin: State, end: State) -> list[State] | None:
    """Find the states from one to another, as an attempt can go through them; ``None`` if it cannot."""
    ways: dict[State, list[State]] = {begin: []}
    found = deque([begin])
    while found:
        state = found.popleft()
        for after, rule in RULES.items():
            if state in rule.comes_from and after not in ways:
                ways[after] = [*ways[state], after]
                found.append(after)
    return ways.get(end)


def _secure_owner(writer: Writer, taken: _Taken) -> None:
    """Sign the owner out everywhere, take every code so far for used, and drop what was replaced after the backup."""
    code, password = (event_type in taken.replaced for event_type in _OF_THE_OWNER)
    changes: dict[str, object] = {"session_secret": None}
    changes |= {"totp_secret": None, "totp_set_at": None} if code else {}
    changes |= {"password_hash": None, "password_set_at": None} if password else {}
    newest_step = int(writer.now.timestamp()) // TOTP_STEP_SECONDS + 1
    writer.set_owner_secrets(**changes, totp_step=max(writer.owner_secrets().totp_step, newest_step))


def _close_off(writer: Writer) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """End what was going on when the backup was made, and has no end in the audit trail. Return whose ids that are."""
    unknown = writer.attempts_in(State.RESERVED) + writer.attempts_in(State.SENDING)
    for attempt in unknown:
        changed = writer.move(
            attempt, State.UNKNOWN, announced_at=attempt.announced_at or attempt.created_at, error=NOT_KNOWN
        )
        outcome = State.UNKNOWN.value
        writer.add_event(changed.event(EventType.FAILED, writer.now, error=NOT_KNOWN, outcome=outcome))
    expired = writer.attempts_in(State.AWAITING_APPROVAL)
    for attempt in expired:
        changed = writer.move(attempt, State.EXPIRED, ended_at=writer.now)
        writer.add_event(changed.event(EventType.EXPIRED, writer.now))
    return tuple(attempt.id for attempt in unknown), tuple(attempt.id for attempt in expired)


# Putting it in place.


def _keep(path: Path, clock: Clock) -> Path | None:
    """Keep the database that is replaced under another name, and empty its log, which the new one must not find.

    Returns:
        The path of the copy; ``None`` if there was no database.

    Raises:
        SafeguardsUnavailableError: another program reads it.
        OSError: it cannot be copied.
    """
    if not path.exists():
        return None
    kept = path.with_name(f"{KEPT_NAME}-{clock():%Y%m%dT%H%M%S.%fZ}")
    draft = path.with_name(KEPT_NAME)  # what an earlier restore left, if it was killed
    remove(draft)
    log = b""
    try:
        with closing(connect(path)) as connection:
            copy_database(connection, draft)
            is_busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.Error:  # it is damaged: keep what there is of it, as it is
        is_busy = False
        create_file(draft)
        shutil.copyfile(path, draft)
        log = read_bytes(Path(f"{path}-wal")) or b""
    if is_busy:
        raise SafeguardsUnavailableError(f"Another program reads {path}. Close it, then restore. Nothing was changed.")
    put_in_place(draft, kept)
    if log:
        replace_atomically(Path(f"{kept}-wal"), log)
    return kept


def _write_copies(directory: Path, clock: Clock) -> None:
    """Add the new events to the audit trail, and write `.daily_limits.json`."""
    records = Database(directory, clock, fill)
    try:
        records.write(lambda writer: writer.now)
        records.sync_trail()
        records.write_limits()
    finally:
        records.close()
