"""The rows of the server: its rate, its requests to Sequence, its start and its memory."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from bench.server import CONNECTIONS, KEY, Server, bare, gateway, load, load_tool, upstream
from bench.table import Row, milliseconds
from pysequence_api.settings import Settings

POD = "Groceries"
ROUTES = ("/api/pods", "/api/pods/balance", "/api/accounts", f"/api/pods/{POD}/balance")
"""All of them are answered from one query of Sequence."""
READS = 100
MB_OF_REQUESTS = 3
HELD_UPSTREAM_REQUESTS = 4


async def measure(directory: Path, rounds: int, seconds: float, requests: int) -> AsyncIterator[Row]:
    """Measure the server, which reads a simulated Sequence over HTTP with the pacing of production.

    Args:
        directory: gets the data directories.
        rounds: how often each is measured.
        seconds: how long requests are sent in one round.
        requests: after so many requests its memory is read again.
    """
    async with upstream(directory / "upstream") as (url, variables):
        async with gateway(directory / "rate", variables) as server:
            resident_mb = server.resident_mb()
            for path in ("/api/pods", "/api/limits"):
                async with httpx.AsyncClient(trust_env=False) as client:
                    answer = await client.get(f"{server.url}{path}", headers={"X-API-Key": KEY})
                async with bare(directory, answer.content) as other:
                    yield await _rate(server, other, path, rounds, seconds)
            sent = 0
            while sent < requests:
                sent += (await load(server, "/api/pods", seconds))[1]
            yield Row("memory of the server", "resident after start", f"{resident_mb:.0f} MB", "", resident_mb, 80)
            more_mb = server.resident_mb() - resident_mb
            how = f"resident after {sent:,} requests, less that"
            yield Row("", how, f"{server.resident_mb():.0f} MB", f"{resident_mb:.0f} MB", more_mb, MB_OF_REQUESTS)
        yield await _start(directory, variables, rounds)
        async for row in _counts(directory / "counted", url, variables):
            yield row


async def _rate(server: Server, other: Server, path: str, rounds: int, seconds: float) -> Row:
    found = [(await load(server, path, seconds), await load(other, "/", seconds)) for _ in range(rounds)]
    mine = min(ours[0] for ours, _ in found)
    theirs = min(them[0] for _, them in found)
    # The pods come from fresh reads: Sequence is asked once in ten seconds.
    how = f"a bare FastAPI route with the same JSON, {CONNECTIONS} connections, {load_tool()}, requests by CPU time"
    return Row(f"`{path}`", how, milliseconds(mine), milliseconds(theirs), theirs / mine, 0.8, is_at_least=True)


async def _start(directory: Path, variables: dict[str, str], rounds: int) -> Row:
    ours, theirs = [], []
    for _ in range(rounds):
        async with gateway(directory / "start", variables) as server:
            ours.append(server.start_cpu_seconds)
        async with bare(directory, b"{}") as other:
            theirs.append(other.start_cpu_seconds)
    mine, least = min(ours), min(theirs)
    how = "start of the bare application, until it answers, CPU time"
    return Row("start of the server", how, milliseconds(mine), milliseconds(least), mine / least, 1.5)


async def _counts(directory: Path, url: str, variables: dict[str, str]) -> AsyncIterator[Row]:
    """Count the requests to the simulated Sequence."""
    async with (
        gateway(directory, variables) as server,
        httpx.AsyncClient(headers={"X-API-Key": KEY}, trust_env=False, timeout=60) as client,
    ):

        async def count() -> int:
            found = (await client.get(f"{url}/sandbox/requests")).json()["requests"]
            return sum(one["operation"] is not None for one in found)

        async def read(path: str) -> None:
            (await client.get(f"{server.url}{path}")).raise_for_status()

        async def terminal() -> None:
            command = (sys.executable, "-m", "pysequence_api", "pods")
            settings = variables | {"SEQUENCE_DATA_DIR": str(directory)}
            await asyncio.to_thread(subprocess.run, command, env=settings, check=True, capture_output=True, timeout=60)

        before = await count()
        reads = [read(ROUTES[number % len(ROUTES)]) for number in range(READS)]
        await asyncio.gather(*reads, terminal(), terminal())
        burst = await count() - before
        max_age_seconds = Settings.model_fields["read_max_age_seconds"].default
        await asyncio.sleep(max_age_seconds)
        await read(ROUTES[0])
        before = await count()
        await read(ROUTES[0])
        how = "upstream requests, pacing as in production"
        second = await count() - before
        yield Row("a second read within ten seconds", how, f"{second}", "", second, 0)
        before = await count()
        await terminal()
        kept = await count() - before
        yield Row("`pods` in the terminal after a read of the server", how, f"{kept}", "", kept, 0)
        yield Row(
            f"{READS} reads at once of {len(ROUTES)} routes, and two terminals",
            how,
            f"{burst}",
            "",
            burst,
            HELD_UPSTREAM_REQUESTS,
        )
