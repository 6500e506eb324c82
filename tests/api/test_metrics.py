"""The numbers that a monitoring system reads."""

from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pysequence_api.api import create_app
from tests.api.conftest import KEY, Api, OpenApi

pytestmark = pytest.mark.anyio

GRAPHQL_ERROR = {"kind": "graphql_error", "message": "no"}


async def numbers(client: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    """Read them, by name and the values of the labels, which stand in the order of their names."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name.removeprefix("pysequence_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


async def test_requests_by_route_method_and_status(api: Api) -> None:
    await api.client.get("/api/pods/Rent/balance")
    await api.client.get("/api/pods/nothing-like-it/balance")
    await api.client.get("/made-up-by-a-stranger", headers={"X-API-Key": "wrong"})
    await api.client.request("MADEUP", "/api/pods")
    found = await numbers(api.client)
    requests = {key: value for key, value in found.items() if key[0] == "http_requests_total"}
    template = "/api/pods/{pod_name}/balance"
    assert requests == {
        ("http_requests_total", "GET", template, "200"): 1,
        ("http_requests_total", "GET", template, "404"): 1,
        ("http_requests_total", "GET", "none", "401"): 1,
        ("http_requests_total", "OTHER", "/api/pods", "405"): 1,
    }
    assert found["http_request_seconds_count", template] == 2


async def test_upstream_requests_by_operation_and_outcome(api: Api) -> None:
    await api.client.get("/api/pods")
    api.arm("ActivitySummary", {"kind": "status", "status": 503})
    assert (await api.client.get("/api/activity/summary")).status_code == 502
    api.arm("ActivitySummary", GRAPHQL_ERROR)
    assert (await api.client.get("/api/activity/summary")).status_code == 502
    found = await numbers(api.client)
    assert found["upstream_requests_total", "SelectSourceAndDestination", "ok"] == 1
    assert found["upstream_requests_total", "ActivitySummary", "UnexpectedStatusError"] == 1
    assert found["upstream_requests_total", "ActivitySummary", "GraphQLError"] == 1
    assert found["upstream_request_seconds_count", "ActivitySummary"] == 2
    assert found["upstream_request_seconds_sum", "ActivitySummary"] > 0
    assert found["pacing_wait_seconds_count",] == 3


async def test_the_wait_for_a_turn(open_api: OpenApi) -> None:
    async with open_api(request_interval_seconds=0.2) as api:
        await api.client.get("/api/pods")
        await api.client.get("/api/activity/summary")
        found = await numbers(api.client)
    assert found["pacing_wait_seconds_count",] == 2
    assert found["pacing_wait_seconds_sum",] > 0.1


async def test_transfers_by_end_and_cents(open_api: OpenApi) -> None:
    async with open_api(max_transfer_attempts_per_minute=5) as api:
        assert (await api.transfer(5_000)).status_code == 200
        assert (await api.transfer(1_500_000)).status_code == 400
        api.arm("CreatePayment", {"kind": "status", "status": 429})
        assert (await api.transfer(6_000)).status_code == 502
        api.arm("CreatePayment", {"kind": "status", "status": 504}, when="after")
        assert (await api.transfer(7_000)).status_code == 502
        assert (await api.transfer(7_000)).status_code == 409
        assert (await api.transfer(100)).status_code == 429
        found = await numbers(api.client)
    ends = {key[1]: value for key, value in found.items() if key[0] == "transfers_total"}
    assert {end: count for end, count in ends.items() if count} == {
        "completed": 1,
        "rejected": 1,
        "failed": 1,
        "unknown": 1,
        "turned_away": 2,
    }
    assert {"replayed", "refused"} <= set(ends)
    assert found["used_today_cents",] == 12_000
    assert found["left_today_cents",] == found["daily_limit_cents",] - 12_000
    assert found["unsettled_transfers", "unknown"] == 1
    assert found["unsettled_transfers", "reserved"] == 0
    assert found["safeguards_available",] == 1


async def test_a_replayed_answer_is_no_second_transfer(api: Api) -> None:
    order = await api.order()
    for _ in range(2):
        await api.client.post("/api/transfers", json=order, headers={"Idempotency-Key": "once"})
    found = await numbers(api.client)
    assert (found["transfers_total", "completed"], found["transfers_total", "replayed"]) == (1, 1)


async def test_damage_is_an_alarm(api: Api) -> None:
    assert (await api.transfer()).status_code == 200
    (api.directory / ".daily_limits.json").write_text("{")
    found = await numbers(api.client)
    assert found["safeguards_available",] == 0
    assert ("left_today_cents",) not in found


async def test_the_token(api: Api) -> None:
    found = await numbers(api.client)
    assert found["token_present",] == 1
    assert 0 <= found["token_age_seconds",] < 60
    assert 0 < found["token_left_seconds",] <= 86_400
    (api.directory / ".tokens.json").unlink()
    found = await numbers(api.client)
    assert found["token_present",] == 0
    assert ("token_left_seconds",) not in found


async def test_it_needs_the_key(shared_api: Api) -> None:
    answer = await shared_api.client.get("/metrics", headers={"X-API-Key": "wrong"})
    assert answer.status_code == 401


async def test_two_applications_count_apart(shared_api: Api) -> None:
    transport = httpx.ASGITransport(create_app(shared_api.gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers={"X-API-Key": KEY}) as other:
        await other.get("/api/health")
        assert ("http_requests_total", "GET", "/api/health", "200") in await numbers(other)
    assert ("http_requests_total", "GET", "/api/health", "200") not in await numbers(shared_api.client)


async def test_no_secret_is_in_it(api: Api, tmp_path: Path) -> None:
    await api.client.get("/api/pods?secret=canary", headers={"X-Request-ID": "canary"})
    text = (await api.client.get("/metrics")).text
    assert "canary" not in text
    assert KEY not in text
