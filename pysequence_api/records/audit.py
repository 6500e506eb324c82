"""The audit trail, `.audit.jsonl`: one JSON object a line, only ever appended, each line bound to the one before."""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer

from pysequence_api.clock import read_time
from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.files import append_lines
from pysequence_api.records.chain import FIRST, HEAD_FILE_NAME, Head, Verification, hash_of, verify

FILE_NAME = ".audit.jsonl"
_ATTEMPT_ID = re.compile(rb'"attempt_id": ?("(?:[^"\\]|\\.)*")')
READ_BLOCK_BYTES = 64 * 1024
MAX_LINE_BYTES = 1024 * 1024
"""A line of ours has a few hundred bytes; reading back stops looking for the beginning of a line here."""
FOLLOW_POLL_SECONDS = 0.25
MAX_OLDER_LINES = 1000
"""So many older lines in a row end the search for recent ones; a few are what a clock leaves that was set back."""

log = logging.getLogger(__name__)


class Position(NamedTuple):
    """How far a file has been read."""

    inode: int
    offset: int


class EventType(StrEnum):
    """What can happen to a transfer."""

    REQUESTED = "transfer_requested"
    COMPLETED = "transfer_completed"
    FAILED = "transfer_failed"
    IDENTIFIED = "transfer_identified"
    REJECTED = "transfer_rejected"


class Channel(StrEnum):
    """The door that a transfer came through."""

    API = "api"
    CLI = "cli"


class Event(BaseModel):
    """One line of the trail. Only what applies is written."""

    model_config = ConfigDict(frozen=True)

    timestamp: datetime
    event_type: EventType
    amount_cents: int
    source: str
    destination: str
    transfer_id: str | None = None
    error: str | None = None
    outcome: str | None = None
    attempt_id: str | None = None
    via: Channel | None = None
    description: str | None = None
    request_sha256: str | None = None
    key_sha256: str | None = None
    reconciled: bool | None = None
    resolved: bool | None = None
    recovered: bool | None = None

    @field_serializer("timestamp")
    def _iso(self, timestamp: datetime) -> str:
        return timestamp.isoformat()

    def line(self, prev: str) -> bytes:
        """Write it as one line without its break, in ASCII, so that no character of a name can end it early.

        Args:
            prev: the hash of the line before.
        """
        return json.dumps(self.model_dump(mode="json", exclude_none=True) | {"prev": prev}).encode("ascii")


class Line(BaseModel):
    """A line as it is read back, of whichever version or program.

    ``unreadable`` is set instead of everything else where a line is no such object, as after a crash.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    timestamp: str | None = None
    event_type: str | None = None
    amount_cents: Annotated[int, Field(strict=True)] | None = None
    source: str | None = None
    destination: str | None = None
    transfer_id: str | None = None
    error: str | None = None
    outcome: str | None = None
    attempt_id: str | None = None
    via: str | None = None
    description: str | None = None
    request_sha256: str | None = None
    key_sha256: str | None = None
    prev: str | None = None
    unreadable: str | None = None

    @classmethod
    def parse(cls, line: bytes) -> "Line":
        """Read a line; one that is damaged becomes an ``unreadable`` one, so that it shows."""
        try:
            value = json.loads(line)
            return cls.model_validate(value)
        except (ValueError, RecursionError, ValidationError):
            return cls(unreadable=line[:200].decode("utf-8", "replace"))

    def as_json(self) -> dict[str, Any]:
        """Give what stood in the file."""
        return self.model_dump(mode="json", exclude_unset=True)


class AuditTrail:
    """The file. Appending happens under the data lock; reading needs none, because lines never change."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._head_path = directory / HEAD_FILE_NAME

    def append(self, *events: Event) -> None:
        """Append events in one write, sync it, and note the new head.

        Raises:
            SafeguardsUnavailableError: the trail does not fit its head: it is missing, cut off or changed.
            OSError: not all of it is on the disk.
        """
        head = self.head()
        lines, prev = [], head.sha256
        for event in events:
            lines.append(event.line(prev))
            prev = hash_of(lines[-1])
        append_lines(self._path, b"".join(line + b"\n" for line in lines))
        try:
            Head(count=head.count + len(lines), sha256=prev).write(self._head_path)
        except OSError as error:
            # The lines are on the disk and follow the old head, which is what a crash would have left.
            log.warning("%s cannot be written (%s)", HEAD_FILE_NAME, error.strerror)

    def prepare(self) -> None:
        """Create the file if it is missing, readable by its owner alone.

        Raises:
            SafeguardsUnavailableError: the trail does not fit its head.
            OSError: it cannot be appended to.
        """
        self.head()
        append_lines(self._path, b"")

    def head(self) -> Head:
        """Find the newest line, and hold it against the head that was noted.

        Returns:
            Its number and hash; number 0 where there is no line.

        Raises:
            SafeguardsUnavailableError: the trail is missing, cut off or changed.
            OSError: it cannot be read.
        """
        try:
            noted = Head.read(self._head_path)
        except ValueError as error:
            raise _distrusted(f"{HEAD_FILE_NAME} is damaged") from error
        newest = next(self._raw_newest_first(), None)
        if newest is not None and noted is not None and hash_of(newest) == noted.sha256:
            return noted
        if newest is None:
            if noted is not None and noted.count:
                raise _distrusted(f"{FILE_NAME} is missing or empty, but {HEAD_FILE_NAME} counts {noted.count} lines")
            return Head(count=0, sha256=FIRST)
        # No head yet (the trail of another program), or lines after it: a crash, or another program that runs too.
        after = 0
        for line in self._raw_newest_first():
            if noted is not None and hash_of(line) == noted.sha256:
                return Head(count=noted.count + after, sha256=hash_of(newest))
            after += 1
        if noted is not None and noted.count:
            raise _distrusted(
                f"{FILE_NAME} does not hold the line that {HEAD_FILE_NAME} names: it was cut off or changed"
            )
        return Head(count=after, sha256=hash_of(newest))

    def verify(self, *, expect: str | None = None, progress: Callable[[int], None] = lambda _: None) -> Verification:
        """Hold every line against the one before it; see `chain.verify`. Called under the data lock.

        Raises:
            SafeguardsUnavailableError: the head that was noted is damaged.
            OSError: the trail cannot be read.
        """
        try:
            noted = Head.read(self._head_path)
        except ValueError as error:
            raise _distrusted(f"{HEAD_FILE_NAME} is damaged") from error
        if not self._path.exists():
            return verify(None, noted, expect=expect, progress=progress)
        return verify(self._path, noted, expect=expect, progress=progress)

    def size_bytes(self) -> int:
        """Give the size of the file, 0 if there is none."""
        return self._path.stat().st_size if self._path.exists() else 0

    def read_on(self, position: Position | None, since: datetime) -> tuple[list[Line], Position]:
        """Read what was appended since the last call.

        Args:
            position: what the last call gave; ``None`` to begin with the lines that are not older than ``since``.
            since: how far to go back the first time.

        Returns:
            The lines, oldest first, and where they end.
        """
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return [], Position(0, 0)
        with file:
            status = os.fstat(file.fileno())
            here = Position(status.st_ino, status.st_size)
            if position is not None and position.inode == here.inode and position.offset <= here.offset:
                file.seek(position.offset)
                raw_lines = file.read(here.offset - position.offset).split(b"\n")
                return [Line.parse(line) for line in raw_lines if line], here
            newest: list[Line] = []
            older_lines = 0
            for raw in _lines_backwards(file.fileno(), here.offset):
                newest.append(Line.parse(raw))
                written_at = read_time(newest[-1].timestamp)
                older_lines = older_lines + 1 if written_at is not None and written_at < since else 0
                if older_lines > MAX_OLDER_LINES:
                    break
            return newest[::-1], here

    def tail(self, count: int) -> list[Line]:
        """Read the last lines, from the end of the file.

        Args:
            count: how many at the most.

        Returns:
            The lines, oldest first; none if there is no file.
        """
        return list(islice(self.newest_first(), count))[::-1]

    def oldest_first(self) -> Iterator[Line]:
        """Go through all lines from the beginning of the file."""
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            for raw in file:
                if line := raw.removesuffix(b"\n"):
                    yield Line.parse(line)

    def newest_first(self) -> Iterator[Line]:
        """Go through the lines from the end of the file."""
        return map(Line.parse, self._raw_newest_first())

    def lines_of(self, attempt_id: str) -> Iterator[Line]:
        """Go through the lines of one attempt from the end of the file."""
        return (line for line in self.lines_holding(attempt_id) if line.attempt_id == attempt_id)

    def lines_holding(self, text: str) -> Iterator[Line]:
        """Go through the lines that hold a text as a value, from the end of the file."""
        value = json.dumps(text).encode()
        return (Line.parse(raw) for raw in self._raw_newest_first() if value in raw)

    def lines_of_any(self, attempt_ids: Collection[str | None]) -> Iterator[Line]:
        """Go through the lines of some attempts from the end of the file."""
        names = {json.dumps(attempt_id).encode() for attempt_id in attempt_ids if attempt_id is not None}
        for raw in self._raw_newest_first():
            if (found := _ATTEMPT_ID.search(raw)) is not None and found[1] in names:
                yield Line.parse(raw)

    def _raw_newest_first(self) -> Iterator[bytes]:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            yield from _lines_backwards(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)

    def follow(self, count: int, *, wait: Callable[[float], None] = time.sleep) -> Iterator[Line]:
        """Read the last lines, and then every new one as it is appended, for ever.

        Goes on in the new file when the file is replaced, and from its beginning when it is cut short.

        Args:
            count: how many lines to begin with.
            wait: how to wait for the given number of seconds.
        """
        begin_with: int | None = count
        while True:
            with suppress(FileNotFoundError), self._path.open("rb") as file:
                yield from self._follow_file(file, begin_with, wait)
            begin_with = None  # a file that came later is new from its first line
            wait(FOLLOW_POLL_SECONDS)

    def _follow_file(self, file: BinaryIO, begin_with: int | None, wait: Callable[[float], None]) -> Iterator[Line]:
        if begin_with is not None:
            size = os.fstat(file.fileno()).st_size
            newest = list(islice(_lines_backwards(file.fileno(), size), begin_with))
            yield from map(Line.parse, reversed(newest))
            file.seek(size)
        rest = b""
        while True:
            current = self._is_current(file)  # before reading: what came before a replacement is still read here
            while block := file.read(READ_BLOCK_BYTES):
                *lines, rest = (rest + block).split(b"\n")
                yield from (Line.parse(line) for line in lines if line)
            if not current:
                return
            wait(FOLLOW_POLL_SECONDS)

    def _is_current(self, file: BinaryIO) -> bool:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(status, os.fstat(file.fileno())) and status.st_size >= file.tell()


def _lines_backwards(descriptor: int, end: int) -> Iterator[bytes]:
    rest = b""
    while end > 0:
        begin = max(0, end - READ_BLOCK_BYTES)
        block = os.pread(descriptor, end - begin, begin) + rest
        end = begin
        first, *lines = block.split(b"\n")
        yield from (line for line in reversed(lines) if line)
        rest = first[-MAX_LINE_BYTES:]
    if rest:
        yield rest


def _distrusted(why: str) -> SafeguardsUnavailableError:
    return SafeguardsUnavailableError(
        f"No transfer is possible: {why}. `pysequence-api audit verify` says more; put the right files back."
        " Reads go on."
    )
