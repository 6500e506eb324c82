"""A program that `strace` watches: it makes transfers, and notes in a file of its own how far it is.

``python -m tests.records.traced SCENARIO DIRECTORY MARKS``
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import time_machine

from pysequence_api import gateway
from pysequence_api.errors import GatewayError, OutcomeUnknownError
from pysequence_api.records.control import freeze, unfreeze
from pysequence_api.records.upkeep import back_up, restore
from pysequence_api.sandbox import Sandbox
from tests.world import World, open_world

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MAX_TRANSFER_CENTS = 100_000
FIRST_CENTS = 5_000
MANY = 80
"""Enough transfers for SQLite to copy its log into the database, and to begin the log again."""

Note = Callable[[str], None]


class MarkingTransport(httpx.AsyncBaseTransport):
    """Notes the amount of each transfer right before Sequence gets it."""

    def __init__(self, inner: httpx.AsyncBaseTransport, note: Note) -> None:
        self._inner = inner
        self._note = note

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        if b"CreatePayment" in body:
            self._note(f"sent {json.loads(body)['variables']['amount']}")
        return await self._inner.handle_async_request(request)


class MarkingSandbox(Sandbox):
    """A simulated Sequence that notes what reaches it."""

    note: Note

    def transport(self) -> httpx.AsyncBaseTransport:
        return MarkingTransport(super().transport(), self.note)


class Run:
    """One process of a scenario. The simulated Sequence keeps its file beside the marks.

    Args:
        directory: the data directory.
        marks: the file that gets a line for each step.
    """

    world: World

    def __init__(self, directory: Path, marks: Path) -> None:
        self.directory = directory
        self.backup = marks.parent / "backup.db"
        self._sandbox = marks.parent / "sequence.sqlite"
        self._marks = os.open(marks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, text: str) -> None:
        """Note how far this is."""
        os.write(self._marks, f"{text}\n".encode())

    @asynccontextmanager
    async def open_world(self) -> AsyncIterator[World]:
        """Open the world."""
        sandbox = MarkingSandbox(self._sandbox)
        sandbox.note = self.note
        limits: dict[str, Any] = {"max_transfer_cents": MAX_TRANSFER_CENTS, "max_transfer_attempts_per_minute": 10_000}
        try:
            async with open_world(self.directory, sandbox, **limits) as self.world:
                yield self.world
        finally:
            await sandbox.aclose()

    async def transfer(self, amount_cents: int, *, key: str | None = None) -> None:
        """Make a transfer, and note what its caller is told."""
        try:
            told = (await self.world.transfer(amount_cents, key=key)).state.value
        except OutcomeUnknownError:
            told = "unknown"
        except GatewayError as error:
            told = self.world.attempt(error.attempt_id or "").state.value
        self.note(f"told {amount_cents} {told}")


async def ends_of_all_kinds(run: Run) -> None:
    """End transfers in each way, and freeze transfers meanwhile. Then the process is gone, without closing anything."""
    async with run.open_world() as world:
        records = world.gateway.records
        await run.transfer(FIRST_CENTS, key="first")
        await asyncio.to_thread(back_up, records, run.backup)
        await run.transfer(MAX_TRANSFER_CENTS + 1)
        world.fail({"kind": "refuse"})
        await run.transfer(FIRST_CENTS + 1)
        world.fail("close", when="after")
        await run.transfer(FIRST_CENTS + 2, key="lost")
        await asyncio.to_thread(freeze, records, "a test")
        run.note("frozen")
        await run.transfer(FIRST_CENTS + 3)
        run.note("unfreezing")
        await asyncio.to_thread(unfreeze, records)
        await world.follow_up()
        for attempt in world.attempts():
            run.note(f"told {attempt.amount_cents} {attempt.state.value}")
        await run.transfer(FIRST_CENTS + 4)
        world.fail({"kind": "delay", "seconds": 60})
        await asyncio.wait([asyncio.create_task(run.transfer(FIRST_CENTS + 5))], timeout=1)
        assert world.states()[-1] == "sending"
        os._exit(0)


async def restored(run: Run) -> None:
    """Put the backup back, which knows one transfer, and make one more."""
    await asyncio.to_thread(restore, run.directory, run.backup)
    run.note("frozen")
    async with run.open_world() as world:
        run.note("unfreezing")
        await asyncio.to_thread(unfreeze, world.gateway.records)
        await run.transfer(FIRST_CENTS + 6)


async def many(run: Run) -> None:
    """Make many transfers, close the gateway in order, and make one more with another one."""
    async with run.open_world() as world:
        for number in range(MANY):
            await run.transfer(2 * FIRST_CENTS + number, key=f"key {number}")
        await world.close(world.gateway)
        run.note("closed")
        await world.open_process()
        await run.transfer(3 * FIRST_CENTS)


async def two(run: Run) -> None:
    """Make two transfers. The copies that follow the database, once a second, do not interfere."""
    gateway.COPY_SECONDS = 3600
    async with run.open_world():
        await run.transfer(FIRST_CENTS, key="first")
        run.note("begin")
        await run.transfer(FIRST_CENTS + 1, key="second")
        run.note("end")


SCENARIOS: dict[str, Callable[[Run], Awaitable[None]]] = {
    scenario.__name__: scenario for scenario in (ends_of_all_kinds, restored, many, two)
}


async def main(scenario: str, directory: Path, marks: Path) -> None:
    """Run a scenario."""
    with time_machine.travel(NOON, tick=True):
        await SCENARIOS[scenario](Run(directory, marks))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
