"""The world of the tests of the Platform client: bare clients on a simulated Sequence."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from pydantic import SecretStr

from pysequence_api.models import TransferOrder, TransferReceipt
from pysequence_api.sandbox import ORGANIZATION_ID, PLATFORM_PATH, KeyPermissions, Sandbox
from pysequence_api.sandbox.ids import stable_id
from pysequence_api.sandbox.journal import JournalEntry
from pysequence_api.sequence.platform.client import PlatformSequenceClient
from pysequence_api.settings import ONLY_ORGANIZATION, Settings
from tests.world import DESTINATION, SOURCE, DataDirectory, World

UNLIMITED = 1_000_000
"""Requests a minute, for tests of other things than pacing."""
TIMEOUT_SECONDS = 5.0
ORGANIZATION = ONLY_ORGANIZATION
CREATE = "PlatformCreateTransfer"
NO_URL = "http://127.0.0.1"
"""Of clients in this process."""

_numbers = itertools.count(1)


def pod_id(name: str) -> str:
    """Return the id of a pod of the simulated household."""
    return stable_id("pod", f"{ORGANIZATION_ID}/{name}")


def account_id(name: str) -> str:
    """Return the id of an external account of the simulated household."""
    return stable_id("account", f"{ORGANIZATION_ID}/{name}")


def platform_order(amount_cents: int | None = None, **more: Any) -> TransferOrder:
    """Return an order from one pod to another. Each has a different amount unless one is given."""
    parties = {"source_id": pod_id(SOURCE), "destination_id": pod_id(DESTINATION)}
    amount = 1_000 + next(_numbers) if amount_cents is None else amount_cents
    return TransferOrder(**parties | {"amount_cents": amount} | more)


@dataclass
class PlatformWorld(World):
    """A `World` with bare clients of the Platform API instead of gateways."""

    base_url: str | None = None
    moved_before: int = 0
    clients: list[PlatformSequenceClient] = field(default_factory=list)

    def client(self, permissions: KeyPermissions | None = None, **changes: Any) -> PlatformSequenceClient:
        """Open a client, with a key of its own if it is given permissions."""
        values = self.settings.model_dump() | changes
        if permissions is not None:
            values["platform_key"] = SecretStr(self.sandbox.issue_platform_key(permissions))
        transport = self.sandbox.transport() if self.base_url is None else None
        client = PlatformSequenceClient.open(Settings.model_validate(values), self.files.path, transport)
        self.clients.append(client)
        return client

    def fail(self, *what: Any, operation: str = CREATE, when: str = "before", count: int = 1) -> None:
        """Have Sequence fail at the next requests of an operation."""
        super().fail(*what, operation=operation, when=when, count=count)

    def reasons(self, operation: str | None = None) -> list[str]:
        """List the reasons that requests gave."""
        return [entry.headers["x-called-reason"] for entry in self.requests(operation)]

    def queries(self, operation: str = "PlatformTransfers") -> list[dict[str, Any]]:
        """List the parameters of requests."""
        return [_query_of(entry) for entry in self.requests(operation)]

    async def moved(self) -> list[dict[str, Any]]:
        """List what Sequence moved in this test."""
        return (await super().moved())[self.moved_before :]

    async def aclose(self) -> None:
        """Close the clients, and wait until the server has finished their requests."""
        for client in self.clients:
            await client.aclose()
        with anyio.fail_after(5):
            while any(entry.answered_monotonic_seconds is None for entry in self.requests()):  # noqa: ASYNC110
                await anyio.sleep(0.01)


async def create(
    client: PlatformSequenceClient, order: TransferOrder | None = None, *, attempt_id: str | None = None
) -> TransferReceipt:
    """Make a transfer as the transfer service does, without any safeguard."""
    attempt_id = attempt_id or f"test-{next(_numbers)}"
    prepared = await client.prepare_transfer(order or platform_order(), attempt_id=attempt_id, caller="default")
    return await prepared.send()


def platform_settings(directory: Path, url: str, key: str, **more: Any) -> Settings:
    """Return the settings of a client of the Platform API, and nothing else of an account."""
    values: dict[str, Any] = {
        "platform_key": SecretStr(key),
        "platform_url": f"{url}{PLATFORM_PATH}",
        "data_dir": directory,
        "request_timeout_seconds": TIMEOUT_SECONDS,
    }
    return Settings.load(**values | more)


@asynccontextmanager
async def open_platform_world(
    directory: Path, sandbox: Sandbox, base_url: str | None = None
) -> AsyncIterator[PlatformWorld]:
    """Open a world on a sandbox, with a data directory of its own; with a base URL, its clients use TCP."""
    sandbox.faults.clear()
    key = sandbox.issue_platform_key(KeyPermissions(requests_per_minute=UNLIMITED))
    settings = platform_settings(directory, base_url or NO_URL, key)
    world = PlatformWorld(sandbox, settings, DataDirectory(directory), base_url=base_url)
    world.moved_before = len(await world.moved())
    sandbox.journal.clear()
    yield world
    await world.aclose()


def _query_of(entry: JournalEntry) -> dict[str, Any]:
    assert isinstance(entry.variables, dict)
    return entry.variables
