"""JSON of an answer, read field by field. What cannot be read is noted as a gap, and the rest is used."""

import logging
import math
import re
from datetime import UTC, date, datetime
from typing import Self

from pysequence_api.errors import UnreadableAnswerError
from pysequence_api.models import Moment
from pysequence_api.text import mask_number, plain_text

log = logging.getLogger(__name__)

MAX_GAPS = 100
"""How many gaps of one answer are told apart. With more, anything in it counts as a gap."""
MAX_SHOWN_GAPS = 5
MAX_GAPS_CHARACTERS = 600
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)

Path = tuple[str, ...]
"""Where in the data of an answer something is: names of fields, and positions in lists."""


class Gaps:
    """What of an answer cannot be read, each at its path. The rest of the answer is used."""

    def __init__(self) -> None:
        self._problems: dict[Path, str] = {}

    def add(self, path: Path, problem: str) -> None:
        """Add what cannot be read. The empty path stands for anything in the answer."""
        if len(self._problems) >= MAX_GAPS:
            path, problem = (), "there are more"
        self._problems.setdefault(path, problem)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The paths, in the order in which they were added."""
        return tuple(self._problems)

    def touch(self, path: Path) -> bool:
        """Say whether something at this path, in it, or around it cannot be read."""
        return any(all(one == other for one, other in zip(gap, path, strict=False)) for gap in self._problems)

    def __bool__(self) -> bool:
        return bool(self._problems)

    def __str__(self) -> str:
        if not self._problems:
            return ""
        problems = list(self._problems.items())
        shown = [f"{'.'.join(path) or 'something'} ({problem})" for path, problem in problems[:MAX_SHOWN_GAPS]]
        more = len(problems) - MAX_SHOWN_GAPS
        return plain_text("; ".join(shown), MAX_GAPS_CHARACTERS) + (f"; and {more} more" if more > 0 else "")


class Node:
    """A JSON object of an answer. A null or missing object is an empty node.

    Every method returns ``None`` for a null or missing value. A value of the wrong type is a gap, and counts as null.
    """

    def __init__(self, value: object, gaps: Gaps, path: Path = ()) -> None:
        self.exists = isinstance(value, dict)
        self.path = path
        self._fields: dict[str, object] = value if isinstance(value, dict) else {}
        self._gaps = gaps
        if value is not None and not self.exists:
            gaps.add(path, "not an object")

    def quiet(self) -> Self:
        """Return the same object, to be read without noting gaps."""
        return type(self)(self._fields, Gaps())

    def gap(self, key: str, problem: str) -> None:
        """Note that a field cannot be read."""
        self._gaps.add((*self.path, key), problem)

    def is_readable(self, *keys: str) -> bool:
        """Say whether there are no gaps in any of these fields."""
        return not any(self._gaps.touch((*self.path, key)) for key in keys)

    def child(self, key: str) -> Self:
        """Return the object in a field."""
        return type(self)(self._fields.get(key), self._gaps, (*self.path, key))

    def children(self, key: str) -> list[Self]:
        """Return the objects of a list. It is a gap if the list, or an entry of it, is missing."""
        values = self._fields.get(key)
        if not isinstance(values, list):
            self.gap(key, "missing" if values is None else "not a list")
            return []
        nodes = [type(self)(value, self._gaps, (*self.path, key, str(at))) for at, value in enumerate(values)]
        for node, value in zip(nodes, values, strict=True):
            if value is None:
                self._gaps.add(node.path, "missing")
        return [node for node in nodes if node.exists]

    def text(self, key: str) -> str | None:
        """Return a string."""
        value = self._fields.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            self.gap(key, "not a string")
            return None
        return value.encode("utf-8", "replace").decode()  # half of a surrogate pair cannot be encoded again

    def plain(self, key: str) -> str | None:
        """Return a string as one short, safe line."""
        text = self.text(key)
        return plain_text(text) if text else text

    def masked_number(self, key: str) -> str | None:
        """Return an account number, masked to its last four characters."""
        number = self.text(key)
        return None if number is None else mask_number(number)

    def identifier(self, key: str = "id") -> str | None:
        """Return an id; an empty string counts as missing."""
        return self.text(key) or None

    def required_identifier(self) -> str | None:
        """Return an id. It is a gap if there is none."""
        identifier = self.identifier()
        if identifier is None:
            self.gap("id", "missing")
        return identifier

    def integer(self, key: str) -> int | None:
        """Return an integer."""
        value = self._fields.get(key)
        if value is None:
            return None
        if type(value) is not int:
            self.gap(key, "not an integer")
            return None
        return value

    def cents(self, key: str) -> int | None:
        """Return the cents of a money object."""
        return self.child(key).integer("cents")

    def number(self, key: str) -> float | None:
        """Return a finite number."""
        value = self._fields.get(key)
        if value is None:
            return None
        try:
            number = float(value) if type(value) is int or type(value) is float else math.nan
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.gap(key, "not a number")
            return None
        return number

    def flag(self, key: str) -> bool | None:
        """Return a boolean."""
        value = self._fields.get(key)
        if value is not None and not isinstance(value, bool):
            self.gap(key, "neither true nor false")
            return None
        return value

    def moment(self, key: str) -> Moment | None:
        """Return a time in UTC, or a date. Other text, and a time without a zone, is a gap."""
        text = self.text(key)
        if not text:
            return None
        try:
            if _DATE.fullmatch(text):
                return date.fromisoformat(text)
            time = datetime.fromisoformat(text)
            if time.tzinfo is not None:
                return time.astimezone(UTC)
        except (ValueError, OverflowError):
            log.debug("%s is not a time", ".".join((*self.path, key)))
        self.gap(key, "not a time")
        return None


def unreadable(path: str, problem: str) -> UnreadableAnswerError:
    """Return the error for an answer with an unexpected shape.

    Args:
        path: the field, beginning with the operation.
        problem: what is wrong with it, as in "... is not a list".
    """
    return UnreadableAnswerError(f"Sequence's answer cannot be read: {path} is {problem}.")
