"""What a token that is a JWT says of itself. Nobody here can check its signature, and nothing depends on it."""

from typing import Any, TypeGuard

import jwt

MAX_UNIX_SECONDS = 1e11
"""Beyond the year 5000; a larger number is no time in seconds."""


def claims_of(token: str) -> dict[str, Any]:
    """Read the claims of a token; empty if it is no JWT."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        return {}
    return claims


def expiry_of(token: str) -> float | None:
    """Say when a token runs out, in Unix seconds, if it is a JWT that says so itself."""
    return _time_of(token, "exp")


def issue_of(token: str) -> float | None:
    """Say when a token was issued, in Unix seconds, if it is a JWT that says so itself."""
    return _time_of(token, "iat")


def is_number(value: object) -> TypeGuard[float]:
    """Say whether a value out of JSON is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


def _time_of(token: str, claim: str) -> float | None:
    moment = claims_of(token).get(claim)
    return float(moment) if is_number(moment) and 0 <= moment < MAX_UNIX_SECONDS else None
