"""Runs all measurements in one go, so that their numbers can be compared with each other, and with nothing else."""

import argparse
import asyncio
import itertools
import platform
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter

import httpx

from bench.server import KEY, running_server

CALLERS = 8
"""How many ask at once."""

Ask = Callable[[httpx.AsyncClient, int], Awaitable[httpx.Response]]


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each measurement runs (default: 3)")
    parser.add_argument(
        "--entries", type=int, default=10_000, help="how many transfers the full ledger begins with (default: 10000)"
    )
    options = parser.parse_args()
    seconds, entries = options.seconds, options.entries
    if not 0 < seconds <= 60:
        parser.error("--seconds must be more than 0 and at most 60")
    if not 1 <= entries <= 100_000:
        parser.error("--entries must be at least 1 and at most 100000")
    print(f"Python {platform.python_version()}, {CALLERS} callers at once, {seconds:g} s each, all on one machine.")
    print("Compare these numbers with each other, not with those of another machine.\n")
    asyncio.run(_measure_all(seconds, entries))


async def _measure_all(seconds: float, entries: int) -> None:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fresh = await stack.enter_async_context(running_server(directory / "fresh"))
        full = await stack.enter_async_context(running_server(directory / "full", ledger_entries=entries))
        pods = (await fresh.get("/api/pods")).json()
        measurements: list[tuple[str, httpx.AsyncClient, Ask]] = [
            ("GET /api/health, no key, no file", fresh, _get("/api/health")),
            ("GET /api/pods, equal reads: one request upstream serves all who wait", fresh, _get("/api/pods")),
            ("GET /api/activity, distinct reads: each is a request upstream", fresh, _distinct),
            ("GET /api/limits, ledger empty", fresh, _get("/api/limits")),
            (f"GET /api/limits, ledger of {entries:,} entries today", full, _get("/api/limits")),
            ("POST /api/transfers, ledger empty at first", fresh, _transfer(pods[0]["id"], pods[1]["id"])),
            (
                f"POST /api/transfers, ledger of {entries:,} entries",
                full,
                _transfer(pods[0]["id"], pods[1]["id"]),
            ),
        ]
        for name, client, ask in measurements:
            await _measure(name, client, ask, seconds)


async def _measure(name: str, client: httpx.AsyncClient, ask: Ask, seconds: float) -> None:
    durations_seconds: list[float] = []
    begin_seconds = perf_counter()

    async def call(caller: int) -> None:
        for number in itertools.count(caller, CALLERS):
            asked_at_seconds = perf_counter()
            (await ask(client, number)).raise_for_status()
            durations_seconds.append(perf_counter() - asked_at_seconds)
            if perf_counter() >= begin_seconds + seconds:  # after one request at least
                return

    await asyncio.gather(*(call(caller) for caller in range(CALLERS)))
    took_seconds = perf_counter() - begin_seconds
    durations_seconds.sort()
    median, slow = (durations_seconds[int(len(durations_seconds) * share)] * 1000 for share in (0.5, 0.95))
    rate = len(durations_seconds) / took_seconds
    print(f"{rate:8.0f} /s   median {median:6.1f} ms   95 % within {slow:6.1f} ms   {name}")


def _get(path: str) -> Ask:
    async def ask(client: httpx.AsyncClient, _: int) -> httpx.Response:
        return await client.get(path)

    return ask


async def _distinct(client: httpx.AsyncClient, number: int) -> httpx.Response:
    return await client.get("/api/activity", params={"first": 10, "name": f"nothing-{number}"})


def _transfer(source_id: str, destination_id: str) -> Ask:
    async def ask(client: httpx.AsyncClient, number: int) -> httpx.Response:
        # There and back, so that no pod is ever empty.
        there = number // CALLERS % 2 == 0
        source, destination = (source_id, destination_id) if there else (destination_id, source_id)
        return await client.post(
            "/api/transfers",
            json={"source_id": source, "destination_id": destination, "amount_cents": 1},
            headers={"X-API-Key": KEY},
        )

    return ask


main()
