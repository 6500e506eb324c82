"""Sequence's failures are answers in the API's own shape, and callers share the paced requests to it."""

from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from pysequence_api.sandbox import ORGANIZATION_ID
from tests.api.calls import transfer_body
from tests.world import World, open_world

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]


async def test_reads_are_paced_and_shared(tmp_path: Path) -> None:
    async with open_world(tmp_path, request_interval_seconds=0.5) as world, world.http() as client:
        before = len(world.sandbox.journal.read().requests)
        answers: list[httpx.Response] = []

        async def read() -> None:
            answers.append(await client.get("/api/pods"))

        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(read)
        assert [answer.status_code for answer in answers] == [200] * 30
        arrivals = [one.arrived_monotonic_seconds for one in world.sandbox.journal.read().requests]
        assert 1 <= len(arrivals) - before <= 2
        assert all(later - earlier >= 0.5 for earlier, later in pairwise(arrivals))


async def test_too_many_waiting_reads_are_503(tmp_path: Path) -> None:
    rejected: list[httpx.Response] = []
    async with (
        open_world(tmp_path, request_interval_seconds=60) as world,
        world.http() as client,
        anyio.create_task_group() as tasks,
    ):

        async def read(number: int) -> None:
            answer = await client.get(f"/api/transfers/{number}")
            if answer.status_code == 503:
                rejected.append(answer)
                tasks.cancel_scope.cancel()

        for number in range(40):
            tasks.start_soon(read, number)
        with anyio.fail_after(10):
            await anyio.sleep_forever()
    assert rejected
    assert int(rejected[0].headers["retry-after"]) > 0


READ_FAULTS: list[Any] = [
    {"kind": "status", "status": 429},
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 403},
    {"kind": "html", "status": 200},
    "close",
    "half_body",
    "garbage",
    {"kind": "graphql_error", "message": "Something went wrong"},
    {"kind": "status", "status": 400, "body": {"errors": [{"message": 'Cannot query field "kycs"'}]}},
    {"kind": "html", "status": 403},
    "redirect",
    {"kind": "delay", "seconds": 30},
]


async def test_failed_reads_are_502(tmp_path: Path) -> None:
    paths = ("/api/pods", "/api/activity/summary", f"/api/activity?org_id={ORGANIZATION_ID}")
    async with open_world(tmp_path, request_timeout_seconds=0.5) as world, world.http() as client:
        for fault, path in zip(READ_FAULTS, cycle(paths), strict=False):
            world.fail(fault, operation="*")
            answer = await client.get(path)
            assert answer.status_code == 502, (fault, answer.text)
            assert set(answer.json()) == {"detail", "code"}
            assert "<" not in answer.json()["detail"]


async def test_rejected_token_is_502(world: World, client: httpx.AsyncClient) -> None:
    body = transfer_body()
    world.fail({"kind": "status", "status": 401}, operation="*", count=10)
    for answer in (await client.get("/api/pods"), await client.post("/api/transfers", json=body)):
        assert answer.status_code == 502
    assert (await client.get("/api/limits")).json()["used_cents"] == 0
    assert await world.moved() == []
