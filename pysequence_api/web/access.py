"""The key check, before routing and before a byte of the body is read."""

import hashlib
import secrets

from fastapi.security import APIKeyHeader
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

HEALTH_PATH = "/api/health"
KEY_HEADER = b"x-api-key"
POLICY_VIOLATION = 1008
"""The code that a refused WebSocket is closed with."""

API_KEY = APIKeyHeader(name="X-API-Key", auto_error=False, description="The value of `SEQUENCE_API_KEY`.")
"""Only tells the OpenAPI schema about the key; `KeyCheck` is what checks it."""


class KeyCheck:
    """Lets through what carries the key, and what asks for exactly `HEALTH_PATH`.

    It stands outside of routing, so that a path which does not exist, or comes to exist, needs the key as well.

    Args:
        app: what the key opens.
        key: the key; not empty.
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key_digest = _digest(key.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, or hand over."""
        kind = scope["type"]
        is_open = kind == "lifespan" or (kind == "http" and scope["path"] == HEALTH_PATH)
        if is_open or self._is_right(scope):
            await self._app(scope, receive, send)
        elif kind == "http":
            answer = JSONResponse(
                {"detail": "Invalid API key"}, status_code=401, headers={"WWW-Authenticate": "APIKey"}
            )
            await answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "Invalid API key"})

    def _is_right(self, scope: Scope) -> bool:
        given = [value for name, value in scope.get("headers", ()) if name.lower() == KEY_HEADER]
        # Digests are of one length, so that the time says nothing about the key's. With two keys nobody can say
        # which one a proxy in between has checked.
        return len(given) == 1 and secrets.compare_digest(_digest(given[0]), self._key_digest)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
