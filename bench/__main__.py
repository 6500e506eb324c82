"""Measures the server with the simulated Sequence: all measurements in one run, so that you can compare them."""

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

from bench import local
from bench.server import KEY, running_server

CALLERS = 8
"""How many clients send requests at the same time."""

Send = Callable[[httpx.AsyncClient, int], Awaitable[httpx.Response]]


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="duration of each measurement (default: 3)")
    parser.add_argument(
        "--entries",
        type=int,
        default=10_000,
        help="number of transfers in the full records at the start (default: 10000)",
    )
    parser.add_argument(
        "--lines", type=int, default=200_000, help="number of lines in the long audit trail (default: 200000)"
    )
    parser.add_argument("--local", action="store_true", help="measure only what a transfer costs in the records")
    options = parser.parse_args()
    seconds, entries, lines = options.seconds, options.entries, options.lines
    if not 0 < seconds <= 60:
        parser.error("--seconds must be more than 0 and at most 60")
    if not 1 <= entries <= 100_000:
        parser.error("--entries must be at least 1 and at most 100000")
    if not 1 <= lines <= 2_000_000:
        parser.error("--lines must be at least 1 and at most 2000000")
    print("Compare these numbers with each other, not with numbers from another machine.\n")
    with tempfile.TemporaryDirectory() as directory:
        local.measure(Path(directory), entries, lines)
    if not options.local:
        print(f"Python {platform.python_version()}, {CALLERS} concurrent callers, {seconds:g} s each")
        asyncio.run(_measure_all(seconds, entries))


async def _measure_all(seconds: float, entries: int) -> None:
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fresh = await stack.enter_async_context(running_server(directory / "fresh"))
        full = await stack.enter_async_context(running_server(directory / "full", ledger_entries=entries))
        pods = (await fresh.get("/api/pods")).json()
        measurements: list[tuple[str, httpx.AsyncClient, Send]] = [
            ("GET /api/health, without key and files", fresh, _get("/api/health")),
            ("GET /api/pods, equal reads: they share one request to Sequence", fresh, _get("/api/pods")),
            ("GET /api/activity, different reads: one request to Sequence each", fresh, _distinct),
            ("GET /api/limits, empty records", fresh, _get("/api/limits")),
            (f"GET /api/limits, records with {entries:,} entries today", full, _get("/api/limits")),
            ("POST /api/transfers, empty records at the start", fresh, _transfer(pods[0]["id"], pods[1]["id"])),
            (
                f"POST /api/transfers, records with {entries:,} entries",
                full,
                _transfer(pods[0]["id"], pods[1]["id"]),
            ),
        ]
        for name, client, send in measurements:
            await _measure(name, client, send, seconds)


async def _measure(name: str, client: httpx.AsyncClient, send: Send, seconds: float) -> None:
    durations_seconds: list[float] = []
    started_seconds = perf_counter()

    async def call(caller: int) -> None:
        for number in itertools.count(caller, CALLERS):
            sent_at_seconds = perf_counter()
            (await send(client, number)).raise_for_status()
            durations_seconds.append(perf_counter() - sent_at_seconds)
            if perf_counter() >= started_seconds + seconds:  # after at least one request
                return

    await asyncio.gather(*(call(caller) for caller in range(CALLERS)))
    took_seconds = perf_counter() - started_seconds
    durations_seconds.sort()
    median, slow = (durations_seconds[int(len(durations_seconds) * share)] * 1000 for share in (0.5, 0.95))
    rate = len(durations_seconds) / took_seconds
    print(f"{rate:8.0f} /s   median {median:6.1f} ms   95 % within {slow:6.1f} ms   {name}")


def _get(path: str) -> Send:
    async def send(client: httpx.AsyncClient, _: int) -> httpx.Response:
        return await client.get(path)

    return send


async def _distinct(client: httpx.AsyncClient, number: int) -> httpx.Response:
    return await client.get("/api/activity", params={"first": 10, "name": f"no-match-{number}"})


def _transfer(source_id: str, destination_id: str) -> Send:
    async def send(client: httpx.AsyncClient, number: int) -> httpx.Response:
        # Back and forth, so that no pod runs empty.
        there = number // CALLERS % 2 == 0
        source, destination = (source_id, destination_id) if there else (destination_id, source_id)
        return await client.post(
            "/api/transfers",
            json={"source_id": source, "destination_id": destination, "amount_cents": 1},
            headers={"X-API-Key": KEY},
        )

    return send


main()
