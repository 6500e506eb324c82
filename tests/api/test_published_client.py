"""The published client of the existing server works with this API, unchanged."""

from collections.abc import Iterator
from typing import Any

import pytest
from pysequence_client import ApiError, SequenceApiClient
from pysequence_client import models as published

from tests.api.server import Server
from tests.world import API_KEY


@pytest.fixture
def client(sandbox_server: Server) -> Iterator[SequenceApiClient]:
    client = SequenceApiClient(sandbox_server.url, API_KEY)
    yield client
    client.close()


def test_pods(client: SequenceApiClient) -> None:
    pods = client.get_pods()
    assert [published.Pod.model_validate(pod) for pod in pods]
    total = published.TotalBalance.model_validate(client.get_total_balance())
    assert total.pod_count == len(pods)
    assert total.total_balance_cents == sum(pod["balance_cents"] for pod in pods)
    for pod in pods:
        assert client.get_pod_balance(pod["name"]) == pod
    assert client.get_pod_balance("nothing like it") is None


def test_pod_detail(client: SequenceApiClient) -> None:
    rent = client.get_pod_balance("rent")
    assert rent is not None
    detail = client.get_pod_detail(rent["id"])
    assert detail["balance_cents"] == rent["balance_cents"]
    assert isinstance(detail["recent_transfers"], list)


def test_accounts(client: SequenceApiClient) -> None:
    accounts = client.get_all_accounts()
    known = {kind: [one for one in accounts[kind] if one["balance"]] for kind in ("pods", "ports", "accounts")}
    assert published.AllAccounts.model_validate(known).accounts


def test_activity(client: SequenceApiClient) -> None:
    assert published.ActivitySummary.model_validate(client.get_activity_summary()).transfer_count > 0
    page = client.get_activity(20, ["COMPLETE", "PENDING"], ["INTERNAL", "INCOMING"], ["RULE", "ONE_TIME_TRANSFER"])
    transfers = published.ActivityPage.model_validate(page).transfers
    assert len(transfers) == 20
    for transfer in transfers[:3]:
        assert client.get_transfer_detail(transfer.id)["amount_cents"] == transfer.amount_cents


def test_transfer(client: SequenceApiClient) -> None:
    pods: dict[str, Any] = {pod["name"]: pod for pod in client.get_pods()}
    made = client.transfer(pods["Emergency Fund"]["id"], pods["Rent"]["id"], 4321, "For the rent")
    assert client.get_transfer_detail(made["id"])["amount_cents"] == 4321
    assert client.get_pods() != list(pods.values())


def test_errors(client: SequenceApiClient, sandbox_server: Server) -> None:
    with pytest.raises(ApiError) as unknown:
        client.get_transfer_detail("nothing")
    assert unknown.value.status_code == 404
    with pytest.raises(ApiError) as limited:
        client.transfer(*[pod["id"] for pod in client.get_pods()[:2]], 1_500_000)
    assert limited.value.detail == "Amount 1500000 cents exceeds per-transfer limit of 1000000 cents"
    with pytest.raises(ApiError) as malformed:
        client.transfer("a", "a", 1)
    assert malformed.value.status_code == 422
    assert isinstance(malformed.value.detail, str)
    keyless = SequenceApiClient(sandbox_server.url, "wrong")
    with pytest.raises(ApiError) as refused:
        keyless.get_pods()
    keyless.close()
    assert (refused.value.status_code, refused.value.detail) == (401, "Invalid API key")
