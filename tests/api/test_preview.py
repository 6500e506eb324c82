"""What a transfer would do, before it is requested: the same decision, and nothing that its caller may not see."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio.to_thread
import httpx
import pytest

from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import THE_DEFAULT, add
from tests.api.calls import post_transfer
from tests.api.test_callers import caller
from tests.policies import NO_BREAKER, apply_policy
from tests.world import DESTINATION, SOURCE, World, open_world

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]
BOTH = pytest.mark.upstream("graphql", "platform")
PATH = "/api/transfers/preview"
RULES = """
day_cents = 9000
rules = [
  { name = "rent", from = ["a"], to = ["b"], max_cents = 5000, hour_count = 3 },
  { name = "tax", from = ["a"], to = ["d"], max_cents = 5000, approve_above_cents = 1000 },
]
"""
MOVES = f"""
[callers.one]
scopes = ["move"]
{RULES}
"""


def body(world: World, amount_cents: int, source: str = SOURCE, destination: str = DESTINATION) -> dict[str, Any]:
    ids = {"source_id": world.pod_ids[source], "destination_id": world.pod_ids[destination]}
    return ids | {"amount_cents": amount_cents}


async def preview(client: httpx.AsyncClient, document: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = await client.post(PATH, json=document, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@BOTH
async def test_it_tells_what_the_transfer_then_does(world: World, client: httpx.AsyncClient) -> None:
    document = body(world, 5_000) | {"reason": "a test"}
    told = await preview(client, document)
    assert (told["verdict"], told["code"], told["complete"], told["warnings"]) == ("allowed", None, True, [])
    assert (told["source"]["name"], told["destination"]["name"]) == (SOURCE, DESTINATION)
    assert [(one["name"], one["passed"]) for one in told["checks"]] == [
        ("frozen", True),
        ("global maximum", True),
        ("global day_cents", True),
    ]
    assert told["windows"] == []
    made = (await client.post("/api/transfers", json=document)).json()
    assert made["daily_remaining_cents"] == told["daily_remaining_cents"]
    balances = {pod["id"]: pod["balance_cents"] for pod in (await client.get("/api/pods")).json()}
    for party in ("source", "destination"):
        assert told[party]["balance_after_cents"] == balances[told[party]["id"]]
    again = await preview(client, document)
    assert [one["id"] for one in again["similar"]] == [made["id"]]
    assert again["source"]["balance_cents"] == told["source"]["balance_after_cents"], "balances are read anew"


async def test_it_changes_no_byte(world: World) -> None:
    apply_policy(world, NO_BREAKER, MOVES)
    await world.gateway.client.accounts()
    await world.transfer(100, channel=Channel.CLI)
    await anyio.to_thread.run_sync(world.gateway.transfers._names.save)
    before, sent = content(world), len(world.requests("CreatePayment"))
    one = add_one(world)
    changed = content(world)
    assert changed != before, "the comparison sees a change"
    for amount_cents in (100, 5_001, 10**9):
        for asks in (THE_DEFAULT, one):
            await world.gateway.preview(world.order(amount_cents), Channel.API, "key", caller=asks)
    assert content(world) == changed
    assert len(world.requests("CreatePayment")) == sent


def add_one(world: World) -> Any:
    found = world.gateway.callers.find(add(world.gateway.records, "one").key.encode())
    assert found is not None
    return found


def content(world: World) -> dict[str, bytes]:
    """Read the database, with what is not in its file yet, and the trail."""
    names = (".records.db", ".records.db-wal", ".audit.jsonl", ".daily_limits.json")
    paths = [world.files.path / name for name in names]
    return {path.name: path.read_bytes() for path in paths if path.exists()}


async def test_it_decides_as_the_transfer_does(world: World) -> None:
    apply_policy(world, NO_BREAKER, MOVES)
    async with caller(world, "one") as client:
        for document in (
            body(world, 5_001),
            body(world, 4_000),
            body(world, 100, destination="Groceries"),
            body(world, 100, "Rent", "Emergency Fund"),
            body(world, 4_500),
            body(world, 600, destination="Taxes 2025"),
            body(world, 1_500, destination="Taxes 2025"),
            body(world, 5_000),
            body(world, 100),
            body(world, 100, destination="Taxes 2025"),
        ):
            told = await preview(client, document)
            made = await client.post("/api/transfers", json=document, headers={"Idempotency-Key": str(uuid4())})
            if told["verdict"] == "allowed":
                assert made.status_code == 200, made.text
                assert all(one["passed"] for one in told["checks"])
                continue
            assert next(one["code"] for one in told["checks"] if not one["passed"]) == told["code"]
            if told["verdict"] == "needs_approval":
                assert told["code"] == "needs_approval"
                assert made.status_code in {202, 403}
                continue
            assert made.json()["code"] == told["code"], document
            assert told["verdict"] == "refused"
            assert told["source"]["balance_after_cents"] is None
        assert {"day_cents", "hour_count"} == {one["name"] for one in told["windows"]}
        assert all(one["limit"] is one["left"] is None for one in told["checks"] if one["name"].startswith("global"))


async def test_a_key_that_was_used_is_told(world: World, client: httpx.AsyncClient) -> None:
    document = body(world, 700)
    made = (await client.post("/api/transfers", json=document, headers={"Idempotency-Key": "rent"})).json()
    told = await preview(client, document, **{"Idempotency-Key": "rent"})
    assert (told["verdict"], told["attempt_id"]) == ("replayed", made["attempt_id"])
    assert told["source"]["balance_after_cents"] is None
    other = await preview(client, body(world, 701), **{"Idempotency-Key": "rent"})
    assert (other["verdict"], other["code"], other["retry"]) == ("refused", "key_reused", "new_key")


async def test_an_equal_transfer_of_unknown_outcome_is_told(world: World, client: httpx.AsyncClient) -> None:
    attempt_id = await world.lose(amount_cents=1_234)
    told = await preview(client, body(world, 1_234))
    assert (told["verdict"], told["code"], told["attempt_id"]) == ("refused", "equal_unknown", attempt_id)


# What was paid already.


async def test_the_rent_that_a_rule_paid_is_similar(world: World, client: httpx.AsyncClient) -> None:
    accounts = (await client.get("/api/accounts")).json()
    landlord = next(one["id"] for one in accounts["accounts"] if one["name"] == "Landlord")
    rent = {"source_id": world.pod_ids["Rent"], "destination_id": landlord, "destination_type": "ACCOUNT"}
    for amount_cents, is_similar in ((180_000, True), (189_400, True), (189_600, False), (171_500, True)):
        similar = (await preview(client, rent | {"amount_cents": amount_cents}))["similar"]
        assert bool(similar) is is_similar, amount_cents
    [paid, *_] = similar
    assert (paid["activity_type"], paid["amount"], paid["source"]["name"]) == ("RULE", "$1,800.00", "Rent")
    assert paid["status"]
    assert paid["created_at"]


async def test_what_failed_and_what_went_elsewhere_is_not_similar(world: World, client: httpx.AsyncClient) -> None:
    await world.transfer(4_321)
    assert len((await preview(client, body(world, 4_400)))["similar"]) == 1
    assert (await preview(client, body(world, 4_560)))["similar"] == []
    assert (await preview(client, body(world, 4_321, destination="Groceries")))["similar"] == []
    before = len(world.requests())
    world.fail("garbage", operation="ActivityLogV2Transfers", count=9)
    told = await preview(client, body(world, 4_321))
    assert (told["verdict"], told["similar"], told["complete"]) == ("allowed", None, False)
    assert len(world.requests()) > before


@pytest.mark.parametrize("moved", [True, False])
async def test_what_sequence_does_not_show_yet_is_similar(
    world: World, client: httpx.AsyncClient, *, moved: bool
) -> None:
    attempt_id = await world.lose(moved=moved, amount_cents=4_321, channel=Channel.CLI)
    similar = (await preview(client, body(world, 4_400)))["similar"]
    [unknown] = [one for one in similar if one["id"] is None]
    assert (unknown["attempt_id"], unknown["amount_cents"]) == (attempt_id, 4_321)
    assert unknown["source"]["id"] == world.pod_ids[SOURCE]
    apply_policy(world, f'[callers.one]\nscopes = ["move", "read:activity"]\nreads = ["b"]\n{RULES}')
    async with caller(world, "one") as other:
        [unknown] = [one for one in (await preview(other, body(world, 4_400)))["similar"] if one["id"] is None]
    assert (unknown["attempt_id"], unknown["source"]["id"]) == (None, None), "it is another caller's"


async def test_what_sequence_would_refuse_is_a_warning(world: World, client: httpx.AsyncClient) -> None:
    told = await preview(client, body(world, 500, "Empty Envelope"))
    assert (told["verdict"], told["warnings"]) == ("allowed", ["The balance of 'Empty Envelope' is too low."])


# What a caller may see.


GRANTS: dict[str, tuple[str, tuple[str | None, str | None, int | None]]] = {
    "moves": ('scopes = ["move"]', (None, None, None)),
    "source": ('scopes = ["move", "read:accounts", "read:activity"]\nreads = ["a"]', (SOURCE, None, None)),
    "activity": ('scopes = ["move", "read:activity"]\nreads = ["b"]', (None, None, 1)),
    "accounts": ('scopes = ["move", "read:accounts"]\nreads = ["*"]', (SOURCE, DESTINATION, None)),
}
"""What callers may do, and what they see: the names of source and destination, and how many similar transfers."""


async def test_a_caller_is_told_what_it_may_read(world: World) -> None:
    apply_policy(world, NO_BREAKER, *(f"[callers.{name}]\n{grants}\n{RULES}" for name, (grants, _) in GRANTS.items()))
    await world.transfer(2_000, channel=Channel.CLI)
    for name, (_, seen) in GRANTS.items():
        await assert_is_told(world, name, *seen)


async def assert_is_told(
    world: World, name: str, source: str | None, destination: str | None, similar_count: int | None
) -> None:
    """Check what a caller is told of a transfer that was made already."""
    async with caller(world, name) as client:
        before = len(world.requests())
        told = await preview(client, body(world, 2_000))
        read = {str(entry.operation) for entry in world.requests()[before:]}
    assert told["verdict"] == "allowed"
    similar = told["similar"] and len(told["similar"])
    assert (told["source"]["name"], told["destination"]["name"], similar) == (source, destination, similar_count)
    for party, seen in (("source", source), ("destination", destination)):
        assert (told[party]["balance_cents"] is None) is (told[party]["balance_after_cents"] is None) is (seen is None)
    if similar:
        assert told["similar"][0]["source"] == {"id": None, "name": None, "type": "POD", "icon": None}
    assert ("ActivityLogV2Transfers" in read) is (similar_count is not None)


async def test_a_bad_body_is_422_and_a_hidden_account_is_as_one_that_does_not_exist(world: World) -> None:
    apply_policy(world, NO_BREAKER, '[callers.one]\nscopes = ["move", "read:accounts"]\nreads = ["a"]', RULES)
    async with caller(world, "one") as client:
        answer = await client.post(PATH, json=body(world, 100) | {"extra": 1})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        hidden = await preview(client, body(world, 100, destination="Groceries"))
        missing = await preview(client, body(world, 100) | {"destination_id": str(uuid4())})
        assert (hidden["code"], missing["code"]) == ("pair_not_allowed", "pair_not_allowed")
        assert hidden["destination"].keys() == missing["destination"].keys()
        assert hidden["destination"]["name"] is None


async def test_an_unknown_account_is_422(client: httpx.AsyncClient, world: World) -> None:
    answer = await client.post(PATH, json=body(world, 100) | {"destination_id": str(uuid4())})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_account")
    assert "outcome" not in answer.json()


# The rate.


async def test_previews_have_a_rate_of_their_own(tmp_path: Path) -> None:
    async with open_world(tmp_path, max_transfer_attempts_per_minute=2) as world, world.http() as client:
        first = await client.post(PATH, json=body(world, 100))
        assert first.headers["RateLimit-Policy"] == '"previews";q=2;w=60'
        assert first.headers["RateLimit"] == '"previews";r=1;t=60'
        await asyncio.gather(*(client.post(PATH, json={}) for _ in range(3)))  # which count for nothing
        assert (await client.post(PATH, json=body(world, 100))).status_code == 200
        limited = await client.post(PATH, json=body(world, 100))
        assert (limited.status_code, limited.json()["code"]) == (429, "rate_limited")
        assert limited.headers["Retry-After"] == str(limited.json()["retry_after_seconds"])
        assert limited.headers["RateLimit"].startswith('"previews";r=0;t=')
        made = await post_transfer(client)
        assert made.status_code == 200
        assert made.headers["RateLimit"] == '"transfers";r=1;t=60'
