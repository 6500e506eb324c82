"""Who gets in: the check of the API key and the check of the host name.

Both run before routing and before a byte of the body is read.
"""

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict

from fastapi.security import APIKeyHeader
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pysequence_api.errors import Code
from pysequence_api.settings import is_loopback, variable
from pysequence_api.web.connections import CONNECTION_STATE, Connection, network_of
from pysequence_api.web.keyless import key_was_right

HEALTH_PATH = "/api/health"
KEY_HEADER = b"x-api-key"
POLICY_VIOLATION = 1008
"""The close code of a rejected WebSocket."""

FREE_WRONG_KEYS = 5
"""So many wrong keys from one address are answered at once."""
FIRST_DELAY_SECONDS = 0.1
"""The next one waits for this long, and each further one twice as long."""
MAX_DELAY_SECONDS = 5.0
"""Shorter than the timeouts of clients, so that one with a wrong key is told so."""
FORGET_AFTER_SECONDS = 600.0
MAX_ADDRESSES = 1024
"""So many addresses are remembered. A new one replaces the one that was silent for the longest time."""
MAX_DELAYED_ANSWERS = 256

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
        self._wrong_keys = WrongKeys()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        kind = scope["type"]
        is_public = kind == "lifespan" or (kind == "http" and scope["path"] == HEALTH_PATH)
        if is_public:
            await self._app(scope, receive, send)
        elif self._has_key(scope):
            key_was_right()
            if (connection := _connection(scope)) is not None:
                connection.has_sent_key = True
            await self._app(scope, receive, send)
        elif kind == "http":
            if self._keys(scope):
                await self._wrong_keys.wait(scope)
            answer = JSONResponse(
                {"detail": "Invalid API key"}, status_code=401, headers={"WWW-Authenticate": "APIKey"}
            )
            await answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "Invalid API key"})

    @staticmethod
    def _keys(scope: Scope) -> list[bytes]:
        return [value for name, value in scope.get("headers", ()) if name.lower() == KEY_HEADER]

    def _has_key(self, scope: Scope) -> bool:
        given = self._keys(scope)
        # Digests have one length, so the comparison takes the same time for every key. Two keys are rejected: a proxy
        # in front may have checked the other one.
        return len(given) == 1 and secrets.compare_digest(_digest(given[0]), self._key_digest)


def _connection(scope: Scope) -> Connection | None:
    connection = scope.get("state", {}).get(CONNECTION_STATE)
    return connection if isinstance(connection, Connection) else None


class WrongKeys:
    """Answers wrong keys from one address more and more slowly. A right key is never delayed."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self.delayed = 0
        """How many answers wait now."""

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._counts)

    async def wait(self, scope: Scope) -> None:
        """Wait before the answer to a wrong key, unless the client disconnects or too many answers wait already."""
        client = scope.get("client")
        delay_seconds = self._count(network_of(client[0]) if client else "")
        if not delay_seconds or self.delayed >= MAX_DELAYED_ANSWERS:
            return
        connection = _connection(scope)
        self.delayed += 1
        try:
            if connection is None:
                await asyncio.sleep(delay_seconds)
            else:
                await asyncio.wait([connection.is_closed], timeout=delay_seconds)
        finally:
            self.delayed -= 1

    def _count(self, source: str) -> float:
        """Count a wrong key, and return how long its answer must wait."""
        now = time.monotonic()
        count, counted_at = self._counts.pop(source, (0, now))
        count = 1 if now - counted_at > FORGET_AFTER_SECONDS else count + 1
        self._counts[source] = count, now
        if len(self._counts) > MAX_ADDRESSES:
            self._counts.popitem(last=False)
        doublings = count - FREE_WRONG_KEYS - 1
        return 0.0 if doublings < 0 else min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(doublings, 20))


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
