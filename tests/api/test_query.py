"""Filters are closed: what a route does not have, or does not know, is 422 that names what is allowed."""

import re
from typing import Any

import httpx
import pytest

from tests.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]


async def invalid(client: httpx.AsyncClient, path: str, method: str = "GET") -> dict[str, str]:
    """Send an invalid request, and return the text about each field."""
    answer = await client.request(method, path)
    assert answer.status_code == 422, (path, answer.text)
    content = answer.json()
    assert content["code"] == "invalid_request"
    errors: list[dict[str, Any]] = content["errors"]
    assert all(error["loc"][0] == "query" and error["msg"] in content["detail"] for error in errors)
    return {error["loc"][1]: error["msg"] for error in errors}


async def test_every_route_refuses_unknown_parameters(shared_world: World, shared_client: httpx.AsyncClient) -> None:
    before = len(shared_world.requests())
    document = (await shared_client.get("/openapi.json")).json()
    operations = [(method, path, one) for path, item in document["paths"].items() for method, one in item.items()]
    assert len(operations) > 15
    for method, path, operation in operations:
        url = f"{re.sub(r'{[^}]*}', 'x', path)}?surprise=1"
        text = (await invalid(shared_client, url, method))["surprise"]
        for parameter in operation.get("parameters", []):
            assert (parameter["name"] in text) == (parameter["in"] == "query"), path
    assert len(shared_world.requests()) == before


@pytest.mark.parametrize(
    ("query", "name", "phrases"),
    [
        ("status=COMPLETE", "status", ["Did you mean `statuses`?"]),
        ("limit=5", "limit", ["Allowed: first, after,"]),
        ("cursor=abc", "cursor", ["Allowed: first, after,"]),
        ("First=5", "First", ["`first`"]),
        ("first=5&first=5", "first", ["sent twice"]),
        ("name=a&name=b", "name", ["sent twice"]),
        ("%3Cscript%3E=1", "(an HTML page)", []),
        ("a%0D%0Ab%00=1", "a b", []),
        ("x" * 500 + "=1", "x" * 39 + "…", []),
    ],
)
async def test_unknown_and_repeated_parameters(
    shared_client: httpx.AsyncClient, query: str, name: str, phrases: list[str]
) -> None:
    errors = await invalid(shared_client, f"/api/activity?{query}")
    assert set(errors) == {name}
    assert all(phrase in errors[name] for phrase in phrases)


async def test_readiness_is_not_misspelled_unnoticed(shared_client: httpx.AsyncClient) -> None:
    assert "`ready`" in (await invalid(shared_client, "/api/health?redy=1"))["redy"]
