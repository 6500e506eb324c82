"""The chain that runs through the audit trail, so that it proves itself.

Every line of ours carries ``prev``, the SHA-256 of the line before it, whoever wrote that one. A line that is changed,
removed, inserted or moved no longer fits the next. The newest hash and the number of lines are kept beside the trail,
so that a cut-off end shows as well.
"""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from pysequence_api.files import read_bytes, replace_atomically

HEAD_FILE_NAME = ".audit.head.json"
FIRST = "0" * 64
"""What the first line of all names as the hash of the line before it."""
PROGRESS_LINES = 10_000

Hash = Annotated[str, Field(strict=True, pattern=r"^[0-9a-f]{64}$")]


def hash_of(line: bytes) -> str:
    """Give the SHA-256 of a line, without its line break, in hexadecimal."""
    return hashlib.sha256(line).hexdigest()


class Head(BaseModel):
    """The newest line: its number, counted from 1, and its hash."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    count: Annotated[int, Field(strict=True, ge=0)]
    sha256: Hash

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read the file; ``None`` if there is none.

        Raises:
            ValueError: it cannot be read.
        """
        content = read_bytes(path)
        return None if content is None else cls.model_validate_json(content)

    def write(self, path: Path) -> None:
        """Replace the file.

        Raises:
            OSError: it could not be written.
        """
        replace_atomically(path, self.model_dump_json().encode() + b"\n")


class Verification(BaseModel):
    """What verifying found.

    ``problem`` says what is wrong with line ``line``, if anything is. ``cut_short`` are the numbers of lines that a
    crash left unfinished, which is no tampering.
    """

    model_config = ConfigDict(frozen=True)

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


class _Verifier:
    def __init__(self, head: Head | None, expect: str | None) -> None:
        self.head = head
        self.expect = None if expect == FIRST else expect  # which is the head of a trail without lines
        self.number = 0
        self.newest = FIRST
        self.since: str | None = None
        self.cut_short: list[int] = []

    def take(self, line: bytes) -> str | None:
        """Take the next line, and say what is wrong with it."""
        self.number += 1
        before, self.newest = self.newest, hash_of(line)
        if self.newest == self.expect:
            self.expect = None
        entry = _object(line)
        if entry is None:
            self.cut_short.append(self.number)
        elif "prev" in entry:
            if entry["prev"] != before:
                if self.number == 1:
                    return "names a line before it, and there is none: the beginning was removed"
                return f"does not follow line {self.number - 1}: one of the two was changed, inserted, moved or removed"
            self.since = self.since or str(entry.get("timestamp"))
        if self.head is not None and self.number == self.head.count and self.newest != self.head.sha256:
            return f"is not the line that {HEAD_FILE_NAME} names: it, or one before it, was changed or removed"
        return None

    def finish(self) -> str | None:
        """Say what is wrong with the end."""
        if self.head is not None and self.number < self.head.count:
            return f"is the last one, but {HEAD_FILE_NAME} counts {self.head.count}: the end was cut off"
        if self.expect is not None:
            return "was reached without a line of the expected hash: the trail is not the one it was taken from"
        return None


def verify(
    path: Path | None,
    head: Head | None,
    *,
    expect: str | None = None,
    progress: Callable[[int], None] = lambda _bytes: None,
) -> Verification:
    """Hold every line against the one before it, and the end against the head.

    Args:
        path: the audit trail; ``None`` if there is none.
        head: what is kept beside it; more lines than it counts are what a crash leaves, as long as they follow.
        expect: a head that was noted elsewhere, which some line must still have.
        progress: called now and then with the number of bytes since the last call.

    Raises:
        OSError: the trail cannot be read.
    """
    verifier = _Verifier(head, expect)
    problem = None
    unreported_bytes = 0
    with path.open("rb") if path else io.BytesIO() as file:
        for raw in file:
            unreported_bytes += len(raw)
            line = raw.removesuffix(b"\n")
            problem = verifier.take(line) if line else None
            if problem is not None:
                break
            if verifier.number % PROGRESS_LINES == 0:
                progress(unreported_bytes)
                unreported_bytes = 0
    progress(unreported_bytes)
    problem = problem or verifier.finish()
    return Verification(
        entries=verifier.number,
        unbroken_since=verifier.since,
        head=verifier.newest,
        cut_short=tuple(verifier.cut_short),
        line=verifier.number if problem else None,
        problem=problem,
    )


def _object(line: bytes) -> dict[str, object] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
