"""The two files that follow the database, `.audit.jsonl` and `.daily_limits.json`. Nothing is decided from them."""

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from pysequence_api.files import OWNER_ONLY, read_bytes, replace_atomically
from pysequence_api.records.attempts import Attempt
from pysequence_api.records.audit import FIRST_HASH, Line, hash_of
from pysequence_api.records.trail import Row, Trail, TrailError

LIMITS_FILE_NAME = ".daily_limits.json"
GLOBAL_LIST = "__global__"
KEPT_DAYS = 2
"""Days before today that `.daily_limits.json` shows."""

log = logging.getLogger(__name__)


class TrailCopy:
    """Keeps the audit trail up to date with the database, under the lock of the data directory."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._end: int | None = None
        self._identity: tuple[int, int] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all events that this process wrote are in the file, as far as writing it told."""
        return self._end is not None  # its size says nothing here: another thread may be appending

    def bring_up_to_date(self, connection: sqlite3.Connection) -> str | None:
        """Write what the file lacks.

        Returns:
            Why the file cannot be trusted or written, if so.
        """
        newest = newest_row(connection)
        end = 0 if newest is None else newest.end
        name = self._trail.path.name
        try:
            identity = self._trail.identity()
            if self._identity not in {None, identity}:
                return f"{name} was replaced while this program was running. Restart it"
            if self._end == end and self._trail.ends_with(newest):
                return None
            synced = connection.execute("SELECT trail_synced FROM store").fetchone()[0]
            self._trail.complete(checked_rows(connection, synced), synced, end)
        except TrailError as error:
            self._end = None
            return f"{name} {error}. `pysequence-api records check` says more"
        except OSError as error:
            self._end = None
            return f"{name} cannot be written ({error.strerror})"
        self._end, self._identity = end, self._trail.identity()
        return None

    def append(self, lines: Iterable[bytes]) -> None:
        """Append the lines of a transaction. If that fails, the next `bring_up_to_date` writes them."""
        lines = list(lines)
        if self._end is None or not lines:
            return
        try:
            self._trail.append(self._end, lines)
            self._end += sum(len(line) + 1 for line in lines)
            self._identity = self._trail.identity()
        except OSError as error:
            self._end = None
            log.error("%s cannot be written (%s); its lines are in the database", self._trail.path.name, error.strerror)

    def sync(self, connection: sqlite3.Connection) -> None:
        """Put the file on the disk, and note how far.

        Raises:
            OSError: the file cannot be synced.
            sqlite3.Error: that cannot be noted.
        """
        self._trail.sync()
        connection.execute("UPDATE store SET trail_synced = ?", (self._end,))


def newest_row(connection: sqlite3.Connection) -> Row | None:
    """Return the newest audit event."""
    row = connection.execute("SELECT start, line FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    return None if row is None else Row(*row)


def checked_rows(connection: sqlite3.Connection, begin: int = 0) -> Iterator[Row]:
    """Go through the audit events that end after a byte of the trail, oldest first.

    Raises:
        TrailError: a row is not what its hash says, or does not follow the row before it.
    """
    first = connection.execute("SELECT coalesce(max(seq), 1) FROM audit WHERE start <= ?", (begin,)).fetchone()[0]
    before = connection.execute(
        "SELECT sha256 FROM audit WHERE seq < ? AND length(line) > 0 ORDER BY seq DESC LIMIT 1", (first,)
    ).fetchone()
    prev = FIRST_HASH if before is None else before[0].hex()
    for seq, start, line, sha256 in connection.execute(
        "SELECT seq, start, line, sha256 FROM audit WHERE seq >= ? ORDER BY seq", (first,)
    ):
        if hash_of(line) != sha256.hex():
            raise TrailError(f"cannot be completed: event {seq} of the database is damaged")
        named = Line.parse(line).prev
        if named is not None and named != prev:
            raise TrailError(f"cannot be completed: event {seq} of the database does not follow the one before it")
        if line:
            prev = sha256.hex()
        yield Row(start, line)


def write_limits(directory: Path, attempts: Iterable[Attempt], now: datetime, *, is_first: bool) -> None:
    """Write `.daily_limits.json` again if it is not what it should be, in the shape of the existing PySequence server.

    Args:
        directory: the data directory.
        attempts: what counts since `limits_begin`.
        now: the time, in UTC.
        is_first: whether the file may be missing, because the database is new.

    Raises:
        OSError: it cannot be written.
    """
    days: dict[str, dict[str, list[dict[str, object]]]] = {}
    first = limits_begin(now)
    for attempt in attempts:
        time = attempt.upstream_created_at or attempt.ended_at or attempt.sent_at
        day = max(time, first).date().isoformat()
        days.setdefault(day, {GLOBAL_LIST: []})[GLOBAL_LIST].append(
            {
                "transfer_id": attempt.transfer_id,
                "amount_cents": attempt.amount_cents,
                "timestamp": attempt.created_at.isoformat(),
                "attempt_id": attempt.id,
                "state": attempt.state.value,
                "source_id": attempt.source_id,
                "destination_id": attempt.destination_id,
            }
        )
    path = directory / LIMITS_FILE_NAME
    content = json.dumps(dict(sorted(days.items()))).encode() + b"\n"
    before = _read(path)
    if before != content:
        if before is None and not is_first:
            log.warning("%s was missing, and is written again", LIMITS_FILE_NAME)
        elif before is not None and not _is_object(before):
            log.warning("%s was damaged, and is written again", LIMITS_FILE_NAME)
        replace_atomically(path, content, sync=False)


def limits_begin(now: datetime) -> datetime:
    """Return the beginning of the first day that `.daily_limits.json` shows."""
    return datetime.combine(now.date() - timedelta(days=KEPT_DAYS), time(), UTC)


def _is_object(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False


def _read(path: Path) -> bytes | None:
    content = read_bytes(path)
    if content is not None and path.stat().st_mode & 0o077:
        path.chmod(OWNER_ONLY)
    return content
