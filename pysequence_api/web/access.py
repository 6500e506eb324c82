"""Who gets in: the check of the API key, which also says who asks, and the checks of the host name and the origin.

Each is a function of the head of a request that returns an answer to refuse it, or ``None``. All run before routing and
before a byte of the body is read; see `RequestLog`.
"""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.responses import JSONResponse, Response

from pysequence_api.errors import Code, SafeguardsUnavailableError
from pysequence_api.records.callers import THE_DEFAULT, Caller, Callers
from pysequence_api.records.keys import is_mistyped, looks_like_key, sha256_of
from pysequence_api.sequence.telemetry import name_caller
from pysequence_api.settings import is_loopback, variable
from pysequence_api.web.connections import network_of
from pysequence_api.web.head import Head
from pysequence_api.web.keyless import key_was_right

HEALTH_PATH = "/api/health"
MCP_PATH = "/mcp"
KEY_HEADER = b"x-api-key"
BEARER = b"bearer "
"""How ``Authorization`` begins, in any case, if it holds the key. Only `MCP_PATH` takes it: MCP clients send that."""

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
        callers: finds the caller of a key.
        key: the key of the caller `default`, if it has one; not empty.
    """

    def __init__(self, callers: Callers, key: str | None) -> None:
        self._callers = callers
        self._key_digest = None if key is None else sha256_of(key.encode())
        self._wrong_keys = WrongKeys()

    async def __call__(self, head: Head) -> Response | None:
        """Return 401 without a right key."""
        if head.path == HEALTH_PATH:
            return None
        keys = _keys(head)
        try:
            caller = self._caller(keys)
        except SafeguardsUnavailableError as error:
            return JSONResponse(error.document(about_transfer=False), error.status)
        if caller is not None:
            key_was_right()
            name_caller(caller.name)
            head.admit(caller)
            return None
        if keys:
            await self._wrong_keys.wait(head)
        headers = {"WWW-Authenticate": "Bearer" if head.path == MCP_PATH else "APIKey"}
        return JSONResponse({"detail": _what_is_wrong(head, keys)}, status_code=401, headers=headers)

    def _caller(self, given: Sequence[bytes]) -> Caller | None:
        """Find the caller.

        Raises:
            SafeguardsUnavailableError: the records, which know the callers, cannot be read.
        """
        if len(given) != 1:
            return None  # of two keys, a proxy in front may have checked the other one
        # Digests have one length, so the comparison takes the same time for every key.
        if self._key_digest is not None and secrets.compare_digest(sha256_of(given[0]), self._key_digest):
            return THE_DEFAULT
        return self._callers.find(given[0])


def _keys(head: Head) -> Sequence[bytes]:
    keys = head.all(KEY_HEADER)
    if head.path != MCP_PATH:
        return keys
    bearers = [value for value in head.all(b"authorization") if value[: len(BEARER)].lower() == BEARER]
    return [*keys, *(value[len(BEARER) :].strip() for value in bearers)]


def _what_is_wrong(head: Head, keys: Sequence[bytes]) -> str:
    if len(keys) > 1 and head.path == MCP_PATH:
        return TWO_KEYS
    is_mistyped_key = len(keys) == 1 and looks_like_key(keys[0]) and is_mistyped(keys[0])
    return MISTYPED_KEY if is_mistyped_key else INVALID_KEY


class WrongKeys:
    """Answers wrong keys from one address more and more slowly. A right key is never delayed."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self.delayed = 0
        """How many answers wait now."""

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._counts)

    async def wait(self, head: Head) -> None:
        """Wait before the answer to a wrong key, unless the client disconnects or too many answers wait already."""
        client = head.scope.get("client")
        delay_seconds = self._count(network_of(client[0]) if client else "")
        if not delay_seconds or self.delayed >= MAX_DELAYED_ANSWERS:
            return
        connection = head.connection
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
        names: the allowed names, in lower case and without ports; if empty, every name is allowed.
        detail: what is answered to others.
    """

    def __init__(self, names: tuple[str, ...], detail: str = OTHER_HOST) -> None:
        self._names = frozenset(names)
        self._detail = detail

    async def __call__(self, head: Head) -> Response | None:
        """Return 400 if the name is not allowed."""
        if not self._names or head.path == HEALTH_PATH or self._is_allowed(head.all(b"host")):
            return None
        return JSONResponse({"detail": self._detail, "code": Code.HOST_NOT_ALLOWED}, status_code=400)

    def _is_allowed(self, given: Sequence[bytes]) -> bool:
        if len(given) != 1:
            return False
        name = _without_port(given[0].decode("latin-1").lower())
        return name in self._names or is_loopback(name.removeprefix("[").removesuffix("]"))


class OriginCheck:
    """Rejects requests to `MCP_PATH` from web pages of other sites, as MCP demands of a server.

    A browser says in ``Origin`` which page sends a request; other clients send none. A page of this machine, or of an
    allowed host name, may use MCP.

    Args:
        names: the allowed host names, in lower case and without ports.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = frozenset(names)

    async def __call__(self, head: Head) -> Response | None:
        """Return 403 if the page is another one."""
        if head.path != MCP_PATH or all(map(self._is_allowed, head.all(b"origin"))):
            return None
        detail = f"Web pages of this origin may not use MCP. {variable('allowed_hosts')} lists the allowed host names."
        return JSONResponse({"detail": detail, "code": Code.ORIGIN_NOT_ALLOWED}, status_code=403)

    def _is_allowed(self, origin: bytes) -> bool:
        try:
            name = urlsplit(origin.decode("latin-1")).hostname or ""
        except ValueError:
            return False
        return name in self._names or is_loopback(name)


def _without_port(host: str) -> str:
    # The colons of an IPv6 address are inside its brackets.
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
