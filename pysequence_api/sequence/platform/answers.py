"""One answer of the Platform API: the HTTP status, then the envelope (docs/upstream-platform.md)."""

from dataclasses import dataclass, field
from typing import Any

from pysequence_api.errors import (
    AccessDeniedError,
    InProgressError,
    KeyMismatchError,
    MovedError,
    NotAuthorizedError,
    NotFoundError,
    RateLimitedError,
    RefusedError,
    SequenceError,
    UnexpectedStatusError,
)
from pysequence_api.sequence.nodes import Gaps, Node, unreadable
from pysequence_api.sequence.transport import HttpAnswer
from pysequence_api.settings import variable
from pysequence_api.text import parse_json, plain_text

NEW_KEY = f"Make a new key in Sequence's dashboard (Settings, API Keys), and set {variable('platform_key')}."
REFUSALS = {
    400: {"INVALID_PARAMETERS", "TRANSFER_SOURCE_NOT_FOUND", "TRANSFER_DESTINATION_NOT_FOUND"},
    403: {"ACCESS_DENIED", "MAXIMUM_AMOUNT_EXCEEDED"},
}
"""With these statuses and codes, Sequence refused a transfer. The list is closed."""
NOT_FOUND = {"ACCOUNT_NOT_FOUND", "TRANSFER_NOT_FOUND"}
KEY_MISMATCH = "IDEMPOTENCY_KEY_MISMATCH"
ACCESS_DENIED = "ACCESS_DENIED"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a successful request.

    Attributes:
        operation: the method and the path.
        data: what is in the envelope.
        gaps: what of the data cannot be read, as far as it was read.
    """

    operation: str
    data: dict[str, Any]
    gaps: Gaps = field(default_factory=Gaps)

    def unread(self) -> "Answer":
        """Return a copy for one reader."""
        return Answer(self.operation, self.data)

    @property
    def node(self) -> Node:
        """The data, to be read."""
        return Node(self.data, self.gaps)


@dataclass(frozen=True, slots=True)
class _Error:
    """The error in an envelope."""

    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


def read_answer(operation: str, answer: HttpAnswer, *, secret: str, not_found: str | None = None) -> Answer:
    """Read the answer to a read.

    Args:
        operation: the method and the path, for errors.
        answer: the HTTP answer.
        secret: the key that was sent.
        not_found: the message to raise if Sequence does not have what was asked for.

    Raises:
        NotFoundError: it does not, and there is a message.
        AccessDeniedError: the key does not allow it.
        NotAuthorizedError: the status is 401.
        RateLimitedError: the status is 429.
        MovedError: the answer is a redirect.
        UnexpectedStatusError: any other status of 300 and above.
        UnreadableAnswerError: the body is not an envelope with data.
    """
    if answer.status < 300:
        return _read_data(operation, answer)
    error = _error_of(answer, secret)
    _raise_if_general(operation, answer)
    if answer.status == 404 and error is not None and error.code in NOT_FOUND and not_found is not None:
        raise NotFoundError(not_found)
    if answer.status == 403 and error is not None and error.code == ACCESS_DENIED:
        raise AccessDeniedError(f"The API key does not allow {operation} (403 {error}).")
    raise _unexpected(operation, answer, error)


def read_creation(operation: str, answer: HttpAnswer, *, secret: str) -> Answer:
    """Read the answer to the creation of a transfer.

    Args:
        operation: see `read_answer`.
        answer: the HTTP answer.
        secret: the key that was sent.

    Raises:
        RefusedError: the status and the code are in `REFUSALS`, or the status is 404. Nothing moved.
        NotAuthorizedError: the status is 401. Nothing moved.
        RateLimitedError: the status is 429. Nothing moved.
        KeyMismatchError: the idempotency key belongs to another transfer.
        InProgressError: the status is 409.
        MovedError: the answer is a redirect.
        UnexpectedStatusError: any other status of 300 and above. The money may have moved.
        UnreadableAnswerError: the body is not an envelope with data. The money may have moved.
    """
    if answer.status < 300:
        return _read_data(operation, answer)
    status, error = answer.status, _error_of(answer, secret)
    _raise_if_general(operation, answer)
    if error is not None and error.code in REFUSALS.get(status, ()):
        raise RefusedError(f"Sequence refused the transfer ({status} {error}).")
    if status == 404 and not answer.is_html:
        reason = f" {error}" if error else f": there is nothing at this address. Check {variable('platform_url')}"
        raise RefusedError(f"Sequence refused the transfer (404{reason}).")
    if status == 400 and error is not None and error.code == KEY_MISMATCH:
        raise KeyMismatchError(
            f"Sequence knows the idempotency key of this transfer from another one ({status} {error})."
        )
    if status == 409:
        raise InProgressError(
            f"Sequence still works on this transfer (409{f' {error}' if error else ''}).",
            retry_after_seconds=answer.retry_after_seconds,
        )
    raise _unexpected(operation, answer, error)


def _read_data(operation: str, answer: HttpAnswer) -> Answer:
    try:
        body = parse_json(answer.body)
    except ValueError:
        raise unreadable(operation, "an HTML page" if answer.is_html else "not JSON") from None
    if not isinstance(body, dict):
        raise unreadable(operation, "not an object")
    data = body.get("data")
    if not isinstance(data, dict):
        raise unreadable(f"{operation}.data", "missing" if data is None else "not an object")
    return Answer(operation, data)


def _raise_if_general(operation: str, answer: HttpAnswer) -> None:
    """Raise what a status means for every request."""
    if answer.status == 401:
        raise NotAuthorizedError(f"Sequence does not accept the API key for {operation} (401).", advice=NEW_KEY)
    if answer.status == 429:
        raise RateLimitedError(
            f"Sequence refused {operation}: too many requests (429).", retry_after_seconds=answer.retry_after_seconds
        )
    if answer.moved_to is not None:
        raise MovedError(f"Sequence answered {operation} with HTTP {answer.status}: it has moved to {answer.moved_to}.")


def _unexpected(operation: str, answer: HttpAnswer, error: _Error | None) -> SequenceError:
    reason = f" ({error})" if error else " and a page for people" if answer.is_html else ""
    advice = "Try again later." if answer.status >= 500 else None
    if answer.status == 404:
        advice = f"Check {variable('platform_url')}."
    return UnexpectedStatusError(
        f"Sequence answered {operation} with HTTP {answer.status}{reason}.",
        advice=advice,
        retry_after_seconds=answer.retry_after_seconds,
    )


def _error_of(answer: HttpAnswer, secret: str) -> _Error | None:
    """Read the error of a body that came whole, and that has no data."""
    try:
        body = parse_json(answer.body) if answer.is_whole else None
    except ValueError:
        return None
    error = body.get("error") if isinstance(body, dict) and body.get("data") is None else None
    code, message = (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, None)
    if not isinstance(code, str) or not code:
        return None
    shown = plain_text(message, secrets=[secret]).rstrip(".") if isinstance(message, str) and message else ""
    return _Error(plain_text(code, secrets=[secret]), shown)
