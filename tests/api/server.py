"""The HTTP server as a process of its own."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx

from pysequence_api.sandbox import KYC_ID, ORGANIZATION_ID, Sandbox
from pysequence_api.sandbox.server import serve
from tests.starter import python
from tests.world import API_KEY

START_TIMEOUT_SECONDS = 30

# The command line does more; these tests need only this part.
_PROGRAM = """
import functools, logging, os, anyio
from pysequence_api.serving import serve
from pysequence_api.settings import Settings
from pysequence_api.web import access
access.MAX_DELAY_SECONDS = 0.001  # some tests send many wrong keys
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
def ready(gateway, url):
    print("ready", url, os.getpid(), flush=True)
anyio.run(functools.partial(serve, Settings.load(), on_ready=ready))
"""


@dataclass
class Server:
    """A running server process."""

    process: asyncio.subprocess.Process
    host: str
    port: int
    log_path: Path
    id: int = 0
    """The id of the process that serves. That of `process` can be another one's, which waits for it."""

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    def client(self, **more: Any) -> httpx.AsyncClient:
        """Make a client with the API key."""
        return httpx.AsyncClient(base_url=self.url, headers={"X-API-Key": API_KEY}, trust_env=False, **more)

    async def send_bytes(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send bytes on a new connection, and read the first answer: status, headers and body."""
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
        """Wait until the process ends."""
        with anyio.fail_after(30):
            return await self.process.wait()

    async def stop(self) -> int:
        """Stop the process with SIGTERM, and return its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.exit_code()

    def log(self) -> str:
        """Read the log."""
        return self.log_path.read_text()

    async def wait_for_log(self, text: str) -> None:
        """Wait until the log contains a text."""
        with anyio.fail_after(10):
            while text not in self.log():  # noqa: ASYNC110 - another process writes it
                await anyio.sleep(0.01)


def free_port() -> int:
    """Find a free port on 127.0.0.1."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@asynccontextmanager
async def start_server(directory: Path, **variables: str) -> AsyncIterator[Server]:
    """Start a server process, and wait until it listens.

    Args:
        directory: the data directory; the log goes there too.
        **variables: ``SEQUENCE_*`` variables, without the prefix.
    """
    port = free_port()
    variables = {
        "SERVER_HOST": "127.0.0.1",
        "SERVER_PORT": str(port),
        "DATA_DIR": str(directory),
        "API_KEY": API_KEY,
    } | variables
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEQUENCE_")} | {
        f"SEQUENCE_{name}": value for name, value in variables.items()
    }
    log_path = directory / f"server-{port}.log"
    with log_path.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *python(), "-c", _PROGRAM, env=environment, stdout=asyncio.subprocess.PIPE, stderr=file, cwd=directory
        )
    server = Server(process, variables["SERVER_HOST"], port, log_path)
    try:
        assert process.stdout is not None
        with anyio.fail_after(START_TIMEOUT_SECONDS):
            line = await process.stdout.readline()
        assert line.startswith(f"ready {server.url} ".encode()), server.log()
        server.id = int(line.split()[-1])
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def served_sandbox(sandbox: Sandbox) -> AsyncIterator[dict[str, str]]:
    """Serve a sandbox over HTTP. Yields the variables of a server that uses it."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(sandbox, port=0, on_ready=ready.set_result))
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
