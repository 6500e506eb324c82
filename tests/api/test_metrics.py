"""``/metrics`` counts requests, transfers, waits and the token, and contains no secret."""

from pathlib import Path

import anyio
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from pysequence_api.api import create_app
from tests.api.calls import post_transfer, transfer_body
from tests.world import API_KEY, World, open_world

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]

GRAPHQL_ERROR = {"kind": "graphql_error", "message": "no"}


async def numbers(client: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    """Read the metrics, by name and values of the labels in the order of their names."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name.removeprefix("pysequence_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


async def test_requests_by_route_method_status_and_caller(client: httpx.AsyncClient) -> None:
    await client.get("/api/pods/Rent/balance")
    await client.get("/api/pods/nothing-like-it/balance")
    await client.get("/does-not-exist", headers={"X-API-Key": "wrong"})
    await client.request("MADEUP", "/api/pods")
    found = await numbers(client)
    requests = {key: value for key, value in found.items() if key[0] == "http_requests_total"}
    template = "/api/pods/{pod_name}/balance"
    assert requests == {
        ("http_requests_total", "default", "GET", template, "200"): 1,
        ("http_requests_total", "default", "GET", template, "404"): 1,
        ("http_requests_total", "none", "GET", "none", "401"): 1,
        ("http_requests_total", "default", "OTHER", "/api/pods", "405"): 1,
    }
    assert found["http_request_seconds_count", template] == 2


async def test_upstream_requests_by_operation_and_outcome(world: World) -> None:
    async with world.http(await world.open_process()) as client:
        await client.get("/api/pods")
        world.fail({"kind": "status", "status": 503}, operation="ActivitySummary")
        assert (await client.get("/api/activity/summary")).status_code == 502
        world.fail(GRAPHQL_ERROR, operation="ActivitySummary")
        assert (await client.get("/api/activity/summary")).status_code == 502
        found = await numbers(client)
    assert found["upstream_requests_total", "SelectSourceAndDestination", "ok"] == 1
    assert found["upstream_requests_total", "ActivitySummary", "UnexpectedStatusError"] == 1
    assert found["upstream_requests_total", "ActivitySummary", "GraphQLError"] == 1
    assert found["upstream_request_seconds_count", "ActivitySummary"] == 2
    assert found["upstream_request_seconds_sum", "ActivitySummary"] > 0
    assert found["pacing_wait_seconds_count",] == 3


async def test_pacing_wait(tmp_path: Path) -> None:
    async with (
        open_world(tmp_path, request_interval_seconds=0.5) as world,
        world.http(await world.open_process()) as client,
    ):
        await client.get("/api/pods")
        await client.get("/api/activity/summary")
        found = await numbers(client)
    assert found["pacing_wait_seconds_count",] == 2
    assert found["pacing_wait_seconds_sum",] > 0.1


async def test_transfers_by_result_and_cents(tmp_path: Path) -> None:
    async with open_world(tmp_path, max_transfer_attempts_per_minute=5) as world, world.http() as client:
        assert (await post_transfer(client, 5_000)).status_code == 200
        assert (await post_transfer(client, 1_500_000)).status_code == 400
        world.fail({"kind": "status", "status": 429})
        assert (await post_transfer(client, 6_000)).status_code == 502
        world.fail({"kind": "status", "status": 504}, when="after")
        assert (await post_transfer(client, 7_000)).status_code == 502
        assert (await post_transfer(client, 7_000)).status_code == 409
        assert (await post_transfer(client, 100)).status_code == 429
        found = await numbers(client)
    ends = {key[2]: value for key, value in found.items() if key[0] == "transfers_total"}
    assert {end: count for end, count in ends.items() if count} == {
        "accepted": 1,
        "over_max": 1,
        "sequence_rate_limited": 1,
        "outcome_unknown": 1,
        "equal_unknown": 1,
        "rate_limited": 1,
    }
    assert {"replayed", "refused"} <= set(ends)
    assert found["used_today_cents",] == 12_000
    assert found["left_today_cents",] == found["daily_limit_cents",] - 12_000
    assert found["unsettled_transfers", "unknown"] == 1
    assert found["unsettled_transfers", "reserved"] == found["unsettled_transfers", "sending"] == 0
    assert found["safeguards_available",] == 1


async def test_transfer_that_is_being_sent_is_unsettled(world: World, client: httpx.AsyncClient) -> None:
    world.fail({"kind": "delay", "seconds": 0.5})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(post_transfer, client)
        with anyio.fail_after(10):
            while "sending" not in world.states():  # noqa: ASYNC110 - the database has no event for it
                await anyio.sleep(0.01)
        assert (await numbers(client))["unsettled_transfers", "sending"] == 1
    assert (await numbers(client))["unsettled_transfers", "sending"] == 0


async def test_replayed_answer_is_not_a_second_transfer(client: httpx.AsyncClient) -> None:
    order = transfer_body()
    for _ in range(2):
        await client.post("/api/transfers", json=order, headers={"Idempotency-Key": "once"})
    found = await numbers(client)
    assert (found["transfers_total", "default", "accepted"], found["transfers_total", "default", "replayed"]) == (1, 1)


async def test_damaged_database_is_visible(world: World, client: httpx.AsyncClient) -> None:
    assert (await post_transfer(client)).status_code == 200
    await world.close(world.gateway)
    world.files.damage(".records.db", b"x" * 8192)
    async with world.http(await world.open_process()) as client_of_another_process:
        found = await numbers(client_of_another_process)
    assert found["safeguards_available",] == 0
    assert ("left_today_cents",) not in found


async def test_token(world: World) -> None:
    process = await world.open_process(access_token=SecretStr(world.sandbox.issue_tokens().access_token))
    async with world.http(process) as client:
        found = await numbers(client)
    assert found["token_present",] == 1
    assert 0 <= found["token_age_seconds",] < 60
    assert 0 < found["token_left_seconds",] <= 86_400
    process = await world.open_process(access_token=None)
    async with world.http(process) as client:
        found = await numbers(client)
    assert found["token_present",] == 0
    assert ("token_left_seconds",) not in found


async def test_metrics_need_the_key(shared_client: httpx.AsyncClient) -> None:
    answer = await shared_client.get("/metrics", headers={"X-API-Key": "wrong"})
    assert answer.status_code == 401


async def test_two_applications_count_separately(shared_world: World, shared_client: httpx.AsyncClient) -> None:
    transport = httpx.ASGITransport(create_app(shared_world.gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers={"X-API-Key": API_KEY}) as other:
        await other.get("/api/health")
        assert ("http_requests_total", "none", "GET", "/api/health", "200") in await numbers(other)
    assert ("http_requests_total", "none", "GET", "/api/health", "200") not in await numbers(shared_client)


async def test_metrics_contain_no_secret(client: httpx.AsyncClient) -> None:
    await client.get("/api/pods?secret=canary", headers={"X-Request-ID": "canary"})
    text = (await client.get("/metrics")).text
    assert "canary" not in text
    assert API_KEY not in text
