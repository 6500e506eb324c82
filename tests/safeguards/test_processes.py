"""What several processes, and many threads, do to one data directory."""

import asyncio
import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from pysequence_api.errors import LimitExceededError, SafeguardsUnavailableError
from pysequence_api.records import open_records
from pysequence_api.records.attempts import OWNER
from pysequence_api.records.states import State
from pysequence_api.safeguards.now import MaxCents
from pysequence_api.safeguards.status import read_limits
from pysequence_api.sandbox import Sandbox
from tests.policies import NO_BREAKER, apply_policy
from tests.starter import python
from tests.world import World, open_world, serving, urls_of

pytestmark = pytest.mark.anyio
LIMIT_CENTS = 2_500_000
TRANSFERS = """
import asyncio, json, sys
from pathlib import Path
from uuid import uuid4
from pysequence_api.errors import SafeguardError
from pysequence_api.gateway import open_gateway
from pysequence_api.models import TransferOrder
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import Caller
from pysequence_api.settings import Settings

async def main(what):
    done = rejected = 0
    async with open_gateway(Settings.load(**what["settings"])) as gateway:
        order = TransferOrder(**what["order"])
        for _ in range(what["count"]):
            try:
                key = str(uuid4())
                await gateway.transfers.transfer(order, Channel.CLI, key, caller=Caller(what["caller"]))
                done += 1
            except SafeguardError:
                rejected += 1
    print(json.dumps({"done": done, "rejected": rejected}))

asyncio.run(main(json.loads(sys.argv[1])))
"""


async def run_process(world: World, url: str, count: int, amount_cents: int, caller: str = OWNER) -> dict[str, int]:
    """Make transfers in a process of its own, and return how many were done and rejected."""
    process = await start(world, url, count, amount_cents, caller)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    result: dict[str, int] = json.loads(out)
    return result


async def start(world: World, url: str, count: int, amount_cents: int, caller: str) -> asyncio.subprocess.Process:
    """Start a process that makes transfers."""
    settings = {
        "access_token": world.sandbox.issue_tokens().access_token,
        "data_dir": str(world.files.path),
        "kyc_id": world.settings.kyc_id,
        "org_id": world.settings.org_id,
        "request_interval_seconds": 0,
        "request_jitter_seconds": 0,
        "max_transfer_attempts_per_minute": 1_000,
    } | urls_of(url)
    what = {"settings": settings, "order": world.order(amount_cents).model_dump(mode="json"), "count": count}
    what["caller"] = caller
    return await asyncio.create_subprocess_exec(
        *python(), "-c", TRANSFERS, json.dumps(what), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


async def test_four_processes_share_one_limit(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, serving(world.sandbox) as url:
        results = await asyncio.gather(*(run_process(world, url, 6, 250_000) for _ in range(4)))
        assert sum(result["done"] for result in results) == 10
        assert sum(result["rejected"] for result in results) == 14
        assert sum(one["amount_cents"] for one in await world.moved()) == LIMIT_CENTS
        assert world.used_cents() == LIMIT_CENTS
        assert world.gateway.records.trail.verify().intact
        assert sorted(world.states()) == ["accepted"] * 10 + ["rejected"] * 14


BUDGET = """
[callers.bot]
scopes = ["move"]
rules = [{ name = "b", from = ["a"], to = ["b"], max_cents = 50000, day_cents = 300000 }]
"""


async def test_four_processes_share_the_budget_of_a_caller(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, serving(world.sandbox) as url:
        apply_policy(world, NO_BREAKER, BUDGET)
        results = await asyncio.gather(*(run_process(world, url, 4, 50_000, "bot") for _ in range(4)))
        assert sum(result["done"] for result in results) == 6
        assert sum(result["rejected"] for result in results) == 10
        assert sum(one["amount_cents"] for one in await world.moved()) == 300_000


async def test_a_budget_holds_when_processes_are_killed(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, serving(world.sandbox) as url:
        apply_policy(world, NO_BREAKER, BUDGET)
        world.fail({"kind": "delay", "seconds": 0.05}, when="after", count=100)
        killed = [await start(world, url, 20, 20_000, "bot") for _ in range(2)]
        with anyio.fail_after(30):
            while len(await world.moved()) < 3:  # noqa: ASYNC110 - other processes move it
                await asyncio.sleep(0.01)
        for process in killed:
            process.kill()
            await process.communicate()
        await asyncio.gather(*(run_process(world, url, 20, 30_000, "bot") for _ in range(2)))
        moved_cents = sum(one["amount_cents"] for one in await world.moved())
        assert 60_000 < moved_cents <= 300_000
        assert world.gateway.records.trail.verify().intact


async def test_ten_transfers_at_once_through_two_processes(world: World) -> None:
    other = await world.open_process()
    processes = [world.gateway, other] * 5
    results = await asyncio.gather(
        *(world.transfer(1_000_000, process=process) for process in processes), return_exceptions=True
    )
    assert sum(not isinstance(result, BaseException) for result in results) == 2
    assert sum(isinstance(result, LimitExceededError) for result in results) == 8
    assert sum(one["amount_cents"] for one in await world.moved()) == 2_000_000


def test_twenty_threads_write_and_read(tmp_path: Path) -> None:
    records = open_records(tmp_path)
    start = threading.Barrier(20)

    def work(number: int) -> int:
        start.wait()
        for _ in range(10):
            records.write(lambda writer: writer.set_freeze(f"thread {number}"))
            records.read(lambda reader: reader.audit_head())
        return number

    with ThreadPoolExecutor(20) as pool:
        assert sorted(pool.map(work, range(20))) == list(range(20))
    found = records.trail.verify()
    assert (found.entries, found.problem) == (200, None)
    records.close()


@pytest.mark.parametrize("state", [State.RESERVED, State.SENDING])
async def test_a_killed_process_is_known_to_be_dead(world: World, state: State) -> None:
    attempt_id = await world.leave(state, amount_cents=1_000_000)
    reader = open_records(world.files.path)
    limits = read_limits(reader, MaxCents.of(world.settings))
    running = [one.attempt_id for one in limits.unsettled if one.running]
    assert running == []
    assert limits.used_cents == (0 if state is State.RESERVED else 1_000_000)
    reader.close()
    process = await world.open_process()
    await world.transfer(100, process=process)
    assert world.attempt(attempt_id).state == ("failed" if state is State.RESERVED else "unknown")


async def test_owner_files_go_with_their_processes(world: World) -> None:
    await world.transfer(100)
    owners = world.files.path / ".owners"
    assert len(list(owners.iterdir())) == 1
    await world.leave(State.SENDING)
    await world.open_process()
    await world.transfer(200)
    assert len(list(owners.iterdir())) == 1
    await world.close(world.gateway)
    assert list(owners.iterdir()) == []


async def test_the_lower_limit_holds(tmp_path: Path, sandbox: Sandbox) -> None:
    async with open_world(tmp_path, sandbox) as world:
        world.gateway.records.write(lambda writer: writer.record_limits(10_000, 20_000))
        with pytest.raises(LimitExceededError):
            await world.transfer(10_001)
        await world.transfer(10_000)
        await world.transfer(9_000)
        with pytest.raises(LimitExceededError):
            await world.transfer(1_001)
        assert world.gateway.limits().max_daily_cents == 20_000


async def test_a_lock_that_is_not_released_stops_transfers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.transfer(100)
    monkeypatch.setattr("pysequence_api.records.database.LOCK_TIMEOUT_SECONDS", 0.1)
    other = open_records(world.files.path)
    with other.held():
        writing = asyncio.create_task(
            asyncio.to_thread(world.gateway.records.write, lambda writer: writer.distrust, 0.1)
        )
        with pytest.raises(SafeguardsUnavailableError):
            await writing
        assert len(await world.gateway.client.pods()) > 1
