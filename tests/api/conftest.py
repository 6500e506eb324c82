"""The API over a simulated Sequence: in process, and as a process of its own."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio.from_thread import start_blocking_portal

import pysequence_api.sandbox
from pysequence_api.api import create_app
from pysequence_api.gateway import Gateway, open_gateway
from pysequence_api.sandbox import KYC_ID, ORGANIZATION_ID, Sandbox
from pysequence_api.sandbox import serve as serve_sandbox
from pysequence_api.sandbox.faults import Fault
from pysequence_api.settings import Settings

KEY = "sandbox"
START_TIMEOUT_SECONDS = 30


@dataclass
class Api:
    """An API, the simulated Sequence behind it, and its files."""

    client: httpx.AsyncClient
    gateway: Gateway
    sandbox: Sandbox
    directory: Path

    async def ids(self) -> dict[str, str]:
        """Ids of pods, ports and accounts by name."""
        accounts = (await self.client.get("/api/accounts")).json()
        return {one["name"]: one["id"] for kind in ("pods", "ports", "accounts") for one in accounts[kind]}

    async def order(self, amount_cents: int = 5000, **more: Any) -> dict[str, Any]:
        """The body of a transfer from one pod to another."""
        ids = await self.ids()
        return {"source_id": ids["Emergency Fund"], "destination_id": ids["Rent"], "amount_cents": amount_cents} | more

    async def transfer(self, amount_cents: int = 5000, **more: Any) -> httpx.Response:
        """Ask for a transfer from one pod to another."""
        return await self.client.post("/api/transfers", json=await self.order(amount_cents, **more))

    def arm(self, operation: str, *what: Any, when: str = "before", count: int = 1) -> None:
        """Have Sequence fail at the next requests of an operation."""
        fault = {"operation": operation, "what": what, "when": when, "count": count}
        self.sandbox.faults.arm([Fault.model_validate(fault)])

    async def moved(self) -> list[dict[str, Any]]:
        """What really moved."""
        transport = self.sandbox.transport()
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            transfers: list[dict[str, Any]] = (await client.get("/sandbox/transfers")).json()["transfers"]
        return transfers

    def audit(self) -> list[dict[str, Any]]:
        """The audit trail, read from the disk."""
        return [json.loads(line) for line in (self.directory / ".audit.jsonl").read_text().splitlines()]

    def ledger(self) -> list[dict[str, Any]]:
        """What counts, read from the disk."""
        path = self.directory / ".daily_limits.json"
        days = json.loads(path.read_text()) if path.exists() else {}
        return [
            entry
            for day in days.values()
            for entries in (day.values() if isinstance(day, dict) else [day])
            if isinstance(entries, list)
            for entry in entries
        ]


OpenApi = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """As for all tests, but for a whole module, so that what only reads can share an API."""
    return "asyncio"


@asynccontextmanager
async def opened_api(directory: Path, **overrides: Any) -> AsyncIterator[Api]:
    """Open an API in process, and keep hold of the sandbox that the gateway opens."""
    sandboxes: list[Sandbox] = []

    class Seen(Sandbox):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            sandboxes.append(self)

    settings = Settings.load(sandbox=True, data_dir=directory, **overrides)
    async with AsyncExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pysequence_api.sandbox, "Sandbox", Seen)
            gateway = await stack.enter_async_context(open_gateway(settings))
        client = await stack.enter_async_context(in_process(gateway))
        yield Api(client, gateway, sandboxes[-1], settings.data_directory)


@pytest.fixture
def open_api(tmp_path: Path) -> OpenApi:
    """Open an API in process, with settings of one's own."""
    return partial(opened_api, tmp_path)


@pytest.fixture
async def api(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Api]:
    """An API in process."""
    async with opened_api(tmp_path) as api:
        yield api


@pytest.fixture(scope="module")
async def shared_api(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[Api]:
    """An API in process for all tests of a module. Nothing may move, and no fault may be left."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SEQUENCE_")]:
            patch.delenv(name)
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        settings_read = opened_api(tmp_path_factory.mktemp("data"))
        async with settings_read as api:
            yield api


@asynccontextmanager
async def in_process(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """Call the application of a gateway, with the key."""
    transport = httpx.ASGITransport(create_app(gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers={"X-API-Key": KEY}) as client:
        yield client


@dataclass
class Server:
    """An API server in a process of its own."""

    process: asyncio.subprocess.Process
    host: str
    port: int
    stderr: Path

    @property
    def url(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    def client(self, **more: Any) -> httpx.AsyncClient:
        """A client with the key."""
        return httpx.AsyncClient(base_url=self.url, headers={"X-API-Key": KEY}, trust_env=False, **more)

    async def raw(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send bytes on a connection of their own; read the first answer, which must have a length."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(request)
            with anyio.fail_after(10):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
            return int(head[0].split()[1]), headers, body
        finally:
            writer.close()
            await writer.wait_closed()

    async def exit_code(self) -> int:
        """Wait for the end of the process."""
        with anyio.fail_after(30):
            return await self.process.wait()

    async def stop(self) -> int:
        """Ask the process to leave, and wait for its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.exit_code()

    def log(self) -> str:
        return self.stderr.read_text()


# The command line does more, such as settings by option; what matters here is the same.
_PROGRAM = """
import functools, logging, anyio
from pysequence_api.serving import serve
from pysequence_api.settings import Settings
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
anyio.run(functools.partial(serve, Settings.load(), on_ready=lambda gateway, url: print("ready", url, flush=True)))
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@asynccontextmanager
async def start_server(directory: Path, **variables: str) -> AsyncIterator[Server]:
    """Start a server in a process of its own, and wait until it listens."""
    port = free_port()
    variables = {
        "SERVER_HOST": "127.0.0.1",
        "SERVER_PORT": str(port),
        "DATA_DIR": str(directory),
        "API_KEY": KEY,
    } | variables
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEQUENCE_")} | {
        f"SEQUENCE_{name}": value for name, value in variables.items()
    }
    stderr = directory / f"server-{port}.log"
    with stderr.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _PROGRAM, env=environment, stdout=asyncio.subprocess.PIPE, stderr=file, cwd=directory
        )
    server = Server(process, variables["SERVER_HOST"], port, stderr)
    try:
        assert process.stdout is not None
        with anyio.fail_after(START_TIMEOUT_SECONDS):
            line = await process.stdout.readline()
        assert line == f"ready {server.url}\n".encode(), server.log()
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def served_sandbox(sandbox: Sandbox) -> AsyncIterator[dict[str, str]]:
    """Serve a sandbox over HTTP; gives the variables with which a server uses it."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve_sandbox(sandbox, port=0, on_ready=ready.set_result))
    try:
        url = await ready
        yield {
            "GRAPHQL_URL": f"{url}/api/graphql",
            "AUTH_URL": url,
            "ACCESS_TOKEN": sandbox.issue_tokens().access_token,
            "ORG_ID": ORGANIZATION_ID,
            "KYC_ID": KYC_ID,
            "REQUEST_INTERVAL_SECONDS": "0",
            "REQUEST_JITTER_SECONDS": "0",
        }
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def sandbox(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Sandbox]:
    """A sandbox of its own, for servers in other processes."""
    sandbox = Sandbox(tmp_path / "sequence.sqlite")
    yield sandbox
    await sandbox.aclose()


@pytest.fixture(scope="module")
def sandbox_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on its own sandbox, for clients that block."""
    directory = tmp_path_factory.mktemp("server")
    running = start_server(directory, SANDBOX="1", MAX_TRANSFER_ATTEMPTS_PER_MINUTE="10000")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(running) as server:
        yield server
