"""Every read returns at least what the client of the published SDK returns."""

import json
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote

import anyio
import anyio.from_thread
import anyio.to_thread
import httpx
import pytest
from pydantic import SecretStr

from pysequence_api.records import control
from pysequence_api.sandbox import ORGANIZATION_ID
from pysequence_api.sandbox.ids import SECOND_ORGANIZATION_ID
from tests.api.server import Server
from tests.world import API_KEY, World

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]
BOTH = pytest.mark.upstream("graphql", "platform")


async def sdk_result(world: World, method: str, *args: Any, **more: Any) -> Any:
    """Call the published SDK's client on the same simulated Sequence."""
    from pysequence_sdk.client import SequenceClient  # noqa: PLC0415 - not in every process that collects the tests

    token = world.sandbox.issue_tokens().access_token

    async def send(query: str, variables: dict[str, Any], operation_name: str) -> Any:
        async with httpx.AsyncClient(transport=world.sandbox.transport()) as client:
            answer = await client.post(
                "http://127.0.0.1/api/graphql",
                json={"query": query, "variables": variables, "operationName": operation_name},
                headers={"authorization": f"Bearer {token}"},
            )
        return answer.json()["data"]

    def execute(query: str, variables: dict[str, Any] | None = None, operation_name: str = "") -> Any:
        return anyio.from_thread.run(send, query, variables or {}, operation_name)

    with SequenceClient(token) as sdk:
        sdk.execute = execute
        return await anyio.to_thread.run_sync(partial(getattr(sdk, method), *args, **more))


def assert_superset(ours: Any, theirs: Any, where: str = "") -> None:
    """Check that our answer contains all of theirs. Exceptions: unknown balances are null, and times are in UTC."""
    if isinstance(theirs, dict):
        for key, value in theirs.items():
            if key == "__typename":
                continue  # `type` has the same value
            assert key in ours, f"{where}.{key}"
            assert_superset(ours[key], value, f"{where}.{key}")
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), where
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_superset(one, other, f"{where}[{index}]")
    elif where.endswith(("_at", "expected_completion")) and theirs and len(theirs) > 10:
        assert datetime.fromisoformat(ours) == datetime.fromisoformat(theirs), where
        assert ours.endswith("Z"), where
    elif where.endswith((".balance", ".balance_cents")) and theirs in (0, "$0.00"):
        assert ours in (theirs, None), where
    else:
        assert ours == theirs, where


async def get(client: httpx.AsyncClient, path: str, **params: Any) -> Any:
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


async def test_health(world: World, client: httpx.AsyncClient) -> None:
    before = len(world.sandbox.journal.read().requests)
    assert await get(client, "/api/health") == {"status": "ok"}
    assert len(world.sandbox.journal.read().requests) == before


async def test_health_answers_head(client: httpx.AsyncClient) -> None:
    assert (await client.head("/api/health")).status_code == 200


async def test_readiness_needs_no_key_and_no_upstream_call(world: World, client: httpx.AsyncClient) -> None:
    del client.headers["X-API-Key"]
    before = len(world.requests())
    assert await get(client, "/api/health", ready=1) == {"status": "ok"}
    control.freeze(world.gateway.records, "a secret reason")
    answer = await client.get("/api/health", params={"ready": 1})
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert "transfers" in answer.json()["detail"]
    assert "secret" not in answer.text
    assert await get(client, "/api/health") == {"status": "ok"}
    assert len(world.requests()) == before


async def test_not_ready_with_damaged_records(world: World) -> None:
    await world.transfer()
    await world.close(world.gateway)
    world.files.damage(".records.db", b"damaged")
    async with world.http(await world.open_process()) as client:
        assert "transfers" in (await client.get("/api/health", params={"ready": 1})).json()["detail"]


async def test_not_ready_without_a_valid_token(world: World) -> None:
    expired = SecretStr(world.sandbox.issue_tokens(lifetime_seconds=-1).access_token)
    async with world.http(await world.open_process(access_token=expired)) as client:
        assert "signed in" in (await client.get("/api/health", params={"ready": 1})).json()["detail"]


async def test_pods(shared_world: World, shared_client: httpx.AsyncClient) -> None:
    pods = await get(shared_client, "/api/pods")
    assert_superset(pods, await sdk_result(shared_world, "get_pods"))
    fund = next(pod for pod in pods if pod["name"] == "Emergency Fund")
    assert fund["balance_cents"] == 18_500_000
    assert fund["balance"] == "$185,000.00"
    assert fund["organization_id"] == ORGANIZATION_ID


async def test_total_balance(shared_world: World, shared_client: httpx.AsyncClient) -> None:
    total = await get(shared_client, "/api/pods/balance")
    assert_superset(total, await sdk_result(shared_world, "get_total_balance"))
    assert (total["complete"], total["left_out"]) == (True, [])


async def test_total_balance_lists_pods_without_a_balance(world: World, client: httpx.AsyncClient) -> None:
    world.fail(
        {"kind": "nulls", "paths": ["me.memberships.0.organization.pods.0.metadata"]},
        operation="SelectSourceAndDestination",
        when="after",
    )
    total = await get(client, "/api/pods/balance")
    assert total["complete"] is False
    assert [set(pod) for pod in total["left_out"]] == [{"id", "name"}]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("emergency", "Emergency Fund"),
        ("EMERGENCY FUND", "Emergency Fund"),
        ("Vacation / Travel", "Vacation / Travel"),
        ("cation / trav", "Vacation / Travel"),
        ("50% Rule", "50% Rule"),
        ("50%", "50% Rule"),
        ("café ☕", "Café ☕"),
    ],
)
async def test_pod_by_name(shared_client: httpx.AsyncClient, text: str, name: str) -> None:
    pod = await get(shared_client, f"/api/pods/{quote(text, safe='')}/balance")
    assert pod["name"] == name
    assert pod in await get(shared_client, "/api/pods")


@pytest.mark.parametrize(
    "name", ["no such", "a/../b", "100%25", "line\nbreak\n", "日本語/🏦", "detail", "x/balance", "%2F"]
)
async def test_unknown_pod_name(shared_client: httpx.AsyncClient, name: str) -> None:
    answer = await shared_client.get(f"/api/pods/{quote(name, safe='')}/balance")
    assert answer.status_code == 404
    assert repr(name)[1:-1] in answer.json()["detail"]


async def test_pod_name_that_matches_several(shared_client: httpx.AsyncClient) -> None:
    answer = await shared_client.get("/api/pods/taxes/balance")
    assert answer.status_code == 404
    assert "Taxes 2025" in answer.json()["detail"]
    assert "Taxes 2026" in answer.json()["detail"]


async def test_pod_detail(shared_client: httpx.AsyncClient) -> None:
    pods = await get(shared_client, "/api/pods")
    for pod in (*pods[:3], pods[-1]):
        detail = await get(shared_client, f"/api/pods/{pod['organization_id']}/{pod['id']}")
        assert detail.items() >= {key: value for key, value in pod.items() if key != "type"}.items()
        assert {"goal_cents", "goal", "account_number", "routing_number", "liability"} <= set(detail)
        for transfer in detail["recent_transfers"]:
            assert {"id", "status", "amount_cents", "amount", "source", "destination", "created_at"} <= set(transfer)
        if pod["organization_id"] == ORGANIZATION_ID:
            again = await get(shared_client, f"/api/pods/detail/{pod['id']}")
            assert again | {"liability": None} == detail | {
                "liability": None
            }  # `liability` contains the time of the read


async def test_accounts(shared_world: World, shared_client: httpx.AsyncClient) -> None:
    everything = await get(shared_client, "/api/accounts")
    assert_superset(everything, await sdk_result(shared_world, "get_all_accounts"))
    second = await get(shared_client, "/api/accounts", org_id=SECOND_ORGANIZATION_ID)
    assert {pod["organization_id"] for pod in second["pods"]} == {SECOND_ORGANIZATION_ID}
    numbers = [one["account_number"] for one in everything["accounts"] if one["account_number"]]
    assert numbers
    assert all(sum(map(str.isdigit, number)) <= 4 for number in numbers)


async def test_activity_summary(shared_world: World, shared_client: httpx.AsyncClient) -> None:
    summary = await get(shared_client, "/api/activity/summary")
    assert_superset(summary, await sdk_result(shared_world, "get_activity_summary"))


async def test_activity(shared_world: World, shared_client: httpx.AsyncClient) -> None:
    page = await get(shared_client, "/api/activity", first=50)
    info = page["page_info"]
    theirs = await sdk_result(shared_world, "get_activity", ORGANIZATION_ID, first=50)
    assert info["end_cursor"].endswith(theirs["page_info"].pop("end_cursor"))
    assert_superset(page, theirs)
    assert len((await get(shared_client, "/api/activity"))["transfers"]) == 10
    assert info["has_next_page"] is True
    following = await get(shared_client, "/api/activity", first=5, after=info["end_cursor"])
    assert not {one["id"] for one in page["transfers"]} & {one["id"] for one in following["transfers"]}


async def test_activity_of_another_organization(shared_client: httpx.AsyncClient) -> None:
    own, other = (
        await get(shared_client, "/api/activity"),
        await get(shared_client, "/api/activity", org_id=SECOND_ORGANIZATION_ID),
    )
    assert own["transfers"] != other["transfers"]
    answer = await shared_client.get("/api/activity", params={"org_id": "unknown"})
    assert answer.status_code == 404


async def test_activity_filters(shared_world: World, shared_client: httpx.AsyncClient) -> None:
    sdk_filter: dict[str, Any] = {
        "date_start": "2025-01-01",
        "date_end": "2030-12-31",
        "statuses": ["FAILED", "COMPLETE"],
        "directions": ["INCOMING"],
        "activity_types": ["RULE", "DIRECT_DEPOSIT"],
        "hide_internal": True,
        "name": "salary",
    }
    theirs = await sdk_result(shared_world, "get_activity", ORGANIZATION_ID, **sdk_filter)
    assert theirs["transfers"]
    del theirs["page_info"]["end_cursor"]  # ours has a checksum
    joined = {key: ",".join(value) if isinstance(value, list) else value for key, value in sdk_filter.items()}
    for params in (joined, sdk_filter):  # comma-separated and repeated
        ours = (await shared_client.get("/api/activity", params=params)).json()
        assert_superset(ours, theirs)


async def test_transfer_detail(shared_world: World, shared_client: httpx.AsyncClient) -> None:
    kinds = set()
    transfers: dict[str, dict[str, Any]] = {}
    for transfer in (await get(shared_client, "/api/activity", first=15))["transfers"]:
        transfers.setdefault(transfer["activity_type"], transfer)
    for transfer in transfers.values():
        ours = await get(shared_client, f"/api/transfers/{transfer['id']}")
        assert ours == await get(shared_client, f"/api/activity/{ORGANIZATION_ID}/{transfer['id']}")
        theirs = await sdk_result(shared_world, "get_transfer_detail", ORGANIZATION_ID, transfer["id"])
        kinds.add(theirs["details"]["type"])
        if theirs["details"]["type"] == "compound":
            assert set(theirs["details"]) <= set(ours["details"])
            theirs["details"] = {"type": "compound"}  # the SDK keeps Sequence's own keys
        assert_superset(ours, theirs)
    assert kinds == {"simple", "compound"}


@BOTH
@pytest.mark.parametrize(
    "path",
    [
        "/api/pods/detail/nothing",
        f"/api/pods/{ORGANIZATION_ID}/nothing",
        "/api/pods/unknown/nothing",
        "/api/transfers/nothing",
        f"/api/activity/{ORGANIZATION_ID}/nothing",
        "/api/activity/unknown/nothing",
        "/api/accounts?org_id=unknown",
        "/api/activity?org_id=unknown",
    ],
)
async def test_unknown_id(shared_client: httpx.AsyncClient, path: str) -> None:
    answer = await shared_client.get(path)
    assert answer.status_code == 404
    assert set(answer.json()) == {"detail", "code"}


async def test_limits(shared_client: httpx.AsyncClient) -> None:
    limits = await get(shared_client, "/api/limits")
    day = limits.pop("date")
    assert datetime.fromisoformat(day)
    assert limits == {
        "frozen": False,
        "frozen_reason": None,
        "frozen_since": None,
        "frozen_callers": [],
        "max_transfer_cents": 1_000_000,
        "max_daily_cents": 2_500_000,
        "used_cents": 0,
        "remaining_cents": 2_500_000,
        "unsettled": [],
        "audit_head": None,
    }


@pytest.mark.parametrize("name", ["Vacation / Travel", "50% Rule", "Café ☕", "vacation / t", "CAFÉ", "50%", "Rent"])
async def test_pod_by_name_over_a_connection(sandbox_server: Server, name: str) -> None:
    async with sandbox_server.client() as client:
        answer = await client.get(f"/api/pods/{quote(name, safe='')}/balance")
    assert answer.status_code == 200, answer.text
    assert name.casefold() in answer.json()["name"].casefold()


@pytest.mark.parametrize(
    "path", ["/api/pods/%FF%FE/balance", "/api/pods/a%0Ab%00/balance", "/api/pods/%25/%2F/balance"]
)
async def test_unknown_pod_name_over_a_connection(sandbox_server: Server, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\n\r\n".encode()
    status, _, body = await sandbox_server.send_bytes(request)
    assert status == 404
    assert "openapi" not in json.loads(body)["detail"], "the path matched no route"
