"""Money through the public door: what is taken, refused, counted and written down."""

import re
import stat
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import anyio
import httpx
import pytest

from pysequence_api.sandbox import ORGANIZATION_ID
from tests.api.conftest import Api, OpenApi

pytestmark = pytest.mark.anyio
ATTEMPT = re.compile(r"\(attempt ([0-9a-f-]{36})\)")


async def at_once(api: Api, bodies: list[dict[str, Any]]) -> list[httpx.Response]:
    """Send transfers at once."""
    answers: list[httpx.Response] = []

    async def send(body: dict[str, Any]) -> None:
        answers.append(await api.client.post("/api/transfers", json=body))

    async with anyio.create_task_group() as tasks:
        for body in bodies:
            tasks.start_soon(send, body)
    return answers


async def test_transfer(api: Api) -> None:
    order = await api.order(5000)
    answer = await api.client.post("/api/transfers", json=order)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert made.items() >= {"amount_cents": 5000, "amount": "$50.00", "daily_remaining_cents": 2_495_000}.items()
    assert made["source"]["id"] == order["source_id"]
    assert made["source"]["name"] == "Emergency Fund"
    assert made["destination"]["id"] == order["destination_id"]
    assert made["status"]
    assert made["created_at"].endswith("Z")
    # The real id, everywhere.
    (moved,) = await api.moved()
    assert made["id"] == moved["id"]
    (entry,) = api.ledger()
    assert entry["transfer_id"] == made["id"]
    requested, completed = api.audit()
    assert requested["event_type"] == "transfer_requested"
    assert completed["event_type"] == "transfer_completed"
    assert completed["transfer_id"] == made["id"]
    for line in (requested, completed):
        assert line["attempt_id"] == made["attempt_id"]
        assert (line["amount_cents"], line["via"]) == (5000, "api")
        assert (line["source"], line["destination"]) == (order["source_id"], order["destination_id"])
        assert datetime.fromisoformat(line["timestamp"]).utcoffset() == datetime.now(UTC).utcoffset()
    assert (await api.client.get(f"/api/transfers/{made['id']}")).json()["amount_cents"] == 5000
    limits = (await api.client.get("/api/limits")).json()
    assert (limits["used_cents"], limits["remaining_cents"], limits["unsettled"]) == (5000, 2_495_000, [])


async def test_every_field_reaches_sequence(api: Api) -> None:
    ids = await api.ids()
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
    await api.client.post("/api/transfers", json=body)
    sent = next(one for one in api.sandbox.journal.read().requests if one.operation == "CreatePayment")
    assert sent.variables == {
        "id": "another-kyc",
        "source": {"id": ids["Everyday Checking"], "type": "ACCOUNT"},
        "destination": {"id": ids["Salary"], "type": "PORT"},
        "amount": 1,
        "isInstantTransfer": True,
        "achDescription": "Résumé ☕ 'quoted'",
    }


async def test_files_are_for_their_owner_alone(api: Api) -> None:
    assert (await api.transfer()).status_code == 200
    for name in (".audit.jsonl", ".daily_limits.json"):
        assert stat.S_IMODE((api.directory / name).stat().st_mode) == 0o600


async def test_ten_at_once_against_the_daily_limit(api: Api) -> None:
    answers = await at_once(api, [await api.order(1_000_000)] * 10)
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [400] * 8
    details = {answer.json()["detail"] for answer in answers if answer.status_code == 400}
    assert details == {"Amount 1000000 cents exceeds daily remaining limit of 500000 cents"}
    assert sum(one["amount_cents"] for one in await api.moved()) == 2_000_000
    events = [line["event_type"] for line in api.audit()]
    assert {event: events.count(event) for event in events} == {
        "transfer_requested": 2,
        "transfer_completed": 2,
        "transfer_rejected": 8,
    }
    assert sum(entry["amount_cents"] for entry in api.ledger()) == 2_000_000
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 200}) == 2


async def test_the_per_transfer_limit(api: Api) -> None:
    answer = await api.transfer(1_500_000)
    assert answer.status_code == 400
    assert answer.json() == {"detail": "Amount 1500000 cents exceeds per-transfer limit of 1000000 cents"}
    (line,) = api.audit()
    assert line["event_type"] == "transfer_rejected"
    assert line["error"] == answer.json()["detail"]
    assert await api.moved() == []


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
async def test_the_answer_is_lost_after_the_money_has_moved(open_api: OpenApi, fault: Any) -> None:
    async with open_api(request_timeout_seconds=1) as api:
        order = await api.order(5000)
        api.arm("CreatePayment", fault, when="after")
        answer = await api.client.post("/api/transfers", json=order)
        assert answer.status_code == 502
        detail = answer.json()["detail"]
        assert "Nobody knows whether the money moved" in detail
        assert "<" not in detail
        found = ATTEMPT.search(detail)
        assert found
        assert len(await api.moved()) == 1
        limits = (await api.client.get("/api/limits")).json()
        assert limits["used_cents"] == 5000
        (unsettled,) = limits["unsettled"]
        assert (unsettled["state"], unsettled["attempt_id"]) == ("unknown", found[1])
        assert [line["event_type"] for line in api.audit()] == ["transfer_requested", "transfer_failed"]
        assert api.audit()[-1]["outcome"] == "unknown"
        assert {line["attempt_id"] for line in api.audit()} == {found[1]}


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ({"kind": "refuse", "message": "Insufficient funds"}, 400, "Insufficient funds"),
        ({"kind": "status", "status": 429}, 502, ""),
    ],
    ids=str,
)
async def test_sequence_refuses(api: Api, fault: dict[str, Any], status: int, words: str) -> None:
    order = await api.order()
    api.arm("CreatePayment", fault)
    answer = await api.client.post("/api/transfers", json=order)
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    found = ATTEMPT.search(answer.json()["detail"])
    assert found
    assert [line["event_type"] for line in api.audit()] == ["transfer_requested", "transfer_failed"]
    assert api.audit()[-1]["attempt_id"] == found[1]
    assert api.ledger() == []
    assert (await api.client.get("/api/limits")).json()["used_cents"] == 0


async def test_sequence_refuses_for_lack_of_funds(api: Api) -> None:
    ids = await api.ids()
    answer = await api.transfer(1, source_id=ids["Empty Envelope"])
    assert answer.status_code == 400
    assert (await api.client.get("/api/limits")).json()["used_cents"] == 0


async def test_an_id_that_is_not_there_yet_is_null(api: Api) -> None:
    order = await api.order()
    api.arm("CreatePayment", {"kind": "invisible_seconds", "seconds": 60}, when="after")
    answer = await api.client.post("/api/transfers", json=order)
    assert answer.status_code == 200
    assert answer.json()["id"] is None
    assert answer.json()["source"]["id"] == order["source_id"]


@pytest.mark.parametrize("content", [b'{"2026-11-23": {"__glo', b"", b"[]", b'{"2026-11-23": {"__global__": [1]}}'])
async def test_a_damaged_ledger_stops_transfers_and_not_reads(api: Api, content: bytes) -> None:
    order = await api.order()
    path = api.directory / ".daily_limits.json"
    path.write_bytes(content)
    answer = await api.client.post("/api/transfers", json=order)
    assert answer.status_code == 503
    assert "Reads go on" in answer.json()["detail"]
    assert (await api.client.get("/api/limits")).status_code == 503
    assert (await api.client.get("/api/pods")).status_code == 200
    assert path.read_bytes() == content
    assert await api.moved() == []


async def test_too_many_attempts(open_api: OpenApi) -> None:
    async with open_api(max_transfer_attempts_per_minute=2) as api:
        order = await api.order(1_500_000)
        answers = [await api.client.post("/api/transfers", json=order) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [400, 400, 429, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert len(api.audit()) == 2
        assert (await api.client.get("/api/pods")).status_code == 200


async def test_malformed_requests_use_up_no_attempts(open_api: OpenApi) -> None:
    async with open_api(max_transfer_attempts_per_minute=1) as api:
        for _ in range(3):
            assert (await api.client.post("/api/transfers", json={})).status_code == 422
        assert (await api.transfer()).status_code == 200


async def test_reads_are_paced_and_shared(open_api: OpenApi) -> None:
    async with open_api(request_interval_seconds=0.5) as api:
        answers: list[httpx.Response] = []

        async def read() -> None:
            answers.append(await api.client.get("/api/pods"))

        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(read)
        assert [answer.status_code for answer in answers] == [200] * 30
        arrivals = [one.arrived_monotonic_seconds for one in api.sandbox.journal.read().requests]
        assert 1 <= len(arrivals) <= 2
        assert all(later - earlier >= 0.5 for earlier, later in pairwise(arrivals))


async def test_too_many_reads_wait(open_api: OpenApi) -> None:
    async with open_api(request_interval_seconds=60) as api, anyio.create_task_group() as tasks:
        refused: list[httpx.Response] = []

        async def read(number: int) -> None:
            answer = await api.client.get(f"/api/transfers/{number}")
            if answer.status_code == 503:
                refused.append(answer)
                tasks.cancel_scope.cancel()

        for number in range(40):
            tasks.start_soon(read, number)
        with anyio.fail_after(10):
            await anyio.sleep_forever()
    assert refused
    assert int(refused[0].headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 429},
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 403},
        {"kind": "html", "status": 200},
        "close",
        "half_body",
        "garbage",
        {"kind": "graphql_error", "message": "Something went wrong"},
        "redirect",
        {"kind": "delay", "seconds": 30},
    ],
    ids=str,
)
async def test_reads_fail_upstream(open_api: OpenApi, fault: Any) -> None:
    async with open_api(request_timeout_seconds=0.5) as api:
        for path in ("/api/pods", "/api/activity/summary", f"/api/activity?org_id={ORGANIZATION_ID}"):
            api.arm("*", fault)
            answer = await api.client.get(path)
            assert answer.status_code == 502, answer.text
            assert set(answer.json()) == {"detail"}
            assert "<" not in answer.json()["detail"]


async def test_sequence_does_not_take_the_token(api: Api) -> None:
    order = await api.order()
    api.arm("*", {"kind": "status", "status": 401}, count=10)
    for answer in (await api.client.get("/api/pods"), await api.client.post("/api/transfers", json=order)):
        assert answer.status_code == 502
    assert (await api.client.get("/api/limits")).json()["used_cents"] == 0
    assert await api.moved() == []
