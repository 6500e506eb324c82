"""A GraphQL answer: what the HTTP status says, then ``data`` and ``errors``."""

import json
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pysequence_api.errors import (
    GraphQLError,
    NotAuthorizedError,
    NotFoundError,
    RateLimitedError,
    UnexpectedStatusError,
)
from pysequence_api.sequence.graphql.node import Node, unreadable
from pysequence_api.sequence.transport import HttpAnswer
from pysequence_api.text import plain_text

SHOWN_ERRORS = 3
"""How many of an answer's errors are said back."""
NOT_FOUND = "not found"
"""What the message of a GraphQL error says if an id is unknown (upstream-graphql, PodDrawerContent)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What Sequence answered to an operation.

    Attributes:
        operation: which.
        data: the ``data``, an object or null.
        errors: the messages of ``errors``, as they came.
        secret: the token that was sent, which no text of this answer may say back.
    """

    operation: str
    data: dict[str, Any] | None
    errors: tuple[str, ...]
    secret: str = field(repr=False)

    def node(self, not_found: str | None = None) -> Node:
        """Give ``data`` to be read.

        Args:
            not_found: what to say if Sequence says that something was not found; without it, that is a failure.

        Raises:
            NotFoundError: Sequence says so.
            GraphQLError: there are errors.
            UnreadableAnswerError: there are none, and no ``data`` either.
        """
        if self.errors:
            if not_found is not None and all(NOT_FOUND in error.casefold() for error in self.errors):
                raise NotFoundError(not_found)
            self.fail()
        if self.data is None:
            raise unreadable(f"{self.operation}.data", "not there")
        return Node(self.data, self.operation)

    def fail(self) -> NoReturn:
        """Raise the errors as ours."""
        shown = "; ".join(self.plain(error) for error in self.errors[:SHOWN_ERRORS])
        raise GraphQLError(f"Sequence answered {self.operation} with an error: {plain_text(shown)}")

    def plain(self, text: str) -> str:
        """Make a text of this answer fit to be said back."""
        return plain_text(text, secrets=[self.secret])


def read_answer(operation: str, answer: HttpAnswer, secret: str) -> Answer:
    """Read an HTTP answer. The body decides what it is, not its content type.

    Args:
        operation: what was asked for.
        answer: what came.
        secret: the token that was sent.

    Raises:
        NotAuthorizedError: 401.
        RateLimitedError: 429.
        UnexpectedStatusError: any other status of 300 and above.
        UnreadableAnswerError: the body is no GraphQL answer.
    """
    _check_status(operation, answer)
    try:
        body = parse_json(answer.body)
    except ValueError:
        raise unreadable(operation, "no JSON") from None
    if not isinstance(body, dict):
        raise unreadable(operation, "no object")
    data, errors = body.get("data"), body.get("errors")
    if data is not None and not isinstance(data, dict):
        raise unreadable(f"{operation}.data", "no object")
    if errors is not None and not isinstance(errors, list):
        raise unreadable(f"{operation}.errors", "no list")
    return Answer(operation, data, tuple(_message(error) for error in errors or ()), secret)


def parse_json(body: bytes) -> Any:
    """Parse JSON strictly.

    Raises:
        ValueError: it is none, is too deep, or holds NaN or an infinity.
    """
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("too deep") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


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


def _message(error: object) -> str:
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) else ""
