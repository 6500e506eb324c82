"""What a caller with a policy gets over HTTP."""

from typing import Any

import httpx
import pytest

from pysequence_api.records.callers import add
from tests.api.test_callers import READS, caller, send, send_body, status_of
from tests.policies import NO_BREAKER, apply_policy
from tests.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]
POLICY = """
[callers.one]
scopes = ["move", "read:accounts"]
day_cents = 9000
rules = [{ name = "rent", from = ["a"], to = ["b"], max_cents = 5000, hour_cents = 6000, day_count = 3 }]
[callers.two]
scopes = ["read:activity"]
reads = ["*"]
[callers.default]
scopes = ["move"]
day_cents = 50000
rules = [{ name = "all", from = ["a"], to = ["b"], max_cents = 50000 }]
"""


async def test_a_refusal_is_one_document(world: World) -> None:
    apply_policy(world, NO_BREAKER, POLICY)
    async with caller(world, "one") as client:
        answer = await send(client, world, 5_001)
        assert answer.status_code == 403
        document = answer.json()
        assert document == {
            "detail": "$50.01 is over the $50.00 that the rule rent allows for one transfer."
            f" (attempt {document['attempt_id']})",
            "code": "over_max",
            "attempt_id": document["attempt_id"],
            "outcome": "nothing_moved",
            "retry": "same_key",
        }
        attempt = (await client.get(f"/api/attempts/{document['attempt_id']}")).json()
        assert (attempt["state"], attempt["code"]) == ("rejected", "over_max")
        other = await send_body(client, {"source_id": "a", "destination_id": "b", "amount_cents": 1_000})
        assert (other.status_code, other.json()["code"], other.json()["retry"]) == (403, "pair_not_allowed", "never")


async def test_limits_are_those_of_the_caller(world: World) -> None:
    apply_policy(world, NO_BREAKER, POLICY)
    async with caller(world, "one") as one, caller(world, "two") as two, world.http() as default:
        assert (await send(default, world, 20_000)).json()["daily_remaining_cents"] == 30_000
        assert (await send(one, world, 1_000)).json()["daily_remaining_cents"] == 8_000
        limits = (await one.get("/api/limits")).json()
        assert limits["windows"] == [
            window(None, "day_cents", 9_000, 1_000),
            window("rent", "hour_cents", 6_000, 1_000),
            window("rent", "day_count", 3, 1),
        ]
        assert "remaining_cents" not in limits
        assert (await two.get("/api/limits")).json()["windows"] == []
        [own] = (await default.get("/api/limits")).json()["windows"]
        assert own == window(None, "day_cents", 50_000, 20_000)


def window(rule: str | None, name: str, limit: int, used: int) -> dict[str, Any]:
    return {"rule": rule, "name": name, "limit": limit, "used": used, "left": limit - used}


async def test_attempts_of_others_are_for_who_reads_everything(world: World) -> None:
    apply_policy(world, NO_BREAKER, POLICY)
    async with caller(world, "one") as one, caller(world, "two") as two, world.http() as default:
        made = (await send(one, world, 1_000)).json()
        path = f"/api/attempts/{made['attempt_id']}"
        assert [await status_of(client, path) for client in (one, two, default)] == [200, 200, 404]


async def test_scopes_come_from_the_policy(world: World) -> None:
    async with caller(world, "one") as client:
        assert await status_of(client, "/api/accounts") == 403
        apply_policy(world, POLICY)
        assert await status_of(client, "/api/accounts") != 403
        assert (await client.post("/api/freeze")).json()["code"] == "scope_missing"
        apply_policy(world, "[callers.two]")
        assert await status_of(client, "/api/accounts") == 403


async def test_a_policy_takes_from_default_what_it_does_not_grant(world: World, client: httpx.AsyncClient) -> None:
    apply_policy(world, "[callers.one]")
    assert (await send(client, world, 1_000)).json()["code"] == "scope_missing"
    assert await status_of(client, "/metrics") == 403
    assert "remaining_cents" not in (await client.get("/api/limits")).json()


async def test_an_expired_caller_reads_and_moves_nothing(world: World) -> None:
    apply_policy(world, POLICY.replace("[callers.one]", "[callers.one]\nexpires = 2020-01-01T00:00:00Z"))
    async with caller(world, "one") as client:
        for path in (*READS, "/api/limits", "/api/attempts/x"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (403, "caller_expired"), path
        refused = (await send(client, world, 1_000)).json()
        assert (refused["code"], refused["outcome"], refused["retry"]) == ("caller_expired", "nothing_moved", "never")
    assert world.attempts() == []


async def test_the_last_policy_holds_for_reads_while_the_records_cannot_be_read(world: World) -> None:
    apply_policy(world, "[callers.one]")
    async with world.http() as client:
        assert await status_of(client, "/api/pods") == 403
        world.gateway.records.close()
        world.files.damage(".records.db", b"x" * 8192)
        assert await status_of(client, "/api/pods") == 403


async def test_a_caller_that_the_policy_forgot_may_do_nothing(world: World) -> None:
    key = add(world.gateway.records, "three").key
    apply_policy(world, POLICY)
    async with world.http(key=key) as client:
        assert await status_of(client, "/api/pods") == 403
        assert (await send(client, world, 1_000)).json()["code"] == "scope_missing"
        assert await status_of(client) == 200
