"""A sandbox on a new file, in process and over TCP."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from pysequence_api.sandbox import Sandbox
from pysequence_api.sandbox.server import serve
from tests.sandbox.caller import Caller

START_SECONDS = 1_767_225_600.0  # 2026-01-01T00:00:00Z
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that need none. The usual one reads all certificates of the system."""


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


def in_process(sandbox: Sandbox, base_url: str = "http://sandbox") -> httpx.AsyncClient:
    """Return a client that calls a sandbox in process."""
    return httpx.AsyncClient(transport=sandbox.transport(), base_url=base_url, verify=NO_TLS)


def over_tcp(base_url: str) -> httpx.AsyncClient:
    """Return a client that calls a sandbox over TCP."""
    return httpx.AsyncClient(base_url=base_url, trust_env=False, verify=NO_TLS)


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
    async with in_process(sandbox, "https://app.getsequence.io") as client:
        yield Caller.signed_in(client, sandbox)


@pytest.fixture
async def tcp_caller(sandbox: Sandbox, base_url: str) -> AsyncIterator[Caller]:
    """Return a client over TCP, with a valid token."""
    async with over_tcp(base_url) as client:
        yield Caller.signed_in(client, sandbox)
