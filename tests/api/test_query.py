"""Filters are closed: what a route does not have, or does not know, is 422 that names what is allowed."""

import re
from typing import Any

import httpx
import pytest

from pysequence_api.sandbox import ORGANIZATION_ID
from pysequence_api.sandbox.ids import SECOND_ORGANIZATION_ID
from tests.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]
BOTH = pytest.mark.upstream("graphql", "platform")


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


@pytest.mark.parametrize(
    ("query", "phrase"),
    [
        ("statuses=COMPLETED", "PENDING, PROCESSING, COMPLETE, FAILED, CANCELLED"),
        ("statuses=COMPLETE,DONE", "PENDING, PROCESSING, COMPLETE, FAILED, CANCELLED"),
        ("directions=IN", "INTERNAL, INCOMING, OUTGOING"),
        ("activity_types=CASH", "ONE_TIME_TRANSFER, RULE, DIRECT_DEPOSIT, ACH"),
    ],
)
async def test_unknown_words_of_a_filter(shared_client: httpx.AsyncClient, query: str, phrase: str) -> None:
    [(name, text)] = (await invalid(shared_client, f"/api/activity?{query}")).items()
    assert name == query.partition("=")[0]
    assert phrase in text


@pytest.mark.parametrize(
    "statuses", ["COMPLETE,%20failed", "complete&statuses=FAILED", "COMPLETE,&statuses=&statuses=FAILED"]
)
async def test_known_words_in_any_case_reach_sequence(
    shared_world: World, shared_client: httpx.AsyncClient, statuses: str
) -> None:
    assert (await shared_client.get(f"/api/activity?statuses={statuses}")).status_code == 200
    variables = shared_world.requests()[-1].variables
    assert isinstance(variables, dict)
    assert variables["transferFilter"] == {"statuses": ["COMPLETE", "FAILED"]}


async def test_an_unknown_word_of_sequence_passes_through_in_answers(world: World, client: httpx.AsyncClient) -> None:
    path = "organization.transferReferences.edges.0.node.status"
    fault = {"kind": "values", "paths": [path], "value": "BRAND_NEW"}
    world.fail(fault, operation="ActivityLogV2Transfers", when="after")
    answer = await client.get("/api/activity?statuses=COMPLETE")
    assert answer.json()["transfers"][0]["status"] == "BRAND_NEW"


@BOTH
async def test_every_word_of_the_documentation_is_known(shared_client: httpx.AsyncClient) -> None:
    document = (await shared_client.get("/openapi.json")).json()
    parameters = document["paths"]["/api/activity"]["get"]["parameters"]
    words = {one["name"]: one["schema"]["items"]["enum"] for one in parameters if "items" in one["schema"]}
    assert set(words) == {"statuses", "directions", "activity_types"}
    assert {"COMPLETE", "INCOMING", "CASHBACK"} <= {word for known in words.values() for word in known}
    for name, known in words.items():
        for word in known:
            page = (await shared_client.get(f"/api/activity?first=3&{name}={word}")).json()
            field = {"statuses": "status", "directions": "direction", "activity_types": "activity_type"}[name]
            assert {one[field] for one in page["transfers"]} <= {word}


@BOTH
@pytest.mark.parametrize("cursor", ["abc", "2", "5", "%00", "a" * 2000, "dDoxNzk1ODgxMDMzNzgyOjUxMA=="])
async def test_a_guessed_cursor_is_refused_without_a_call(
    shared_world: World, shared_client: httpx.AsyncClient, cursor: str
) -> None:
    before = len(shared_world.requests())
    answer = await shared_client.get(f"/api/activity?after={cursor}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "`after`" in answer.json()["detail"]
    assert len(shared_world.requests()) == before


async def test_a_cursor_belongs_to_its_organization(shared_client: httpx.AsyncClient) -> None:
    cursor = (await shared_client.get("/api/activity?first=1")).json()["page_info"]["end_cursor"]
    for org_id, status in ((ORGANIZATION_ID, 200), (SECOND_ORGANIZATION_ID, 422)):
        query = {"after": cursor, "org_id": org_id}
        assert (await shared_client.get("/api/activity", params=query)).status_code == status
    assert (await shared_client.get("/api/activity", params={"after": cursor[:-1]})).status_code == 422


@BOTH
async def test_the_next_link_keeps_the_filters_and_ends(shared_client: httpx.AsyncClient) -> None:
    query = {"first": "7", "directions": ["INCOMING", "outgoing"], "name": "CAFÉ ☕", "hide_internal": "1"}
    everything = (await shared_client.get("/api/activity", params=query | {"first": "100"})).json()
    assert (len(everything["transfers"]) > 14, everything["next"]) == (True, None)
    answer = await shared_client.get("/api/activity", params=query)
    found = answer.json()["transfers"]
    while "next" in answer.links:
        assert answer.links["next"]["url"] == answer.json()["next"]
        answer = await shared_client.get(answer.json()["next"])
        found += answer.json()["transfers"]
    assert found == everything["transfers"]
    assert answer.json()["next"] is None


async def test_a_page_that_leads_to_itself_has_no_next_link(world: World, client: httpx.AsyncClient) -> None:
    first = (await client.get("/api/activity?first=1")).json()
    cursor = first["page_info"]["end_cursor"]
    path = "organization.transferReferences.pageInfo.endCursor"
    fault = {"kind": "values", "paths": [path], "value": cursor[8:]}
    world.fail(fault, operation="ActivityLogV2Transfers", when="after")
    again = await client.get(first["next"])
    assert (again.json()["next"], again.links) == (None, {})


async def test_the_next_link_has_the_root_path(world: World) -> None:
    process = await world.open_process(root_path="/sequence")
    async with world.http(process) as client:
        following = (await client.get("/sequence/api/activity?first=1")).json()["next"]
        assert following.startswith("/sequence/api/activity?first=1&after=")
        assert (await client.get(following)).status_code == 200
