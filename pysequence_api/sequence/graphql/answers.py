"""One GraphQL answer: the HTTP status, then ``errors``, then ``data`` read field by field."""

import math
import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, NoReturn, Self

from pysequence_api.errors import (
    GraphQLError,
    InvalidDocumentError,
    NotAuthorizedError,
    NotFoundError,
    RateLimitedError,
    UnexpectedStatusError,
    UnreadableAnswerError,
)
from pysequence_api.models import Moment
from pysequence_api.sequence.transport import HttpAnswer
from pysequence_api.text import parse_json, plain_text

MAX_SHOWN_ERRORS = 3
"""How many GraphQL errors of one answer a message repeats."""
NOT_FOUND = "not found"
"""Part of the message that Sequence sends for an unknown id."""

INVALID_CODES = {"GRAPHQL_VALIDATION_FAILED", "GRAPHQL_PARSE_FAILED"}
INVALID_MESSAGES = (
    *("Syntax Error: ", "Must provide operation name", "Must provide an operation", "Unknown operation named "),
    *(f"{text} {quote}" for text in ("Cannot query field", "Unknown argument", "Unknown type") for quote in "\"'"),
    *(f"{text} {quote}$" for text in ("Variable",) for quote in "\"'"),
    *(f"{text} {quote}@" for text in ("Unknown directive", "Directive") for quote in "\"'"),
    *(f"{text} {quote}" for text in ("Unknown fragment", "Fragment", "Field", "Argument", "Value") for quote in "\"'"),
    *("Expected value of type ", "There can be only one ", "This anonymous operation must be the only "),
)
"""How graphql-js and graphql-core begin the messages of their validation rules, and of invalid variables."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


class Node:
    """A JSON object of an answer. A null or missing object is an empty node.

    Every method returns ``None`` for a null or missing value, and raises `UnreadableAnswerError` for a value of the
    wrong type.
    """

    def __init__(self, value: object, path: str) -> None:
        if value is not None and not isinstance(value, dict):
            raise unreadable(path, "not an object")
        self._fields: dict[str, object] = value or {}
        self.exists = value is not None
        self._path = path

    def child(self, key: str) -> Self:
        """Return the object in a field."""
        return type(self)(self._fields.get(key), self._at(key))

    def children(self, key: str) -> tuple[list[Self], bool]:
        """Return the objects of a list.

        Returns:
            The objects, and whether they are complete: false if the list is missing or has a null entry.
        """
        values = self._fields.get(key)
        if values is None:
            return [], False
        if not isinstance(values, list):
            raise unreadable(self._at(key), "not a list")
        nodes = [type(self)(value, self._at(key)) for value in values]
        present = [node for node in nodes if node.exists]
        return present, len(present) == len(nodes)

    def text(self, key: str) -> str | None:
        """Return a string."""
        value = self._fields.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise unreadable(self._at(key), "not a string")
        return value.encode("utf-8", "replace").decode()  # half of a surrogate pair cannot be encoded again

    def identifier(self, key: str = "id") -> str | None:
        """Return an id; an empty string counts as missing."""
        return self.text(key) or None

    def integer(self, key: str) -> int | None:
        """Return an integer."""
        value = self._fields.get(key)
        if value is None:
            return None
        if type(value) is not int:
            raise unreadable(self._at(key), "not an integer")
        return value

    def cents(self, key: str) -> int | None:
        """Return the cents of a money object."""
        return self.child(key).integer("cents")

    def number(self, key: str) -> float | None:
        """Return a number; ``None`` also for one that is not finite."""
        value = self._fields.get(key)
        if value is None:
            return None
        if not (type(value) is int or type(value) is float):
            raise unreadable(self._at(key), "not a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        return number if math.isfinite(number) else None

    def flag(self, key: str) -> bool | None:
        """Return a boolean."""
        value = self._fields.get(key)
        if value is not None and not isinstance(value, bool):
            raise unreadable(self._at(key), "neither true nor false")
        return value

    def moment(self, key: str) -> Moment | None:
        """Return a time in UTC, or a date; ``None`` also for other text, and for a time without a zone."""
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


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one operation.

    Attributes:
        operation: the name of the operation.
        data: the ``data`` object, or ``None``.
        errors: the messages of ``errors``, unchanged.
        secret: the access token that was sent; it is removed from every text of this answer.
        was_invalid: whether Sequence did not execute the request, because the document or its variables were invalid.
    """

    operation: str
    data: dict[str, Any] | None
    errors: tuple[str, ...]
    secret: str = field(repr=False)
    was_invalid: bool = False

    def node(self, not_found: str | None = None) -> Node:
        """Return ``data``.

        Args:
            not_found: the message to raise if Sequence answers "not found"; without it, that is a `GraphQLError`.

        Raises:
            NotFoundError: every error of the answer is "not found".
            GraphQLError: the answer has errors.
            InvalidDocumentError: the errors say that the request was invalid, so that it was not executed.
            UnreadableAnswerError: the answer has neither errors nor data.
        """
        if self.errors:
            if not_found is not None and all(NOT_FOUND in error.casefold() for error in self.errors):
                raise NotFoundError(not_found)
            self.fail()
        if self.data is None:
            raise unreadable(f"{self.operation}.data", "missing")
        return Node(self.data, self.operation)

    def fail(self) -> NoReturn:
        """Raise the errors of the answer as one `GraphQLError`, or `InvalidDocumentError`."""
        shown = "; ".join(self.plain(error) for error in self.errors[:MAX_SHOWN_ERRORS])
        if self.was_invalid:
            raise InvalidDocumentError(
                f"Sequence did not execute {self.operation}, because its interface has changed ({plain_text(shown)})."
                " Update pysequence-api."
            )
        raise GraphQLError(f"Sequence answered {self.operation} with an error: {plain_text(shown)}")

    def plain(self, text: str) -> str:
        """Make a text of this answer safe to show."""
        return plain_text(text, secrets=[self.secret])


def read_answer(operation: str, answer: HttpAnswer, secret: str) -> Answer:
    """Read an HTTP answer. The content type is ignored.

    Args:
        operation: the name of the operation.
        answer: the HTTP answer.
        secret: the access token that was sent.

    Raises:
        NotAuthorizedError: the status is 401.
        RateLimitedError: the status is 429.
        UnexpectedStatusError: any other status of 300 and above.
        UnreadableAnswerError: the body is not a GraphQL answer.
    """
    _check_status(operation, answer)
    try:
        body = parse_json(answer.body)
    except ValueError:
        raise unreadable(operation, "not JSON") from None
    if not isinstance(body, dict):
        raise unreadable(operation, "not an object")
    data, errors = body.get("data"), body.get("errors")
    if data is not None and not isinstance(data, dict):
        raise unreadable(f"{operation}.data", "not an object")
    if errors is not None and not isinstance(errors, list):
        raise unreadable(f"{operation}.errors", "not a list")
    errors = errors or []
    was_invalid = data is None and bool(errors) and all(_says_invalid(error) for error in errors)
    return Answer(operation, data, tuple(_message(error) for error in errors), secret, was_invalid)


def unreadable(path: str, problem: str) -> UnreadableAnswerError:
    """Return the error for an answer with an unexpected shape.

    Args:
        path: the field, beginning with the operation.
        problem: what is wrong with it, as in "... is not a list".
    """
    return UnreadableAnswerError(f"Sequence's answer cannot be read: {path} is {problem}.")


def _check_status(operation: str, answer: HttpAnswer) -> None:
    match answer.status:
        case 401:
            raise NotAuthorizedError(f"Sequence does not accept the access token for {operation} (401). Sign in again.")
        case 429:
            raise RateLimitedError(
                f"Sequence refused {operation}: too many requests (429). Try again later.",
                retry_after_seconds=answer.retry_after_seconds,
            )
        case status if status >= 300:
            raise UnexpectedStatusError(
                f"Sequence answered {operation} with HTTP {status}. Try again later.",
                retry_after_seconds=answer.retry_after_seconds,
            )


def _says_invalid(error: object) -> bool:
    """Say whether an error is one of a request that was not executed: it has no path, and a code or text for it."""
    if not isinstance(error, dict) or error.get("path") is not None:
        return False
    extensions = error.get("extensions")
    code = extensions.get("code") if isinstance(extensions, dict) else None
    return code in INVALID_CODES or _message(error).startswith(INVALID_MESSAGES)


def _message(error: object) -> str:
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) else ""
