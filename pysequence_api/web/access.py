"""Who gets in: the check of the API key and the check of the host name.

Both run before routing and before a byte of the body is read.
"""

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

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
MAX_ABANDONED_ANSWERS = 5
"""If an address closed its connection before so many delayed answers, it has to wait before a key is looked at."""
LOOK_DELAY_SECONDS = 2.0
"""Then it waits for this long. If it leaves earlier, it has not learned whether the key was right."""

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
        elif await self._wrong_keys.may_look(scope) and self._has_key(scope):
            key_was_right()
            self._wrong_keys.note_right_key(scope)
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


@dataclass(slots=True)
class _Source:
    """What came from one address.

    Attributes:
        wrong_at_seconds: when the last wrong key came, by the monotonic clock.
        wrong: how many wrong keys came.
        abandoned: how many delayed answers it did not wait for.
        has_sent_key: whether the right key ever came.
    """

    wrong_at_seconds: float
    wrong: int = 0
    abandoned: int = 0
    has_sent_key: bool = False

    @property
    def is_impatient(self) -> bool:
        return self.abandoned >= MAX_ABANDONED_ANSWERS and not self.has_sent_key

    @property
    def delay_seconds(self) -> float:
        doublings = self.wrong - FREE_WRONG_KEYS - 1
        return 0.0 if doublings < 0 else min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(doublings, 20))


class WrongKeys:
    """Answers wrong keys from one address more and more slowly.

    A guesser need not wait for a delayed answer: it takes the silence for a no, and opens the next connection. So an
    address that did this is answered only after a delay, whatever key it sends; if it leaves before, its key is not
    looked at. This never applies to an address, nor to a connection, that has sent the right key.
    """

    def __init__(self) -> None:
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self.delayed = 0
        """How many answers wait now."""

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._sources)

    async def may_look(self, scope: Scope) -> bool:
        """Wait if the address has to, and say whether to look at the key: the client is still there."""
        connection = _connection(scope)
        if (connection is not None and connection.has_sent_key) or not self._source(scope).is_impatient:
            return True
        return await self._stays(scope, LOOK_DELAY_SECONDS)

    def note_right_key(self, scope: Scope) -> None:
        """Remember that the address and the connection have sent the right key."""
        self._source(scope).has_sent_key = True
        if (connection := _connection(scope)) is not None:
            connection.has_sent_key = True

    async def wait(self, scope: Scope) -> None:
        """Count a wrong key, and wait before its answer, unless the client disconnects or too many answers wait."""
        source = self._source(scope)
        source.wrong += 1
        source.wrong_at_seconds = time.monotonic()
        if source.is_impatient or not source.delay_seconds:
            return  # it has waited already, or need not
        if not await self._stays(scope, source.delay_seconds):
            source.abandoned += 1

    async def _stays(self, scope: Scope, delay_seconds: float) -> bool:
        """Wait, and say whether the client is still connected."""
        if self.delayed >= MAX_DELAYED_ANSWERS:
            return True
        connection = _connection(scope)
        self.delayed += 1
        try:
            if connection is None:
                await asyncio.sleep(delay_seconds)
                return True
            await asyncio.wait([connection.is_closed], timeout=delay_seconds)
            return not connection.is_closed.done()
        finally:
            self.delayed -= 1

    def _source(self, scope: Scope) -> _Source:
        client = scope.get("client")
        name = network_of(client[0]) if client else ""
        now_seconds = time.monotonic()
        source = self._sources.get(name)
        if source is None:
            source = self._sources[name] = _Source(now_seconds)
            if len(self._sources) > MAX_ADDRESSES:
                self._sources.popitem(last=False)
        self._sources.move_to_end(name)
        if now_seconds - source.wrong_at_seconds > FORGET_AFTER_SECONDS:
            source.wrong = source.abandoned = 0
        return source


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
