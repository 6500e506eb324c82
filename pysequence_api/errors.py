"""Every way in which this program fails, with the HTTP status and the exit code that it becomes.

```
GatewayError (RuntimeError)                 500  exit 1
├── SettingsError                           500  exit 2   a setting is missing or wrong
├── InvalidRequestError                     422  exit 2   asked for something that cannot be
├── NotFoundError                           404  exit 2   no such pod, transfer, organization
├── SafeguardError                                exit 3   a safeguard said no
│   ├── LimitExceededError                  400  exit 3   per-transfer or daily limit
│   ├── TooManyAttemptsError                429  exit 3   transfers asked for too fast
│   ├── TransferPendingError                409  exit 3   an equal transfer is under way, or its outcome unknown
│   ├── KeyReusedError                      422  exit 3   the idempotency key belongs to another transfer
│   └── SafeguardsUnavailableError          503  exit 3   ledger, audit trail or clock cannot be trusted
│       └── LockTimeoutError                503  exit 3   another process holds the data directory
├── OutcomeUnknownError                     502  exit 5   the money may have moved
└── SequenceError                           502  exit 4   Sequence, or the way to it, failed
    ├── BusyError                           503  exit 4   too many requests wait already
    ├── SignInError                         502  exit 4   no valid access token can be had
    │   ├── SignInRefusedError              502  exit 4   the sign-in service said no to the credentials
    │   ├── SignInNotAttemptedError           502  exit 4   a login stopped before a password was submitted
    │   └── SignInWaitsError                502  exit 4   a login failed, and the next one may not be yet
    ├── NotSentError                      502  exit 4   no connection, nothing was sent
    ├── NotAuthorizedError                  502  exit 4   401, also with a new token
    ├── RateLimitedError                    502  exit 4   429
    ├── RefusedError                        400  exit 4   Sequence said no, with its own words
    ├── NotExecutedError                    502  exit 4   found out later: nothing moved
    ├── GraphQLError                        502  exit 4   an answer with `errors`
    ├── UnexpectedStatusError               502  exit 4   any other status of 300 and above
    ├── UnreadableAnswerError               502  exit 4   HTML, broken JSON, not what was asked for
    ├── TimedOutError                       502  exit 4   no full answer in time, the request was sent
    └── ConnectionLostError                           502  exit 4   the connection broke after sending
```
"""

from typing import ClassVar


class GatewayError(RuntimeError):
    """The root of the tree. Its text is one line that a person can act on.

    Attributes:
        status: the HTTP status of an answer that reports it.
        exit_code: the exit code of a command that ends with it.
        retry_after_seconds: when asking again makes sense, where that is known.
        attempt_id: the transfer attempt that it belongs to, if any.
        replayed: whether this is the answer to an earlier request with the same idempotency key.
    """

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, retry_after_seconds: int | None = None, attempt_id: str | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.attempt_id = attempt_id
        self.replayed = False

    @property
    def detail(self) -> str:
        """The text for callers, with the attempt where there is one."""
        return f"{self} (attempt {self.attempt_id})" if self.attempt_id else str(self)


class SettingsError(GatewayError):
    """A setting is missing or wrong."""

    exit_code = 2


class InvalidRequestError(GatewayError):
    """What was asked for cannot be: an empty name, an amount of nothing."""

    status = 422
    exit_code = 2


class NotFoundError(GatewayError):
    """There is no such pod, account, transfer or organization."""

    status = 404
    exit_code = 2


class SafeguardError(GatewayError):
    """A safeguard said no. Nothing was sent to Sequence."""

    status = 400
    exit_code = 3


class LimitExceededError(SafeguardError):
    """The amount is over the per-transfer limit, or over what is left of the day."""


class TooManyAttemptsError(SafeguardError):
    """Transfers are asked for faster than a minute's allowance."""

    status = 429


class TransferPendingError(SafeguardError):
    """A transfer with the same idempotency key is under way, or one that is equal has an unknown outcome."""

    status = 409


class KeyReusedError(SafeguardError):
    """The idempotency key was used for another transfer."""

    status = 422


class SafeguardsUnavailableError(SafeguardError):
    """The ledger, the audit trail or the clock cannot be trusted, so nothing may move. Reads go on."""

    status = 503


class LockTimeoutError(SafeguardsUnavailableError):
    """Another process holds a lock of the data directory, and does not give it back."""


class OutcomeUnknownError(GatewayError):
    """A transfer was sent and nobody knows what became of it. It counts as spent until somebody does."""

    status = 502
    exit_code = 5


class SequenceError(GatewayError):
    """Sequence, or the way to it, failed."""

    status = 502
    exit_code = 4
    nothing_moved: ClassVar[bool] = False
    """Whether a transfer that ended so certainly moved nothing. The list is closed; see "How money moves"."""


class BusyError(SequenceError):
    """As many requests as may wait for their turn are waiting already. Nothing was sent."""

    status = 503
    nothing_moved = True


class SignInError(SequenceError):
    """There is no valid access token, and none can be had. Nothing was sent."""

    nothing_moved = True


class SignInRefusedError(SignInError):
    """The sign-in service said no: to the password, the code, the refresh token, or the account as a whole."""


class SignInNotAttemptedError(SignInError):
    """A login stopped before a password was submitted: the network, a page that has changed. It is no refusal."""


class SignInWaitsError(SignInError):
    """A login failed before, and the next one may not be yet, so that the account is not locked."""


class NotSentError(SequenceError):
    """No connection was made. Not a byte of the request was sent."""

    nothing_moved = True


class NotAuthorizedError(SequenceError):
    """Sequence answered 401, also to a renewed token. It did nothing."""

    nothing_moved = True


class RateLimitedError(SequenceError):
    """Sequence answered 429. It did nothing."""

    nothing_moved = True


class RefusedError(SequenceError):
    """Sequence refused a transfer (``createPayment.error`` with ``ok: null``). Nothing moved."""

    status = 400
    nothing_moved = True


class NotExecutedError(SequenceError):
    """What became of a transfer was unknown, and then found out: Sequence never executed it."""

    nothing_moved = True


class GraphQLError(SequenceError):
    """Sequence's answer carries ``errors``."""


class UnexpectedStatusError(SequenceError):
    """Sequence, or a proxy before it, answered with a status of 300 and above that has no class of its own."""


class UnreadableAnswerError(SequenceError):
    """The answer came, but is not what was asked for: HTML, broken JSON, a wrong shape, too large."""


class TimedOutError(SequenceError):
    """The request was sent and no full answer came in time."""


class ConnectionLostError(SequenceError):
    """The connection broke after the request was sent."""
