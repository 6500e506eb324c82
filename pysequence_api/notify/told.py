"""The file `.notify.json`: how far the owner was told, so that a restart neither repeats nor leaves out anything."""

import hashlib
import logging
import re
from datetime import datetime
from pathlib import Path
from typing import Self

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from pysequence_api.files import read_bytes, replace_atomically

FILE_NAME = ".notify.json"

log = logging.getLogger(__name__)


class Progress(BaseModel):
    """How far a channel is.

    Attributes:
        seq: the newest audit event that is over for it: told, not worth a message, or lost.
        lost: how many messages since the last one that arrived were not delivered.
    """

    seq: int = Field(ge=0)
    lost: int = Field(0, ge=0)


class Once(BaseModel):
    """Something that is told once in a time: which audit event told it, and until when it is not told again."""

    seq: int
    until: AwareDatetime


class Told(BaseModel):
    """The content of the file.

    Attributes:
        channels: how far each channel is, by its name.
        once: what is told once in a time, such as the first refusal in an hour.
        problems: a hash of the problem that was told last, by the event that it belongs to.
    """

    channels: dict[str, Progress] = {}
    once: dict[str, Once] = {}
    problems: dict[str, str] = {}

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read the file; an empty one if there is none, or it cannot be read."""
        path = directory / FILE_NAME
        try:
            content = read_bytes(path)
            return cls() if content is None else cls.model_validate_json(content)
        except (OSError, ValidationError):
            log.warning("%s cannot be read; messages begin with what happens now", FILE_NAME)
            return cls()

    def write(self, directory: Path) -> None:
        """Write the file.

        Raises:
            OSError: it cannot be written.
        """
        replace_atomically(directory / FILE_NAME, self.model_dump_json().encode())

    def is_news(self, what: str, seq: int, now: datetime, until: datetime) -> bool:
        """Note that an event tells something once in a time, and say whether it is the one that does.

        Args:
            what: what it tells.
            seq: the event. The one that was noted is news again, because a channel may be behind.
            now: when it happened.
            until: until when no other event is.
        """
        noted = self.once.get(what)
        if noted is not None and noted.seq != seq and now < noted.until:
            return False
        self.once = {name: one for name, one in self.once.items() if one.until > now} | {
            what: Once(seq=seq, until=until)
        }
        return True

    def is_new_problem(self, event: str, problem: str) -> bool:
        """Say whether a problem is not the one that was told last."""
        return self.problems.get(event) != _hash(problem)

    def note_problem(self, event: str, problem: str | None) -> None:
        """Note that a problem was told, or with ``None`` that there is none."""
        if problem is None:
            self.problems.pop(event, None)
        else:
            self.problems[event] = _hash(problem)


def _hash(problem: str) -> str:
    """Return a hash of a problem without its numbers: sizes and times change while it stays the same."""
    return hashlib.sha256(re.sub(r"\d+", "", problem).encode()).hexdigest()
