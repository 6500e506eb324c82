"""Every way in which this program fails, with its HTTP status, its exit code and its `code` for programs.

```
GatewayError (RuntimeError)                 500  exit 1  internal_error
├── SettingsError                           500  exit 2  invalid_settings
├── InvalidRequestError                     422  exit 2  invalid_request
│   └── UnknownAccountError                 422  exit 2  unknown_account
├── NotFoundError                           404  exit 2  not_found
├── WrongPasswordError                      403  exit 3  wrong_password
├── SafeguardError                          400  exit 3  a safeguard rejected it; nothing was sent
│   ├── LimitExceededError                  400  exit 3  over_max or over_day
│   ├── TooManyAttemptsError                429  exit 3  rate_limited
│   ├── TransferPendingError                409  exit 3  in_flight or equal_unknown
│   ├── NotExecutedError                    409  exit 3  not_executed
│   ├── KeyReusedError                      422  exit 3  key_reused
│   ├── KeyRequiredError                    422  exit 3  key_required
│   ├── FrozenError                         403  exit 3  frozen
│   ├── KeyRevokedError                     403  exit 3  key_revoked
│   ├── ScopeMissingError                   403  exit 3  scope_missing
│   ├── CallerExpiredError                  403  exit 3  caller_expired
│   ├── PolicyRefusedError                  403  exit 3  pair_not_allowed, over_hour, ...
│   ├── DeniedError                         403  exit 3  denied
│   ├── TooManyPendingError                 429  exit 3  too_many_pending
│   ├── ApprovalOverError                   409  exit 3  approval_over
│   ├── TransferCancelledError              409  exit 3  cancelled
│   ├── WrongCodeError                      403  exit 3  wrong_code
│   ├── LowBalanceError                     403  exit 3  low_balance
│   ├── TooManyUnknownError                 503  exit 3  too_many_unknown
│   └── SafeguardsUnavailableError          503  exit 3  records_unavailable
│       ├── ClockError                      503  exit 3  clock_wrong
│       └── LockTimeoutError                503  exit 3  records_locked
├── OutcomeUnknownError                     502  exit 5  outcome_unknown
└── SequenceError                           502  exit 4  sequence_failed
    ├── CertainError                        502  exit 4  nothing moved, for certain
    │   ├── StoppingError                   503  exit 4  stopping
    │   ├── BusyError                       503  exit 4  busy
    │   ├── SignInError                     502  exit 4  sign_in_failed
    │   │   ├── SignInRefusedError          502  exit 4  sign_in_refused
    │   │   ├── SignInNotAttemptedError     502  exit 4  sign_in_not_attempted
    │   │   └── SignInWaitsError            502  exit 4  sign_in_waits
    │   ├── NotSentError                    502  exit 4  not_sent
    │   ├── NotAuthorizedError              502  exit 4  not_authorized
    │   ├── RateLimitedError                502  exit 4  sequence_rate_limited
    │   ├── RefusedError                    400  exit 4  refused
    │   └── InvalidDocumentError            502  exit 4  invalid_document
    ├── GraphQLError                        502  exit 4  graphql_error
    ├── AccessDeniedError                   502  exit 4  access_denied
    ├── InProgressError                     502  exit 4  in_progress
    ├── KeyMismatchError                    502  exit 4  key_mismatch
    ├── UnexpectedStatusError               502  exit 4  unexpected_status
    ├── MovedError                          502  exit 4  moved
    ├── BrowserRequiredError                502  exit 4  browser_required
    ├── UnreadableAnswerError               502  exit 4  unreadable_answer
    ├── TimedOutError                       502  exit 4  timed_out
    └── ConnectionLostError                 502  exit 4  connection_lost
```
"""

from enum import StrEnum
from typing import ClassVar


class Code(StrEnum):
    """What went wrong, for programs. Codes never change their meaning."""

    INTERNAL_ERROR = "internal_error"
    INVALID_SETTINGS = "invalid_settings"
    INVALID_REQUEST = "invalid_request"
    UNKNOWN_ACCOUNT = "unknown_account"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    HOST_NOT_ALLOWED = "host_not_allowed"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    NOT_READY = "not_ready"
    BODY_TOO_LATE = "body_too_late"
    BODY_TOO_LARGE = "body_too_large"
    REJECTED = "rejected"
    OVER_MAX = "over_max"
    OVER_DAY = "over_day"
    RATE_LIMITED = "rate_limited"
    IN_FLIGHT = "in_flight"
    EQUAL_UNKNOWN = "equal_unknown"
    NOT_EXECUTED = "not_executed"
    KEY_REUSED = "key_reused"
    KEY_REQUIRED = "key_required"
    FROZEN = "frozen"
    KEY_REVOKED = "key_revoked"
    SCOPE_MISSING = "scope_missing"
    CALLER_EXPIRED = "caller_expired"
    NEVER_ALLOWED = "never_allowed"
    PAIR_NOT_ALLOWED = "pair_not_allowed"
    INSTANT_NOT_ALLOWED = "instant_not_allowed"
    NEEDS_APPROVAL = "needs_approval"
    DENIED = "denied"
    TOO_MANY_PENDING = "too_many_pending"
    APPROVAL_OVER = "approval_over"
    CANCELLED = "cancelled"
    WRONG_CODE = "wrong_code"
    WRONG_PASSWORD = "wrong_password"
    LOW_BALANCE = "low_balance"
    OVER_HOUR = "over_hour"
    OVER_MONTH = "over_month"
    COUNT_HOUR = "count_hour"
    COUNT_DAY = "count_day"
    OVER_GLOBAL = "over_global"
    TOO_MANY_UNKNOWN = "too_many_unknown"
    RECORDS_UNAVAILABLE = "records_unavailable"
    RECORDS_LOCKED = "records_locked"
    CLOCK_WRONG = "clock_wrong"
    OUTCOME_UNKNOWN = "outcome_unknown"
    SEQUENCE_FAILED = "sequence_failed"
    STOPPING = "stopping"
    BUSY = "busy"
    SIGN_IN_FAILED = "sign_in_failed"
    SIGN_IN_REFUSED = "sign_in_refused"
    SIGN_IN_NOT_ATTEMPTED = "sign_in_not_attempted"
    SIGN_IN_WAITS = "sign_in_waits"
    NOT_SENT = "not_sent"
    NOT_AUTHORIZED = "not_authorized"
    SEQUENCE_RATE_LIMITED = "sequence_rate_limited"
    REFUSED = "refused"
    INVALID_DOCUMENT = "invalid_document"
    GRAPHQL_ERROR = "graphql_error"
    ACCESS_DENIED = "access_denied"
    IN_PROGRESS = "in_progress"
    KEY_MISMATCH = "key_mismatch"
    UNEXPECTED_STATUS = "unexpected_status"
    MOVED = "moved"
    BROWSER_REQUIRED = "browser_required"
    UNREADABLE_ANSWER = "unreadable_answer"
    TIMED_OUT = "timed_out"
    CONNECTION_LOST = "connection_lost"


class Outcome(StrEnum):
    """Whether a failed transfer can have moved money."""

    NOTHING_MOVED = "nothing_moved"
    UNKNOWN = "unknown"


class Retry(StrEnum):
    """Whether, and how, a failed transfer may be requested again."""

    NEVER = "never"
    SAME_KEY = "same_key"
    NEW_KEY = "new_key"
    LATER = "later"


class GatewayError(RuntimeError):
    """The root of the tree. Its text is one line that a person can act on.

    The text of a `SequenceError` says what happened. What to do about it depends on what was requested, so that it is
    in ``advice``, and whoever builds another message from the text leaves it out.

    Attributes:
        status: the HTTP status of an answer that reports it.
        exit_code: the exit code of a command that ends with it.
        code: what went wrong, for programs.
        outcome: whether a transfer that ends with it can have moved money; ``None`` if it is not about a transfer.
        retry: whether that transfer may be requested again.
        advice: what to do about a read, or a transfer that certainly moved nothing, that ends with it; can be empty.
        retry_after_seconds: when to ask again, where that is known.
        attempt_id: the transfer attempt that it belongs to, if any.
        replayed: whether this is the answer to an earlier request with the same idempotency key.
    """

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    code: Code = Code.INTERNAL_ERROR
    outcome: Outcome | None = None
    retry: Retry | None = None
    advice: str = ""

    def __init__(
        self,
        message: str,
        *,
        code: Code | None = None,
        retry: Retry | None = None,
        advice: str | None = None,
        retry_after_seconds: int | None = None,
        attempt_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or self.code
        self.retry = retry or self.retry
        self.advice = self.advice if advice is None else advice
        self.retry_after_seconds = retry_after_seconds
        self.attempt_id = attempt_id
        self.replayed = False

    @property
    def detail(self) -> str:
        """The text for callers: with the advice, and the attempt where there is one."""
        text = f"{self} {self.advice}" if self.advice else str(self)
        return f"{text} (attempt {self.attempt_id})" if self.attempt_id else text

    def document(self, *, about_transfer: bool) -> dict[str, object]:
        """Return the error as programs read it: in an HTTP answer, and with ``--json`` in the terminal.

        Args:
            about_transfer: whether a transfer was requested, so that its outcome and retry are told.
        """
        document: dict[str, object] = {"detail": self.detail, "code": self.code.value}
        if about_transfer:
            document |= {"attempt_id": self.attempt_id, "outcome": self.outcome, "retry": self.retry}
        document["retry_after_seconds"] = self.retry_after_seconds
        return {name: value for name, value in document.items() if value is not None}


class SettingsError(GatewayError):
    """A setting is missing or wrong."""

    exit_code = 2
    code = Code.INVALID_SETTINGS


class InvalidRequestError(GatewayError):
    """The request cannot be carried out: an empty name, an amount of zero."""

    status = 422
    exit_code = 2
    code = Code.INVALID_REQUEST


class UnknownAccountError(InvalidRequestError):
    """A transfer names a pod, port, account or KYC id that the account does not have."""

    code = Code.UNKNOWN_ACCOUNT
    outcome = Outcome.NOTHING_MOVED
    retry = Retry.SAME_KEY


class NotFoundError(GatewayError):
    """There is no such pod, account, transfer, attempt or organization."""

    status = 404
    exit_code = 2
    code = Code.NOT_FOUND


class NotReadyError(GatewayError):
    """The server runs, but cannot do all of its work."""

    status = 503
    code = Code.NOT_READY


class WrongPasswordError(GatewayError):
    """The password of the owner's page is wrong."""

    status = 403
    exit_code = 3
    code = Code.WRONG_PASSWORD


class SafeguardError(GatewayError):
    """A safeguard rejected a transfer. Nothing was sent to Sequence."""

    status = 400
    exit_code = 3
    code = Code.REJECTED
    outcome = Outcome.NOTHING_MOVED
    retry = Retry.SAME_KEY


class LimitExceededError(SafeguardError):
    """The amount is over the per-transfer limit, or over the rest of the daily limit."""

    code = Code.OVER_DAY

    @property
    def detail(self) -> str:
        """The text alone: existing callers parse it."""
        return str(self)


class TooManyAttemptsError(SafeguardError):
    """More transfers were requested in a minute than allowed."""

    status = 429
    code = Code.RATE_LIMITED
    retry = Retry.LATER


class TransferPendingError(SafeguardError):
    """A transfer with the same idempotency key is in flight, or the outcome of an equal one is unknown."""

    status = 409
    code = Code.IN_FLIGHT
    retry = Retry.LATER


class NotExecutedError(SafeguardError):
    """The outcome of the transfer with this idempotency key was unknown. Sequence did not execute it."""

    status = 409
    code = Code.NOT_EXECUTED
    retry = Retry.NEW_KEY


class KeyReusedError(SafeguardError):
    """The idempotency key was used for another transfer."""

    status = 422
    code = Code.KEY_REUSED
    retry = Retry.NEW_KEY


class KeyRequiredError(SafeguardError):
    """The caller has to name an idempotency key, and did not."""

    status = 422
    code = Code.KEY_REQUIRED
    retry = Retry.NEW_KEY


class FrozenError(SafeguardError):
    """The owner froze transfers. Reads go on."""

    status = 403
    code = Code.FROZEN
    retry = Retry.LATER


class KeyRevokedError(SafeguardError):
    """The key that requested a transfer was revoked while it waited."""

    status = 403
    code = Code.KEY_REVOKED
    retry = Retry.NEVER


class ScopeMissingError(SafeguardError):
    """The caller may not do this."""

    status = 403
    code = Code.SCOPE_MISSING
    retry = Retry.NEVER


class CallerExpiredError(SafeguardError):
    """The policy allowed this caller anything only until a time that has passed."""

    status = 403
    code = Code.CALLER_EXPIRED
    retry = Retry.NEVER


class PolicyRefusedError(SafeguardError):
    """The policy does not allow this caller such a transfer, or not now."""

    status = 403
    code = Code.PAIR_NOT_ALLOWED


class DeniedError(SafeguardError):
    """The owner denied such a transfer of this caller a short time ago."""

    status = 403
    code = Code.DENIED
    retry = Retry.LATER


class TooManyPendingError(SafeguardError):
    """Too many transfers of this caller wait for the owner's approval already."""

    status = 429
    code = Code.TOO_MANY_PENDING
    retry = Retry.LATER


class ApprovalOverError(SafeguardError):
    """A transfer does not wait for the owner's approval, or is not the one that the owner saw."""

    status = 409
    code = Code.APPROVAL_OVER
    retry = Retry.NEVER


class TransferCancelledError(SafeguardError):
    """The owner canceled a transfer while it waited for its turn."""

    status = 409
    code = Code.CANCELLED
    retry = Retry.NEVER


class WrongCodeError(SafeguardError):
    """A code is not one that the owner's authenticator shows now, or was used before."""

    status = 403
    code = Code.WRONG_CODE


class LowBalanceError(SafeguardError):
    """The source of a transfer that the owner approves has less than its amount."""

    status = 403
    code = Code.LOW_BALANCE


class TooManyUnknownError(SafeguardError):
    """The outcome of too many transfers is unknown."""

    status = 503
    code = Code.TOO_MANY_UNKNOWN
    retry = Retry.LATER


class SafeguardsUnavailableError(SafeguardError):
    """The records cannot be trusted or written, so no transfer is possible. Reads go on."""

    status = 503
    code = Code.RECORDS_UNAVAILABLE
    retry = Retry.LATER


class ClockError(SafeguardsUnavailableError):
    """This machine's clock and Sequence's differ too much to know the day."""

    code = Code.CLOCK_WRONG


class LockTimeoutError(SafeguardsUnavailableError):
    """Another process holds a lock of the data directory, and does not release it."""

    code = Code.RECORDS_LOCKED


class OutcomeUnknownError(GatewayError):
    """A transfer was sent, and its outcome is unknown. It counts against the limits until the outcome is known."""

    status = 502
    exit_code = 5
    code = Code.OUTCOME_UNKNOWN
    outcome = Outcome.UNKNOWN
    retry = Retry.NEVER


class SequenceError(GatewayError):
    """Sequence, or the connection to it, failed."""

    status = 502
    exit_code = 4
    code = Code.SEQUENCE_FAILED
    nothing_moved: ClassVar[bool] = False
    """Whether a transfer that ended so certainly moved nothing. The list is closed."""


class CertainError(SequenceError):
    """A failure after which it is certain that nothing moved."""

    nothing_moved = True
    outcome = Outcome.NOTHING_MOVED
    retry = Retry.SAME_KEY


class StoppingError(CertainError):
    """The program stops. Nothing was sent."""

    status = 503
    code = Code.STOPPING
    retry = Retry.LATER


class BusyError(CertainError):
    """Too many requests wait for their turn already. Nothing was sent."""

    status = 503
    code = Code.BUSY
    retry = Retry.LATER


class SignInError(CertainError):
    """There is no valid access token, and none can be obtained. Nothing was sent."""

    code = Code.SIGN_IN_FAILED


class SignInRefusedError(SignInError):
    """The sign-in service refused the password, the code, the refresh token, or the account as a whole."""

    code = Code.SIGN_IN_REFUSED


class SignInNotAttemptedError(SignInError):
    """A login stopped before a password was submitted: the network, a page that has changed. It was not refused."""

    code = Code.SIGN_IN_NOT_ATTEMPTED


class SignInWaitsError(SignInError):
    """A login failed before, and the next one has to wait, so that the account is not locked."""

    code = Code.SIGN_IN_WAITS


class NotSentError(CertainError):
    """No connection was made. Not a byte of the request was sent."""

    code = Code.NOT_SENT
    advice = "Check the network and try again."


class NotAuthorizedError(CertainError):
    """Sequence answered 401, also to a renewed token, or to a key of the Platform API. It did nothing."""

    code = Code.NOT_AUTHORIZED
    advice = "Sign in again."


class RateLimitedError(CertainError):
    """Sequence answered 429. It did nothing."""

    code = Code.SEQUENCE_RATE_LIMITED
    retry = Retry.LATER
    advice = "Try again later."


class RefusedError(CertainError):
    """Sequence refused a transfer: ``createPayment.error`` with ``ok: null``, or a known code. Nothing moved."""

    status = 400
    code = Code.REFUSED


class InvalidDocumentError(CertainError):
    """Sequence did not execute the request, because the GraphQL document did not validate."""

    code = Code.INVALID_DOCUMENT
    retry = Retry.NEVER
    advice = "Update pysequence-api."


class GraphQLError(SequenceError):
    """Sequence's answer carries ``errors``."""

    code = Code.GRAPHQL_ERROR


class AccessDeniedError(SequenceError):
    """The key of the Platform API does not allow a read (403)."""

    code = Code.ACCESS_DENIED
    advice = "Give the key this permission in Sequence's dashboard (Settings, API Keys), or use another key."


class InProgressError(SequenceError):
    """Sequence still works on a transfer with the same idempotency key (409). It may move money."""

    code = Code.IN_PROGRESS


class KeyMismatchError(SequenceError):
    """Sequence knows another transfer by the id of this attempt, which cannot be. All transfers are frozen."""

    code = Code.KEY_MISMATCH


class UnexpectedStatusError(SequenceError):
    """Sequence, or a proxy before it, answered with a status of 300 and above that has no class of its own."""

    code = Code.UNEXPECTED_STATUS


class MovedError(SequenceError):
    """Sequence, or a proxy before it, answered with a redirect. Redirects are not followed."""

    code = Code.MOVED
    advice = "If that is Sequence's new address, update pysequence-api."


class BrowserRequiredError(SequenceError):
    """A protection against bots answered instead of Sequence, with a page for people."""

    code = Code.BROWSER_REQUIRED


class UnreadableAnswerError(SequenceError):
    """The answer is not what was asked for: HTML, broken JSON, a wrong shape, too large."""

    code = Code.UNREADABLE_ANSWER


class TimedOutError(SequenceError):
    """The request was sent, and no full answer came in time."""

    code = Code.TIMED_OUT


class ConnectionLostError(SequenceError):
    """The connection broke after the request was sent."""

    code = Code.CONNECTION_LOST
