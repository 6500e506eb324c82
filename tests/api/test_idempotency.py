"""Idempotency keys and attempts, through HTTP."""

import pytest

from tests.api.conftest import Api

pytestmark = pytest.mark.anyio


async def post(api: Api, key: str, amount_cents: int = 5000) -> tuple[int, dict[str, object], str | None]:
    answer = await api.client.post(
        "/api/transfers", json=await api.order(amount_cents), headers={"Idempotency-Key": key}
    )
    return answer.status_code, answer.json(), answer.headers.get("Idempotency-Replayed")


async def test_the_same_key_replays_status_and_body(api: Api) -> None:
    status, body, replayed = await post(api, "rent")
    assert (status, replayed) == (200, None)
    assert await post(api, "rent") == (200, body, "true")
    assert (await post(api, "rent", 5001))[0] == 422
    assert len(await api.moved()) == 1


async def test_a_refusal_is_replayed_too(api: Api) -> None:
    api.arm("CreatePayment", {"kind": "refuse", "message": "Insufficient funds"})
    status, body, replayed = await post(api, "k")
    assert (status, replayed) == (400, None)
    assert await post(api, "k") == (400, body, "true")


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "ключ".encode(), b"\x7f"])
async def test_a_key_that_is_none(api: Api, key: str | bytes) -> None:
    headers = {b"Idempotency-Key": key.encode() if isinstance(key, str) else key}
    answer = await api.client.post("/api/transfers", json=await api.order(), headers=headers)
    assert answer.status_code == 422
    assert "visible ASCII characters" in answer.json()["detail"]
    assert await api.moved() == []


async def test_two_keys_are_none(api: Api) -> None:
    headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
    answer = await api.client.post("/api/transfers", json=await api.order(), headers=headers)
    assert answer.status_code == 422
    assert "twice" in answer.json()["detail"]
    assert await api.moved() == []


async def test_an_unknown_outcome_can_be_asked_for(api: Api) -> None:
    api.arm("CreatePayment", "close", when="after")
    status, body, _ = await post(api, "k")
    assert status == 502
    status, again, replayed = await post(api, "k")
    assert (status, replayed) == (502, "true")
    [attempt] = (await api.client.get("/api/limits")).json()["unsettled"]
    assert attempt["attempt_id"] in str(body["detail"])
    assert attempt["attempt_id"] in str(again["detail"])
    known = (await api.client.get(f"/api/attempts/{attempt['attempt_id']}")).json()
    assert (known["status"], known["amount_cents"]) == ("unknown", 5000)
    without_key = await api.transfer(5000)
    assert without_key.status_code == 409
    assert attempt["attempt_id"] in without_key.json()["detail"]
    await api.gateway.follow_up.run()
    [moved] = await api.moved()
    known = (await api.client.get(f"/api/attempts/{attempt['attempt_id']}")).json()
    assert (known["status"], known["transfer_id"]) == ("completed", moved["id"])
    status, body, replayed = await post(api, "k")
    assert (status, body["id"], replayed) == (200, moved["id"], "true")


async def test_an_attempt_that_does_not_exist(api: Api) -> None:
    assert (await api.client.get("/api/attempts/nobody")).status_code == 404
