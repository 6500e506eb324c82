"""A simulated Sequence, in process and over real TCP, and clients of it."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from pysequence_api.errors import NotAuthorizedError
from pysequence_api.models import TransferOrder, TransferReceipt
from pysequence_api.sandbox import CLIENT_ID, KYC_ID, ORGANIZATION_ID, Sandbox, serve
from pysequence_api.sandbox.faults import Fault
from pysequence_api.sandbox.household import stable_id
from pysequence_api.sandbox.journal import JournalEntry
from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
from pysequence_api.settings import Settings

TIMEOUT_SECONDS = 5.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for a file, so that tests can share a server, which takes a while to stop."""
    return "asyncio"


@dataclass
class House:
    """A sandbox, a data directory, and clients that are closed at the end."""

    sandbox: Sandbox
    directory: Path
    base_url: str | None = None
    moved_before: int = 0
    clients: list[GraphQLSequenceClient] = field(default_factory=list)

    def settings(self, **changes: Any) -> Settings:
        values: dict[str, Any] = {
            "request_interval_seconds": 0,
            "request_jitter_seconds": 0,
            "request_timeout_seconds": TIMEOUT_SECONDS,
            "auth0_client_id": CLIENT_ID,
        }
        if "access_token" not in changes:
            values["access_token"] = self.sandbox.issue_tokens().access_token
        if self.base_url is not None:
            values |= {"graphql_url": f"{self.base_url}/api/graphql", "auth_url": self.base_url}
        return Settings.load(**values | changes)

    def client(self, **changes: Any) -> GraphQLSequenceClient:
        transport = self.sandbox.transport() if self.base_url is None else None
        client = GraphQLSequenceClient.open(self.settings(**changes), self.directory, transport)
        self.clients.append(client)
        return client

    def arm(self, operation: str, what: object, *, when: str = "before", count: int = 1) -> None:
        self.sandbox.faults.arm(
            [Fault.model_validate({"operation": operation, "what": what, "when": when, "count": count})]
        )

    def requests(self, operation: str | None = None) -> list[JournalEntry]:
        entries = self.sandbox.journal.read().requests
        return [entry for entry in entries if operation in (None, entry.operation)]

    def write_cache(self, *, lifetime_seconds: int = 86_400, **changes: object) -> dict[str, Any]:
        """Put tokens into the data directory, in the shape that the published SDK shares."""
        issued = self.sandbox.issue_tokens(lifetime_seconds)
        tokens: dict[str, Any] = {
            "access_token": issued.access_token,
            "refresh_token": issued.refresh_token,
            "expires_at": time.time() + lifetime_seconds,
        } | changes
        (self.directory / ".tokens.json").write_text(json.dumps(tokens))
        return tokens

    async def moved(self) -> list[dict[str, Any]]:
        """What really moved in this test."""
        async with httpx.AsyncClient(transport=self.sandbox.transport(), base_url="http://sandbox") as client:
            transfers: list[dict[str, Any]] = (await client.get("/sandbox/transfers")).json()["transfers"]
            return transfers[self.moved_before :]

    async def aclose(self) -> None:
        """Close the clients, and wait for what they left behind at the server."""
        for client in self.clients:
            await client.aclose()
        with anyio.fail_after(5):
            while any(entry.answered_monotonic_seconds is None for entry in self.requests()):  # noqa: ASYNC110
                await anyio.sleep(0.01)


@asynccontextmanager
async def serving(sandbox: Sandbox) -> AsyncIterator[str]:
    """Serve a sandbox over HTTP on a free port; gives the base URL."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(sandbox, port=0, on_ready=ready.set_result))
    try:
        yield await ready
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def open_house(tmp_path: Path, *, tcp: bool) -> AsyncIterator[House]:
    directory = tmp_path / "data"
    directory.mkdir()
    sandbox = Sandbox(tmp_path / "sandbox.db")
    house = House(sandbox, directory)
    try:
        if tcp:
            async with serving(sandbox) as house.base_url:
                yield house
                await house.aclose()
        else:
            yield house
            await house.aclose()
    finally:
        await sandbox.aclose()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """In process."""
    async with open_house(tmp_path, tcp=False) as house:
        yield house


@pytest.fixture
async def tcp_house(tmp_path: Path) -> AsyncIterator[House]:
    """Over real TCP."""
    async with open_house(tmp_path, tcp=True) as house:
        yield house


@pytest.fixture(scope="module", params=["in process", "tcp"])
async def shared_house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    async with open_house(tmp_path_factory.mktemp("shared"), tcp=request.param == "tcp") as house:
        yield house


@pytest.fixture
async def any_house(shared_house: House, tmp_path: Path) -> AsyncIterator[House]:
    """Both, with a sandbox that tests share and a data directory of this test alone."""
    house = House(shared_house.sandbox, tmp_path, shared_house.base_url)
    house.sandbox.faults.clear()
    house.sandbox.journal.clear()
    house.moved_before = len(await house.moved())
    yield house
    await house.aclose()


async def transfer(client: GraphQLSequenceClient, order: TransferOrder) -> TransferReceipt:
    """Make a transfer as the transfer service does, without any safeguard."""
    prepared = await client.prepare_transfer(order)
    try:
        return await prepared.send()
    except NotAuthorizedError:
        await prepared.renew()
    return await prepared.send()


SOURCE_ID, DESTINATION_ID = (stable_id("pod", f"{ORGANIZATION_ID}/{name}") for name in ("Emergency Fund", "Rent"))


_amounts = itertools.count(1_000)


def order_of(amount_cents: int | None = None) -> TransferOrder:
    """An order from one pod of the household to another; each of another amount, unless it is said."""
    return TransferOrder(
        kyc_id=KYC_ID,
        source_id=SOURCE_ID,
        destination_id=DESTINATION_ID,
        amount_cents=next(_amounts) if amount_cents is None else amount_cents,
    )
