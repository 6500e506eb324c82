"""A journey: a server on the simulated Sequence through the Platform API, used as programs use it."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.server import free_port
from tests.processes import environment, start_process
from tests.world import API_KEY, DESTINATION, SOURCE


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Run ``serve --sandbox --upstream platform``, and return a client of its API."""
    port = free_port()
    env = environment(tmp_path_factory.mktemp("data"), SEQUENCE_OWNER_PORT="0")  # without agents and their policy
    with start_process(env, "serve", "--sandbox", "--upstream", "platform", "--port", str(port)) as server:
        assert server.stdout is not None
        lines: list[str] = []
        while not (lines and "Ctrl-C" in lines[-1]):
            line = server.stdout.readline()
            assert line, server.communicate()
            lines.append(line)
        assert "NO REAL MONEY" in lines[0]
        assert "sk_" not in "".join(lines)
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": API_KEY}, trust_env=False, timeout=30
        ) as client:
            yield client
        server.terminate()
        _, log = server.communicate(timeout=30)
        assert server.returncode == 0, log
        assert "sk_" not in log


@pytest.fixture(scope="module")
def pods(api: httpx.Client) -> dict[str, Any]:
    """The pods by name, read once: each is one request of a hundred a minute."""
    return {pod["name"]: pod for pod in get(api, "/api/pods")}


def get(api: httpx.Client, path: str, **params: Any) -> Any:
    answer = api.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_journey(api: httpx.Client, pods: dict[str, Any]) -> None:
    assert get(api, "/api/health", ready=1) == {"status": "ok"}
    source, destination = pods[SOURCE], pods[DESTINATION]
    assert source["organization_id"] == "default"
    assert source["balance_error"] is None
    assert re.match(r"\d{4}-\d\d-\d\dT", source["balance_updated_at"])
    before = source["balance_cents"]
    order = {"source_id": source["id"], "destination_id": destination["id"], "amount_cents": 2_500}
    headers = {"Idempotency-Key": "journey"}
    sent = api.post("/api/transfers", json=order | {"description": "Rent 11"}, headers=headers)
    assert sent.status_code == 200, sent.text
    transfer = sent.json()
    assert (transfer["state"], transfer["amount_cents"]) == ("accepted", 2_500)
    again = api.post("/api/transfers", json=order | {"description": "Rent 11"}, headers=headers)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["id"] == transfer["id"]
    detail = get(api, f"/api/transfers/{transfer['id']}")
    assert (detail["activity_type"], detail["upstream_activity_type"]) == ("ONE_TIME_TRANSFER", "USER")
    assert get(api, f"/api/activity/default/{transfer['id']}")["id"] == transfer["id"]
    page = get(api, "/api/activity", first=5)
    assert page["transfers"][0]["id"] == transfer["id"]
    following = get(api, "/api/activity", first=5, after=page["page_info"]["end_cursor"])
    assert not {one["id"] for one in page["transfers"]} & {one["id"] for one in following["transfers"]}
    assert get(api, f"/api/pods/detail/{source['id']}")["balance_cents"] == before - 2_500
    assert get(api, f"/api/pods/{SOURCE}/balance")["balance_cents"] == before - 2_500
    assert get(api, "/api/activity/summary")["complete"]
    attempt = get(api, f"/api/attempts/{transfer['attempt_id']}")
    assert attempt["transfer_id"] == transfer["id"]
    metrics = api.get("/metrics").text
    assert 'operation="POST /transfers"' in metrics
    assert "sk_" not in metrics


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"instant": True}, "instant"),
        ({"kyc_id": "mine"}, "kyc_id"),
        ({"description": "more than ten"}, "description"),
        ({"amount_cents": 99}, "100 cents"),
    ],
)
def test_what_it_cannot_do_is_refused_and_not_recorded(
    api: httpx.Client, pods: dict[str, Any], more: dict[str, Any], word: str
) -> None:
    used = get(api, "/api/limits")
    order = {"source_id": pods[SOURCE]["id"], "destination_id": pods[DESTINATION]["id"], "amount_cents": 2_500}
    refused = api.post("/api/transfers", json=order | more)
    assert refused.status_code == 422, refused.text
    assert word in refused.json()["detail"]
    assert get(api, "/api/limits")["audit_head"] == used["audit_head"]


@pytest.mark.parametrize("after", ["nonsense", "WzEsbnVsbF0"])
def test_a_bad_cursor_is_422(api: httpx.Client, after: str) -> None:
    answer = api.get("/api/activity", params={"after": after})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_another_organization_is_404(api: httpx.Client) -> None:
    assert api.get("/api/accounts", params={"org_id": "elsewhere"}).status_code == 404
    assert api.get("/api/activity", params={"org_id": "default"}).status_code == 200
