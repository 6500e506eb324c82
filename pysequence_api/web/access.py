"""Who gets in: the check of the API key and the check of the host name.

Both run before routing and before a byte of the body is read.
"""

import hashlib
import secrets

from fastapi.security import APIKeyHeader
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pysequence_api.errors import Code
from pysequence_api.settings import is_loopback, variable
from pysequence_api.web.keyless import key_was_right

HEALTH_PATH = "/api/health"
KEY_HEADER = b"x-api-key"
POLICY_VIOLATION = 1008
"""The close code of a rejected WebSocket."""

API_KEY = APIKeyHeader(name="X-API-Key", auto_error=False, description="The value of `SEQUENCE_API_KEY`.")
"""Describes the key in the OpenAPI schema. `KeyCheck` does the checking."""


class KeyCheck:
    """Requires the API key on every request except to `HEALTH_PATH`.

    It runs before routing, so a path that does not exist, or is added later, needs the key as well.

    Args:
        app: the application behind it.
        key: the key; not empty.
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key_digest = _digest(key.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        kind = scope["type"]
        is_public = kind == "lifespan" or (kind == "http" and scope["path"] == HEALTH_PATH)
        if is_public:
            await self._app(scope, receive, send)
        elif self._has_key(scope):
            key_was_right()
            await self._app(scope, receive, send)
        elif kind == "http":
            answer = JSONResponse(
                {"detail": "Invalid API key"}, status_code=401, headers={"WWW-Authenticate": "APIKey"}
            )
            await answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "Invalid API key"})

    def _has_key(self, scope: Scope) -> bool:
        given = [value for name, value in scope.get("headers", ()) if name.lower() == KEY_HEADER]
        # Digests have one length, so the comparison takes the same time for every key. Two keys are rejected: a proxy
        # in front may have checked the other one.
        return len(given) == 1 and secrets.compare_digest(_digest(given[0]), self._key_digest)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


class HostCheck:
    """Rejects requests for host names that are not allowed, which stops DNS rebinding.

    A web page can make its own host name resolve to this machine, and then send requests here from a browser. They
    carry the page's name in ``Host``. Loopback names are always allowed, because a page cannot have one. So is every
    name at `HEALTH_PATH`, because health checks use addresses.

    Args:
        app: the application behind it.
        names: the allowed names, in lower case and without ports; if empty, every name is allowed.
    """

    def __init__(self, app: ASGIApp, names: tuple[str, ...]) -> None:
        self._app = app
        self._names = frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 400."""
        kind = scope["type"]
        if not self._names or kind == "lifespan" or scope["path"] == HEALTH_PATH or self._is_allowed(scope):
            await self._app(scope, receive, send)
        elif kind == "http":
            detail = f"This host name is not allowed. {variable('allowed_hosts')} lists the allowed host names."
            await JSONResponse({"detail": detail, "code": Code.HOST_NOT_ALLOWED}, status_code=400)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "Invalid host"})

    def _is_allowed(self, scope: Scope) -> bool:
        given = Headers(scope=scope).getlist("host")
        if len(given) != 1:
            return False
        name = _without_port(given[0].lower())
        return name in self._names or is_loopback(name.removeprefix("[").removesuffix("]"))


def _without_port(host: str) -> str:
    # The colons of an IPv6 address are inside its brackets.
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
