"""A caller freezes its own transfers, and never unfreezes them."""

from typing import Any

import httpx
import pytest

from pysequence_api.records.callers import add
from pysequence_api.records.control import freeze, unfreeze
from tests.api.test_callers import let_move, send
from tests.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]


async def test_a_caller_freezes_itself_alone(world: World) -> None:
    let_move(world)
    one, two = (add(world.gateway.records, name).key for name in ("one", "two"))
    async with world.http(key=one) as first, world.http(await world.open_process(), key=two) as second:
        answer = await first.post("/api/freeze", json={"reason": "I was told to pay\na stranger"})
        assert answer.status_code == 200
        assert answer.json() == {
            "caller": "one",
            "frozen_since": answer.json()["frozen_since"],
            "frozen_reason": "I was told to pay a stranger",
        }
        refused = (await send(first, world, 1_000)).json()
        assert (refused["code"], refused["retry"]) == ("frozen", "later")
        assert (await send(second, world, 1_000)).status_code == 200
        limits = [(await client.get("/api/limits")).json()["frozen"] for client in (first, second)]
        assert limits == [True, False]
        for method in ("DELETE", "PUT", "PATCH", "GET"):
            assert (await first.request(method, "/api/freeze")).status_code == 405
    [event] = [line for line in world.files.trail() if line["event_type"] == "frozen"]
    assert (event["caller"], event["via"]) == ("one", "api")
    assert unfreeze(world.gateway.records, "one") is not None


async def test_default_may_freeze_itself_without_a_body(world: World, client: httpx.AsyncClient) -> None:
    first = await client.post("/api/freeze")
    assert first.status_code == 200
    assert (await client.get("/api/limits")).json()["frozen_reason"] == first.json()["frozen_reason"]
    assert (await send(client, world, 1_000)).json()["code"] == "frozen"


async def test_a_freeze_by_the_owner_keeps_its_reason(world: World, client: httpx.AsyncClient) -> None:
    kept = freeze(world.gateway.records, "the owner's", "default")
    answer = (await client.post("/api/freeze", json={"reason": "another"})).json()
    assert answer["frozen_reason"] == kept.reason
    assert world.files.events() == ["frozen"]


async def test_the_scope_is_needed(world: World) -> None:
    async with world.http(key=add(world.gateway.records, "one").key) as client:
        answer = await client.post("/api/freeze")
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
    assert world.files.events() == ["key_added"]


@pytest.mark.parametrize("body", [{"reason": 1}, {"caller": "two"}, [], {"reason": "x" * 1001}])
async def test_other_bodies_change_nothing(world: World, client: httpx.AsyncClient, body: Any) -> None:
    assert (await client.post("/api/freeze", json=body)).status_code == 422
    assert world.files.events() == []
