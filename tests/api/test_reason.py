"""The idempotency key that callers must name, the reason that they may give, and the headers of the answers."""

from pathlib import Path

import pytest

from tests.api.calls import transfer_body
from tests.api.test_callers import body, caller, let_move, send
from tests.world import World, open_world

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]
BOTH = pytest.mark.upstream("graphql", "platform")
KEY = {"Idempotency-Key": "rent"}
SAID = "Rent for\n\x1b[31mMay\u202e psq_" + "A" * 40
SHOWN = "Rent for [31mMay psq_(removed)"


async def test_callers_with_a_policy_name_a_key(world: World) -> None:
    let_move(world)
    async with caller(world, "one") as client, world.http() as default:
        answer = await send(client, world, 1_000, key=None)
        document = answer.json()
        assert (answer.status_code, document["code"], document["retry"]) == (422, "key_required", "new_key")
        assert "the same one whenever you repeat" in document["detail"]
        assert (document["outcome"], document["errors"]) == ("nothing_moved", [])
        assert world.attempts() == []
        assert (await send(client, world, 1_000, key="one")).status_code == 200
        assert (await send(default, world, 1_000, key=None)).status_code == 200


@BOTH
async def test_a_reason_is_recorded_and_not_sent(world: World) -> None:
    let_move(world)
    async with caller(world, "one") as client:
        document = body(world) | {"reason": SAID}
        made = (await client.post("/api/transfers", json=document, headers=KEY)).json()
        status = (await client.get(f"/api/attempts/{made['attempt_id']}")).json()
        assert status["reason"] == SHOWN
        again = await client.post("/api/transfers", json=document | {"reason": "x"}, headers=KEY)
        assert again.headers["Idempotency-Replayed"] == "true"
        document |= {"amount_cents": 10**8, "reason": "an order that is refused"}
        assert (await client.post("/api/transfers", json=document, headers={"Idempotency-Key": "2"})).is_error
    assert [one.reason for one in world.attempts()] == [SHOWN, "an order that is refused"]
    events = [(line["event_type"], line.get("reason")) for line in world.files.trail() if "attempt_id" in line]
    assert events == [
        ("transfer_requested", SHOWN),
        ("transfer_completed", None),
        ("transfer_rejected", "an order that is refused"),
    ]
    assert all("Rent for" not in entry.model_dump_json() for entry in world.requests("CreatePayment"))
    assert all("Rent for" not in str(one) for one in await world.moved())


async def test_a_reason_is_one_short_text(world: World) -> None:
    async with world.http() as client:
        document = transfer_body()
        for reason in ("x" * 201, 5, ["x"]):
            answer = await client.post("/api/transfers", json=document | {"reason": reason})
            assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["body", "reason"])
        assert (await client.post("/api/transfers", json=document | {"reason": " \n"})).status_code == 200
        assert [one.reason for one in world.attempts()] == [None]


@pytest.mark.parametrize("root_path", ["", "/prefix"])
async def test_answers_say_where_the_attempt_is(tmp_path: Path, root_path: str) -> None:
    async with open_world(tmp_path, root_path=root_path) as world, world.http() as client:
        document = transfer_body()
        made = await client.post(f"{root_path}/api/transfers", json=document)
        assert made.headers["Location"] == f"{root_path}/api/attempts/{made.json()['attempt_id']}"
        attempt = await client.get(made.headers["Location"])
        assert attempt.json()["state"] == "accepted"
        assert made.headers["Link"] == attempt.headers["Link"]
        path, _, rel = made.headers["Link"].partition("; ")
        assert (await client.get(path.strip("<>"))).json()["id"] == made.json()["id"]
        assert rel == 'rel="related"'
        assert made.headers["RateLimit-Policy"] == '"transfers";q=60;w=60'
        refused = await client.post("/api/transfers", json=document | {"amount_cents": 10**8})
        assert refused.headers["Location"].endswith(refused.json()["attempt_id"])
        assert refused.headers["RateLimit"] == '"transfers";r=58;t=60'
        invalid = await client.post("/api/transfers", json={})
        assert invalid.headers["RateLimit"] == '"transfers";r=58;t=60'
        assert "Location" not in invalid.headers


async def test_a_caller_that_may_not_read_transfers_gets_no_link(world: World) -> None:
    let_move(world)
    async with caller(world, "one") as client:
        assert "Link" not in (await send(client, world, 1_000)).headers
