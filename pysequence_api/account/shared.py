"""A file of recent answers of Sequence, which the processes on one data directory share.

It only saves requests. Whatever is wrong with it, it is as if it were not there, and Sequence is asked.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pysequence_api.clock import steady_seconds
from pysequence_api.errors import LockTimeoutError
from pysequence_api.files import ForeignFileError, locked, open_own, remove_own, replace_atomically, require_own

FILE_NAME = ".fresh_reads.json"
LOCK_FILE_NAME = ".fresh_reads.lock"
LOCK_TIMEOUT_SECONDS = 0.5
"""It is held for less than a millisecond. An answer is not worth a longer wait."""
MAX_ANSWERS = 16
MAX_FILE_BYTES = 1024**2

log = logging.getLogger(__name__)
M = TypeVar("M", bound=BaseModel)


class _Entry(BaseModel):
    """An answer in the file.

    Attributes:
        key: a hash of what was read, and of where it came from.
        records: the state of the records when the read began.
        read_at_seconds: when, in Unix seconds.
        read_at_steady_seconds: when, by the clock that is never set.
        answer: the model as JSON.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    key: str
    records: str
    read_at_seconds: float = Field(allow_inf_nan=False)
    read_at_steady_seconds: float = Field(allow_inf_nan=False)
    answer: str


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)

    version: Literal[1] = 1
    answers: tuple[_Entry, ...] = ()


class SharedAnswers:
    """The file. All methods block, and none fails because of the file.

    Args:
        directory: the data directory.
        max_age_seconds: how old an answer may be.
        source: returns a hash of where answers come from: the upstream, the credentials, and what else they depend on.
        clock_seconds: a clock that is never set, and that all processes have in common.
    """

    def __init__(
        self,
        directory: Path,
        max_age_seconds: float,
        source: Callable[[], str],
        clock_seconds: Callable[[], float] = steady_seconds,
    ) -> None:
        self._path = directory / FILE_NAME
        self._lock_path = directory / LOCK_FILE_NAME
        self._max_age_seconds = max_age_seconds
        self._source = source
        self._clock_seconds = clock_seconds
        self._has_complained = False

    def key_of(self, key: Hashable) -> str:
        """Return what names an answer in the file.

        Take it before a read, and again after it: if they differ, whose answer it is is not certain.

        Args:
            key: names the read by nothing but texts, numbers, dates and models of them.
        """
        return hashlib.sha256(f"{self._source()} {key!r}".encode()).hexdigest()

    def find(self, key: str, records: str, shape: type[M]) -> tuple[M, float] | None:
        """Return a recent answer, and when it was read, by the clock that is never set.

        Args:
            key: from `key_of`.
            records: the state of the records now; another one sets the answer aside.
            shape: what the answer is.
        """
        for entry in self._recent():
            if entry.key == key and entry.records == records:
                try:
                    return shape.model_validate_json(entry.answer), entry.read_at_steady_seconds
                except ValidationError:
                    self._complain(f"{self._path} is damaged")
        return None

    def add(self, key: str, records: str, answer: BaseModel, read_at_steady_seconds: float) -> None:
        """Add an answer, in the place of an older one. What is too old or too much is dropped.

        Args:
            key: from `key_of`, before the read.
            records: the state of the records before the read.
            answer: what was read.
            read_at_steady_seconds: when, by the clock that is never set.
        """
        age_seconds = self._clock_seconds() - read_at_steady_seconds
        entry = _Entry(
            key=key,
            records=records,
            read_at_seconds=time.time() - age_seconds,
            read_at_steady_seconds=read_at_steady_seconds,
            # Computed fields are computed again. Fields that no answer shows are not kept: nothing here may need them.
            answer=answer.model_dump_json(round_trip=True),
        )
        try:
            with locked(self._lock_path, LOCK_TIMEOUT_SECONDS):
                require_own(self._path)
                entries = [entry, *(one for one in self._recent() if one.key != key)][:MAX_ANSWERS]
                while entries and len(content := _written(entries)) > MAX_FILE_BYTES:
                    entries.pop()
                if entries:
                    replace_atomically(self._path, content, sync=False)
        except ForeignFileError as error:
            self._complain(f"{error.filename}: {error.strerror}")
        except (LockTimeoutError, OSError) as error:
            log.debug("an answer was not kept (%s)", error)

    def remove_old(self) -> None:
        """Remove the file if all of it is too old, so that it does not stay for nothing."""
        try:
            age_seconds = time.time() - self._path.lstat().st_mtime
        except OSError:
            return  # there is none
        if not 0 <= age_seconds < self._max_age_seconds:
            remove_answers(self._path.parent)

    def _recent(self) -> list[_Entry]:
        """Read the answers that are young enough, newest first."""
        try:
            with os.fdopen(open_own(self._path, os.O_RDONLY), "rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
            if len(content) > MAX_FILE_BYTES:
                self._complain(f"{self._path} is too large")
                return []
            return [one for one in _Content.model_validate_json(content).answers if self._is_recent(one)]
        except FileNotFoundError:
            pass  # as in a new data directory
        except OSError as error:
            self._complain(f"{self._path}: {error.strerror}")
        except ValidationError:
            self._complain(f"{self._path} is damaged, or of another version")
        return []

    def _is_recent(self, entry: _Entry) -> bool:
        # By both clocks: one can be set, and the other begins again with the machine.
        ages_seconds = (
            time.time() - entry.read_at_seconds,
            self._clock_seconds() - entry.read_at_steady_seconds,
        )
        return all(0 <= age_seconds < self._max_age_seconds for age_seconds in ages_seconds)

    def _complain(self, problem: str) -> None:
        if not self._has_complained:
            self._has_complained = True
            log.warning("Recent answers of other processes are not used. %s.", problem)


def remove_answers(directory: Path) -> None:
    """Remove the file from a data directory, if it can be removed."""
    try:
        # Without the lock: whoever adds an answer right now loses it, and asks Sequence again.
        remove_own(directory / FILE_NAME)
    except OSError as error:
        log.debug("an old file was not removed (%s)", error)


def _written(entries: list[_Entry]) -> bytes:
    return _Content(answers=tuple(entries)).model_dump_json().encode()
