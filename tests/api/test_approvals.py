"""A caller that must ask: 202, the attempt that it polls or waits for, and canceling it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import add
from pysequence_api.safeguards import transfers
from tests.approvals import RULES, TOTP_SECRET, apply_rules, approve
from tests.world import World, open_world

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world whose owner has an authenticator, and whose caller ``bot`` must ask."""
    async with open_world(tmp_path, owner_totp=SecretStr(TOTP_SECRET)) as world:
        apply_rules(world, f'{RULES}\n[callers.other]\nscopes = ["read:accounts"]')
        yield world


@pytest.fixture
async def bot(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """The caller."""
    async with world.http(key=add(world.gateway.records, "bot").key) as client:
        yield client


async def ask(world: World, bot: httpx.AsyncClient, key: str = "rent", **more: Any) -> httpx.Response:
    """Request a transfer for which a rule asks."""
    body = world.order(5_000).model_dump(mode="json") | more
    return await bot.post("/api/transfers", json=body, headers={"Idempotency-Key": key})


async def test_a_transfer_that_asks_is_202_and_is_polled_without_sequence(world: World, bot: httpx.AsyncClient) -> None:
    answer = await ask(world, bot, reason="the rent is due")
    assert answer.status_code == 202
    asked = answer.json()
    assert (asked["state"], asked["amount_cents"], asked["rule"]) == ("awaiting_approval", 5_000, "rent")
    assert answer.headers["Location"] == f"/api/attempts/{asked['attempt_id']}"
    assert int(answer.headers["Retry-After"]) > 0
    assert (await ask(world, bot, "another")).json() == asked
    for key in ("rent", "another"):
        [listed] = (await bot.get("/api/attempts", params={"key": key})).json()["attempts"]
        assert (listed["attempt_id"], listed["state"]) == (asked["attempt_id"], "awaiting_approval")
    again = await ask(world, bot)
    assert (again.status_code, again.json()) == (202, asked)
    assert again.headers["Idempotency-Replayed"] == "true"
    requests = len(world.requests())
    status = await bot.get(answer.headers["Location"])
    assert status.json()["expires_at"] == asked["expires_at"]
    assert (status.json()["state"], "Retry-After" in status.headers) == ("awaiting_approval", True)
    assert len(world.requests()) == requests
    [shown] = await world.gateway.transfers.pending()
    assert (shown.caller_says, "rent is due" in (shown.description or "")) == ("the rent is due", False)
    await approve(world, asked["attempt_id"])
    status = await bot.get(answer.headers["Location"])
    assert (status.json()["state"], "Retry-After" in status.headers) == ("accepted", False)
    done = await ask(world, bot)
    assert (done.status_code, done.json()["attempt_id"]) == (200, asked["attempt_id"])


async def test_waiting_ends_when_the_state_changes(
    world: World, bot: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "WAIT_POLL_SECONDS", 0.01)
    path = (await ask(world, bot)).headers["Location"]
    waiting = asyncio.create_task(bot.get(path, params={"wait_seconds": 30}))
    while not world.gateway.transfers._waiting["bot"]:  # noqa: ASYNC110 - it is not told to anybody
        await asyncio.sleep(0.005)
    other = await world.open_process()
    await other.transfers.deny(path.rpartition("/")[2], Channel.CLI)
    async with asyncio.timeout(10):
        assert (await waiting).json()["state"] == "denied"
        assert (await bot.get(path, params={"wait_seconds": 30})).json()["state"] == "denied"
    for wrong in ("31", "-1", "nan", "soon"):
        assert (await bot.get(path, params={"wait_seconds": wrong})).status_code == 422


async def test_who_waits_has_bounds_and_a_server_that_stops_waits_for_nobody(
    world: World, bot: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = (await ask(world, bot)).headers["Location"]
    monkeypatch.setattr(transfers, "MAX_OWN_WAITING", 1)
    waiting = asyncio.create_task(bot.get(path, params={"wait_seconds": 30}))
    while not world.gateway.transfers._waiting["bot"]:  # noqa: ASYNC110 - it is not told to anybody
        await asyncio.sleep(0.005)
    async with asyncio.timeout(10):
        assert (await bot.get(path, params={"wait_seconds": 30})).json()["state"] == "awaiting_approval"
        assert not waiting.done()
        world.gateway.transfers.stop()
        assert (await waiting).json()["state"] == "awaiting_approval"


async def test_its_caller_cancels_it(world: World, bot: httpx.AsyncClient) -> None:
    path = (await ask(world, bot)).headers["Location"]
    async with world.http(key=add(world.gateway.records, "other").key) as other:
        for method in ("GET", "DELETE"):
            assert (await other.request(method, path)).status_code == 404
    for _ in range(2):
        answer = await bot.delete(path)
        assert (answer.status_code, answer.json()["state"], answer.json()["code"]) == (200, "cancelled", "cancelled")
    await ask(world, bot, "other", amount_cents=500)
    [sent] = [one.id for one in world.attempts() if one.amount_cents == 500]
    answer = await bot.delete(f"/api/attempts/{sent}")
    assert (answer.status_code, answer.json()["code"]) == (409, "approval_over")


async def test_no_route_approves(world: World, bot: httpx.AsyncClient) -> None:
    path = (await ask(world, bot)).headers["Location"]
    for method in ("POST", "PUT", "PATCH"):
        for tail in ("", "/approve", "/approval"):
            answer = await bot.request(method, path + tail, json={"decision": "approved", "code": "123456"})
            assert answer.status_code in {404, 405}
    assert (await bot.get(path)).json()["state"] == "awaiting_approval"
