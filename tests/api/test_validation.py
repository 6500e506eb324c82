"""What `POST /api/transfers` takes, and that nothing else is taken, echoed or counted."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from pysequence_api.web import body
from pysequence_api.web.body import MAX_BODY_BYTES
from tests.api.conftest import Api

pytestmark = pytest.mark.anyio
CANARY = "canary-7391"


async def refused(api: Api, content: bytes | AsyncIterator[bytes], content_type: str = "application/json") -> Any:
    """Send a body that is refused as malformed; gives the answer."""
    answer = await api.client.post("/api/transfers", content=content, headers={"Content-Type": content_type})
    assert answer.status_code == 422, answer.text
    said = answer.json()
    assert set(said) == {"detail", "errors"}
    assert isinstance(said["detail"], str)
    assert said["detail"]
    for error in said["errors"]:
        assert set(error) == {"loc", "msg", "type"}
    assert "canary" not in answer.text
    assert api.audit() == []
    assert api.ledger() == []
    assert await api.moved() == []
    return said


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"amount_cents": True}, "amount_cents: should be a valid integer"),
        ({"amount_cents": "5000"}, "amount_cents: should be a valid integer"),
        ({"amount_cents": 5000.0}, "amount_cents: should be a valid integer"),
        ({"amount_cents": 49.99}, "amount_cents: should be a valid integer"),
        ({"amount_cents": None}, "amount_cents: should be a valid integer"),
        ({"amount_cents": [5000]}, "amount_cents: should be a valid integer"),
        ({"amount_cents": 0}, "amount_cents: should be greater than or equal to 1"),
        ({"amount_cents": -5}, "amount_cents: should be greater than or equal to 1"),
        ({"amount_cents": 2_147_483_648}, "amount_cents: should be less than or equal to 2147483647"),
        ({"amount_cents": 10**30}, "amount_cents: should be less than or equal to 2147483647"),
        ({"source_id": ""}, "source_id: should have at least 1 character"),
        ({"source_id": " \t"}, "source_id: must not be blank"),
        ({"source_id": CANARY * 50}, "source_id: should have at most 200 characters"),
        ({"destination_id": 5}, "destination_id: should be a valid string"),
        ({"destination_id": {CANARY: CANARY}}, "destination_id: should be a valid string"),
        ({"source_type": CANARY}, "source_type: should be 'POD', 'PORT' or 'ACCOUNT'"),
        ({"source_type": "pod"}, "source_type: should be 'POD', 'PORT' or 'ACCOUNT'"),
        ({"destination_type": None}, "destination_type: should be 'POD', 'PORT' or 'ACCOUNT'"),
        ({"description": f"{CANARY}\0"}, "description: must not hold a NUL character"),
        ({"description": CANARY * 30}, "description: should have at most 255 characters"),
        ({"description": None}, "description: should be a valid string"),
        ({"instant": 1}, "instant: should be a valid boolean"),
        ({"instant": "true"}, "instant: should be a valid boolean"),
        ({"kyc_id": ""}, "kyc_id: should have at least 1 character"),
        ({"kyc_id": "  "}, "kyc_id: must not be blank"),
        ({CANARY: CANARY}, "(unknown field): is not a field of this request; /openapi.json lists them"),
        ({"ammount_cents": 1, "x": 2}, "(unknown field): is not a field of this request; /openapi.json lists them"),
        (
            {"amount_cents": "x", "source_id": 1},
            "source_id: should be a valid string; amount_cents: should be a valid integer",
        ),
    ],
)
async def test_fields(shared_api: Api, change: dict[str, Any], detail: str) -> None:
    said = await refused(shared_api, json.dumps(await shared_api.order() | change).encode())
    assert said["detail"].startswith(detail)


async def test_source_and_destination_are_the_same(shared_api: Api) -> None:
    order = await shared_api.order()
    said = await refused(shared_api, json.dumps(order | {"destination_id": order["source_id"]}).encode())
    assert said["detail"] == "body: source and destination are the same"


@pytest.mark.parametrize("missing", ["source_id", "destination_id", "amount_cents"])
async def test_missing_fields(shared_api: Api, missing: str) -> None:
    order = await shared_api.order()
    del order[missing]
    said = await refused(shared_api, json.dumps(order).encode())
    assert said == {
        "detail": f"{missing}: is required",
        "errors": [{"loc": ["body", missing], "msg": "is required", "type": "missing"}],
    }


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "body: is not JSON (line 1, column 1)"),
        (b"canary", "body: is not JSON (line 1, column 1)"),
        (b'{"canary": 1', "body: is not JSON (line 1, column 13)"),
        (b"[]", "body: must be a JSON object"),
        (b"null", "body: must be a JSON object"),
        (b'"canary"', "body: must be a JSON object"),
        (b'{"amount_cents": 1, "amount_cents": 2}', "body: names a field twice"),
        (b'{"canary": {"a": 1, "a": 1}}', "body: names a field twice"),
        (b'{"amount_cents": NaN}', "body: holds NaN or Infinity"),
        (b'{"amount_cents": -Infinity}', "body: holds NaN or Infinity"),
        (b'{"amount_cents": ' + b"9" * 5000 + b"}", "body: holds a number that cannot be"),
        (b'{"canary": "\xff"}', "body: is not UTF-8"),
        ('{"canary": 1}'.encode("utf-16"), "body: is not UTF-8"),
        (b"\xef\xbb\xbf{}", "body: is not JSON"),
        (b"[" * 60_000, "body: is nested too deeply"),
        (b'{"a":' * 12_000, "body: is nested too deeply"),
        (b'{"description": "\\ud800"}', "source_id: is required"),
        (b'{"\\ud800canary": 1}', "body: should be a valid string"),
        (b'{"amount_cents": 1e3}', "source_id: is required"),
    ],
)
async def test_bodies(shared_api: Api, content: bytes, detail: str) -> None:
    assert (await refused(shared_api, content))["detail"].startswith(detail)


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/xml"]
)
async def test_content_types(shared_api: Api, content_type: str) -> None:
    said = await refused(shared_api, json.dumps(await shared_api.order()).encode(), content_type)
    assert said["detail"] == "body: must be JSON, sent with Content-Type: application/json"


async def test_a_list_of_errors_has_an_end(shared_api: Api) -> None:
    said = await refused(shared_api, json.dumps({f"canary-{number}": number for number in range(3000)}).encode())
    assert len(said["errors"]) == 20
    assert len(said["detail"]) < 500


async def test_large_bodies(shared_api: Api) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1024

    headers = {"Content-Type": "application/json"}
    for content in (b" " * (MAX_BODY_BYTES + 1), endless()):
        answer = await shared_api.client.post("/api/transfers", content=content, headers=headers)
        assert answer.status_code == 413
        assert answer.json() == {"detail": "The body is larger than 65536 bytes."}


async def test_slow_bodies(shared_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await anyio.sleep_forever()

    monkeypatch.setattr(body, "BODY_TIMEOUT_SECONDS", 0.05)
    headers = {"Content-Type": "application/json"}
    answer = await shared_api.client.post("/api/transfers", content=stuck(), headers=headers)
    assert answer.status_code == 408
    assert await shared_api.moved() == []


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("first=0", "first: should be greater than or equal to 1"),
        ("first=101", "first: should be less than or equal to 100"),
        ("first=canary", "first: should be a valid integer, unable to parse string as an integer"),
        ("date_start=canary", "date_start: should be a date like 2026-11-23"),
        ("date_end=1700000000", "date_end: should be a date like 2026-11-23"),
        ("date_end=2026-02-30", "date_end: should be a valid date"),
        ("date_start=2026-02-02&date_end=2026-02-01", "date_start: should not be after date_end"),
        ("hide_internal=canary", "hide_internal: should be a valid boolean, unable to interpret input"),
        ("org_id=", "org_id: should have at least 1 character"),
        ("org_id=%20", "org_id: must not be blank"),
        ("name=" + "canary" * 40, "name: should have at most 200 characters"),
        ("statuses=" + "canary" * 200, "statuses.0: should have at most 1000 characters"),
        ("&".join(["statuses=x"] * 51), "statuses: should have at most 50 items"),
    ],
)
async def test_queries(shared_api: Api, query: str, detail: str) -> None:
    answer = await shared_api.client.get(f"/api/activity?{query}")
    assert answer.status_code == 422
    said = answer.json()
    assert said["detail"].startswith(detail)
    assert all(set(error) == {"loc", "msg", "type"} for error in said["errors"])
    assert "canary" not in answer.text
