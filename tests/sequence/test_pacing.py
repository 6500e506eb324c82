"""The distance between requests, also between processes; their order; how many may wait."""

import errno
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from pysequence_api.errors import (
    BusyError,
    GatewayError,
    NotFoundError,
    NotSentError,
    RateLimitedError,
    SequenceError,
    StoppingError,
)
from pysequence_api.files import locked
from pysequence_api.sandbox import ORGANIZATION_ID
from pysequence_api.sandbox.journal import JournalEntry
from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
from pysequence_api.sequence.pacing import (
    FLAG_FILE_NAMES,
    GUARD_SECONDS,
    MAX_HOLD_SECONDS,
    MAX_WAITING_REQUESTS,
    MAX_YIELD_TURNS,
    Pacer,
    Priority,
    Rank,
    SharedPace,
)
from pysequence_api.sequence.telemetry import Phase, called_by, observed
from tests.sequence.conftest import ClientWorld, order_of, transfer
from tests.starter import python

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
INTERVAL_SECONDS = 0.15


def distances(world: ClientWorld) -> list[float]:
    """Return the seconds between the requests that the server saw."""
    times = [entry.arrived_monotonic_seconds for entry in world.requests()]
    return [later - earlier for earlier, later in pairwise(times)]


async def read_something(client: GraphQLSequenceClient, number: int) -> None:
    """Make a read that is equal to no other."""
    with pytest.raises(NotFoundError):
        await client.pod_detail(ORGANIZATION_ID, f"pod {number}")


@asynccontextmanager
async def process(world: ClientWorld, **task: Any) -> AsyncIterator[Process]:
    """Run another process on the same data directory, and wait for its success."""
    argument = {
        "base_url": world.base_url,
        "directory": str(world.files.path),
        "access_token": world.sandbox.issue_tokens().access_token,
        "interval": INTERVAL_SECONDS,
        "count": 0,
    }
    async with await anyio.open_process(
        [*python(), "-m", "tests.sequence.reader", json.dumps(argument | task)], cwd=ROOT, stderr=None
    ) as running:
        yield running
        with anyio.fail_after(15):
            assert await running.wait() == 0


async def until(world: ClientWorld, count: int, operation: str | None = None) -> None:
    with anyio.fail_after(10):
        while len(world.requests(operation)) < count:  # noqa: ASYNC110 - the journal has no event
            await anyio.sleep(0.002)


@pytest.mark.waits
async def test_processes_keep_the_distance(tcp_world: ClientWorld) -> None:
    ids = [f"transfer {number}" for number in range(4)]
    tcp_world.fail({"kind": "garbage", "body": GARBAGE}, operation="TransferReferenceDrawerContentV2", count=8)
    client = tcp_world.client(request_interval_seconds=INTERVAL_SECONDS)
    async with process(tcp_world, count=4, distinct=ids), anyio.create_task_group() as tasks:
        await until(tcp_world, 1)
        for number in range(4):
            tasks.start_soon(read_something, client, number)
    assert len(tcp_world.requests()) == 8
    assert {entry.operation for entry in tcp_world.requests()[:6]} == {
        "PodDrawerContent",
        "TransferReferenceDrawerContentV2",
    }
    assert min(distances(tcp_world)) >= INTERVAL_SECONDS


GARBAGE = json.dumps({"data": {"organization": {"transferReference": {"id": "x"}}}})


async def test_the_distance_holds_after_a_slow_connection(
    tcp_world: ClientWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tcp_world.client(request_interval_seconds=INTERVAL_SECONDS)
    order = order_of()

    async with anyio.create_task_group() as tasks:

        async def send_slowly() -> None:
            prepared = await client.prepare_transfer(order, attempt_id="1", caller="default")
            await anyio.sleep(INTERVAL_SECONDS * 1.6)  # meanwhile the next one gets its turn
            await prepared.send()

        tasks.start_soon(send_slowly)
        await anyio.sleep(0.01)
        for number in range(3):
            tasks.start_soon(read_something, client, number)
    assert len(distances(tcp_world)) == 3
    assert min(distances(tcp_world)) >= INTERVAL_SECONDS


async def test_thirty_equal_reads_make_at_most_two_requests(any_world: ClientWorld) -> None:
    client = any_world.client(request_interval_seconds=INTERVAL_SECONDS)
    results = []

    async def read(delay_seconds: float) -> None:
        await anyio.sleep(delay_seconds)
        results.append(await client.accounts())

    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(read, 0.002 * number)
    assert len(any_world.requests()) <= 2
    assert len(results) == 30
    assert all(result == results[0] for result in results)


async def test_equal_reads_fail_alike_with_separate_errors(world: ClientWorld) -> None:
    client = world.client(request_interval_seconds=INTERVAL_SECONDS)
    world.fail({"kind": "status", "status": 429, "headers": {"Retry-After": "9"}}, operation="ActivitySummary")
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
    assert {(type(error), error.retry_after_seconds) for error in errors} == {(RateLimitedError, 9)}
    assert len({str(error) for error in errors}) == 1
    assert len(world.requests()) == 1


async def test_a_cancelled_reader_does_not_cancel_the_others(world: ClientWorld) -> None:
    client = world.client(request_interval_seconds=INTERVAL_SECONDS)
    await client.accounts()  # the next read has to wait
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
    assert len(world.requests("ActivitySummary")) == 1


async def test_a_read_without_callers_is_cancelled(world: ClientWorld) -> None:
    client = world.client(request_interval_seconds=INTERVAL_SECONDS)
    await client.accounts()
    for _ in range(3):
        with anyio.move_on_after(0.02):
            await client.activity_summary()
    await anyio.wait_all_tasks_blocked()
    assert client._pacer._queue == []
    await client.accounts()
    assert world.requests("ActivitySummary") == []


async def test_a_transfer_goes_ahead_of_waiting_reads(world: ClientWorld) -> None:
    client = world.client(request_interval_seconds=INTERVAL_SECONDS)
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(read_something, client, number)
        await until(world, 1)
        await transfer(client, order_of())
        assert len(world.requests()) <= 3
    assert min(distances(world)) >= INTERVAL_SECONDS


async def test_an_urgent_read_goes_ahead_of_reads_and_behind_transfers(tmp_path: Path) -> None:
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


async def test_a_transfer_goes_ahead_of_the_reads_of_another_process(tcp_world: ClientWorld) -> None:
    client = tcp_world.client(request_interval_seconds=INTERVAL_SECONDS)
    async with anyio.create_task_group() as tasks:
        for number in range(25):
            tasks.start_soon(read_something, client, number)
        async with process(tcp_world, transfer=True):
            await until(tcp_world, 1, "CreatePayment")
            before = len(tcp_world.requests("PodDrawerContent"))
            tasks.cancel_scope.cancel()
    # The process takes a second to start; then at most one read goes ahead of its transfer.
    assert before < 25
    assert min(distances(tcp_world)) >= INTERVAL_SECONDS


async def test_reads_wait_while_a_transfer_of_another_process_waits(tmp_path: Path) -> None:
    here, there = (Pacer(tmp_path, interval_seconds=0.2, jitter_seconds=0) for _ in range(2))
    flag = there._shared.flag(Rank.TRANSFER)
    assert flag is not None
    there._shared.show(flag)
    with anyio.move_on_after(0.3) as scope:
        await here.take(Priority.READ)
    assert scope.cancelled_caught
    await here.take(Priority.TRANSFER)
    flag.release()
    flag.show()  # has no effect after `release`
    with anyio.fail_after(1):
        await here.take(Priority.READ)


async def test_the_owner_goes_ahead_of_transfers_of_another_process(tcp_world: ClientWorld) -> None:
    client = tcp_world.client(request_interval_seconds=INTERVAL_SECONDS)
    sent_before: list[int] = []  # when a request of the owner began to wait
    async with anyio.create_task_group() as tasks:
        for _ in range(MAX_WAITING_REQUESTS):
            tasks.start_soon(transfer, client, order_of())
        async with process(tcp_world, owner_amount_cents=OWNER_AMOUNT_CENTS) as running:
            assert running.stdout is not None
            async for phases in TextReceiveStream(running.stdout):
                sent_before += [len(tcp_world.requests())] * phases.count(Phase.TURN.name)
        tasks.cancel_scope.cancel()
    numbers = [number for number, entry in enumerate(tcp_world.requests()) if is_of_owner(entry)]
    # One request may be in progress, and one of the other process may have the next turn.
    assert all(number - before <= 2 for number, before in zip(numbers, sent_before, strict=True)), (
        numbers,
        sent_before,
    )
    assert min(distances(tcp_world)) >= INTERVAL_SECONDS


OWNER_AMOUNT_CENTS = 7


def is_of_owner(entry: JournalEntry) -> bool:
    variables = entry.variables if isinstance(entry.variables, dict) else {}
    return entry.operation == "ActivitySummary" or variables.get("amount") == OWNER_AMOUNT_CENTS


async def test_the_order_of_requests_in_several_processes(tmp_path: Path) -> None:
    server, terminal = (
        Pacer(tmp_path, interval_seconds=0.02, jitter_seconds=0, is_owner=owner) for owner in (False, True)
    )
    await server.take(Priority.READ)
    order: list[tuple[str, Priority]] = []

    async def take(name: str, pacer: Pacer, priority: Priority) -> None:
        await pacer.take(priority)
        order.append((name, priority))

    async with anyio.create_task_group() as tasks:
        for priority in (Priority.READ, Priority.TRANSFER):
            tasks.start_soon(take, "server", server, priority)
            tasks.start_soon(take, "terminal", terminal, priority)
    assert order == [
        ("terminal", Priority.TRANSFER),
        ("terminal", Priority.READ),
        ("server", Priority.TRANSFER),
        ("server", Priority.READ),
    ]


async def test_a_terminal_that_never_stops_reading_leaves_turns_to_the_server(tmp_path: Path) -> None:
    server, terminal = (
        Pacer(tmp_path, interval_seconds=0.01, jitter_seconds=0, is_owner=owner) for owner in (False, True)
    )
    reads_before: list[int] = []  # the number of reads of the terminal before each turn of the server
    reads = 0
    async with anyio.create_task_group() as tasks:

        async def read() -> None:
            nonlocal reads
            while True:
                await terminal.take(Priority.READ)
                reads += 1

        for _ in range(3):
            tasks.start_soon(read)
        with anyio.fail_after(10):
            for _ in range(6):
                await server.take(Priority.TRANSFER)
                reads_before.append(reads)
        tasks.cancel_scope.cancel()
    in_a_row = [later - earlier for earlier, later in pairwise(reads_before)]
    assert max(in_a_row) <= MAX_YIELD_TURNS + 2  # two while it yields, and two around them
    assert min(in_a_row) >= 1


async def test_a_suspended_terminal_stops_nobody(tmp_path: Path) -> None:
    gap_seconds = 0.02 + GUARD_SECONDS
    server = Pacer(tmp_path, interval_seconds=0.02, jitter_seconds=0)
    flag = SharedPace(tmp_path).flag(Rank.OWNER_TRANSFER)
    assert flag is not None
    flag.show()  # and takes no turn
    started = time.monotonic()
    with anyio.fail_after(5):
        await server.take(Priority.TRANSFER)
    assert time.monotonic() - started >= MAX_YIELD_TURNS * gap_seconds
    flag.release()


async def test_the_thirty_third_distinct_read_is_rejected(world: ClientWorld) -> None:
    client = world.client(request_interval_seconds=20, request_jitter_seconds=2)
    await client.accounts()
    async with anyio.create_task_group() as tasks:
        for number in range(MAX_WAITING_REQUESTS):
            tasks.start_soon(read_something, client, number)
            tasks.start_soon(read_something, client, number)  # an equal read takes no place of its own
        with anyio.fail_after(5):
            while len(client._pacer._queue) < MAX_WAITING_REQUESTS:  # noqa: ASYNC110 - the queue has no event
                await anyio.sleep(0.001)
        with pytest.raises(BusyError) as caught:
            await client.activity_summary()
        assert caught.value.status == 503
        assert caught.value.nothing_moved
        assert caught.value.retry_after_seconds is not None
        assert 640 <= caught.value.retry_after_seconds <= 720
        tasks.cancel_scope.cancel()
    assert client._pacer._queue == []
    assert len(world.requests()) == 1


async def test_waiting_reads_leave_room_for_transfers(tmp_path: Path) -> None:
    pacer = Pacer(tmp_path, interval_seconds=0.3, jitter_seconds=0)
    await pacer.take(Priority.READ)
    async with anyio.create_task_group() as tasks:
        for _ in range(MAX_WAITING_REQUESTS):
            tasks.start_soon(pacer.take, Priority.READ)
        await anyio.sleep(0.01)
        with pytest.raises(BusyError):
            await pacer.take(Priority.READ)
        with anyio.fail_after(5):
            await pacer.take(Priority.URGENT)
            await pacer.take(Priority.TRANSFER)
        tasks.cancel_scope.cancel()


async def test_a_wait_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pysequence_api.sequence.pacing.MAX_WAIT_TURNS", 0)
    monkeypatch.setattr("pysequence_api.sequence.pacing.MAX_WAIT_EXTRA_SECONDS", 0.05)
    pacer = Pacer(tmp_path, interval_seconds=10, jitter_seconds=0)
    await pacer.take(Priority.READ)
    with pytest.raises(BusyError):
        await pacer.take(Priority.TRANSFER)
    assert pacer._queue == []
    assert not pacer._shared.start(0, rank=Rank.READ, mine=False)  # its flag is gone


async def test_a_time_in_the_future_counts_as_now(tmp_path: Path) -> None:
    stamp = tmp_path / ".pacing"
    stamp.touch()
    os.utime(stamp, (time.time() + 3600, time.time() + 3600))
    started = time.monotonic()
    with anyio.fail_after(2):
        await Pacer(tmp_path, interval_seconds=0.1, jitter_seconds=0).take(Priority.READ)
    assert time.monotonic() - started >= 0.1


@pytest.mark.parametrize("broken", ["lock", "stamp", "directory"])
async def test_requests_go_on_without_the_files(
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
    started = time.monotonic()
    for priority in (Priority.READ, Priority.TRANSFER, Priority.READ):
        turn = await pacer.take(priority)
        await turn.begin()
        await turn.renew()
    assert time.monotonic() - started >= 0.2
    assert caplog.text.count("cannot be shared with other processes") == 1


async def test_a_lock_that_is_never_free_ends_in_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pysequence_api.sequence.pacing.MAX_WAIT_TURNS", 0)
    monkeypatch.setattr("pysequence_api.sequence.pacing.MAX_WAIT_EXTRA_SECONDS", 0.3)
    monkeypatch.setattr("pysequence_api.sequence.pacing.LOCK_TRY_SECONDS", 0.05)
    with locked(tmp_path / ".pacing.lock"), pytest.raises(BusyError):
        await Pacer(tmp_path, interval_seconds=0.1, jitter_seconds=0).take(Priority.READ)


async def test_jitter_is_drawn_for_each_turn(tmp_path: Path) -> None:
    pacer = Pacer(tmp_path, interval_seconds=0.01, jitter_seconds=0.05)
    turns = [await pacer.take(Priority.READ) for _ in range(3)]
    assert len({turn.gap_seconds for turn in turns}) == 3


async def test_without_pacing_no_file_is_touched(world: ClientWorld) -> None:
    await world.client().activity_summary()
    assert list(world.files.path.iterdir()) == []


async def test_files_are_private(world: ClientWorld) -> None:
    client = world.client(request_interval_seconds=0.01)
    await client.activity_summary()
    await transfer(client, order_of())
    await client._pacer.hold(1)
    files = list(world.files.path.iterdir())
    assert {path.name for path in files} == {".pacing", ".pacing-hold", ".pacing.lock", *FLAG_FILE_NAMES}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert (world.files.path / ".pacing").stat().st_size == 0


RATE_LIMITED = {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}}
HOLD_SECONDS = 1


@pytest.mark.waits
@pytest.mark.parametrize(("interval_seconds", "status"), [(0, 503), (0.1, 429)], ids=["not paced", "paced"])
async def test_retry_after_holds_back_every_request(
    world: ClientWorld, interval_seconds: float, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    client = world.client(request_interval_seconds=interval_seconds)
    other_process = world.client(request_interval_seconds=interval_seconds)
    world.fail(RATE_LIMITED | {"status": status}, operation="ActivitySummary")
    with pytest.raises(SequenceError):
        await client.activity_summary()
    phases: list[Phase] = []
    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(read_something, client, number)
            tasks.start_soon(read_something, other_process, number)
        with observed(phases.append):
            await transfer(client, order_of())
    limited, *held = world.requests()
    assert len(held) == 13
    assert limited.answered_monotonic_seconds is not None
    first = min(entry.arrived_monotonic_seconds for entry in held)
    assert HOLD_SECONDS - 0.1 <= first - limited.answered_monotonic_seconds < HOLD_SECONDS + 1
    assert Phase.HELD in phases
    assert "A transfer waits" in caplog.text
    if interval_seconds:
        assert held[0].operation == "CreatePayment"


async def test_a_request_that_is_connected_is_held_back_too(world: ClientWorld) -> None:
    client = world.client()
    prepared = await client.prepare_transfer(order_of(), attempt_id="1", caller="default")
    world.fail(RATE_LIMITED | {"headers": {"Retry-After": "60"}}, operation="ActivitySummary")
    with pytest.raises(RateLimitedError):
        await client.activity_summary()
    with pytest.raises(BusyError) as caught:
        await prepared.send()
    assert caught.value.retry_after_seconds is not None
    assert 55 <= caught.value.retry_after_seconds <= 61
    assert world.requests("CreatePayment") == []


async def test_nothing_waits_for_a_pause_that_is_too_long(world: ClientWorld) -> None:
    for retry_after in ("60", "86400", "999999"):  # one in the place of the other
        clients = world.client(), world.client(request_interval_seconds=0.01)
        world.fail_once(RATE_LIMITED | {"headers": {"Retry-After": retry_after}}, operation="ActivitySummary")
        with pytest.raises(RateLimitedError):
            await clients[0].activity_summary()
        for one in clients:
            for attempt in (one.activity_summary(), transfer(one, order_of())):
                with anyio.fail_after(2), pytest.raises(BusyError) as caught:
                    await attempt
                assert caught.value.retry_after_seconds is not None
                assert 50 <= caught.value.retry_after_seconds <= MAX_HOLD_SECONDS + 1
        assert len(world.requests()) == 1
        (world.files.path / ".pacing-hold").unlink()


async def test_without_a_time_nothing_is_held_back(world: ClientWorld) -> None:
    client = world.client()
    for headers in ({"Retry-After": "0"}, {"Retry-After": "soon"}, {"Retry-After": "-5"}, {}):
        world.fail(RATE_LIMITED | {"headers": headers}, operation="ActivitySummary")
        with pytest.raises(RateLimitedError):
            await client.activity_summary()
        with anyio.fail_after(1):
            await client.activity_summary()
        assert list(world.files.path.iterdir()) == []


async def test_the_longest_pause_counts(tmp_path: Path) -> None:
    here, there = (Pacer(tmp_path, interval_seconds=0, jitter_seconds=0) for _ in range(2))
    await here.hold(30)
    await there.hold(5)
    assert 29 < there.held_seconds <= 30
    assert 29 < here.held_seconds <= 30


async def test_a_pause_after_the_clock_was_set_back_ends(tmp_path: Path) -> None:
    file = tmp_path / ".pacing-hold"
    file.touch()
    os.utime(file, (time.time() + 86_400, time.time() + 86_400))
    pacer = Pacer(tmp_path, interval_seconds=0.01, jitter_seconds=0)
    with anyio.fail_after(1):
        await pacer.take(Priority.READ)
    await pacer.hold(7)
    assert 6 < Pacer(tmp_path, interval_seconds=0, jitter_seconds=0).held_seconds <= 7


async def test_a_pause_holds_here_without_the_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "gone").touch()
    pacer = Pacer(tmp_path / "gone", interval_seconds=0, jitter_seconds=0)
    await pacer.hold(60)
    with pytest.raises(BusyError):
        await pacer.take(Priority.TRANSFER)
    assert "cannot be shared with other processes" in caplog.text


async def test_stopping_releases_a_read_that_is_held_back(tmp_path: Path) -> None:
    pacer = Pacer(tmp_path, interval_seconds=0, jitter_seconds=0)
    await pacer.hold(5)
    with anyio.fail_after(2):
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                with pytest.raises(StoppingError):
                    await pacer.take(Priority.READ)

            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            pacer.stop()


async def test_closing_ends_waiting_reads(world: ClientWorld) -> None:
    client = world.client(request_interval_seconds=20)
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
    assert [type(error) for error in ended] == [NotSentError]


async def test_callers_take_turns(tmp_path: Path) -> None:
    """The instance that failed: one caller's queue of reads made the one read of another wait for all of them."""
    pacer = Pacer(tmp_path, interval_seconds=0.02, jitter_seconds=0)
    order: list[str] = []

    async def take(caller: str, number: int) -> None:
        with called_by(caller):
            await pacer.take(Priority.READ)
        order.append(f"{caller}{number}")

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(take, "greedy", number)
        while len(pacer._queue) < 5:
            await anyio.lowlevel.checkpoint()
        for number in range(2):
            tasks.start_soon(take, "modest", number)
    assert [one for one in order if one.startswith("greedy")] == [f"greedy{number}" for number in range(6)]
    assert order.index("modest0") <= 2
    assert order.index("modest1") <= 4


async def test_a_caller_cannot_take_the_places_of_another(tmp_path: Path) -> None:
    pacer = Pacer(tmp_path, interval_seconds=60, jitter_seconds=0)

    async def take(caller: str) -> None:
        with called_by(caller):
            await pacer.take(Priority.READ)

    await take("greedy")
    async with anyio.create_task_group() as tasks:
        for _ in range(MAX_WAITING_REQUESTS):
            tasks.start_soon(take, "greedy")
        while len(pacer._queue) < MAX_WAITING_REQUESTS:
            await anyio.lowlevel.checkpoint()
        with pytest.raises(BusyError):
            await take("greedy")
        tasks.start_soon(take, "modest")
        while len(pacer._queue) <= MAX_WAITING_REQUESTS:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
