"""The servers that are measured, each a process of its own, and what Linux tells about them."""

import asyncio
import math
import os
import re
import shlex
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

KEY = "benchmark"
CONNECTIONS = 16
START_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs.

    Attributes:
        url: its address.
        pid: its process.
        start_cpu_seconds: the CPU time that it took until it answered.
    """

    url: str
    pid: int
    start_cpu_seconds: float

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has taken."""
        return _cpu_seconds(self.pid)

    def resident_mb(self) -> float:
        """Return how much memory it holds."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@asynccontextmanager
async def gateway(directory: Path, variables: dict[str, str]) -> AsyncIterator[Server]:
    """Run the server.

    Args:
        directory: the data directory.
        variables: more settings, which connect it to `upstream`.
    """
    port = _free_port()
    settings = variables | {
        "SEQUENCE_API_KEY": KEY,
        "SEQUENCE_DATA_DIR": str(directory),
        "SEQUENCE_SERVER_PORT": str(port),
        "SEQUENCE_SERVER_HOST": "127.0.0.1",
    }
    async with _running(("-m", "pysequence_api", "serve"), settings, f"http://127.0.0.1:{port}", "/api/health") as one:
        yield one


@asynccontextmanager
async def bare(directory: Path, content: bytes) -> AsyncIterator[Server]:
    """Run a bare FastAPI application that answers with some JSON."""
    port = _free_port()
    file = directory / f"{port}.json"
    file.write_bytes(content)
    async with _running(("-m", "bench.bare", str(port), str(file)), {}, f"http://127.0.0.1:{port}", "/") as one:
        yield one


@asynccontextmanager
async def upstream(directory: Path) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """Run the simulated Sequence over HTTP; yield its address, and the settings that connect a program to it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pysequence_api", "sandbox", "serve", "--port", "0", "--data-dir", str(directory)),
        env=_environment({}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        variables: dict[str, str] = {}
        url = ""
        while "SEQUENCE_DATA_DIR" not in variables:
            line = (await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_SECONDS)).decode()
            assert line, "the simulated Sequence did not start"
            found = re.search(r"listens on (\S+)\.", line)
            url = found[1] if found else url
            if not line.startswith("#"):
                name, _, value = line.strip().partition("=")
                variables[name] = shlex.split(value)[0]
        yield url, variables
    finally:
        process.terminate()
        await process.communicate()


async def load(server: Server, path: str, seconds: float) -> tuple[float, int]:
    """Send requests over `CONNECTIONS` connections; return the CPU seconds of the server for each, and their number."""
    before_seconds = server.cpu_seconds()
    send = _load_with_wrk if shutil.which("wrk") else _load_with_python
    count = await send(f"{server.url}{path}", seconds)
    taken_seconds = server.cpu_seconds() - before_seconds
    return (taken_seconds / count if count else math.inf), count  # a busy machine can leave a whole round unanswered


def load_tool() -> str:
    """Name what sends the requests."""
    return "wrk" if shutil.which("wrk") else "a Python client, because wrk is not installed"


async def _load_with_wrk(url: str, seconds: float) -> int:
    process = await asyncio.create_subprocess_exec(
        *("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-H", f"X-API-Key: {KEY}", url),
        stdout=asyncio.subprocess.PIPE,
    )
    output = (await process.communicate())[0].decode()
    found = re.search(r"(\d+) requests in", output)
    if found is None or "Non-2xx" in output:
        raise RuntimeError(output)
    return int(found[1])


async def _load_with_python(url: str, seconds: float) -> int:
    end_seconds = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with httpx.AsyncClient(headers={"X-API-Key": KEY}, trust_env=False, timeout=60, limits=limits) as client:

        async def send() -> int:
            count = 0
            while time.monotonic() < end_seconds or not count:
                (await client.get(url)).raise_for_status()
                count += 1
            return count

        return sum(await asyncio.gather(*(send() for _ in range(CONNECTIONS))))


@asynccontextmanager
async def _running(arguments: tuple[str, ...], settings: dict[str, str], url: str, path: str) -> AsyncIterator[Server]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        env=_environment(settings),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await asyncio.wait_for(_answers(f"{url}{path}"), START_TIMEOUT_SECONDS)
        yield Server(url, process.pid, _cpu_seconds(process.pid))
    finally:
        process.terminate()
        await process.wait()


async def _answers(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                (await client.get(url)).raise_for_status()
            except httpx.TransportError:
                await asyncio.sleep(0.02)
            else:
                return


def _environment(settings: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SEQUENCE_")} | settings


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
