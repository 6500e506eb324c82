"""The file `.notify.json`: the progress of each channel, so a restart neither repeats nor leaves out a message."""

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
    """The progress of a channel.

    Attributes:
        seq: the newest audit event that is done: sent, not worth a message, or lost.
        lost: how many messages since the last one that arrived were not delivered.
    """

    seq: int = Field(ge=0)
    lost: int = Field(0, ge=0)


class Once(BaseModel):
    """A message that is sent at most once in a period: for which audit event, and when the period ends."""

    seq: int
    until: AwareDatetime


class Told(BaseModel):
    """The content of the file.

    Attributes:
        channels: the progress of each channel, by its name.
        once: messages that are sent once in a period, such as the first refusal in an hour.
        problems: a hash of the problem that was last reported, by its event.
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
            log.warning("%s cannot be read; messages begin with the next event", FILE_NAME)
            return cls()

    def write(self, directory: Path) -> None:
        """Write the file.

        Raises:
            OSError: it cannot be written.
        """
        replace_atomically(directory / FILE_NAME, self.model_dump_json().encode())

    def is_news(self, what: str, seq: int, now: datetime, until: datetime) -> bool:
        """Note an event, and return whether it is the one of its period that gets a message.

        Args:
            what: names the message.
            seq: the event. The one that was noted stays the one, because a channel may be behind.
            now: when it happened.
            until: the end of the period, in which no other event gets a message.
        """
        noted = self.once.get(what)
        if noted is not None and noted.seq != seq and now < noted.until:
            return False
        self.once = {name: one for name, one in self.once.items() if one.until > now} | {
            what: Once(seq=seq, until=until)
        }
        return True

    def is_new_problem(self, event: str, problem: str) -> bool:
        """Return whether a problem differs from the one that was last reported."""
        return self.problems.get(event) != _hash(problem)

    def note_problem(self, event: str, problem: str | None) -> None:
        """Note that a problem was reported, or with ``None`` that there is none."""
        if problem is None:
            self.problems.pop(event, None)
        else:
            self.problems[event] = _hash(problem)


def _hash(problem: str) -> str:
    """Return a hash of a problem without its numbers, such as sizes and times, which change."""
    return hashlib.sha256(re.sub(r"\d+", "", problem).encode()).hexdigest()
