"""The files under the safeguards: ledger and audit trail of one data directory, and the lock over both.

Everything here blocks. What is said of the files holds only while `Store.held` is held.
"""

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from pysequence_api.clock import Clock, read_time
from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.files import LOCK_TIMEOUT_SECONDS, OWNER_ONLY, locked, read_bytes, replace_atomically
from pysequence_api.records import audit as audit_file
from pysequence_api.records import ledger as ledger_file
from pysequence_api.records.audit import AuditTrail, Event, EventType, Line, Position
from pysequence_api.records.chain import Head
from pysequence_api.records.ledger import Ledger, Outcome, State
from pysequence_api.records.owners import Owners

LOCK_FILE_NAME = ".lock"
REMEMBERED = timedelta(days=ledger_file.KEPT_DAYS) - timedelta(hours=1)
"""How far back the ledger must know what the audit trail shows: a day stays for two more, and a transfer that was
announced soon after midnight may stand under the day before."""
INDEXED = timedelta(days=ledger_file.KEPT_DAYS + 1)
"""How far back the audit trail is kept in memory."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Past:
    """What the audit trail says of one attempt."""

    requested: Line | None = None
    ended: Line | None = None
    identified: bool = False

    @property
    def is_open(self) -> bool:
        """Whether nothing final is said of it."""
        return self.ended is None or self.ended.outcome == State.UNKNOWN

    def requested_since(self, since: datetime) -> bool:
        """Whether it was announced since then, or at a time that cannot be read."""
        return self.requested is not None and (read_time(self.requested.timestamp) or since) >= since

    def take(self, line: Line) -> None:
        """Take the next line about it."""
        if line.event_type == EventType.REQUESTED:
            self.requested = line
        elif line.event_type in {EventType.COMPLETED, EventType.FAILED}:
            self.ended = line
        elif line.event_type == EventType.IDENTIFIED:
            self.identified = True


class Store:
    """Ledger, audit trail and owners of one data directory.

    Args:
        directory: the data directory.
        clock: gives the time in UTC.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        self.audit = AuditTrail(directory)
        self.owners = Owners(directory)
        self.clock = clock
        self.ledger_path = directory / ledger_file.FILE_NAME
        self._lock_path = directory / LOCK_FILE_NAME
        self._position: Position | None = None
        self._past: dict[str, Past] = {}
        self._past_of: date | None = None
        self._read: tuple[bytes, Ledger] | None = None
        self.complete: set[str] = set()
        """Records, as they stand in the ledger, whose lines are known to be in the trail."""

    @contextmanager
    def held(self, timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
        """Hold the data lock.

        Raises:
            SafeguardsUnavailableError: it cannot be had.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self._lock_path, timeout_seconds))
            except OSError as error:
                raise unavailable(f"{self._lock_path} cannot be locked ({error.strerror})") from error
            yield

    def prepare(self) -> None:
        """Make the audit trail if there is none, and both files readable by their owner alone.

        Raises:
            SafeguardsUnavailableError: a file cannot be written, or cannot be trusted.
        """
        with self.held():
            try:
                self.audit.prepare()
                with suppress(FileNotFoundError):
                    self.ledger_path.chmod(OWNER_ONLY)
            except OSError as error:
                raise unavailable(f"{error.filename} cannot be written ({error.strerror})") from error
            self.load()

    def load(self) -> Ledger:
        """Read the ledger, and hold it against the audit trail.

        Raises:
            SafeguardsUnavailableError: it cannot be trusted.
        """
        try:
            content = read_bytes(self.ledger_path)
        except OSError as error:
            raise unavailable(f"{ledger_file.FILE_NAME} cannot be read ({error.strerror})") from error
        if self._read is None or self._read[0] != content:
            ledger = Ledger.parse(content)
            self._read = None if content is None else (content, ledger.copy())
        else:
            ledger = self._read[1].copy()
        known = {record.attempt_id for record in ledger.records()}
        since = self.clock() - REMEMBERED
        for attempt_id, past in (self._whole_past() if content is None else self.past()).items():
            if past.ended is not None and past.ended.outcome == Outcome.FAILED:
                continue  # it counts nothing, and nothing is asked of it any more
            if attempt_id not in known and past.requested and (past.is_open or past.requested_since(since)):
                what = "is missing" if content is None else f"lacks attempt {attempt_id}"
                raise unavailable(
                    f"{ledger_file.FILE_NAME} {what}, which {audit_file.FILE_NAME} shows."
                    " Put a good copy of it back, or run `pysequence-api limits repair`"
                )
        for _, entry in ledger.entries():
            ended = entry.attempt_id and entry.unsettled and self._past.get(entry.attempt_id)
            if ended and not ended.is_open:
                raise unavailable(
                    f"{ledger_file.FILE_NAME} is older than {audit_file.FILE_NAME}, in which attempt {entry.attempt_id}"
                    " has ended. Put the newest copy of it back, or run `pysequence-api limits repair`"
                )
        return ledger

    def _whole_past(self) -> dict[str, Past]:
        """Give what the whole audit trail says, with every line of another program as an attempt that has ended."""
        past: dict[str, Past] = {}
        for number, line in enumerate(self.audit.oldest_first()):
            if line.attempt_id is not None:
                past.setdefault(line.attempt_id, Past()).take(line)
            elif line.event_type == EventType.REQUESTED:
                past[f"line {number}"] = Past(requested=line, ended=line)
        return past

    def save(self, ledger: Ledger) -> None:
        """Replace the ledger.

        Raises:
            SafeguardsUnavailableError: it cannot be written.
        """
        content = ledger.dump()
        try:
            replace_atomically(self.ledger_path, content)
        except OSError as error:
            raise unavailable(f"{ledger_file.FILE_NAME} cannot be written ({error.strerror})") from error
        self._read = content, ledger.copy()

    def append(self, *events: Event) -> None:
        """Append to the audit trail.

        Raises:
            SafeguardsUnavailableError: it cannot be written, or not be trusted.
        """
        try:
            self.audit.append(*events)
        except OSError as error:
            raise unavailable(f"{audit_file.FILE_NAME} cannot be written ({error.strerror})") from error

    def head(self) -> Head:
        """Find the newest line of the audit trail; see `AuditTrail.head`.

        Raises:
            SafeguardsUnavailableError: it cannot be read, or not be trusted.
        """
        try:
            return self.audit.head()
        except OSError as error:
            raise unavailable(f"{audit_file.FILE_NAME} cannot be read ({error.strerror})") from error

    def past(self) -> dict[str, Past]:
        """Give what the audit trail says of the attempts of the last days, by attempt id.

        Raises:
            SafeguardsUnavailableError: the trail cannot be read.
        """
        today = self.clock().date()
        if today != self._past_of:
            self._position, self._past_of = None, today  # begun anew each day, so that it does not grow for ever
        try:
            lines, position = self.audit.read_on(self._position, self.clock() - INDEXED)
        except OSError as error:
            raise unavailable(f"{audit_file.FILE_NAME} cannot be read ({error.strerror})") from error
        if self._position is None or position.inode != self._position.inode:
            self._past.clear()
        self._position = position
        for line in lines:
            if line.attempt_id is not None:
                self._past.setdefault(line.attempt_id, Past()).take(line)
        return self._past

    def was_announced(self, attempt_id: str) -> bool:
        """Say whether the audit trail shows that an attempt was announced, however long ago."""
        return any(line.event_type == EventType.REQUESTED for line in self.audit.lines_of(attempt_id))

    def past_of(self, attempt_ids: Collection[str | None]) -> dict[str, Past]:
        """Give what the whole audit trail says of some attempts, however long ago, in one pass."""
        past: dict[str, Past] = {}
        for line in reversed(list(self.audit.lines_of_any(attempt_ids))):
            past.setdefault(line.attempt_id or "", Past()).take(line)
        return past

    def announced_at(self, attempt_id: str | None) -> datetime | None:
        """Say when an attempt was announced; ``None`` if the audit trail of the last days shows nothing of it."""
        past = self.past().get(attempt_id or "")
        return read_time(past.requested.timestamp) if past and past.requested else None


def unavailable(why: str) -> SafeguardsUnavailableError:
    """Make the error of files that cannot be trusted or written."""
    return SafeguardsUnavailableError(f"No transfer is possible: {why}. Reads go on.")


def log_unwritten(events: Sequence[Event], why: Exception) -> None:
    """Put into the log, in full, what could not be put into the audit trail."""
    for event in events:
        log.critical("%s lacks a line (%s): %s", audit_file.FILE_NAME, why, event.model_dump_json(exclude_none=True))
