"""The file `.audit.jsonl`: a copy of the audit events that follows the database, one JSON object a line.

Reading needs no lock, because lines never change. Writing happens under the lock of the records.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from pysequence_api.files import open_own, sync_directory
from pysequence_api.records.audit import ChainVerifier, Line, Verification

FILE_NAME = ".audit.jsonl"
READ_BLOCK_BYTES = 64 * 1024
MAX_LINE_BYTES = 1024 * 1024
"""A line of ours has a few hundred bytes; reading back stops looking for the beginning of a line here."""
FOLLOW_POLL_SECONDS = 0.25
PROGRESS_LINES = 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """An audit event of the database: where its line begins in the file, in bytes, and the line without its break."""

    start: int
    line: bytes

    @property
    def end(self) -> int:
        """Where the next line begins."""
        return self.start + len(self.line) + 1


class TrailError(Exception):
    """The file is not what the database says it should be. Its text completes "`.audit.jsonl` ..."."""


class Trail:
    """The file of one data directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME

    def size_bytes(self) -> int:
        """Return the size of the file, 0 if there is none."""
        return self.path.stat().st_size if self.path.exists() else 0

    # Writing.

    def identity(self) -> tuple[int, int] | None:
        """Return what tells this file from another one of its name; ``None`` if there is none."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def ends_with(self, newest: Row | None) -> bool:
        """Say whether the file ends with a row, or is empty."""
        if newest is None:
            return self.size_bytes() == 0
        with self._opened() as descriptor:
            is_end = os.fstat(descriptor).st_size == newest.end
            return is_end and _read(descriptor, newest.start, newest.end) == newest.line + b"\n"

    def complete(self, rows: Iterable[Row], synced: int, end: int) -> None:
        """Write what the file lacks of the database.

        Args:
            rows: every line that does not end before ``synced``, oldest first.
            synced: the file is known to be on the disk up to this byte.
            end: where the newest line ends.

        Raises:
            TrailError: the file was cut off or changed, or goes on where the database ends.
            OSError: it cannot be read or written.
        """
        if synced and not self.path.exists():
            raise TrailError("is missing")
        with self._opened(create=True) as descriptor:
            size = os.fstat(descriptor).st_size
            if size < synced:
                raise TrailError(f"has {size} bytes, and {synced} were written for certain: its end was cut off")
            if size > end:
                raise TrailError(f"has {size - end} bytes more than the database knows: it is ahead of .records.db")
            for row in rows:
                there, wanted = _read(descriptor, row.start, min(row.end, size)), row.line + b"\n"
                if there == wanted:
                    continue
                # A power cut can leave NULs where bytes were not on the disk yet; a line of ours holds none.
                if any(byte not in {0, right} for byte, right in zip(there, wanted, strict=False)):
                    raise TrailError(f"differs from the database in the line at byte {row.start}: it was changed")
                _write(descriptor, row.start, wanted)

    def append(self, start: int, lines: Iterable[bytes]) -> None:
        """Append lines, without a sync.

        Args:
            start: where the file ends, in bytes.
            lines: without their breaks.

        Raises:
            OSError: not all of it could be written.
        """
        with self._opened(create=True) as descriptor:
            _write(descriptor, start, b"".join(line + b"\n" for line in lines))

    def sync(self) -> None:
        """Put all that was written on the disk.

        Raises:
            OSError: that failed.
        """
        with suppress(FileNotFoundError), self._opened() as descriptor:
            os.fsync(descriptor)
            sync_directory(self.path.parent)

    @contextmanager
    def _opened(self, *, create: bool = False) -> Iterator[int]:
        descriptor = open_own(self.path, os.O_RDWR | (os.O_CREAT if create else 0))
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    # Reading.

    def open_to_read(self) -> BinaryIO:
        """Open the file.

        Raises:
            OSError: there is none, it cannot be read, or it is not this user's.
        """
        return os.fdopen(open_own(self.path, os.O_RDONLY), "rb")

    def verify(self, *, expect: str | None = None, progress: Callable[[int], None] = lambda _: None) -> Verification:
        """Check the hash chain of the file.

        Args:
            expect: a hash that was noted elsewhere, which some line must still have.
            progress: called now and then with the number of bytes since the last call.

        Raises:
            OSError: the file cannot be read.
        """
        verifier = ChainVerifier(expect)
        problem, unreported_bytes, lines = None, 0, 0
        with suppress(FileNotFoundError), self.open_to_read() as file:
            for raw in file:
                unreported_bytes += len(raw)
                if (line := raw.removesuffix(b"\n")) and (problem := verifier.take(line)) is not None:
                    break
                lines += 1
                if lines % PROGRESS_LINES == 0:
                    progress(unreported_bytes)
                    unreported_bytes = 0
        progress(unreported_bytes)
        return verifier.finish(problem)

    def oldest_first(self) -> Iterator[Line]:
        """Go through all lines from the beginning of the file."""
        with suppress(FileNotFoundError), self.open_to_read() as file:
            for raw in file:
                if line := raw.removesuffix(b"\n"):
                    yield Line.parse(line)

    def newest_first(self) -> Iterator[Line]:
        """Go through the lines from the end of the file."""
        return map(Line.parse, self.raw_newest_first())

    def raw_newest_first(self) -> Iterator[bytes]:
        """Go through the lines from the end of the file, as they stand there, without their breaks."""
        try:
            descriptor = open_own(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            yield from _lines_backwards(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)

    def follow(self, count: int, *, wait: Callable[[float], None] = time.sleep) -> Iterator[Line]:
        """Read the last lines, and then every new one as it is appended, for ever.

        Continues in the new file when the file is replaced, and from its beginning when it is cut short.

        Args:
            count: how many lines to begin with.
            wait: how to wait for the given number of seconds.
        """
        begin_with: int | None = count
        while True:
            with suppress(FileNotFoundError), self.open_to_read() as file:
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
            status = self.path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(status, os.fstat(file.fileno())) and status.st_size >= file.tell()


def _read(descriptor: int, start: int, end: int) -> bytes:
    content = b""
    while start + len(content) < end:
        block = os.pread(descriptor, end - start - len(content), start + len(content))
        if not block:
            break
        content += block
    return content


def _write(descriptor: int, start: int, content: bytes) -> None:
    # A regular file takes all at once unless the disk is full; the next write then says so.
    done = 0
    while done < len(content):
        done += os.pwrite(descriptor, content[done:], start + done)


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
