"""A sandbox on a new file, in process and over TCP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from pysequence_api.sandbox import Sandbox
from pysequence_api.sandbox.server import serve
from tests.sandbox.caller import Caller

START_SECONDS = 1_767_225_600.0  # 2026-01-01T00:00:00Z
Connect = Callable[[], Awaitable[Caller]]


class FakeClock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = START_SECONDS

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def sandbox(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(tmp_path / "sandbox.db", clock=clock)
    yield sandbox
    await sandbox.aclose()


@asynccontextmanager
async def served(sandbox: Sandbox) -> AsyncIterator[str]:
    """Serve a sandbox over HTTP on a free port, and yield the base URL."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(sandbox, port=0, on_ready=ready.set_result))
    try:
        yield await ready
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def base_url(sandbox: Sandbox) -> AsyncIterator[str]:
    async with served(sandbox) as url:
        yield url


@pytest.fixture
async def caller(sandbox: Sandbox) -> AsyncIterator[Caller]:
    """Return a client in process, with a valid token."""
    async with httpx.AsyncClient(transport=sandbox.transport(), base_url="https://app.getsequence.io") as client:
        yield await Caller.signed_in(client)


@pytest.fixture
async def tcp_caller(base_url: str) -> AsyncIterator[Caller]:
    """Return a client over TCP, with a valid token."""
    async with httpx.AsyncClient(base_url=base_url, trust_env=False) as client:
        yield await Caller.signed_in(client)
