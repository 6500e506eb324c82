"""Each caller lists its own attempts, newest first, and nobody else's."""

from typing import Any

import httpx
import pytest

from pysequence_api.records.audit import Channel
from pysequence_api.records.states import State
from pysequence_api.safeguards import caller_status
from pysequence_api.safeguards.caller_status import list_attempts
from tests.api.calls import post_transfer
from tests.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]


async def listed(client: httpx.AsyncClient, query: str = "") -> dict[str, Any]:
    answer = await client.get(f"/api/attempts{query}")
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    assert (content["next"] is not None) == ("next" in answer.links) == content["page_info"]["has_next_page"]
    return content


async def ids(client: httpx.AsyncClient, query: str = "") -> list[str]:
    return [one["attempt_id"] for one in (await listed(client, query))["attempts"]]


async def test_own_attempts_are_listed_newest_first_as_they_are_told_one_by_one(
    world: World, client: httpx.AsyncClient
) -> None:
    for amount_cents in (100, 200, 300):
        await world.transfer(amount_cents)
    await world.transfer(400, channel=Channel.CLI)
    found = (await listed(client))["attempts"]
    assert [one["amount_cents"] for one in found] == [300, 200, 100]
    for one in found:
        assert one == (await client.get(f"/api/attempts/{one['attempt_id']}")).json()


async def test_paging_ends_and_repeats_nothing(world: World, client: httpx.AsyncClient) -> None:
    made = [(await world.transfer(100 + number)).attempt_id for number in range(5)]
    found, path = [], "/api/attempts?limit=2&state=accepted"
    for _ in range(3):
        page = (await client.get(path)).json()
        found += [one["attempt_id"] for one in page["attempts"]]
        path = page["next"]
    assert found == made[::-1]
    assert path is None


async def test_a_key_names_its_attempts(world: World, client: httpx.AsyncClient) -> None:
    await post_transfer(client, 1_500_000, headers={"Idempotency-Key": "rent-11"})  # a rejected one keeps no key
    world.fail({"kind": "refuse", "message": "No."})
    refused = (await post_transfer(client, headers={"Idempotency-Key": "rent-11"})).json()["attempt_id"]
    made = (await post_transfer(client, headers={"Idempotency-Key": "rent-11"})).json()["attempt_id"]
    await post_transfer(client, headers={"Idempotency-Key": "rent-12"})
    await world.transfer(key="rent-11", channel=Channel.CLI)
    assert await ids(client, "?key=rent-11") == [made, refused]
    assert await ids(client, "?key=rent-11&state=refused") == [refused]
    assert await ids(client, "?key=rent-10") == []


async def test_the_state_is_the_one_of_now(world: World, client: httpx.AsyncClient) -> None:
    sent = await world.leave(State.SENDING, await world.open_process())
    reserved = await world.leave(State.RESERVED, await world.open_process(), amount_cents=7)
    assert await ids(client, "?state=unknown") == [sent]
    assert await ids(client, "?state=failed") == [reserved]
    assert await ids(client, "?state=sending") == await ids(client, "?state=reserved") == []


async def test_a_page_reads_a_bounded_number_and_goes_on_where_it_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller_status, "MAX_ATTEMPTS_READ", 2)
    records = world.gateway.records
    wanted = (await world.transfer(key="first")).attempt_id
    for _ in range(4):
        await world.transfer()
    found, after, pages = [], "", 0
    while True:
        page = list_attempts(records, "default", key="first", after=after)
        found += [one.attempt_id for one in page.attempts]
        pages += 1
        after = page.page_info.end_cursor
        if not page.page_info.has_next_page:
            break
    assert (found, pages) == ([wanted], 3)


@pytest.mark.parametrize(
    ("query", "name", "phrase"),
    [
        ("state=Accepted", "state", "'accepted'"),
        ("status=accepted", "status", "Did you mean `state`?"),
        ("limit=0", "limit", "greater"),
        ("limit=101", "limit", "less"),
        ("key=a%20b", "key", "visible ASCII"),
        ("key=", "key", "character"),
        ("first=5", "first", "Allowed: state, key, limit, after"),
    ],
)
async def test_filters_are_closed(shared_client: httpx.AsyncClient, query: str, name: str, phrase: str) -> None:
    answer = await shared_client.get(f"/api/attempts?{query}")
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["loc"] == ["query", name]
    assert phrase in error["msg"]


async def test_a_cursor_is_one_of_the_own_list(world: World, client: httpx.AsyncClient) -> None:
    other = (await world.transfer(channel=Channel.CLI)).attempt_id
    for cursor in ("x", other):
        answer = await client.get(f"/api/attempts?after={cursor}")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert "`after`" in answer.json()["detail"]
