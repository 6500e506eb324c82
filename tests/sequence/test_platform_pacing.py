"""The bucket of requests: bursts, refilling, several processes, priorities, and pauses."""

import json
import os
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from pysequence_api.sandbox import KeyPermissions
from pysequence_api.sequence.pacing import Pacer, Priority
from pysequence_api.sequence.platform import client as platform_client
from tests.sequence.platform_world import ORGANIZATION, PlatformWorld, create
from tests.starter import python

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
INTERVAL_SECONDS = 0.1
BUCKET = 10


def pacer_in(directory: Path) -> Pacer:
    """Return a pacer with a small bucket."""
    return Pacer(directory, interval_seconds=INTERVAL_SECONDS, bucket_requests=BUCKET, name=platform_client.PACING_NAME)


async def take(pacer: Pacer, count: int, priority: Priority = Priority.READ) -> list[float]:
    """Take and use turns, and return when they came."""
    times = []
    for _ in range(count):
        turn = await pacer.take(priority)
        await turn.begin()
        await turn.renew()
        times.append(time.time())
    return times


def most_in(times: list[float], seconds: float) -> int:
    """Return how many of these times are in one stretch of time at most."""
    return max(sum(start <= one < start + seconds for one in times) for start in times)


async def test_a_full_bucket_allows_a_burst_and_refills_evenly(tmp_path: Path) -> None:
    times = await take(pacer_in(tmp_path), BUCKET + 4)
    assert times[BUCKET - 1] - times[0] < INTERVAL_SECONDS * 5
    assert times[-1] - times[0] >= 4 * INTERVAL_SECONDS - 0.01
    for seconds in (0.2, 0.5):
        assert most_in(times, seconds) <= BUCKET + seconds / INTERVAL_SECONDS + 1


async def test_processes_share_the_bucket(tmp_path: Path) -> None:
    argument = {
        "directory": str(tmp_path),
        "interval_seconds": INTERVAL_SECONDS,
        "bucket_requests": BUCKET,
        "count": 14,
    }
    command = [*python(), "-m", "tests.sequence.bucket_taker", json.dumps(argument)]
    results = []

    async def run() -> None:
        results.append(await anyio.run_process(command, cwd=ROOT))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            tasks.start_soon(run)
    times = sorted(float(line) for result in results for line in result.stdout.decode().split())
    assert len(times) == 28
    assert times[-1] - times[0] >= 18 * INTERVAL_SECONDS - 0.05
    for seconds in (0.1, 0.5, 1.0):
        assert most_in(times, seconds) <= BUCKET + seconds / INTERVAL_SECONDS + 1


async def test_reads_delay_a_transfer_by_one_interval_at_most(tmp_path: Path) -> None:
    here, there = pacer_in(tmp_path), pacer_in(tmp_path)
    async with anyio.create_task_group() as tasks:
        for _ in range(BUCKET + 10):
            tasks.start_soon(take, here, 1)
            tasks.start_soon(take, there, 1)
        await anyio.sleep(INTERVAL_SECONDS * 3)
        began = time.monotonic()
        await take(here, 1, Priority.TRANSFER)
        waited_seconds = time.monotonic() - began
        tasks.cancel_scope.cancel()
    assert waited_seconds < 2 * INTERVAL_SECONDS  # one interval, and what a busy machine adds


async def test_a_turn_that_is_used_late_counts_again(tmp_path: Path) -> None:
    pacer = pacer_in(tmp_path)
    late = await pacer.take(Priority.READ)
    await anyio.sleep(INTERVAL_SECONDS * 1.5)
    await take(pacer, BUCKET)
    began = time.monotonic()
    await late.begin()
    assert time.monotonic() - began >= INTERVAL_SECONDS * 0.5


async def test_the_time_is_in_the_future_by_what_was_used(tmp_path: Path) -> None:
    await take(pacer_in(tmp_path), BUCKET)
    ahead_seconds = (tmp_path / ".pacing-platform").stat().st_mtime - time.time()
    assert 0 < ahead_seconds <= (BUCKET - 1) * INTERVAL_SECONDS
    assert not (tmp_path / ".pacing").exists()


async def test_after_the_clock_was_set_back_the_bucket_is_empty_not_closed(tmp_path: Path) -> None:
    stamp = tmp_path / ".pacing-platform"
    stamp.touch()
    os.utime(stamp, (time.time() + 3600, time.time() + 3600))
    with anyio.fail_after(2):
        began = time.monotonic()
        await take(pacer_in(tmp_path), 1)
    assert time.monotonic() - began >= INTERVAL_SECONDS * 0.9


async def test_without_the_files_the_bucket_holds_in_this_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "gone").touch()
    times = await take(pacer_in(tmp_path / "gone"), BUCKET + 3)
    assert times[-1] - times[0] >= 3 * INTERVAL_SECONDS - 0.01
    assert caplog.text.count("cannot be shared with other processes") == 1


async def test_the_upstreams_do_not_share_a_pace(tmp_path: Path) -> None:
    graphql = Pacer(tmp_path, interval_seconds=10)
    await graphql.take(Priority.READ)
    with anyio.fail_after(1):
        await take(pacer_in(tmp_path), 2)
    await graphql.hold(30)
    assert not pacer_in(tmp_path).held_seconds


async def test_clients_keep_to_the_bucket(platform: PlatformWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller and faster bucket than the real one, with the load of two clients."""
    monkeypatch.setattr(platform_client, "REQUESTS_PER_MINUTE", 1200)
    monkeypatch.setattr(platform_client, "REQUESTS_ON_THE_WAY", 1180)
    key = platform.sandbox.issue_platform_key(KeyPermissions(requests_per_minute=1200))
    clients = [platform.client(platform_key=key) for _ in range(2)]

    async def read(client: Any) -> None:
        await client.accounts()
        await client.activity(ORGANIZATION)
        await create(client)

    async with anyio.create_task_group() as tasks:
        for client in clients:
            tasks.start_soon(read, client)
    entries = platform.requests()
    assert {entry.status for entry in entries} <= {200, 201}
    times = [entry.arrived_monotonic_seconds for entry in entries]
    assert most_in(times, 1.0) <= 20 + 20 + 2 < len(times)


async def test_files_are_private(platform: PlatformWorld) -> None:
    await create(platform.client())
    files = list(platform.files.path.glob(".pacing*"))
    assert {path.name for path in files} >= {".pacing-platform", ".pacing-platform.lock"}
    assert all(path.name.startswith(".pacing-platform") for path in files)
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
