"""Answers of Sequence that are used again while they are young: by whom, for how long, and what sets them aside."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pysequence_api.account import fresh
from pysequence_api.records import database
from pysequence_api.records.callers import add
from tests.api.test_scopes import READ, apply, pods, policy
from tests.world import World, open_world

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]
BOTH = pytest.mark.upstream("graphql", "platform")
MAX_AGE_SECONDS = 10.0
ACCOUNTS = "SelectSourceAndDestination"
READS = ["/api/pods", "/api/accounts", "/api/pods/balance", "/api/activity", "/api/activity/summary"]


class Clock:
    """A monotonic clock that tests move."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
async def world(tmp_path: Path, anyio_backend: str, upstream: str) -> AsyncIterator[World]:
    async with open_world(tmp_path, upstream=upstream, read_max_age_seconds=MAX_AGE_SECONDS) as world:
        yield world


@pytest.fixture
def clock(world: World, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(world.gateway.fresh, "_clock_seconds", clock)
    return clock


async def read(world: World, client: httpx.AsyncClient, path: str, **headers: str) -> tuple[httpx.Response, int]:
    """Read, and count the requests to Sequence."""
    before = len(world.requests())
    answer = await client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    assert answer.status_code == 200, answer.text
    return answer, len(world.requests()) - before


@BOTH
async def test_a_second_read_asks_sequence_nothing(world: World, clock: Clock) -> None:
    async with world.http() as client:
        for path in READS:
            first, asked = await read(world, client, path)
            assert asked > 0, path
            assert "age" not in first.headers
            clock.seconds += 7.5
            second, asked_again = await read(world, client, path)
            assert asked_again == 0, path
            assert second.headers["age"] == "7"
            assert second.json() == first.json()
            assert {*second.headers} - {"age"} == {*first.headers}  # what is kept for the next reader is as it was
            clock.seconds += MAX_AGE_SECONDS  # some have what another one needs


async def test_a_caller_that_wants_no_cache_gets_a_new_answer(world: World, clock: Clock) -> None:
    async with world.http() as client:
        await read(world, client, "/api/pods")
        for directive in ("no-cache", "no-store", "max-age=0", "private, No-Cache"):
            answer, asked = await read(world, client, "/api/pods", cache_control=directive)
            _, asked_after = await read(world, client, "/api/pods")
            assert asked > 0, directive
            assert "age" not in answer.headers
            assert asked_after == 0  # the new answer took the place of the old one


async def test_an_old_answer_is_not_used(world: World, clock: Clock) -> None:
    async with world.http() as client:
        await read(world, client, "/api/pods")
        clock.seconds += MAX_AGE_SECONDS
        answer, asked = await read(world, client, "/api/pods")
    assert asked > 0
    assert "age" not in answer.headers


async def test_a_transfer_of_any_process_sets_answers_aside(world: World, clock: Clock) -> None:
    other = await world.open_process()
    async with world.http() as client:
        before, _ = await read(world, client, "/api/pods")
        await world.transfer(4_200, process=other)
        after, asked = await read(world, client, "/api/pods")
    assert asked > 0

    def balance(answer: httpx.Response) -> int:
        found = [pod["balance_cents"] for pod in answer.json() if pod["id"] == world.order().source_id]
        return int(found[0])

    assert balance(before) - balance(after) == 4_200


async def test_an_answer_from_the_middle_of_a_transfer_is_not_used_after_it(world: World, clock: Clock) -> None:
    world.fail({"kind": "status", "status": 500}, when="after")
    async with world.http() as client:
        await client.post("/api/transfers", json=world.order(4_200).model_dump(mode="json"))
        await read(world, client, "/api/pods")
        await world.follow_up()  # finds the transfer, which is a step of it
        _, asked = await read(world, client, "/api/pods")
    assert world.states() in (["accepted"], ["arrived"], ["unknown"])
    assert (asked > 0) == (world.states() != ["unknown"])


async def test_callers_share_an_answer_and_see_their_own_part_of_it(world: World, clock: Clock) -> None:
    everyone = f'[callers.default]\nscopes = {READ}\nreads = ["*"]\n'
    apply(world, policy(pods(world, "Groceries"), more=everyone))
    key = add(world.gateway.records, "one").key
    async with world.http() as everything, world.http(key=key) as part:
        await read(world, everything, "/api/pods")
        clock.seconds += 3
        answer, asked = await read(world, part, "/api/pods")
        again, _ = await read(world, part, "/api/pods")
        whole, _ = await read(world, everything, "/api/pods")
    assert asked == 0
    assert answer.headers["age"] == "3"
    assert [pod["name"] for pod in answer.json()] == ["Groceries"] == [pod["name"] for pod in again.json()]
    assert len(whole.json()) > 1


async def test_a_new_policy_holds_for_answers_that_are_used_again(world: World, clock: Clock) -> None:
    apply(world, policy(pods(world, "Groceries", "Rent")))
    async with world.http(key=add(world.gateway.records, "one").key) as client:
        await read(world, client, "/api/pods")
        apply(world, policy(pods(world, "Groceries")))
        answer, _ = await read(world, client, "/api/pods")
    assert [pod["name"] for pod in answer.json()] == ["Groceries"]


async def test_failures_and_answers_with_gaps_are_not_kept(world: World, clock: Clock) -> None:
    async with world.http() as client:
        world.fail({"kind": "status", "status": 500}, operation=ACCOUNTS)
        assert (await client.get("/api/pods")).status_code == 502
        name = "me.memberships.0.organization.ports.0.name"
        world.fail({"kind": "values", "paths": [name], "value": 5}, operation=ACCOUNTS, when="after")
        incomplete, asked_after_failure = await read(world, client, "/api/accounts")
        complete, asked_after_gap = await read(world, client, "/api/accounts")
    assert (asked_after_failure, asked_after_gap) == (1, 1)
    assert (incomplete.json()["complete"], complete.json()["complete"]) == (False, True)


async def test_what_decides_about_a_transfer_is_read_from_sequence(world: World, clock: Clock) -> None:
    async with world.http() as client:
        await read(world, client, "/api/accounts")
        before = len(world.requests())
        answer = await client.post("/api/transfers/preview", json=world.order(4_200).model_dump(mode="json"))
    assert answer.status_code == 200, answer.text
    assert len(world.requests()) > before


async def test_the_number_of_answers_is_bounded(world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "MAX_ANSWERS", 3)
    async with world.http() as client:
        for number in range(4):
            await read(world, client, f"/api/activity?first=1&name=x{number}")
        _, newest = await read(world, client, "/api/activity?first=1&name=x3")
        _, oldest = await read(world, client, "/api/activity?first=1&name=x0")
    assert (newest, oldest) == (0, 1)


async def test_zero_turns_it_off(tmp_path: Path, anyio_backend: str, upstream: str) -> None:
    async with open_world(tmp_path, upstream=upstream, read_max_age_seconds=0) as world, world.http() as client:
        await read(world, client, "/api/pods")
        _, asked = await read(world, client, "/api/pods")
    assert asked > 0


async def test_one_request_asks_the_records_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    connect = database.connect

    def connect_and_note(*arguments: Any, **more: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **more)
        connection.set_trace_callback(asked.append)
        return connection

    monkeypatch.setattr(database, "connect", connect_and_note)
    async with open_world(tmp_path, read_max_age_seconds=MAX_AGE_SECONDS) as world, world.http() as client:
        for path, looks in (("/api/pods", 1), ("/api/limits", 2)):
            await client.get(path)
            asked.clear()
            assert (await client.get(path)).status_code == 200
            assert asked == ["PRAGMA data_version"] * looks
