"""Two requests are never too close, whoever sends them; who goes first; how many wait."""

import errno
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

from pysequence_api.errors import BusyError, GatewayError, NotFoundError
from pysequence_api.files import locked
from pysequence_api.sandbox import ORGANIZATION_ID
from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
from pysequence_api.sequence.pacing import MAX_WAITING_REQUESTS, Pacer, Priority
from tests.sequence.conftest import House, order_of, transfer

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
INTERVAL_SECONDS = 0.15


def distances(house: House) -> list[float]:
    """Between requests as the server sees them, in seconds."""
    times = [entry.arrived_monotonic_seconds for entry in house.requests()]
    return [later - earlier for earlier, later in pairwise(times)]


async def read_something(client: GraphQLSequenceClient, number: int) -> None:
    """A read that no other is equal to."""
    with pytest.raises(NotFoundError):
        await client.pod_detail(ORGANIZATION_ID, f"pod {number}")


@asynccontextmanager
async def process(house: House, **what: Any) -> AsyncIterator[None]:
    """Another process on the same data directory; it has ended, and well, at the end."""
    argument = {
        "base_url": house.base_url,
        "directory": str(house.directory),
        "access_token": house.sandbox.issue_tokens().access_token,
        "interval": INTERVAL_SECONDS,
        "count": 0,
    }
    async with await anyio.open_process(
        [sys.executable, "-m", "tests.sequence.reader", json.dumps(argument | what)], cwd=ROOT, stderr=None
    ) as running:
        yield
        with anyio.fail_after(15):
            assert await running.wait() == 0


async def until(house: House, count: int, operation: str | None = None) -> None:
    with anyio.fail_after(10):
        while len(house.requests(operation)) < count:  # noqa: ASYNC110 - the journal has no event
            await anyio.sleep(0.002)


async def test_distances_hold_between_processes(tcp_house: House) -> None:
    ids = [f"transfer {number}" for number in range(4)]
    tcp_house.arm("TransferReferenceDrawerContentV2", {"kind": "garbage", "body": GARBAGE}, count=8)
    client = tcp_house.client(request_interval_seconds=INTERVAL_SECONDS)
    async with process(tcp_house, count=4, distinct=ids), anyio.create_task_group() as tasks:
        await until(tcp_house, 1)
        for number in range(4):
            tasks.start_soon(read_something, client, number)
    assert len(tcp_house.requests()) == 8
    assert {entry.operation for entry in tcp_house.requests()[:6]} == {
        "PodDrawerContent",
        "TransferReferenceDrawerContentV2",
    }
    assert min(distances(tcp_house)) >= INTERVAL_SECONDS


GARBAGE = json.dumps({"data": {"organization": {"transferReference": {"id": "x"}}}})


async def test_a_slow_connection_does_not_bring_the_next_request_too_near(
    tcp_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tcp_house.client(request_interval_seconds=INTERVAL_SECONDS)
    order = order_of()

    async with anyio.create_task_group() as tasks:

        async def send_slowly() -> None:
            prepared = await client.prepare_transfer(order)
            await anyio.sleep(INTERVAL_SECONDS * 1.6)  # while the next one has its turn
            await prepared.send()

        tasks.start_soon(send_slowly)
        await anyio.sleep(0.01)
        for number in range(3):
            tasks.start_soon(read_something, client, number)
    assert len(distances(tcp_house)) == 3
    assert min(distances(tcp_house)) >= INTERVAL_SECONDS


async def test_thirty_equal_reads_are_two_requests_at_most(any_house: House) -> None:
    client = any_house.client(request_interval_seconds=INTERVAL_SECONDS)
    results = []

    async def read(delay_seconds: float) -> None:
        await anyio.sleep(delay_seconds)
        results.append(await client.accounts())

    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(read, 0.002 * number)
    assert len(any_house.requests()) <= 2
    assert len(results) == 30
    assert all(result == results[0] for result in results)


async def test_equal_reads_fail_alike_and_each_with_an_error_of_its_own(house: House) -> None:
    client = house.client(request_interval_seconds=INTERVAL_SECONDS)
    house.arm("ActivitySummary", {"kind": "status", "status": 429, "headers": {"Retry-After": "9"}})
    errors: list[GatewayError] = []

    async def read() -> None:
        try:
            await client.activity_summary()
        except GatewayError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(read)
    assert len({id(error) for error in errors}) == 5
    assert {(type(error).__name__, str(error), error.retry_after_seconds) for error in errors} == {
        ("RateLimitedError", "Sequence refused ActivitySummary: too many requests (429). Try again later.", 9)
    }
    assert len(house.requests()) == 1


async def test_a_cancelled_reader_does_not_cancel_the_others(house: House) -> None:
    client = house.client(request_interval_seconds=INTERVAL_SECONDS)
    await client.accounts()  # so that the next has to wait
    async with anyio.create_task_group() as tasks:
        first = anyio.CancelScope()

        async def read_first() -> None:
            with first:
                await client.activity_summary()

        tasks.start_soon(read_first)
        await anyio.sleep(0.01)
        tasks.start_soon(client.activity_summary)
        await anyio.sleep(0.01)
        first.cancel()
    assert len(house.requests("ActivitySummary")) == 1


async def test_a_read_that_nobody_waits_for_is_withdrawn(house: House) -> None:
    client = house.client(request_interval_seconds=INTERVAL_SECONDS)
    await client.accounts()
    for _ in range(3):
        with anyio.move_on_after(0.02):
            await client.activity_summary()
    await anyio.wait_all_tasks_blocked()
    assert client._pacer._queue == []
    await client.accounts()
    assert house.requests("ActivitySummary") == []


async def test_a_transfer_goes_ahead_of_waiting_reads(house: House) -> None:
    client = house.client(request_interval_seconds=INTERVAL_SECONDS)
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(read_something, client, number)
        await until(house, 1)
        await transfer(client, order_of())
        assert len(house.requests()) <= 3
    assert min(distances(house)) >= INTERVAL_SECONDS


async def test_an_urgent_read_goes_ahead_of_others_and_behind_transfers(tmp_path: Path) -> None:
    pacer = Pacer(tmp_path, interval_seconds=0.02, jitter_seconds=0)
    await pacer.take(Priority.READ)
    order: list[Priority] = []

    async def take(priority: Priority) -> None:
        await pacer.take(priority)
        order.append(priority)

    async with anyio.create_task_group() as tasks:
        for priority in (Priority.READ, Priority.URGENT, Priority.READ, Priority.TRANSFER):
            tasks.start_soon(take, priority)
    assert order == [Priority.TRANSFER, Priority.URGENT, Priority.READ, Priority.READ]


async def test_a_transfer_goes_ahead_of_the_reads_of_another_process(tcp_house: House) -> None:
    client = tcp_house.client(request_interval_seconds=INTERVAL_SECONDS)
    async with anyio.create_task_group() as tasks:
        for number in range(25):
            tasks.start_soon(read_something, client, number)
        async with process(tcp_house, transfer=True):
            await until(tcp_house, 1, "CreatePayment")
            before = len(tcp_house.requests("PodDrawerContent"))
            tasks.cancel_scope.cancel()
    # The process needs a second to start; from its wish on, at most one read has been on its way.
    assert before < 25
    assert min(distances(tcp_house)) >= INTERVAL_SECONDS


async def test_reads_wait_while_a_transfer_of_another_process_waits(tmp_path: Path) -> None:
    here, there = (Pacer(tmp_path, interval_seconds=0.05, jitter_seconds=0) for _ in range(2))
    flag = there._shared.transfer_flag()
    there._shared.show(flag)
    with anyio.move_on_after(0.3) as scope:
        await here.take(Priority.READ)
    assert scope.cancelled_caught
    await here.take(Priority.TRANSFER)
    flag.release()
    flag.show()  # too late: it stays down
    with anyio.fail_after(1):
        await here.take(Priority.READ)


async def test_the_thirty_third_distinct_read_is_turned_away(house: House) -> None:
    client = house.client(request_interval_seconds=20, request_jitter_seconds=2)
    await client.accounts()
    async with anyio.create_task_group() as tasks:
        for number in range(MAX_WAITING_REQUESTS):
            tasks.start_soon(read_something, client, number)
            tasks.start_soon(read_something, client, number)  # equal reads take one place
        with anyio.fail_after(5):
            while len(client._pacer._queue) < MAX_WAITING_REQUESTS:  # noqa: ASYNC110 - the queue has no event
                await anyio.sleep(0.001)
        with pytest.raises(BusyError, match="32 requests to Sequence wait already") as caught:
            await client.activity_summary()
        assert caught.value.status == 503
        assert caught.value.nothing_moved
        assert caught.value.retry_after_seconds is not None
        assert 640 <= caught.value.retry_after_seconds <= 720
        tasks.cancel_scope.cancel()
    assert client._pacer._queue == []
    assert len(house.requests()) == 1


async def test_a_wait_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pysequence_api.sequence.pacing.MAX_WAIT_TURNS", 0)
    monkeypatch.setattr("pysequence_api.sequence.pacing.MAX_WAIT_EXTRA_SECONDS", 0.05)
    pacer = Pacer(tmp_path, interval_seconds=10, jitter_seconds=0)
    await pacer.take(Priority.READ)
    with pytest.raises(BusyError, match="had no turn within"):
        await pacer.take(Priority.TRANSFER)
    assert pacer._queue == []
    assert not pacer._shared.start(0, yields=True, mine=False)  # its flag is down


async def test_a_stamp_from_the_future_counts_as_now(tmp_path: Path) -> None:
    stamp = tmp_path / ".pacing"
    stamp.touch()
    os.utime(stamp, (time.time() + 3600, time.time() + 3600))
    began = time.monotonic()
    with anyio.fail_after(2):
        await Pacer(tmp_path, interval_seconds=0.1, jitter_seconds=0).take(Priority.READ)
    assert time.monotonic() - began >= 0.1


@pytest.mark.parametrize("broken", ["lock", "stamp", "directory"])
async def test_reads_go_on_without_the_files(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    match broken:
        case "lock":
            (tmp_path / ".pacing.lock").mkdir()
        case "stamp":

            def read_only(*args: object, **more: object) -> None:
                raise OSError(errno.EROFS, "Read-only file system")

            monkeypatch.setattr("pysequence_api.sequence.pacing.os.utime", read_only)
        case "directory":
            tmp_path = tmp_path / "gone"
            tmp_path.touch()
    pacer = Pacer(tmp_path, interval_seconds=0.1, jitter_seconds=0)
    began = time.monotonic()
    for priority in (Priority.READ, Priority.TRANSFER, Priority.READ):
        turn = await pacer.take(priority)
        await turn.begin()
        await turn.renew()
    assert time.monotonic() - began >= 0.2
    assert caplog.text.count("cannot be shared with other processes") == 1


async def test_a_lock_that_hangs_ends_in_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pysequence_api.sequence.pacing.MAX_WAIT_TURNS", 0)
    monkeypatch.setattr("pysequence_api.sequence.pacing.MAX_WAIT_EXTRA_SECONDS", 0.3)
    monkeypatch.setattr("pysequence_api.sequence.pacing.LOCK_TRY_SECONDS", 0.05)
    with locked(tmp_path / ".pacing.lock"), pytest.raises(BusyError):
        await Pacer(tmp_path, interval_seconds=0.1, jitter_seconds=0).take(Priority.READ)


async def test_jitter_is_drawn_for_each_turn(tmp_path: Path) -> None:
    pacer = Pacer(tmp_path, interval_seconds=0.01, jitter_seconds=0.05)
    turns = [await pacer.take(Priority.READ) for _ in range(3)]
    assert len({turn.gap_seconds for turn in turns}) == 3


async def test_without_pacing_no_file_is_touched(house: House) -> None:
    await house.client().activity_summary()
    assert list(house.directory.iterdir()) == []


async def test_files_are_for_their_owner_alone(house: House) -> None:
    client = house.client(request_interval_seconds=0.01)
    await client.activity_summary()
    await transfer(client, order_of())
    files = sorted(house.directory.iterdir())
    assert [path.name for path in files] == [".pacing", ".pacing-transfer.lock", ".pacing.lock"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert (house.directory / ".pacing").stat().st_size == 0


async def test_closing_ends_waiting_reads(house: House) -> None:
    client = house.client(request_interval_seconds=20)
    await client.accounts()
    ended: list[GatewayError] = []

    async def read() -> None:
        try:
            await client.activity_summary()
        except GatewayError as error:
            ended.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.sleep(0.02)
        await client.aclose()
    assert "has been closed" in str(ended[0])
