"""A transfer over HTTP is sent once, within the limits, and recorded."""

import re
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.api.calls import post_transfer, transfer_body
from tests.world import World, open_world

pytestmark = pytest.mark.anyio
ATTEMPT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def post_at_once(client: httpx.AsyncClient, bodies: list[dict[str, Any]]) -> list[httpx.Response]:
    """Request transfers at the same time."""
    answers: list[httpx.Response] = []

    async def send(body: dict[str, Any]) -> None:
        answers.append(await client.post("/api/transfers", json=body))

    async with anyio.create_task_group() as tasks:
        for body in bodies:
            tasks.start_soon(send, body)
    return answers


async def test_transfer(world: World, client: httpx.AsyncClient) -> None:
    order = await transfer_body(client, 5000)
    answer = await client.post("/api/transfers", json=order)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert made.items() >= {"amount_cents": 5000, "amount": "$50.00", "daily_remaining_cents": 2_495_000}.items()
    assert made["source"]["id"] == order["source_id"]
    assert made["source"]["name"] == "Emergency Fund"
    assert made["destination"]["id"] == order["destination_id"]
    assert made["status"]
    assert made["created_at"].endswith("Z")
    # The same id everywhere.
    (moved,) = await world.moved()
    assert made["id"] == moved["id"]
    (entry,) = world.files.counted()
    assert entry["transfer_id"] == made["id"]
    requested, completed = world.files.trail()
    assert requested["event_type"] == "transfer_requested"
    assert completed["event_type"] == "transfer_completed"
    assert completed["transfer_id"] == made["id"]
    for line in (requested, completed):
        assert line["attempt_id"] == made["attempt_id"]
        assert (line["amount_cents"], line["via"]) == (5000, "api")
        assert (line["source"], line["destination"]) == (order["source_id"], order["destination_id"])
        assert datetime.fromisoformat(line["timestamp"]).utcoffset() == datetime.now(UTC).utcoffset()
    assert (await client.get(f"/api/transfers/{made['id']}")).json()["amount_cents"] == 5000
    limits = (await client.get("/api/limits")).json()
    assert (limits["used_cents"], limits["remaining_cents"], limits["unsettled"]) == (5000, 2_495_000, [])


async def test_every_field_reaches_sequence(world: World, client: httpx.AsyncClient) -> None:
    accounts = (await client.get("/api/accounts")).json()
    ids = {one["name"]: one["id"] for kind in ("ports", "accounts") for one in accounts[kind]}
    body = {
        "source_id": ids["Everyday Checking"],
        "source_type": "ACCOUNT",
        "destination_id": ids["Salary"],
        "destination_type": "PORT",
        "amount_cents": 1,
        "description": "Résumé ☕ 'quoted'",
        "instant": True,
        "kyc_id": "another-kyc",
    }
    await client.post("/api/transfers", json=body)
    sent = next(one for one in world.sandbox.journal.read().requests if one.operation == "CreatePayment")
    assert sent.variables == {
        "id": "another-kyc",
        "source": {"id": ids["Everyday Checking"], "type": "ACCOUNT"},
        "destination": {"id": ids["Salary"], "type": "PORT"},
        "amount": 1,
        "isInstantTransfer": True,
        "achDescription": "Résumé ☕ 'quoted'",
    }


async def test_only_the_owner_can_read_the_files(world: World, client: httpx.AsyncClient) -> None:
    assert (await post_transfer(client)).status_code == 200
    for name in (".audit.jsonl", ".daily_limits.json"):
        assert stat.S_IMODE((world.files.path / name).stat().st_mode) == 0o600


async def test_daily_limit_with_ten_at_once(world: World, client: httpx.AsyncClient) -> None:
    answers = await post_at_once(client, [await transfer_body(client, 1_000_000)] * 10)
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [400] * 8
    details = {answer.json()["detail"] for answer in answers if answer.status_code == 400}
    assert details == {"Amount 1000000 cents exceeds daily remaining limit of 500000 cents"}
    assert sum(one["amount_cents"] for one in await world.moved()) == 2_000_000
    events = [line["event_type"] for line in world.files.trail()]
    assert {event: events.count(event) for event in events} == {
        "transfer_requested": 2,
        "transfer_completed": 2,
        "transfer_rejected": 8,
    }
    assert sum(entry["amount_cents"] for entry in world.files.counted()) == 2_000_000
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 200}) == 2


async def test_per_transfer_limit(world: World, client: httpx.AsyncClient) -> None:
    answer = await post_transfer(client, 1_500_000)
    assert answer.status_code == 400
    assert answer.json() == {"detail": "Amount 1500000 cents exceeds per-transfer limit of 1000000 cents"}
    (line,) = world.files.trail()
    assert line["event_type"] == "transfer_rejected"
    assert line["error"] == answer.json()["detail"]
    assert await world.moved() == []


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 504},
        {"kind": "status", "status": 500},
        {"kind": "html", "status": 502},
        {"kind": "html", "status": 200},
        "close",
        "half_body",
        "garbage",
        "graphql_error",
        "redirect",
        {"kind": "delay", "seconds": 30},
    ],
    ids=str,
)
async def test_lost_answer_is_an_unknown_outcome(tmp_path: Path, fault: Any) -> None:
    async with open_world(tmp_path, request_timeout_seconds=1) as world, world.http() as client:
        order = await transfer_body(client, 5000)
        world.fail(fault, when="after")
        answer = await client.post("/api/transfers", json=order)
        assert answer.status_code == 502
        detail = answer.json()["detail"]
        assert "<" not in detail
        found = ATTEMPT_ID.search(detail)
        assert found
        assert len(await world.moved()) == 1
        limits = (await client.get("/api/limits")).json()
        assert limits["used_cents"] == 5000
        (unsettled,) = limits["unsettled"]
        assert (unsettled["state"], unsettled["attempt_id"]) == ("unknown", found[0])
        assert [line["event_type"] for line in world.files.trail()] == ["transfer_requested", "transfer_failed"]
        assert world.files.trail()[-1]["outcome"] == "unknown"
        assert {line["attempt_id"] for line in world.files.trail()} == {found[0]}


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ({"kind": "refuse", "message": "Insufficient funds"}, 400, "Insufficient funds"),
        ({"kind": "status", "status": 429}, 502, ""),
    ],
    ids=str,
)
async def test_refusal_by_sequence_does_not_count(
    world: World, client: httpx.AsyncClient, fault: dict[str, Any], status: int, words: str
) -> None:
    order = await transfer_body(client)
    world.fail(fault)
    answer = await client.post("/api/transfers", json=order)
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    found = ATTEMPT_ID.search(answer.json()["detail"])
    assert found
    assert [line["event_type"] for line in world.files.trail()] == ["transfer_requested", "transfer_failed"]
    assert world.files.trail()[-1]["attempt_id"] == found[0]
    assert world.files.counted() == []
    assert (await client.get("/api/limits")).json()["used_cents"] == 0


async def test_insufficient_funds(world: World, client: httpx.AsyncClient) -> None:
    answer = await post_transfer(client, 1, source_id=world.pod_ids["Empty Envelope"])
    assert answer.status_code == 400
    assert (await client.get("/api/limits")).json()["used_cents"] == 0


async def test_id_that_is_not_visible_yet_is_null(world: World, client: httpx.AsyncClient) -> None:
    order = await transfer_body(client)
    world.fail({"kind": "invisible_seconds", "seconds": 60}, when="after")
    answer = await client.post("/api/transfers", json=order)
    assert answer.status_code == 200
    assert answer.json()["id"] is None
    assert answer.json()["source"]["id"] == order["source_id"]


@pytest.mark.parametrize("content", [b'{"2026-11-23": {"__glo', b"", b"[]", b'{"2026-11-23": {"__global__": [1]}}'])
async def test_damaged_ledger_stops_transfers_but_not_reads(
    world: World, client: httpx.AsyncClient, content: bytes
) -> None:
    order = await transfer_body(client)
    path = world.files.path / ".daily_limits.json"
    path.write_bytes(content)
    answer = await client.post("/api/transfers", json=order)
    assert answer.status_code == 503
    assert (await client.get("/api/limits")).status_code == 503
    assert (await client.get("/api/pods")).status_code == 200
    assert path.read_bytes() == content
    assert await world.moved() == []


async def test_too_many_attempts_are_429(tmp_path: Path) -> None:
    async with open_world(tmp_path, max_transfer_attempts_per_minute=2) as world, world.http() as client:
        order = await transfer_body(client, 1_500_000)
        answers = [await client.post("/api/transfers", json=order) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [400, 400, 429, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert len(world.files.trail()) == 2
        assert (await client.get("/api/pods")).status_code == 200


async def test_invalid_requests_do_not_count_as_attempts(tmp_path: Path) -> None:
    async with open_world(tmp_path, max_transfer_attempts_per_minute=1) as world, world.http() as client:
        for _ in range(3):
            assert (await client.post("/api/transfers", json={})).status_code == 422
        assert (await post_transfer(client)).status_code == 200
