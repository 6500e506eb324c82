"""A request with the same idempotency key moves money once, and every attempt can be looked up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import time_machine

from tests.api.calls import post_transfer
from tests.world import GRACE_SECONDS, World

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]
BOTH = pytest.mark.upstream("graphql", "platform")


async def post(client: httpx.AsyncClient, key: str, amount_cents: int = 5000) -> tuple[int, dict[str, Any], bool]:
    """Request a transfer. Returns status, body, and whether the answer is replayed."""
    answer = await post_transfer(client, amount_cents, headers={"Idempotency-Key": key})
    return answer.status_code, answer.json(), answer.headers.get("Idempotency-Replayed") == "true"


@BOTH
async def test_same_key_gets_the_same_answer(world: World, client: httpx.AsyncClient) -> None:
    status, body, replayed = await post(client, "rent")
    assert (status, replayed) == (200, False)
    status, again, replayed = await post(client, "rent")
    assert (status, replayed) == (200, True)
    same = ("id", "status", "state", "attempt_id", "amount_cents", "created_at", "daily_remaining_cents")
    assert {name: again[name] for name in same} == {name: body[name] for name in same}
    for party in ("source", "destination"):
        assert (again[party]["id"], again[party]["name"]) == (body[party]["id"], body[party]["name"])
    status, other, _ = await post(client, "rent", 5001)
    assert (status, other["code"], other["outcome"], other["retry"]) == (422, "key_reused", "nothing_moved", "new_key")
    assert len(await world.moved()) == 1


async def test_corrected_order_may_reuse_the_key_of_a_refused_one(world: World, client: httpx.AsyncClient) -> None:
    world.fail({"kind": "refuse", "message": "Insufficient funds"})
    status, refused, replayed = await post(client, "k")
    assert (status, replayed) == (400, False)
    assert (refused["code"], refused["outcome"], refused["retry"]) == ("refused", "nothing_moved", "same_key")
    status, body, replayed = await post(client, "k", 4000)
    assert (status, replayed) == (200, False)
    assert body["attempt_id"] != refused["attempt_id"]
    known = (await client.get(f"/api/attempts/{refused['attempt_id']}")).json()
    assert (known["state"], known["code"]) == ("refused", "refused")
    assert len(await world.moved()) == 1


async def test_rejected_attempt_can_be_looked_up(client: httpx.AsyncClient) -> None:
    status, rejected, _ = await post(client, "k", 1_500_000)
    assert status == 400
    known = (await client.get(f"/api/attempts/{rejected['attempt_id']}")).json()
    assert (known["state"], known["code"], known["amount_cents"]) == ("rejected", "over_max", 1_500_000)
    status, _, replayed = await post(client, "k", 5000)
    assert (status, replayed) == (200, False)


async def test_transfer_that_was_not_executed_keeps_its_key(world: World, client: httpx.AsyncClient) -> None:
    world.fail("close", when="before")
    status, unknown, _ = await post(client, "k")
    assert status == 502
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=GRACE_SECONDS + 1)):
        await world.follow_up()
    status, body, replayed = await post(client, "k")
    assert (status, replayed) == (409, True)
    assert (body["code"], body["outcome"], body["retry"]) == ("not_executed", "nothing_moved", "new_key")
    assert body["attempt_id"] == unknown["attempt_id"]
    assert await world.moved() == []
    assert (await post(client, "another"))[0] == 200


@pytest.mark.parametrize("keys", [("",), (" ",), ("a b",), ("x" * 256,), ("ключ",), ("\x7f",), ("one", "two")])
async def test_invalid_key(shared_world: World, shared_client: httpx.AsyncClient, keys: tuple[str, ...]) -> None:
    answer = await post_transfer(shared_client, headers=[(b"Idempotency-Key", key.encode()) for key in keys])
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    kind = "idempotency_key" if len(keys) == 1 else "duplicate"
    assert (error["loc"], error["type"]) == (["header", "idempotency-key"], kind)
    assert await shared_world.moved() == []


async def test_unknown_outcome_is_found_out(world: World, client: httpx.AsyncClient) -> None:
    world.fail("close", when="after")
    status, body, _ = await post(client, "k")
    assert status == 502
    assert (body["code"], body["outcome"], body["retry"]) == ("outcome_unknown", "unknown", "never")
    status, again, replayed = await post(client, "k")
    assert (status, replayed) == (502, True)
    [attempt] = (await client.get("/api/limits")).json()["unsettled"]
    attempt_id = attempt["attempt_id"]
    for answer in (body, again):
        assert answer["attempt_id"] == attempt_id
        assert attempt_id in answer["detail"]
    known = (await client.get(f"/api/attempts/{attempt_id}")).json()
    assert (known["state"], known["code"], known["amount_cents"]) == ("unknown", "connection_lost", 5000)
    for headers in (None, {"Idempotency-Key": "another"}):
        equal = await post_transfer(client, headers=headers)
        assert (equal.status_code, equal.json()["code"]) == (409, "equal_unknown")
        assert equal.json()["attempt_id"] == attempt_id
        assert attempt_id in equal.json()["detail"]
    await world.follow_up()
    [moved] = await world.moved()
    known = (await client.get(f"/api/attempts/{attempt_id}")).json()
    assert (known["state"], known["transfer_id"]) == ("accepted", moved["id"])
    status, body, replayed = await post(client, "k")
    assert (status, body["id"], replayed) == (200, moved["id"], True)


async def test_unknown_attempt_is_404(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/attempts/unknown")).status_code == 404
