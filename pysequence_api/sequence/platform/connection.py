"""Sending requests to the Platform API: turns, headers, one exchange each. Equal reads are made once."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from pydantic import SecretStr

from pysequence_api.errors import NotFoundError
from pysequence_api.sequence.pacing import Pacer, Priority, Turn
from pysequence_api.sequence.platform.answers import Answer, read_answer, read_creation
from pysequence_api.sequence.sharing import SharedReads
from pysequence_api.sequence.telemetry import RequestStatistics, current_caller
from pysequence_api.sequence.transport import HttpAnswer, HttpEndpoint, Query, ServerClock

PROGRAM = "pysequence-api"
MAX_REASON_CHARACTERS = 200
HOLDING_STATUSES = {429, 503}
"""With these, ``Retry-After`` holds back every request, not only the one that was answered."""
CREATE = "POST /transfers"
Check = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Read:
    """One read.

    Attributes:
        operation: the method and the path, as the documentation writes them.
        path: the path.
        query: the parameters.
        not_found: what to say if Sequence does not have what is asked for; ``None``: that is not expected.
    """

    operation: str
    path: str
    query: Query = ()
    not_found: str | None = None


@dataclass(frozen=True, slots=True)
class Creation:
    """A transfer to create.

    Attributes:
        body: what is sent.
        key: the idempotency key.
        reason: for Sequence's own log.
    """

    body: dict[str, object]
    key: str
    reason: str


class Connection:
    """Sends requests with one key.

    Args:
        reads: the endpoint for reads, which reuses connections.
        transfers: the endpoint for transfers, with a new connection each, because an idle one can break while sending.
        key: the key.
        pacer: where requests get their turn.
    """

    def __init__(self, *, reads: HttpEndpoint, transfers: HttpEndpoint, key: SecretStr, pacer: Pacer) -> None:
        self._reads = reads
        self._transfers = transfers
        self._key = key
        self.pacer = pacer
        self.statistics = RequestStatistics()
        self.clock = ServerClock()
        self._shared_reads: SharedReads[Answer] = SharedReads()

    async def read(self, read: Read, priority: Priority) -> Answer:
        """Make a read. Equal reads that wait for their turn at the same time become one request.

        Raises:
            SequenceError: see `read_answer`, `HttpEndpoint.send` and `Pacer.take`.
            NotFoundError: Sequence does not have it.
        """
        key = (read.path, tuple(read.query), read.not_found, priority)
        return (await self._shared_reads.result(key, partial(self._read_once, read, priority))).unread()

    async def turn(self, priority: Priority) -> Turn:
        """Wait for a turn; see `Pacer.take`."""
        with self.statistics.turn():
            return await self.pacer.take(priority)

    async def create(self, creation: Creation, turn: Turn, check: Check | None) -> Answer:
        """Send a transfer once, on a new connection; see `PreparedTransfer.send`."""

        async def begin() -> None:
            await turn.begin()
            if check is not None:
                await check()

        headers = self._headers(creation.reason) | {
            "content-type": "application/json",
            "idempotency-key": creation.key,
        }
        with self.statistics.exchange(CREATE):
            answer = await self._transfers.send(
                CREATE,
                path="/transfers",
                headers=headers,
                content=json.dumps(creation.body).encode(),
                before_first_byte=begin,
            )
            await self._notice(answer)
            return read_creation(CREATE, answer, secret=self._key.get_secret_value())

    async def aclose(self) -> None:
        """Cancel running reads and close the connections."""
        await self._shared_reads.aclose()
        for endpoint in (self._reads, self._transfers):
            await endpoint.aclose()

    async def _read_once(self, read: Read, priority: Priority, stop_sharing: Callable[[], None]) -> Answer:
        turn = await self.turn(priority)
        stop_sharing()  # the request is about to be sent, and a later caller needs newer data
        with self.statistics.exchange(read.operation):
            answer = await self._reads.send(
                read.operation,
                path=read.path,
                query=read.query,
                headers=self._headers(f"{PROGRAM}: read for {current_caller()}"),
                before_first_byte=turn.begin,
            )
            await self._notice(answer)
            secret = self._key.get_secret_value()
            return read_answer(read.operation, answer, secret=secret, not_found=read.not_found)

    async def _notice(self, answer: HttpAnswer) -> None:
        self.clock.read(answer)
        if answer.status in HOLDING_STATUSES and answer.retry_after_seconds:
            await self.pacer.hold(answer.retry_after_seconds)

    def _headers(self, reason: str) -> dict[str, str]:
        return {
            "authorization": f"Bearer {self._key.get_secret_value()}",
            "accept": "application/json",
            "x-called-reason": _header_text(reason),
        }


def path_of(*segments: str) -> str:
    """Return a path of segments, which come from callers.

    Raises:
        NotFoundError: a segment would lead to another path.
    """
    if any(segment in {"", ".", ".."} for segment in segments):
        raise NotFoundError("There is nothing with this id.")
    return "".join(f"/{quote(segment, safe='', errors='replace')}" for segment in segments)


def transfer_reason(caller: str, attempt_id: str) -> str:
    """Return why a transfer is created, for Sequence's own log."""
    return f"{PROGRAM}: transfer {attempt_id} for {caller}"


def _header_text(text: str) -> str:
    """Return a text as a header can have it: visible ASCII and spaces, bounded."""
    shown = "".join(character if " " <= character <= "~" else "?" for character in text)
    return shown[:MAX_REASON_CHARACTERS]
