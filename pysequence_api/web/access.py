"""Who gets in: the check of the API key, which also says who asks, and the checks of the host name and the origin.

All run before routing and before a byte of the body is read.
"""

import asyncio
import secrets
import time
from collections import OrderedDict
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pysequence_api.errors import Code, SafeguardsUnavailableError
from pysequence_api.records.callers import THE_DEFAULT, Caller, Callers
from pysequence_api.records.keys import is_mistyped, looks_like_key, sha256_of
from pysequence_api.sequence.telemetry import called_by
from pysequence_api.settings import is_loopback, variable
from pysequence_api.web.connections import CONNECTION_STATE, Connection, network_of
from pysequence_api.web.keyless import key_was_right

HEALTH_PATH = "/api/health"
MCP_PATH = "/mcp"
KEY_HEADER = b"x-api-key"
BEARER = b"bearer "
"""How ``Authorization`` begins, in any case, if it holds the key. Only `MCP_PATH` takes it: MCP clients send that."""
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

CALLER_STATE = "caller"
"""The name of the caller in the ``state`` of an ASGI scope."""
INVALID_KEY = "Invalid API key"
OTHER_HOST = f"This host name is not allowed. {variable('allowed_hosts')} lists the allowed host names."
TWO_KEYS = "Send one API key: in X-API-Key or as Authorization: Bearer, not in both"
MISTYPED_KEY = f"{INVALID_KEY}: it is not complete, or mistyped (its checksum is wrong)"

KEY_SCHEMES = {
    "APIKeyHeader": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The key of a caller, or the value of `SEQUENCE_API_KEY`.",
    }
}
"""Describes the key in the OpenAPI schema. `KeyCheck` does the checking."""


class KeyCheck:
    """Requires an API key on every request except to `HEALTH_PATH`, and notes whose it is.

    It runs before routing, so a path that does not exist, or is added later, needs a key as well.

    Args:
        app: the application behind it.
        callers: finds the caller of a key.
        key: the key of the caller `default`, if it has one; not empty.
    """

    def __init__(self, app: ASGIApp, callers: Callers, key: str | None) -> None:
        self._app = app
        self._callers = callers
        self._key_digest = None if key is None else sha256_of(key.encode())
        self._wrong_keys = WrongKeys()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        kind = scope["type"]
        is_public = kind == "lifespan" or (kind == "http" and scope["path"] == HEALTH_PATH)
        if is_public:
            await self._app(scope, receive, send)
            return
        try:
            caller = self._caller(scope)
        except SafeguardsUnavailableError as error:
            await self._reject(JSONResponse(error.document(about_transfer=False), error.status), scope, receive, send)
            return
        if caller is not None:
            key_was_right()
            if (connection := _connection(scope)) is not None:
                connection.has_sent_key = True
            scope.setdefault("state", {})[CALLER_STATE] = caller
            with called_by(caller.name):
                await self._app(scope, receive, send)
            return
        keys = self._keys(scope)
        if keys and kind == "http":
            await self._wrong_keys.wait(scope)
        headers = {"WWW-Authenticate": "Bearer" if _is_mcp(scope) else "APIKey"}
        answer = JSONResponse({"detail": _what_is_wrong(scope, keys)}, status_code=401, headers=headers)
        await self._reject(answer, scope, receive, send)

    @staticmethod
    async def _reject(answer: JSONResponse, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": INVALID_KEY})

    @staticmethod
    def _keys(scope: Scope) -> list[bytes]:
        headers = [(name.lower(), value) for name, value in scope.get("headers", ())]
        keys = [value for name, value in headers if name == KEY_HEADER]
        if _is_mcp(scope):
            given = [value for name, value in headers if name == b"authorization"]
            keys += [value[len(BEARER) :].strip() for value in given if value[: len(BEARER)].lower() == BEARER]
        return keys

    def _caller(self, scope: Scope) -> Caller | None:
        """Find the caller.

        Raises:
            SafeguardsUnavailableError: the records, which know the callers, cannot be read.
        """
        given = self._keys(scope)
        if len(given) != 1:
            return None  # of two keys, a proxy in front may have checked the other one
        # Digests have one length, so the comparison takes the same time for every key.
        if self._key_digest is not None and secrets.compare_digest(sha256_of(given[0]), self._key_digest):
            return THE_DEFAULT
        return self._callers.find(given[0])


def _is_mcp(scope: Scope) -> bool:
    return scope["type"] == "http" and bool(scope["path"] == MCP_PATH)


def _what_is_wrong(scope: Scope, keys: list[bytes]) -> str:
    if len(keys) > 1 and _is_mcp(scope):
        return TWO_KEYS
    is_mistyped_key = len(keys) == 1 and looks_like_key(keys[0]) and is_mistyped(keys[0])
    return MISTYPED_KEY if is_mistyped_key else INVALID_KEY


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


class HostCheck:
    """Rejects requests for host names that are not allowed, which stops DNS rebinding.

    A web page can make its own host name resolve to this machine, and then send requests here from a browser. They
    carry the page's name in ``Host``. Loopback names are always allowed, because a page cannot have one. So is every
    name at `HEALTH_PATH`, because health checks use addresses.

    Args:
        app: the application behind it.
        names: the allowed names, in lower case and without ports; if empty, every name is allowed.
        detail: what is answered to others.
    """

    def __init__(self, app: ASGIApp, names: tuple[str, ...], detail: str = OTHER_HOST) -> None:
        self._app = app
        self._names = frozenset(names)
        self._detail = detail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 400."""
        kind = scope["type"]
        if not self._names or kind == "lifespan" or scope["path"] == HEALTH_PATH or self._is_allowed(scope):
            await self._app(scope, receive, send)
        elif kind == "http":
            await JSONResponse({"detail": self._detail, "code": Code.HOST_NOT_ALLOWED}, status_code=400)(
                scope, receive, send
            )
        else:
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "Invalid host"})

    def _is_allowed(self, scope: Scope) -> bool:
        given = Headers(scope=scope).getlist("host")
        if len(given) != 1:
            return False
        name = _without_port(given[0].lower())
        return name in self._names or is_loopback(name.removeprefix("[").removesuffix("]"))


class OriginCheck:
    """Rejects requests to `MCP_PATH` from web pages of other sites, as MCP demands of a server.

    A browser says in ``Origin`` which page sends a request; other clients send none. A page of this machine, or of an
    allowed host name, may use MCP.

    Args:
        app: the application behind it.
        names: the allowed host names, in lower case and without ports.
    """

    def __init__(self, app: ASGIApp, names: tuple[str, ...]) -> None:
        self._app = app
        self._names = frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if not _is_mcp(scope) or all(map(self._is_allowed, Headers(scope=scope).getlist("origin"))):
            await self._app(scope, receive, send)
            return
        detail = f"Web pages of this origin may not use MCP. {variable('allowed_hosts')} lists the allowed host names."
        content = {"detail": detail, "code": Code.ORIGIN_NOT_ALLOWED}
        await JSONResponse(content, status_code=403)(scope, receive, send)

    def _is_allowed(self, origin: str) -> bool:
        try:
            name = urlsplit(origin).hostname or ""
        except ValueError:
            return False
        return name in self._names or is_loopback(name)


def _without_port(host: str) -> str:
    # The colons of an IPv6 address are inside its brackets.
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
