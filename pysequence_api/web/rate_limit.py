"""The headers that tell a caller its rate (draft-ietf-httpapi-ratelimit-headers-10), on every answer of a route."""

from starlette.requests import Request

from pysequence_api.safeguards.rate import RATE_WINDOW_SECONDS, Rate

POLICY_HEADER = "RateLimit-Policy"
HEADER = "RateLimit"
_STATE = "rate"


def count_by(request: Request, rate: Rate, caller: str) -> None:
    """Note which rate a request counts for, so that every answer to it, an error too, can tell it."""
    setattr(request.state, _STATE, (rate, caller))


def rate_headers(request: Request) -> dict[str, str]:
    """Return the headers for the answer to a request; none if it counts for no rate."""
    found: tuple[Rate, str] | None = getattr(request.state, _STATE, None)
    if found is None:
        return {}
    rate, caller = found
    standing = rate.standing(caller)
    reset = "" if standing.reset_seconds is None else f";t={standing.reset_seconds}"
    return {
        POLICY_HEADER: f'"{standing.name}";q={standing.limit};w={RATE_WINDOW_SECONDS:.0f}',
        HEADER: f'"{standing.name}";r={standing.remaining}{reset}',
    }
