"""The published SDK works with the sandbox over HTTP, unchanged."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread
import pytest

from pysequence_api.sandbox import KYC_ID, ORGANIZATION_ID, Sandbox
from tests.sandbox.published import SequenceClient, sdk_client

pytestmark = pytest.mark.anyio
T = TypeVar("T")


@pytest.fixture
async def sdk(base_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SequenceClient]:
    monkeypatch.setattr(sdk_client, "GRAPHQL_ENDPOINT", f"{base_url}/api/graphql")
    monkeypatch.setattr(SequenceClient, "_MIN_DELAY", 0)
    monkeypatch.setattr(SequenceClient, "_MAX_JITTER", 0)
    client = SequenceClient(sandbox.issue_tokens().access_token)
    yield client
    client.close()


async def call(method: Callable[..., T], *args: Any, **more: Any) -> T:
    return await anyio.to_thread.run_sync(partial(method, *args, **more))


async def test_reads(sdk: SequenceClient) -> None:
    pods = await call(sdk.get_pods)
    by_name = {pod["name"]: pod for pod in pods}
    assert {"Emergency Fund", "Rent", "Vacation / Travel", "50% Rule", "Café ☕", "Taxes 2025"} <= set(by_name)
    assert by_name["Emergency Fund"]["balance"] == "$185,000.00"
    assert len({pod["organization_id"] for pod in pods}) == 2
    total = await call(sdk.get_total_balance)
    assert total["total_balance_cents"] == sum(pod["balance_cents"] for pod in pods)
    assert (await call(sdk.get_pod_balance, "café"))["name"] == "Café ☕"
    assert await call(sdk.get_pod_balance, "Taxes") is None
    accounts = await call(sdk.get_all_accounts, ORGANIZATION_ID)
    assert {one["provider_type"] for one in accounts["accounts"]} == {"PLAID", "METHOD", "MANUAL"}
    assert accounts["ports"][0]["name"] == "Salary"
    summary = await call(sdk.get_activity_summary)
    assert summary["transfer_count"] >= summary["rule_executions"] >= 0


async def test_every_pod_and_transfer_has_details(sdk: SequenceClient) -> None:
    for pod in await call(sdk.get_pods):
        detail = await call(sdk.get_pod_detail, pod["organization_id"], pod["id"])
        assert detail["name"] == pod["name"]
    page = await call(sdk.get_activity, ORGANIZATION_ID, first=20)
    kinds = set()
    for transfer in page["transfers"]:
        detail = await call(sdk.get_transfer_detail, ORGANIZATION_ID, transfer["id"])
        assert detail["amount_cents"] == transfer["amount_cents"]
        kinds.add(detail["details"]["type"])
    assert kinds == {"simple", "compound"}


async def test_activity_filters(sdk: SequenceClient) -> None:
    page = await call(
        sdk.get_activity,
        ORGANIZATION_ID,
        date_start="2025-03-01",
        date_end="2025-12-31",
        statuses=["FAILED"],
        directions=["INCOMING"],
        activity_types=["RULE"],
        hide_internal=True,
        name="SALARY",
    )
    assert page["transfers"]
    for transfer in page["transfers"]:
        assert (transfer["status"], transfer["source"]["name"]) == ("FAILED", "Salary")


async def test_transfer(sdk: SequenceClient) -> None:
    pods = {pod["name"]: pod for pod in await call(sdk.get_pods)}
    source, destination = pods["Emergency Fund"], pods["Vacation / Travel"]
    ok = await call(sdk.transfer, KYC_ID, source["id"], destination["id"], 2_500, description="Trip")
    balances = {pod["name"]: pod["metadata"]["balance"]["cents"] for pod in ok["organization"]["pods"]}
    assert balances["Emergency Fund"] == source["balance_cents"] - 2_500
    assert balances["Vacation / Travel"] == destination["balance_cents"] + 2_500
    newest = (await call(sdk.get_activity, ORGANIZATION_ID, first=1))["transfers"][0]
    assert (newest["amount_cents"], newest["status"]) == (2_500, "PENDING")
    with pytest.raises(RuntimeError, match="Insufficient funds"):
        await call(sdk.transfer, KYC_ID, pods["Empty Envelope"]["id"], destination["id"], 1)
