"""Answers that the processes on one data directory share: who uses them again, and what sets them aside."""

import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import anyio
import pytest
import time_machine
from pydantic import BaseModel, SecretStr

from pysequence_api.account.scoped import ignore_age
from pysequence_api.account.shared import FILE_NAME, LOCK_FILE_NAME, MAX_ANSWERS, MAX_FILE_BYTES, SharedAnswers
from pysequence_api.errors import SignInError
from pysequence_api.files import locked
from pysequence_api.gateway import Gateway
from pysequence_api.models import ActivityFilter, ActivitySummary, PodDetail
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import add
from pysequence_api.sandbox import ORGANIZATION_ID, KeyPermissions
from pysequence_api.sequence.client import Upstream
from tests.api.test_scopes import apply, pods, policy
from tests.hardening.test_planted_files import link, pipe, second_name
from tests.world import World, open_world

pytestmark = pytest.mark.anyio
MAX_AGE_SECONDS = 10.0
READS = ["accounts", "accounts of one", "activity", "summary", "pod", "transfer"]


@pytest.fixture
async def world(tmp_path: Path, upstream: str) -> AsyncIterator[World]:
    async with open_world(tmp_path, upstream=upstream, read_max_age_seconds=MAX_AGE_SECONDS) as world:
        yield world


async def read(
    world: World,
    process: Gateway,
    what: str = "accounts",
    *,
    again: bool = True,
    on_age: Callable[[float], None] = ignore_age,
) -> tuple[str, int]:
    """Read as the terminal does, and return the answer as JSON, and how many requests that took."""
    organization_id = process.default_organization_id or ORGANIZATION_ID
    reads = process.reads_of_owner(again=again, on_age=on_age)
    before = len(world.requests())
    asked: dict[str, Callable[[], Awaitable[BaseModel]]] = {
        "accounts": reads.accounts,
        "accounts of one": lambda: reads.accounts(organization_id),
        "activity": lambda: reads.activity(organization_id, first=20, after="", only=ActivityFilter(name="Groceries")),
        "summary": reads.activity_summary,
        "pod": lambda: reads.pod_detail(organization_id, world.pod_ids["Groceries"]),
        "transfer": lambda: reads.transfer_detail(organization_id, transfer_ids[0]),
    }
    if what == "transfer":
        page = await process.client.activity(organization_id, first=1)
        transfer_ids = [page.transfers[0].id]
        before = len(world.requests())
    answer = await asked[what]()
    return answer.model_dump_json(), len(world.requests()) - before


def balances(accounts: str) -> dict[str, int]:
    return {pod["id"]: pod["balance_cents"] for pod in json.loads(accounts)["pods"]}


def content(world: World) -> Any:
    return world.files.read_json(FILE_NAME)


@pytest.mark.parametrize("what", READS)
async def test_another_process_asks_sequence_nothing(world: World, what: str) -> None:
    ages: list[float] = []
    first, asked = await read(world, world.gateway, what, on_age=ages.append)
    assert (asked > 0, ages) == (True, [])
    other = await world.open_process()
    assert await read(world, other, what, on_age=ages.append) == (first, 0)
    assert await read(world, other, what, on_age=ages.append) == (first, 0)
    assert len(ages) == 2
    assert 0 <= ages[0] <= ages[1] < MAX_AGE_SECONDS


async def test_the_server_and_the_terminal_share_answers(world: World) -> None:
    terminal = await world.open_process()
    async with world.http() as client:
        answer = await client.get("/api/pods")
        _, asked_by_terminal = await read(world, terminal)
        await read(world, terminal, "summary")
        before = len(world.requests())
        summary = await client.get("/api/activity/summary")
    assert (answer.status_code, asked_by_terminal) == (200, 0)
    assert (summary.status_code, len(world.requests()) - before) == (200, 0)
    assert "age" in summary.headers


@pytest.mark.upstream("graphql")
async def test_what_wants_no_old_answer_asks_and_leaves_a_new_one(world: World) -> None:
    await read(world, world.gateway)
    kept_before = content(world)["answers"][0]["read_at_seconds"]
    _, asked = await read(world, await world.open_process(), again=False)
    assert asked > 0
    [kept] = content(world)["answers"]
    assert kept["read_at_seconds"] > kept_before


@pytest.mark.parametrize("channel", [Channel.API, Channel.CLI])
async def test_a_transfer_in_any_process_sets_answers_aside(world: World, channel: Channel) -> None:
    before, _ = await read(world, world.gateway)
    await world.transfer(4_200, process=await world.open_process(), channel=channel)
    after, asked = await read(world, await world.open_process())
    assert asked > 0
    assert before != after


async def test_a_read_after_a_transfer_does_not_wait_for_one_before_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client: Any = world.gateway.client
    order = world.order(4_200)
    is_read, may_return, is_joined = anyio.Event(), anyio.Event(), anyio.Event()
    owner: Any = client._connection if world.upstream is Upstream.PLATFORM else client
    answer_late = "read" if world.upstream is Upstream.PLATFORM else "_send_once"
    ask, ask_sequence = client.accounts, getattr(owner, answer_late)

    async def answered_late(request: Any, *more: Any) -> Any:
        answer = await ask_sequence(request, *more)
        if world.upstream is Upstream.GRAPHQL or order.source_id in str(request):
            is_read.set()
            await may_return.wait()
        return answer

    async def accounts(*arguments: Any, **more: Any) -> Any:
        if is_read.is_set():
            is_joined.set()
        return await ask(*arguments, **more)

    async def read_later() -> None:
        later.append((await read(world, world.gateway))[0])

    later: list[str] = []
    monkeypatch.setattr(owner, answer_late, answered_late)
    monkeypatch.setattr(client, "accounts", accounts)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read, world, world.gateway)
        await is_read.wait()
        other = await world.open_process()
        await world.transfer(4_200, process=other)
        tasks.start_soon(read_later)
        await is_joined.wait()
        may_return.set()
    found, _ = await read(world, await world.open_process())
    asked, _ = await read(world, other, again=False)
    assert balances(later[0]) == balances(found) == balances(asked)


@pytest.mark.upstream("graphql")
async def test_a_transfer_finds_no_kept_answer(world: World) -> None:
    await read(world, world.gateway)
    other = await world.open_process()
    before = len(world.requests("SelectSourceAndDestination"))
    await world.transfer(4_200, process=other)
    assert len(world.requests("SelectSourceAndDestination")) > before


@pytest.mark.upstream("graphql")
@pytest.mark.parametrize("name", ["access_token", "email", "org_id", "auth_url"])
async def test_other_credentials_and_organizations_see_nothing_of_it(world: World, name: str) -> None:
    changes: dict[str, Any] = {
        "access_token": SecretStr(world.sandbox.issue_tokens().access_token),
        "email": "another@example.com",
        "org_id": "another",
        "auth_url": "https://auth.example.com",
    }
    await read(world, world.gateway)
    _, asked = await read(world, await world.open_process(**{name: changes[name]}))
    assert asked > 0


@pytest.mark.upstream("graphql")
async def test_another_sign_in_sees_nothing_of_it(world: World) -> None:
    world.cache_tokens()
    await read(world, await world.open_process(access_token=None))
    assert (await read(world, await world.open_process(access_token=None)))[1] == 0
    world.cache_tokens()
    assert (await read(world, await world.open_process(access_token=None)))[1] > 0
    world.files.damage(".tokens.json")
    with pytest.raises(SignInError):
        await read(world, await world.open_process(access_token=None))


@pytest.mark.upstream("graphql")
async def test_an_answer_during_which_somebody_signed_in_is_not_shared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = world.gateway.client.accounts

    async def sign_in_meanwhile(*arguments: Any, **more: Any) -> Any:
        world.cache_tokens()
        return await ask(*arguments, **more)

    monkeypatch.setattr(world.gateway.client, "accounts", sign_in_meanwhile)
    await read(world, world.gateway)
    assert not (world.files.path / FILE_NAME).exists()


@pytest.mark.upstream("platform")
async def test_another_key_of_the_platform_api_sees_nothing_of_it(world: World) -> None:
    await read(world, world.gateway)
    key = world.sandbox.issue_platform_key(KeyPermissions(requests_per_minute=1_000_000))
    _, asked = await read(world, await world.open_process(platform_key=SecretStr(key)))
    assert asked > 0


@pytest.mark.upstream("graphql")
async def test_the_other_upstream_sees_nothing_of_it(world: World) -> None:
    await read(world, world.gateway)
    key = SecretStr(world.sandbox.issue_platform_key(KeyPermissions()))
    other = await world.open_process(upstream=Upstream.PLATFORM, platform_key=key)
    _, asked = await read(world, other)
    assert asked > 0


async def test_no_secret_is_in_the_file(world: World) -> None:
    await read(world, world.gateway)
    path = world.files.path / FILE_NAME
    text = path.read_text()
    for secret in (world.settings.access_token, world.settings.platform_key):
        assert secret is None or secret.get_secret_value() not in text
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.upstream("graphql")
async def test_a_caller_sees_its_part_of_what_the_terminal_read(world: World) -> None:
    apply(world, policy(pods(world, "Groceries")))
    key = add(world.gateway.records, "one").key
    await read(world, await world.open_process())
    before = len(world.requests())
    async with world.http(key=key) as client:
        answer = await client.get("/api/accounts")
    assert len(world.requests()) == before
    assert [pod["name"] for pod in answer.json()["pods"]] == ["Groceries"]
    assert answer.json()["accounts"] == []


@pytest.mark.upstream("graphql")
async def test_answers_with_gaps_are_not_kept(world: World) -> None:
    name = "me.memberships.0.organization.ports.0.name"
    world.fail({"kind": "values", "paths": [name], "value": 5}, operation="SelectSourceAndDestination", when="after")
    await read(world, world.gateway)
    assert not (world.files.path / FILE_NAME).exists()


@pytest.mark.upstream("graphql")
@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b'{"version": 1, "answers": [',
        b"\xff\x00" * 100,
        b'{"version": 2, "answers": []}',
        b'{"version": 1, "answers": {"a": 1}}',
        b"[" * 10_000,
        b'{"version": 1, "answers": []}' + b" " * MAX_FILE_BYTES,
    ],
    ids=["empty", "half", "binary", "version", "shape", "deep", "large"],
)
async def test_a_damaged_file_is_ignored_and_replaced(
    world: World, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await read(world, world.gateway)
    world.files.damage(FILE_NAME, damage)
    other = await world.open_process()
    _, asked = await read(world, other)
    await read(world, other, "summary")
    assert asked > 0
    assert len([one for one in caplog.records if FILE_NAME in one.getMessage()]) == 1
    assert len(content(world)["answers"]) == 2


@pytest.mark.upstream("graphql")
@pytest.mark.parametrize("damage", ["{", '{"pods": []}', '{"pods": 5}'])
async def test_a_damaged_answer_is_ignored_and_replaced(world: World, damage: str) -> None:
    await read(world, world.gateway)
    kept = content(world)
    kept["answers"][0]["answer"] = damage
    world.files.damage(FILE_NAME, json.dumps(kept).encode())
    answer, asked = await read(world, await world.open_process())
    assert asked > 0
    assert len(json.loads(answer)["pods"]) > 1


def directory(path: Path, _outside: Path) -> None:
    path.mkdir()


def of_another_user(path: Path, outside: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make files of others")
    path.write_bytes(outside.read_bytes())
    os.chown(path, 12_345, 12_345)


@pytest.mark.upstream("graphql")
@pytest.mark.parametrize(
    ("name", "plant"),
    [(name, link) for name in (LOCK_FILE_NAME, f"{FILE_NAME}.new")]
    + [(FILE_NAME, plant) for plant in (link, second_name, pipe, directory, of_another_user)],
)
async def test_a_planted_file_is_not_read_and_not_written(
    world: World,
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    plant: Callable[[Path, Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await read(world, world.gateway)
    path = world.files.path / name
    outside = tmp_path_factory.mktemp("outside") / "file"
    (world.files.path / FILE_NAME).rename(outside)
    path.unlink(missing_ok=True)
    before = outside.read_bytes()
    plant(path, outside)
    kind = path.lstat().st_mode
    other = await world.open_process()
    _, asked = await read(world, other)
    await read(world, other, "summary")
    await world.close(other)
    assert asked > 0
    assert (outside.read_bytes(), path.lstat().st_mode) == (before, kind)
    assert len([one for one in caplog.records if name in one.getMessage()]) == 1


@pytest.mark.upstream("graphql")
@pytest.mark.parametrize(
    ("set_by_seconds", "steady_seconds"),
    [(-60, 1), (60, 1), (1, 60), (1, -60), (60, 60)],
    ids=["set back", "set forward", "suspended", "restarted", "later"],
)
async def test_an_answer_is_young_by_both_clocks(
    world: World, monkeypatch: pytest.MonkeyPatch, set_by_seconds: float, steady_seconds: float
) -> None:
    await read(world, world.gateway)
    other, later = await world.open_process(), await world.open_process()
    assert (await read(world, other))[1] == 0
    clock = later.fresh._shared._clock_seconds
    monkeypatch.setattr(later.fresh._shared, "_clock_seconds", lambda: clock() + steady_seconds)
    with time_machine.travel(time.time() + set_by_seconds, tick=True):
        assert (await read(world, later))[1] > 0


@pytest.mark.upstream("graphql")
async def test_zero_neither_uses_nor_leaves_a_file(world: World) -> None:
    await read(world, world.gateway)
    off = await world.open_process(read_max_age_seconds=0)
    before = (world.files.path / FILE_NAME).read_bytes()
    _, asked = await read(world, off, "accounts")
    assert asked > 0
    assert (world.files.path / FILE_NAME).read_bytes() == before
    await world.close(off)
    assert not (world.files.path / FILE_NAME).exists()


@pytest.mark.upstream("graphql")
async def test_the_file_goes_with_the_last_process_that_could_use_it(world: World) -> None:
    await read(world, world.gateway)
    path = world.files.path / FILE_NAME
    await world.close(await world.open_process())
    assert path.exists()
    old = time.time() - MAX_AGE_SECONDS
    os.utime(path, (old, old))
    await world.close(await world.open_process())
    assert not path.exists()


SUMMARY = ActivitySummary(transfer_count=1, rule_executions=2, total_incoming_cents=3)


def shared_in(directory: Path) -> SharedAnswers:
    return SharedAnswers(directory, MAX_AGE_SECONDS, lambda: "source")


def test_the_file_is_bounded(tmp_path: Path) -> None:
    shared = shared_in(tmp_path)
    now = shared._clock_seconds
    for number in range(MAX_ANSWERS + 3):
        shared.add(shared.key_of(number), "", SUMMARY, now())
    assert len(json.loads((tmp_path / FILE_NAME).read_text())["answers"]) == MAX_ANSWERS
    assert shared.find(shared.key_of(MAX_ANSWERS + 2), "", ActivitySummary) is not None
    assert shared.find(shared.key_of(0), "", ActivitySummary) is None
    for kept, name in ((3, "x" * (MAX_FILE_BYTES // 4)), (0, "x" * MAX_FILE_BYTES)):
        (tmp_path / FILE_NAME).unlink()
        pod = PodDetail(id="1", name=name, organization_id="2", recent_transfers=(), balance_cents=1)
        for number in range(5):
            shared.add(shared.key_of(number), "", pod, now())
        found = [shared.find(shared.key_of(number), "", PodDetail) for number in range(5)]
        assert [one is not None for one in found] == [False] * (5 - kept) + [True] * kept
        (tmp_path / FILE_NAME).touch()


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    together = Barrier(4)

    def add_three(number: int) -> None:
        shared = shared_in(tmp_path)
        together.wait()
        for turn in range(3):
            shared.add(shared.key_of((number, turn)), "", SUMMARY, shared._clock_seconds())

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add_three, range(4)))
    shared = shared_in(tmp_path)
    assert len(json.loads((tmp_path / FILE_NAME).read_text())["answers"]) == 12
    for number in range(4):
        for turn in range(3):
            found = shared.find(shared.key_of((number, turn)), "", ActivitySummary)
            assert found is not None
            assert found[0] == SUMMARY


def test_a_lock_that_is_held_costs_only_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pysequence_api.account.shared.LOCK_TIMEOUT_SECONDS", 0.01)
    shared = shared_in(tmp_path)
    with locked(tmp_path / LOCK_FILE_NAME):
        shared.add(shared.key_of(1), "", SUMMARY, shared._clock_seconds())
    assert shared.find(shared.key_of(1), "", ActivitySummary) is None
