"""One GraphQL answer: the HTTP status, then ``errors``, then ``data`` read field by field."""

import logging
import math
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, NoReturn, Self

from pysequence_api.errors import (
    BrowserRequiredError,
    GraphQLError,
    InvalidDocumentError,
    MovedError,
    NotAuthorizedError,
    NotFoundError,
    RateLimitedError,
    UnexpectedStatusError,
    UnreadableAnswerError,
)
from pysequence_api.models import Moment
from pysequence_api.sequence.transport import HttpAnswer
from pysequence_api.text import parse_json, plain_text

log = logging.getLogger(__name__)

MAX_GAPS = 100
"""How many gaps of one answer are told apart. With more, anything in it counts as a gap."""
MAX_SHOWN_GAPS = 5
MAX_GAPS_CHARACTERS = 600
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


@dataclass(frozen=True, slots=True)
class AnswerError:
    """One entry of ``errors``.

    Attributes:
        message: its text, unchanged.
        path: the field that it is about, if it names one.
        says_invalid: whether it says that the document, or its variables, were invalid.
    """

    message: str
    path: Path | None = None
    says_invalid: bool = False

    @classmethod
    def of(cls, error: object) -> Self:
        """Read an entry. One that is malformed has no text and no path."""
        fields = error if isinstance(error, dict) else {}
        message, path, extensions = fields.get("message"), fields.get("path"), fields.get("extensions")
        message = message if isinstance(message, str) else ""
        code = extensions.get("code") if isinstance(extensions, dict) else None
        is_code = isinstance(code, str) and code in INVALID_CODES
        says_invalid = path is None and (is_code or message.startswith(INVALID_MESSAGES))
        steps = tuple(str(step) for step in path) if isinstance(path, list) else None
        return cls(message, steps, says_invalid)

    def says_not_found(self, subject: Path) -> bool:
        """Say whether it says that the object at this path does not exist, and not only something in it."""
        is_about = self.path is None or len(self.path) <= len(subject)
        return is_about and NOT_FOUND in self.message.casefold()


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one operation.

    Attributes:
        operation: the name of the operation.
        data: the ``data`` object, or ``None``.
        errors: the entries of ``errors``.
        secret: the access token that was sent; it is removed from every text of this answer.
        gaps: what of the data cannot be read, as far as it was read.
    """

    operation: str
    data: dict[str, Any] | None
    errors: tuple[AnswerError, ...]
    secret: str = field(repr=False)
    gaps: Gaps = field(default_factory=Gaps)

    def unread(self) -> Self:
        """Return a copy for one reader. Every error beside the data is a gap in it."""
        gaps = Gaps()
        for error in self.errors:
            gaps.add(error.path or (), self.plain(error.message))
        return replace(self, gaps=gaps)

    def node(self, *subject: str, is_list: bool = False, not_found: str | None = None) -> Node:
        """Return ``data``, if the part of it that was asked for is there.

        Args:
            subject: the path of that part. Without errors it may also be null.
            is_list: whether that part is a list.
            not_found: the message to raise if Sequence answers "not found"; without it, that is a `GraphQLError`.

        Raises:
            NotFoundError: the part is missing, and every error of the answer is "not found".
            GraphQLError: the part is missing, and the answer has errors.
            InvalidDocumentError: the errors say that the request was invalid, so that it was not executed.
            UnreadableAnswerError: the part has the wrong type, or the answer has neither errors nor data.
        """
        value: object = self.data
        path = self.operation
        for at, key in enumerate(subject):
            if not isinstance(value, dict):
                break
            path, value = f"{path}.{key}", value.get(key)
            is_last = at + 1 == len(subject)
            if value is not None and not isinstance(value, list if is_list and is_last else dict):
                raise unreadable(path, "not a list" if is_list and is_last else "not an object")
        if value is None and self.errors:
            if not_found is not None and all(error.says_not_found(subject) for error in self.errors):
                raise NotFoundError(not_found)
            self.fail()
        if self.data is None:
            raise unreadable(f"{self.operation}.data", "missing")
        return Node(self.data, self.gaps)

    def fail(self) -> NoReturn:
        """Raise the errors of the answer as one `GraphQLError`, or `InvalidDocumentError`."""
        shown = plain_text("; ".join(self.plain(error.message) for error in self.errors[:MAX_SHOWN_ERRORS]))
        if self.data is None and all(error.says_invalid for error in self.errors):
            raise InvalidDocumentError(
                f"Sequence did not execute {self.operation}, because its interface has changed ({shown})."
            )
        raise GraphQLError(f"Sequence answered {self.operation} with an error: {shown}")

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
        MovedError: the answer is a redirect.
        BrowserRequiredError: the status is 403, with a page for people.
        InvalidDocumentError: the status is 400, and the body says that the document was invalid.
        GraphQLError: the status is 400 to 499, and the body has other GraphQL errors.
        UnexpectedStatusError: any other status of 300 and above.
        UnreadableAnswerError: the body is not a GraphQL answer.
    """
    if answer.status >= 300:
        raise_for_status(operation, answer, secret)
    try:
        body = parse_json(answer.body)
    except ValueError:
        raise unreadable(operation, "an HTML page" if answer.is_html else "not JSON") from None
    if not isinstance(body, dict):
        raise unreadable(operation, "not an object")
    data, errors = body.get("data"), body.get("errors")
    if data is not None and not isinstance(data, dict):
        raise unreadable(f"{operation}.data", "not an object")
    if errors is not None and not isinstance(errors, list):
        if data is None:
            raise unreadable(f"{operation}.errors", "not a list")
        errors = [errors]
    return Answer(operation, data, tuple(AnswerError.of(error) for error in errors or ()), secret)


def unreadable(path: str, problem: str) -> UnreadableAnswerError:
    """Return the error for an answer with an unexpected shape.

    Args:
        path: the field, beginning with the operation.
        problem: what is wrong with it, as in "... is not a list".
    """
    return UnreadableAnswerError(f"Sequence's answer cannot be read: {path} is {problem}.")


def raise_for_status(operation: str, answer: HttpAnswer, secret: str) -> NoReturn:
    """Raise the error of an answer with a status of 300 and above; see `read_answer`."""
    status, retry_after_seconds = answer.status, answer.retry_after_seconds
    if status == 401:
        raise NotAuthorizedError(f"Sequence does not accept the access token for {operation} (401).")
    if status == 429:
        raise RateLimitedError(
            f"Sequence refused {operation}: too many requests (429).", retry_after_seconds=retry_after_seconds
        )
    if answer.moved_to is not None:
        raise MovedError(f"Sequence answered {operation} with HTTP {status}: it has moved to {answer.moved_to}.")
    if status == 403 and answer.is_html:
        raise BrowserRequiredError(
            f"{operation} was answered with a page for people (HTTP {status}), as a protection against bots sends it: a"
            " person must sign in in a browser."
        )
    errors = _errors_of(answer) if status < 500 else ()
    if errors:
        # Only with 400 is it certain that an invalid document was not executed.
        certain = errors if status == 400 else tuple(replace(error, says_invalid=False) for error in errors)
        Answer(operation, None, certain, secret).fail()
    raise UnexpectedStatusError(
        f"Sequence answered {operation} with HTTP {status}.",
        advice="Try again later." if status >= 500 else None,
        retry_after_seconds=retry_after_seconds,
    )


def _errors_of(answer: HttpAnswer) -> tuple[AnswerError, ...]:
    """Read the GraphQL errors of a body that came whole, and that has no data."""
    try:
        body = parse_json(answer.body) if answer.is_whole else None
    except ValueError:
        return ()
    errors = body.get("errors") if isinstance(body, dict) and body.get("data") is None else None
    return tuple(AnswerError.of(error) for error in errors) if isinstance(errors, list) else ()
