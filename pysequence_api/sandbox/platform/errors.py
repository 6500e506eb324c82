"""The errors of the Platform API: a code, its status, and the envelope."""

from enum import StrEnum

from pysequence_api.sandbox.http import Response, json_response


class PlatformErrorCode(StrEnum):
    """The codes of docs/upstream-platform.md."""

    INVALID_PARAMETERS = "INVALID_PARAMETERS"
    TRANSFER_SOURCE_NOT_FOUND = "TRANSFER_SOURCE_NOT_FOUND"
    TRANSFER_DESTINATION_NOT_FOUND = "TRANSFER_DESTINATION_NOT_FOUND"
    IDEMPOTENCY_KEY_MISMATCH = "IDEMPOTENCY_KEY_MISMATCH"
    UNAUTHORIZED = "UNAUTHORIZED"
    ACCESS_DENIED = "ACCESS_DENIED"
    MAXIMUM_AMOUNT_EXCEEDED = "MAXIMUM_AMOUNT_EXCEEDED"
    RULE_DEACTIVATED = "RULE_DEACTIVATED"
    INVALID_RULE = "INVALID_RULE"
    ACCOUNT_NOT_FOUND = "ACCOUNT_NOT_FOUND"
    TRANSFER_NOT_FOUND = "TRANSFER_NOT_FOUND"
    RULE_NOT_FOUND = "RULE_NOT_FOUND"
    RULE_EXECUTION_NOT_FOUND = "RULE_EXECUTION_NOT_FOUND"
    TRANSFER_IN_PROGRESS = "TRANSFER_IN_PROGRESS"
    RULE_EXECUTION_IN_PROGRESS = "RULE_EXECUTION_IN_PROGRESS"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    UNEXPECTED_ERROR = "UNEXPECTED_ERROR"


Code = PlatformErrorCode
_STATUS = {
    Code.INVALID_PARAMETERS: 400,
    Code.TRANSFER_SOURCE_NOT_FOUND: 400,
    Code.TRANSFER_DESTINATION_NOT_FOUND: 400,
    Code.IDEMPOTENCY_KEY_MISMATCH: 400,
    Code.UNAUTHORIZED: 401,
    Code.ACCESS_DENIED: 403,
    Code.MAXIMUM_AMOUNT_EXCEEDED: 403,
    Code.RULE_DEACTIVATED: 403,
    Code.INVALID_RULE: 403,
    Code.ACCOUNT_NOT_FOUND: 404,
    Code.TRANSFER_NOT_FOUND: 404,
    Code.RULE_NOT_FOUND: 404,
    Code.RULE_EXECUTION_NOT_FOUND: 404,
    Code.TRANSFER_IN_PROGRESS: 409,
    Code.RULE_EXECUTION_IN_PROGRESS: 409,
    Code.RATE_LIMIT_EXCEEDED: 429,
    Code.UNEXPECTED_ERROR: 500,
}


class PlatformError(Exception):
    """The request gets an error."""

    def __init__(self, code: Code, message: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.response = error_response(code, message, headers=headers)


def error_response(
    code: str, message: str, status: int | None = None, headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """Return an error in its envelope.

    Args:
        code: one of `PlatformErrorCode`; another one requires a status.
        message: what went wrong.
        status: instead of the status that belongs to the code.
        headers: more response headers.
    """
    response = json_response({"error": {"code": code, "message": message}}, status or _STATUS[Code(code)])
    return Response(response.status, response.body, headers=headers)
