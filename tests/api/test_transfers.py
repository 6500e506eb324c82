"""A transfer over HTTP is sent once, within the limits, and recorded."""

import stat
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from pysequence_api.sandbox import KYC_ID
from pysequence_api.sequence.client import Upstream
from tests.api.calls import post_transfer, transfer_body
from tests.world import World, open_world

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]
BOTH = pytest.mark.upstream("graphql", "platform")


async def post_at_once(client: httpx.AsyncClient, bodies: list[dict[str, Any]]) -> list[httpx.Response]:
    """Request transfers at the same time."""
    answers: list[httpx.Response] = []

    async def send(body: dict[str, Any]) -> None:
        answers.append(await client.post("/api/transfers", json=body))

    async with anyio.create_task_group() as tasks:
        for body in bodies:
            tasks.start_soon(send, body)
    return answers


@BOTH
async def test_transfer(world: World, client: httpx.AsyncClient) -> None:
    order = transfer_body(5000)
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
    (attempt,) = world.attempts()
    assert (attempt.id, attempt.transfer_id, attempt.state) == (made["attempt_id"], made["id"], made["state"])
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
    await world.aclose()
    (entry,) = world.files.counted()
    assert entry["transfer_id"] == made["id"]


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
        "kyc_id": KYC_ID,
    }
    assert (await client.post("/api/transfers", json=body)).status_code == 200
    sent = next(one for one in world.sandbox.journal.read().requests if one.operation == "CreatePayment")
    assert sent.variables == {
        "id": KYC_ID,
        "source": {"id": ids["Everyday Checking"], "type": "ACCOUNT"},
        "destination": {"id": ids["Salary"], "type": "PORT"},
        "amount": 1,
        "isInstantTransfer": True,
        "achDescription": "Résumé ☕ 'quoted'",
    }


async def test_only_the_owner_can_read_the_files(world: World, client: httpx.AsyncClient) -> None:
    assert (await post_transfer(client)).status_code == 200
    files = {path.name for path in world.files.path.glob(".records.db*")}
    assert files >= {".records.db", ".records.db-wal"}
    await world.aclose()
    for name in (".audit.jsonl", ".daily_limits.json", ".records.db"):
        assert stat.S_IMODE((world.files.path / name).stat().st_mode) == 0o600


async def test_daily_limit_with_ten_at_once(world: World, client: httpx.AsyncClient) -> None:
    answers = await post_at_once(client, [transfer_body(1_000_000)] * 10)
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [400] * 8
    details = {answer.json()["detail"] for answer in answers if answer.status_code == 400}
    assert details == {"Amount 1000000 cents exceeds daily remaining limit of 500000 cents"}
    assert sum(one["amount_cents"] for one in await world.moved()) == 2_000_000
    assert {answer.json()["code"] for answer in answers if answer.status_code == 400} == {"over_day"}
    assert sorted(world.states()) == ["accepted"] * 2 + ["rejected"] * 8
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 200}) == 2
    await world.aclose()
    events = Counter[str]()
    for line in world.files.trail():
        events[line["event_type"]] += line.get("repeats", 1)
    assert events == {"transfer_requested": 2, "transfer_completed": 2, "transfer_rejected": 8}
    assert sum(entry["amount_cents"] for entry in world.files.counted()) == 2_000_000


async def test_per_transfer_limit(world: World, client: httpx.AsyncClient) -> None:
    answer = await post_transfer(client, 1_500_000)
    assert answer.status_code == 400
    (attempt,) = world.attempts()
    assert answer.json() == {
        "detail": "Amount 1500000 cents exceeds per-transfer limit of 1000000 cents",
        "code": "over_max",
        "attempt_id": attempt.id,
        "outcome": "nothing_moved",
        "retry": "same_key",
    }
    (line,) = world.files.trail()
    assert line["event_type"] == "transfer_rejected"
    assert line["error"] == answer.json()["detail"]
    assert await world.moved() == []


# Which answers are lost, the tests of the clients say.
@pytest.mark.parametrize("fault", [{"kind": "html", "status": 502}, "close", {"kind": "delay", "seconds": 30}], ids=str)
async def test_lost_answer_is_an_unknown_outcome(tmp_path: Path, fault: Any) -> None:
    async with open_world(tmp_path, request_timeout_seconds=0.5) as world, world.http() as client:
        order = transfer_body(5000)
        world.fail(fault, when="after")
        answer = await client.post("/api/transfers", json=order)
        assert answer.status_code == 502
        error = answer.json()
        assert "<" not in error["detail"]
        assert (error["code"], error["outcome"], error["retry"]) == ("outcome_unknown", "unknown", "never")
        attempt_id = error["attempt_id"]
        assert attempt_id in error["detail"]
        assert len(await world.moved()) == 1
        limits = (await client.get("/api/limits")).json()
        assert limits["used_cents"] == 5000
        (unsettled,) = limits["unsettled"]
        assert (unsettled["state"], unsettled["attempt_id"]) == ("unknown", attempt_id)
        assert [line["event_type"] for line in world.files.trail()] == ["transfer_requested", "transfer_failed"]
        assert world.files.trail()[-1]["outcome"] == "unknown"
        assert {line["attempt_id"] for line in world.files.trail()} == {attempt_id}


@BOTH
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"kind": "refuse", "message": "Insufficient funds"}, (400, "refused", "Insufficient funds")),
        ({"kind": "status", "status": 429}, (502, "sequence_rate_limited", "")),
    ],
    ids=str,
)
async def test_refusal_by_sequence_does_not_count(
    world: World, client: httpx.AsyncClient, fault: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    order = transfer_body()
    world.fail(fault)
    answer = await client.post("/api/transfers", json=order)
    status, code, words = expected
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert (answer.json()["code"], answer.json()["outcome"]) == (code, "nothing_moved")
    attempt_id = answer.json()["attempt_id"]
    assert attempt_id in answer.json()["detail"]
    assert [line["event_type"] for line in world.files.trail()] == ["transfer_requested", "transfer_failed"]
    assert world.files.trail()[-1]["attempt_id"] == attempt_id
    assert (await client.get("/api/limits")).json()["used_cents"] == 0
    await world.aclose()
    assert world.files.counted() == []


async def test_insufficient_funds(world: World, client: httpx.AsyncClient) -> None:
    answer = await post_transfer(client, 1, source_id=world.pod_ids["Empty Envelope"])
    assert answer.status_code == 400
    assert (await client.get("/api/limits")).json()["used_cents"] == 0


async def test_id_that_is_not_visible_yet_is_null(world: World, client: httpx.AsyncClient) -> None:
    order = transfer_body()
    world.fail({"kind": "invisible_seconds", "seconds": 60}, when="after")
    answer = await client.post("/api/transfers", json=order)
    assert answer.status_code == 200
    assert answer.json()["id"] is None
    assert answer.json()["source"]["id"] == order["source_id"]


async def assert_only_reads_go_on(client: httpx.AsyncClient) -> None:
    """Check that no transfer is possible, and that the account can be read."""
    answer = await post_transfer(client)
    assert (answer.status_code, answer.json()["code"]) == (503, "records_unavailable")
    assert (answer.json()["outcome"], answer.json()["retry"]) == ("nothing_moved", "later")
    limits = await client.get("/api/limits")
    assert (limits.status_code, limits.json()["code"]) == (503, "records_unavailable")
    assert (await client.get("/api/pods")).status_code == 200


@pytest.mark.parametrize("content", [b'{"2026-11-23": {"__glo', b'{"2026-11-23": {"__global__": [1]}}'])
async def test_damaged_ledger_of_an_earlier_version_stops_transfers_but_not_reads(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / ".daily_limits.json"
    path.write_bytes(content)
    async with open_world(tmp_path) as world, world.http() as client:
        await assert_only_reads_go_on(client)
        assert await world.moved() == []
    assert path.read_bytes() == content


async def test_damaged_database_stops_transfers_but_not_reads(tmp_path: Path) -> None:
    path = tmp_path / ".records.db"
    async with open_world(tmp_path) as world:
        await world.transfer()
    path.write_bytes(b"x" * 8192)
    async with open_world(tmp_path) as world, world.http() as client:
        await assert_only_reads_go_on(client)
        assert len(await world.moved()) == 1
    assert path.read_bytes() == b"x" * 8192


@pytest.mark.parametrize("content", [b"{", None])
async def test_limits_file_is_written_again_beside_a_database(
    world: World, client: httpx.AsyncClient, content: bytes | None
) -> None:
    assert (await post_transfer(client, 5000)).status_code == 200
    await world.close(world.gateway)
    world.files.damage(".daily_limits.json", content)
    async with world.http(await world.open_process()) as again:
        assert (await again.get("/api/limits")).json()["used_cents"] == 5000
        assert (await post_transfer(again, 6000)).status_code == 200
    await world.aclose()
    assert [entry["amount_cents"] for entry in world.files.counted()] == [5000, 6000]


@BOTH
async def test_what_the_account_does_not_have_is_422(world: World, client: httpx.AsyncClient) -> None:
    is_graphql = world.upstream is Upstream.GRAPHQL
    for change, words in (
        ({"source_id": "made-up"}, "source_id"),
        ({"destination_id": "made-up"}, "destination_id"),
        ({"source_type": "PORT"}, "Set source_type to POD"),
        ({"destination_type": "ACCOUNT"}, "Set destination_type to POD"),
        ({"kyc_id": "made-up"}, "kyc_id"),
    ):
        answer = await post_transfer(client, 1_000_000, **change)
        code = "unknown_account" if is_graphql or "kyc_id" not in change else "invalid_request"
        assert (answer.status_code, answer.json()["code"]) == (422, code)
        assert (answer.json()["outcome"], answer.json()["retry"]) == ("nothing_moved", "same_key")
        assert words in answer.json()["detail"]
    assert world.requests("CreatePayment") == []
    assert world.attempts() == []
    assert world.used_cents() == 0
    assert (await post_transfer(client, 1_000_000)).status_code == 200


async def test_frozen_transfers_are_403(world: World, client: httpx.AsyncClient) -> None:
    assert (await post_transfer(client, 5000)).status_code == 200
    world.gateway.records.write(lambda writer: writer.set_freeze("a lost laptop"))
    answer = await post_transfer(client, 6000)
    assert (answer.status_code, answer.json()["code"]) == (403, "frozen")
    assert (answer.json()["outcome"], answer.json()["retry"]) == ("nothing_moved", "later")
    limits = (await client.get("/api/limits")).json()
    assert (limits["frozen"], limits["frozen_reason"]) == (True, "a lost laptop")
    assert limits["frozen_since"].endswith("Z")
    assert len(await world.moved()) == 1
    world.gateway.records.write(lambda writer: writer.set_freeze(None))
    assert (await post_transfer(client, 6000)).status_code == 200


async def test_too_many_unknown_outcomes_are_503(world: World, client: httpx.AsyncClient) -> None:
    for number in range(5):
        await world.lose(amount_cents=1000 + number)
    answer = await post_transfer(client, 6000)
    assert (answer.status_code, answer.json()["code"]) == (503, "too_many_unknown")
    assert (answer.json()["outcome"], answer.json()["retry"]) == ("nothing_moved", "later")
    await world.follow_up()
    assert (await post_transfer(client, 6000)).status_code == 200


async def test_too_many_attempts_are_429(tmp_path: Path) -> None:
    async with open_world(tmp_path, max_transfer_attempts_per_minute=2) as world, world.http() as client:
        order = transfer_body(1_500_000)
        answers = [await client.post("/api/transfers", json=order) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [400, 400, 429, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert {answer.json()["code"] for answer in answers[2:]} == {"rate_limited"}
        assert {answer.json()["retry"] for answer in answers[2:]} == {"later"}
        assert world.states() == ["rejected", "rejected"]
        assert (await client.get("/api/pods")).status_code == 200


async def test_invalid_requests_do_not_count_as_attempts(tmp_path: Path) -> None:
    async with open_world(tmp_path, max_transfer_attempts_per_minute=1) as world, world.http() as client:
        for _ in range(3):
            assert (await client.post("/api/transfers", json={})).status_code == 422
        assert (await post_transfer(client)).status_code == 200
