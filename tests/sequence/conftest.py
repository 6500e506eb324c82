"""The world of these tests: clients without safeguards, on a simulated Sequence in this process or served over TCP."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from pysequence_api.errors import NotAuthorizedError
from pysequence_api.models import TransferOrder, TransferReceipt
from pysequence_api.sandbox import KYC_ID, ORGANIZATION_ID, Sandbox
from pysequence_api.sandbox.ids import stable_id
from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
from tests.sequence.platform_world import PlatformWorld, open_platform_world
from tests.world import DESTINATION, SOURCE, DataDirectory, World, serving, urls_of, world_settings

TIMEOUT_SECONDS = 5.0
SOURCE_ID, DESTINATION_ID = (stable_id("pod", f"{ORGANIZATION_ID}/{name}") for name in (SOURCE, DESTINATION))

_amounts = itertools.count(1_000)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Use one event loop for each file, so that tests can share a server, which takes a while to stop."""
    return "asyncio"


@dataclass
class ClientWorld(World):
    """A `World` with bare clients instead of gateways, so that tests meet the client without its safeguards."""

    base_url: str | None = None
    moved_before: int = 0
    clients: list[GraphQLSequenceClient] = field(default_factory=list)

    @classmethod
    def on(cls, sandbox: Sandbox, directory: Path, base_url: str | None = None) -> "ClientWorld":
        """Return a world on a sandbox; with a base URL, its clients use TCP."""
        urls: dict[str, Any] = {} if base_url is None else {**urls_of(base_url)}
        settings = world_settings(directory, sandbox, request_timeout_seconds=TIMEOUT_SECONDS, **urls)
        return cls(sandbox, settings, DataDirectory(directory), base_url=base_url)

    def client(self, **changes: Any) -> GraphQLSequenceClient:
        """Open a client, which is closed at the end of the test."""
        transport = self.sandbox.transport() if self.base_url is None else None
        settings = type(self.settings).model_validate(self.settings.model_dump() | changes)
        client = GraphQLSequenceClient.open(settings, self.files.path, transport)
        self.clients.append(client)
        return client

    def fail_once(self, *what: Any, operation: str = "CreatePayment", when: str = "before") -> None:
        """Have Sequence fail at the next request of an operation, and begin a new journal with it."""
        self.sandbox.journal.clear()
        self.fail(*what, operation=operation, when=when)

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


@pytest.fixture(scope="module")
async def shared_sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    """One sandbox for all tests of a file, because filling one takes longer than most of them."""
    sandbox = Sandbox(tmp_path_factory.mktemp("shared") / "sandbox.db")
    yield sandbox
    await sandbox.aclose()


@pytest.fixture(scope="module")
async def base_url(shared_sandbox: Sandbox) -> AsyncIterator[str]:
    """Serve it once, because a server takes a while to stop."""
    async with serving(shared_sandbox) as url:
        yield url


@asynccontextmanager
async def client_world(sandbox: Sandbox, directory: Path, base_url: str | None = None) -> AsyncIterator[ClientWorld]:
    """Open a world with a data directory of its own on a shared sandbox."""
    world = ClientWorld.on(sandbox, directory, base_url)
    sandbox.faults.clear()
    sandbox.journal.clear()
    world.moved_before = len(await world.moved())
    yield world
    await world.aclose()


@pytest.fixture
async def world(shared_sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[ClientWorld]:
    """In this process."""
    async with client_world(shared_sandbox, tmp_path) as world:
        yield world


@pytest.fixture
async def tcp_world(shared_sandbox: Sandbox, base_url: str, tmp_path: Path) -> AsyncIterator[ClientWorld]:
    """Over TCP."""
    async with client_world(shared_sandbox, tmp_path, base_url) as world:
        yield world


@pytest.fixture(params=["world", "tcp_world"], ids=["in process", "tcp"])
def any_world(request: pytest.FixtureRequest) -> ClientWorld:
    """Both in turn, for what a connection can do to a request."""
    world: ClientWorld = request.getfixturevalue(request.param)
    return world


async def transfer(client: GraphQLSequenceClient, order: TransferOrder) -> TransferReceipt:
    """Make a transfer as the transfer service does, without any safeguard."""
    prepared = await client.prepare_transfer(order, attempt_id="1", caller="default")
    try:
        return await prepared.send()
    except NotAuthorizedError:
        await prepared.renew()
    return await prepared.send()


def order_of(amount_cents: int | None = None) -> TransferOrder:
    """Return an order from one pod to another. Each has a different amount unless one is given."""
    return TransferOrder(
        kyc_id=KYC_ID,
        source_id=SOURCE_ID,
        destination_id=DESTINATION_ID,
        amount_cents=next(_amounts) if amount_cents is None else amount_cents,
    )


@pytest.fixture
async def platform(shared_sandbox: Sandbox, base_url: str, tmp_path: Path) -> AsyncIterator[PlatformWorld]:
    """Clients of the Platform API over TCP, with a data directory of this test alone."""
    async with open_platform_world(tmp_path, shared_sandbox, base_url) as world:
        yield world
