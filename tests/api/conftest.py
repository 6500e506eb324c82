"""The API over the simulated Sequence: in this process, and as a process of its own."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from pysequence_api.sandbox import Sandbox
from tests.api.server import Server, start_server
from tests.world import World, open_world


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run on asyncio. One event loop for each module, so that its tests can share an API."""
    return "asyncio"


@pytest.fixture
async def world(tmp_path: Path, anyio_backend: str, upstream: str) -> AsyncIterator[World]:
    """A world for one test."""
    async with open_world(tmp_path, upstream=upstream) as world:
        yield world


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API in this process, with the key."""
    async with world.http() as client:
        yield client


@pytest.fixture(scope="module")
async def shared_world(
    tmp_path_factory: pytest.TempPathFactory, anyio_backend: str, upstream: str
) -> AsyncIterator[World]:
    """A world for all tests of a module, which must only read."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SEQUENCE_")]:
            patch.delenv(name)
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        async with open_world(tmp_path_factory.mktemp("data"), upstream=upstream) as world:
            yield world


@pytest.fixture(scope="module")
async def shared_client(shared_world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the shared world, with the key."""
    async with shared_world.http() as client:
        yield client


@pytest.fixture
async def sandbox(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Sandbox]:
    """A simulated Sequence for servers in other processes."""
    sandbox = Sandbox(tmp_path / "sequence.sqlite")
    yield sandbox
    await sandbox.aclose()


@pytest.fixture(scope="module")
def sandbox_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server process on its own simulated Sequence, also for tests that are not asynchronous."""
    directory = tmp_path_factory.mktemp("server")
    running = start_server(directory, SANDBOX="1", MAX_TRANSFER_ATTEMPTS_PER_MINUTE="10000")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(running) as server:
        yield server
