"""Untyped JSON, read field by field: what is null or missing is ordinary, what has a wrong type is not."""

import math
import re
from datetime import UTC, date, datetime
from typing import Self

from pysequence_api.errors import UnreadableAnswerError
from pysequence_api.models import Moment

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


class Node:
    """An object of an answer, or the place where one could have been.

    Every method raises `UnreadableAnswerError` for a value of a wrong type, and gives ``None`` where there is none.
    """

    def __init__(self, value: object, path: str) -> None:
        if value is not None and not isinstance(value, dict):
            raise unreadable(path, "no object")
        self._fields: dict[str, object] = value or {}
        self.exists = value is not None
        self._path = path

    def child(self, key: str) -> Self:
        """Give an object below this one."""
        return type(self)(self._fields.get(key), self._at(key))

    def children(self, key: str) -> tuple[list[Self], bool]:
        """Give a list of objects below this one.

        Returns:
            The objects that are there, and whether that is all: the list was there and no element of it null.
        """
        values = self._fields.get(key)
        if values is None:
            return [], False
        if not isinstance(values, list):
            raise unreadable(self._at(key), "no list")
        nodes = [type(self)(value, self._at(key)) for value in values]
        present = [node for node in nodes if node.exists]
        return present, len(present) == len(nodes)

    def text(self, key: str) -> str | None:
        """Give a string."""
        value = self._fields.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise unreadable(self._at(key), "no text")
        return value.encode("utf-8", "replace").decode()  # half of a surrogate pair could not be written again

    def identifier(self, key: str = "id") -> str | None:
        """Give an id; an empty one is none."""
        return self.text(key) or None

    def integer(self, key: str) -> int | None:
        """Give a whole number."""
        value = self._fields.get(key)
        if value is None:
            return None
        if type(value) is not int:
            raise unreadable(self._at(key), "no whole number")
        return value

    def cents(self, key: str) -> int | None:
        """Give the cents of a money object (upstream-graphql, The endpoint)."""
        return self.child(key).integer("cents")

    def number(self, key: str) -> float | None:
        """Give a number."""
        value = self._fields.get(key)
        if value is None:
            return None
        if not (type(value) is int or type(value) is float):
            raise unreadable(self._at(key), "no number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        return number if math.isfinite(number) else None

    def flag(self, key: str) -> bool | None:
        """Give a truth value."""
        value = self._fields.get(key)
        if value is not None and not isinstance(value, bool):
            raise unreadable(self._at(key), "neither true nor false")
        return value

    def moment(self, key: str) -> Moment | None:
        """Give a time in UTC, or a date; ``None`` also for text that is neither, or a time without a zone."""
        text = self.text(key)
        try:
            if text is None:
                return None
            if _DATE.fullmatch(text):
                return date.fromisoformat(text)
            time = datetime.fromisoformat(text)
            return time.astimezone(UTC) if time.tzinfo is not None else None
        except (ValueError, OverflowError):
            return None

    def _at(self, key: str) -> str:
        return f"{self._path}.{key}"


def unreadable(path: str, what: str) -> UnreadableAnswerError:
    """Make the error of an answer that is not what was asked for.

    Args:
        path: where, beginning with the operation.
        what: what stands there.
    """
    return UnreadableAnswerError(f"Sequence's answer cannot be read: {path} is {what}.")
