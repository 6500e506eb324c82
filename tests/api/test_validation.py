"""An invalid request is 422, names the field, repeats no value of the input, and moves no money."""

import json
from typing import Any

import httpx
import pytest

from tests.api.calls import transfer_body
from tests.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]

CANARY = "canary-7391"
JSON = "application/json"


def assert_invalid(answer: httpx.Response) -> list[dict[str, Any]]:
    """Check the shape of the answer, and return its errors."""
    assert answer.status_code == 422, answer.text
    content = answer.json()
    assert set(content) >= {"detail", "code", "errors"}
    assert content["code"] == "invalid_request"
    assert isinstance(content["detail"], str)
    assert content["detail"]
    assert "canary" not in answer.text
    errors: list[dict[str, Any]] = content["errors"]
    for error in errors:
        assert set(error) == {"loc", "msg", "type"}
        assert error["msg"] in content["detail"]
        assert str(error["loc"][-1]) in content["detail"]
    return errors


async def errors_of_body(
    world: World, client: httpx.AsyncClient, content: bytes, content_type: str = JSON
) -> list[dict[str, Any]]:
    """Send an invalid body, and return the errors."""
    answer = await client.post("/api/transfers", content=content, headers={"Content-Type": content_type})
    errors = assert_invalid(answer)
    assert (answer.json()["outcome"], answer.json()["retry"]) == ("nothing_moved", "same_key")
    assert world.attempts() == []
    assert world.files.trail() == []
    assert world.files.counted() == []
    assert await world.moved() == []
    return errors


def kinds(errors: list[dict[str, Any]]) -> dict[str, str]:
    """Return the type of the error of each field."""
    return {".".join(map(str, error["loc"][1:])): error["type"] for error in errors}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"amount_cents": True}, {"amount_cents": "int_type"}),
        ({"amount_cents": "5000"}, {"amount_cents": "int_type"}),
        ({"amount_cents": 5000.0}, {"amount_cents": "int_type"}),
        ({"amount_cents": 49.99}, {"amount_cents": "int_type"}),
        ({"amount_cents": None}, {"amount_cents": "int_type"}),
        ({"amount_cents": [5000]}, {"amount_cents": "int_type"}),
        ({"amount_cents": 0}, {"amount_cents": "greater_than_equal"}),
        ({"amount_cents": -5}, {"amount_cents": "greater_than_equal"}),
        ({"amount_cents": 2_147_483_648}, {"amount_cents": "less_than_equal"}),
        ({"amount_cents": 10**30}, {"amount_cents": "less_than_equal"}),
        ({"source_id": ""}, {"source_id": "string_too_short"}),
        ({"source_id": " \t"}, {"source_id": "string_pattern_mismatch"}),
        ({"source_id": CANARY * 50}, {"source_id": "string_too_long"}),
        ({"destination_id": 5}, {"destination_id": "string_type"}),
        ({"destination_id": {CANARY: CANARY}}, {"destination_id": "string_type"}),
        ({"source_type": CANARY}, {"source_type": "enum"}),
        ({"source_type": "pod"}, {"source_type": "enum"}),
        ({"destination_type": None}, {"destination_type": "enum"}),
        ({"description": f"{CANARY}\0"}, {"description": "value_error"}),
        ({"description": CANARY * 30}, {"description": "string_too_long"}),
        ({"description": None}, {"description": "string_type"}),
        ({"instant": 1}, {"instant": "bool_type"}),
        ({"instant": "true"}, {"instant": "bool_type"}),
        ({"kyc_id": ""}, {"kyc_id": "string_too_short"}),
        ({"kyc_id": "  "}, {"kyc_id": "string_pattern_mismatch"}),
        ({"memo": CANARY}, {"memo": "extra_forbidden"}),
        ({"ammount_cents": 1, "x": 2}, {"ammount_cents": "extra_forbidden", "x": "extra_forbidden"}),
        ({"a\n\0b\u202e": 1}, {"a b": "extra_forbidden"}),
        ({"x" * 1000: 1}, {"x" * 39 + "…": "extra_forbidden"}),
        ({"4111 1111 1111 1111": 1}, {"••••1111": "extra_forbidden"}),
        ({"amount_cents": "x", "source_id": 1}, {"source_id": "string_type", "amount_cents": "int_type"}),
    ],
)
async def test_invalid_fields(
    shared_world: World, shared_client: httpx.AsyncClient, change: dict[str, Any], expected: dict[str, str]
) -> None:
    content = json.dumps(transfer_body() | change).encode()
    assert kinds(await errors_of_body(shared_world, shared_client, content)) == expected


async def test_same_source_and_destination(shared_world: World, shared_client: httpx.AsyncClient) -> None:
    body = transfer_body()
    content = json.dumps(body | {"destination_id": body["source_id"]}).encode()
    [error] = await errors_of_body(shared_world, shared_client, content)
    assert (error["loc"], error["type"]) == (["body"], "value_error")


@pytest.mark.parametrize("missing", ["source_id", "destination_id", "amount_cents"])
async def test_missing_fields(shared_world: World, shared_client: httpx.AsyncClient, missing: str) -> None:
    body = transfer_body()
    del body[missing]
    [error] = await errors_of_body(shared_world, shared_client, json.dumps(body).encode())
    assert (error["loc"], error["type"]) == (["body", missing], "missing")


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        (b"", "line 1, column 1"),
        (b"canary", "line 1, column 1"),
        (b'{"canary": 1', "line 1, column 13"),
        (b"[]", "JSON object"),
        (b"null", "JSON object"),
        (b'"canary"', "JSON object"),
        (b'{"amount_cents": 1, "amount_cents": 2}', "twice"),
        (b'{"canary": {"a": 1, "a": 1}}', "twice"),
        (b'{"amount_cents": NaN}', "NaN"),
        (b'{"amount_cents": -Infinity}', "Infinity"),
        (b'{"amount_cents": ' + b"9" * 5000 + b"}", "number"),
        (b'{"canary": "\xff"}', "UTF-8"),
        ('{"canary": 1}'.encode("utf-16"), "UTF-8"),
        (b"\xef\xbb\xbf{}", "JSON"),
        (b"[" * 60_000, "deep"),
        (b'{"a":' * 12_000, "deep"),
    ],
)
async def test_invalid_json(shared_world: World, shared_client: httpx.AsyncClient, content: bytes, phrase: str) -> None:
    [error] = await errors_of_body(shared_world, shared_client, content)
    assert (error["loc"], error["type"]) == (["body"], "json_invalid")
    assert phrase in error["msg"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"description": "\\ud800"}', {"description": "string_unicode"}),
        (b'{"\\ud800canary": 1}', {"": "string_unicode"}),
        (b'{"amount_cents": 1e3}', {"amount_cents": "int_type"}),
    ],
)
async def test_json_that_python_accepts(
    shared_world: World, shared_client: httpx.AsyncClient, content: bytes, expected: dict[str, str]
) -> None:
    assert kinds(await errors_of_body(shared_world, shared_client, content)).items() >= expected.items()


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/xml"]
)
async def test_other_content_types(shared_world: World, shared_client: httpx.AsyncClient, content_type: str) -> None:
    content = json.dumps(transfer_body()).encode()
    [error] = await errors_of_body(shared_world, shared_client, content, content_type)
    assert error["loc"] == ["body"]
    assert JSON in error["msg"]


async def test_number_of_listed_errors_is_bounded(shared_world: World, shared_client: httpx.AsyncClient) -> None:
    content = json.dumps({f"field-{number}": number for number in range(3000)}).encode()
    answer = await shared_client.post("/api/transfers", content=content, headers={"Content-Type": JSON})
    assert len(assert_invalid(answer)) == 20
    assert len(answer.json()["detail"]) < 2000


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("first=0", {"first": "greater_than_equal"}),
        ("first=101", {"first": "less_than_equal"}),
        ("first=canary", {"first": "int_parsing"}),
        ("date_start=canary", {"date_start": "value_error"}),
        ("date_end=1700000000", {"date_end": "value_error"}),
        ("date_end=2026-02-30", {"date_end": "date_from_datetime_parsing"}),
        ("date_start=2026-02-02&date_end=2026-02-01", {"date_start": "value_error"}),
        ("hide_internal=canary", {"hide_internal": "bool_parsing"}),
        ("org_id=", {"org_id": "string_too_short"}),
        ("org_id=%20", {"org_id": "string_pattern_mismatch"}),
        ("name=" + "canary" * 40, {"name": "string_too_long"}),
        ("statuses=" + "canary" * 200, {"statuses.0": "string_too_long"}),
        ("&".join(["statuses=x"] * 51), {"statuses": "too_long"}),
    ],
)
async def test_invalid_queries(shared_client: httpx.AsyncClient, query: str, expected: dict[str, str]) -> None:
    assert kinds(assert_invalid(await shared_client.get(f"/api/activity?{query}"))) == expected
