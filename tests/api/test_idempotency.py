"""A request with the same idempotency key moves money once, and every attempt can be looked up."""

import httpx
import pytest

from tests.api.calls import post_transfer
from tests.world import World

pytestmark = pytest.mark.anyio


async def post(client: httpx.AsyncClient, key: str, amount_cents: int = 5000) -> tuple[int, dict[str, object], bool]:
    """Request a transfer. Returns status, body, and whether the answer is replayed."""
    answer = await post_transfer(client, amount_cents, headers={"Idempotency-Key": key})
    return answer.status_code, answer.json(), answer.headers.get("Idempotency-Replayed") == "true"


async def test_same_key_gets_the_same_answer(world: World, client: httpx.AsyncClient) -> None:
    status, body, replayed = await post(client, "rent")
    assert (status, replayed) == (200, False)
    assert await post(client, "rent") == (200, body, True)
    assert (await post(client, "rent", 5001))[0] == 422
    assert len(await world.moved()) == 1


async def test_refusal_is_replayed(world: World, client: httpx.AsyncClient) -> None:
    world.fail({"kind": "refuse", "message": "Insufficient funds"})
    status, body, replayed = await post(client, "k")
    assert (status, replayed) == (400, False)
    assert await post(client, "k") == (400, body, True)


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "ключ".encode(), b"\x7f"])
async def test_invalid_key(world: World, client: httpx.AsyncClient, key: str | bytes) -> None:
    headers = {b"Idempotency-Key": key.encode() if isinstance(key, str) else key}
    answer = await post_transfer(client, headers=headers)
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert (error["loc"], error["type"]) == (["header", "idempotency-key"], "idempotency_key")
    assert await world.moved() == []


async def test_two_keys_are_invalid(world: World, client: httpx.AsyncClient) -> None:
    answer = await post_transfer(client, headers=[("Idempotency-Key", "one"), ("Idempotency-Key", "two")])
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert (error["loc"], error["type"]) == (["header", "idempotency-key"], "duplicate")
    assert await world.moved() == []


async def test_unknown_outcome_is_found_out(world: World, client: httpx.AsyncClient) -> None:
    world.fail("close", when="after")
    status, body, _ = await post(client, "k")
    assert status == 502
    status, again, replayed = await post(client, "k")
    assert (status, replayed) == (502, True)
    [attempt] = (await client.get("/api/limits")).json()["unsettled"]
    attempt_id = attempt["attempt_id"]
    assert attempt_id in str(body["detail"])
    assert attempt_id in str(again["detail"])
    known = (await client.get(f"/api/attempts/{attempt_id}")).json()
    assert (known["status"], known["amount_cents"]) == ("unknown", 5000)
    without_key = await post_transfer(client)
    assert without_key.status_code == 409
    assert attempt_id in without_key.json()["detail"]
    await world.follow_up()
    [moved] = await world.moved()
    known = (await client.get(f"/api/attempts/{attempt_id}")).json()
    assert (known["status"], known["transfer_id"]) == ("completed", moved["id"])
    status, body, replayed = await post(client, "k")
    assert (status, body["id"], replayed) == (200, moved["id"], True)


async def test_unknown_attempt_is_404(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/attempts/unknown")).status_code == 404
