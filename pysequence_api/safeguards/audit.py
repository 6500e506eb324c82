"""The audit trail, `.audit.jsonl`: one JSON object a line, only ever appended."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer

from pysequence_api.files import append_lines
from pysequence_api.safeguards.times import read_time

FILE_NAME = ".audit.jsonl"
READ_BLOCK_BYTES = 64 * 1024
MAX_LINE_BYTES = 1024 * 1024
"""A line of ours has a few hundred bytes; reading back stops looking for the beginning of a line here."""
FOLLOW_POLL_SECONDS = 0.25


class EventType(StrEnum):
    """What can happen to a transfer."""

    REQUESTED = "transfer_requested"
    COMPLETED = "transfer_completed"
    FAILED = "transfer_failed"
    IDENTIFIED = "transfer_identified"
    REJECTED = "transfer_rejected"


class Via(StrEnum):
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
    via: Via | None = None
    request_sha256: str | None = None

    @field_serializer("timestamp")
    def _iso(self, timestamp: datetime) -> str:
        return timestamp.isoformat()

    def line(self) -> bytes:
        """Write it as one line, in ASCII, so that no character of a name can end it early."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True)).encode("ascii") + b"\n"


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

    def append(self, *events: Event) -> None:
        """Append events in one write, and sync it.

        Raises:
            OSError: not all of it is on the disk.
        """
        append_lines(self._path, b"".join(event.line() for event in events))

    def prepare(self) -> None:
        """Create the file if it is missing, readable by its owner alone.

        Raises:
            OSError: it cannot be appended to.
        """
        append_lines(self._path, b"")

    def has_attempts_since(self, since: datetime) -> bool:
        """Say whether something was sent, or may have been, since a time."""
        sent = {EventType.REQUESTED, EventType.COMPLETED}
        return any(
            line.event_type in sent and (time := read_time(line.timestamp)) is not None and time >= since
            for line in self.newest_first()
        )

    def tail(self, count: int) -> list[Line]:
        """Read the last lines, from the end of the file.

        Args:
            count: how many at the most.

        Returns:
            The lines, oldest first; none if there is no file.
        """
        return list(islice(self.newest_first(), count))[::-1]

    def newest_first(self) -> Iterator[Line]:
        """Go through the lines from the end of the file."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            for line in _lines_backwards(descriptor, os.fstat(descriptor).st_size):
                yield Line.parse(line)
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
