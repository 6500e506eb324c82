"""One GraphQL answer: the HTTP status, then ``errors``, then ``data`` read field by field."""

from dataclasses import dataclass, field, replace
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
)
from pysequence_api.sequence.nodes import Gaps, Node, Path, unreadable
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
