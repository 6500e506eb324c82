"""One bad entry of Sequence's spoils neither the other entries nor transfers; and it proves nothing about transfers."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import time_machine

from pysequence_api.errors import OutcomeUnknownError
from pysequence_api.sandbox import ORGANIZATION_ID
from tests.api.calls import post_transfer
from tests.world import GRACE_SECONDS, SOURCE, World, open_world

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]

ACCOUNTS = "SelectSourceAndDestination"
ACTIVITY = "ActivityLogV2Transfers"
EDGES = "organization.transferReferences.edges"


def a_pod(world: World, value: Any, *path: str, count: int = 1) -> None:
    """Have Sequence send something else for one pod that no test moves money from or to, or for a field of it."""
    where = ".".join(["me.memberships.1.organization.pods.0", *path])
    world.fail({"kind": "values", "paths": [where], "value": value}, operation=ACCOUNTS, count=count)


async def test_one_unreadable_pod_is_left_out(world: World, client: httpx.AsyncClient) -> None:
    whole = await client.get("/api/pods")
    assert "x-complete" not in whole.headers
    a_pod(world, "nonsense", count=4)
    pods = await client.get("/api/pods")
    assert (pods.status_code, pods.headers["x-complete"]) == (200, "false")
    assert len(pods.json()) == len(whole.json()) - 1
    assert all(pod in whole.json() for pod in pods.json())
    total = (await client.get("/api/pods/balance")).json()
    assert (total["complete"], total["left_out"]) == (False, [])
    assert total["total_balance_cents"] == sum(pod["balance_cents"] for pod in pods.json())
    accounts = (await client.get("/api/accounts")).json()
    assert (accounts["complete"], accounts["pods"]) == (False, pods.json())
    one = await client.get(f"/api/pods/{SOURCE}/balance")
    assert (one.status_code, one.headers["x-complete"]) == (200, "false")


async def test_an_unreadable_balance_is_null(world: World, client: httpx.AsyncClient) -> None:
    a_pod(world, {"balance": {"cents": "12.50"}}, "metadata", count=3)
    pods = await client.get("/api/pods")
    [pod] = [pod for pod in pods.json() if pod["balance_cents"] is None]
    assert (pod["balance"], pods.headers["x-complete"]) == (None, "false")
    total = (await client.get("/api/pods/balance")).json()
    assert (total["complete"], [one["id"] for one in total["left_out"]]) == (False, [pod["id"]])
    found = (await client.get(f"/api/pods/{pod['name']}/balance")).json()
    assert (found["id"], found["balance_cents"]) == (pod["id"], None)


async def test_a_name_is_not_missing_from_an_incomplete_list(world: World, client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/pods/no such pod/balance")).status_code == 404
    a_pod(world, "nonsense")
    answer = await client.get("/api/pods/no such pod/balance")
    assert (answer.status_code, answer.json()["code"]) == (502, "unreadable_answer")


@pytest.mark.parametrize(
    ("path", "where", "field"),
    [
        ("/api/pods/detail/{pod}", "organization.pod.goalAmountInCents", "goal_cents"),
        ("/api/activity/summary", "activitySummary.transferReferencesCount", "transfer_count"),
        (f"/api/activity/{ORGANIZATION_ID}/{{transfer}}", "organization.transferReference.status", "status"),
    ],
)
async def test_every_answer_says_that_it_is_incomplete(
    world: World, client: httpx.AsyncClient, path: str, where: str, field: str
) -> None:
    transfer = (await client.get("/api/activity")).json()["transfers"][0]["id"]
    path = path.format(pod=world.pod_ids[SOURCE], transfer=transfer)
    whole = (await client.get(path)).json()
    assert whole["complete"] is True
    world.fail({"kind": "values", "paths": [where], "value": []}, operation="*")
    answer = await client.get(path)
    assert answer.status_code == 200
    follows = {"goal_cents": {"goal": None}, "status": {"upstream_status": None}}.get(field, {})
    assert answer.json() == whole | {field: None, "complete": False} | follows


async def test_transfers_between_other_pods_go_on(world: World, client: httpx.AsyncClient) -> None:
    a_pod(world, 5, "id", count=10)
    answer = await post_transfer(client)
    assert answer.status_code == 200
    assert len(await world.moved()) == 1


@pytest.mark.parametrize(
    ("operation", "effects"),
    [
        (ACCOUNTS, [{"kind": "values", "paths": ["me.memberships.0.organization.ports.0.name"], "value": 5}]),
        (ACTIVITY, [{"kind": "values", "paths": [f"{EDGES}.0.node.status"], "value": 5}]),
        (ACTIVITY, [{"kind": "values", "paths": [f"{EDGES}.0"], "value": "nonsense"}]),
        (ACTIVITY, [{"kind": "graphql_error", "message": "oops", "path": ["x"], "keep_data": True}]),
    ],
    ids=["account", "field", "entry", "error"],
)
async def test_an_incomplete_lookup_proves_no_absence(tmp_path: Path, operation: str, effects: list[Any]) -> None:
    with time_machine.travel("2026-11-23 12:00Z", tick=True) as traveller:
        async with open_world(tmp_path) as world:
            await world.lose(moved=False)
            traveller.shift(GRACE_SECONDS + 1)
            world.fail(*effects, operation=operation, when="after")
            await world.follow_up()
            assert world.states() == ["unknown"]
            assert world.used_cents() == 5_000
            await world.follow_up()
            assert world.states() == ["not_executed"]


@pytest.mark.parametrize("field", ["activityType", "description", "createdAt"])
async def test_a_transfer_is_not_recognized_by_guesses(tmp_path: Path, field: str) -> None:
    with time_machine.travel("2026-11-23 12:00Z", tick=True) as traveller:
        async with open_world(tmp_path) as world:
            attempt_id = await world.lose(description="for the roof")
            traveller.shift(GRACE_SECONDS + 1)
            where = f"{EDGES}.0.node.{field}"
            world.fail({"kind": "values", "paths": [where], "value": 5}, operation=ACTIVITY)
            await world.follow_up()
            assert world.states() == ["unknown"]
            await world.follow_up()
            assert world.attempt(attempt_id).state == "arrived"


async def test_one_unreadable_organization_hides_no_transfer_of_another(world: World) -> None:
    accounts = await world.gateway.client.accounts()
    pods = [pod.id for pod in accounts.pods if pod.organization_id != ORGANIZATION_ID]
    kyc_id = (accounts.kyc_ids or ())[-1]
    attempt_id = await world.lose(amount_cents=100, source_id=pods[0], destination_id=pods[1], kyc_id=kyc_id)
    world.fail("garbage", operation=ACTIVITY)  # the first organization that is looked up
    await world.follow_up()
    assert len(world.requests(ACTIVITY)) == len(accounts.organization_ids) == 2
    assert world.attempt(attempt_id).state == "accepted"


UNKNOWN: list[Any] = [
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 400, "body": {"errors": [{"message": "Bad user input"}]}},
    {"kind": "html", "status": 403},
    {"kind": "html", "status": 200},
    {"kind": "redirect", "status": 301},
    {"kind": "graphql_error", "message": "Something went wrong"},
    "garbage",
    "close",
    {"kind": "status", "status": 503, "headers": {"Retry-After": "2"}},  # the last: everything waits after it
]


@pytest.mark.parametrize("faults", [UNKNOWN[:5], UNKNOWN[5:]], ids=["five", "the others"])
async def test_an_unknown_outcome_has_one_advice(world: World, faults: list[Any]) -> None:
    """Five at most: with more unknown ones, no transfer is possible."""
    for number, fault in enumerate(faults):
        world.fail(fault)
        with pytest.raises(OutcomeUnknownError) as caught:
            await world.transfer(1_000 + number)
        assert caught.value.attempt_id is not None
        for text in (caught.value.detail, str(world.attempt(caught.value.attempt_id).error)):
            assert "ry again" not in text, fault
        assert (caught.value.outcome, caught.value.retry) == ("unknown", "never")


async def test_a_read_says_what_to_do(world: World, client: httpx.AsyncClient) -> None:
    for fault, code, phrase in (
        ({"kind": "status", "status": 500}, "unexpected_status", "Try again later"),
        ({"kind": "status", "status": 400, "body": {"errors": [{"message": "Cannot query field 'x'"}]}},
         "invalid_document", "Update"),
        ({"kind": "html", "status": 403}, "browser_required", "browser"),
        ({"kind": "redirect", "status": 301}, "moved", "elsewhere.invalid"),
    ):  # fmt: skip
        world.fail(fault, operation="ActivitySummary")
        answer = (await client.get("/api/activity/summary")).json()
        assert answer["code"] == code
        assert phrase in answer["detail"]


async def test_a_transfer_is_released_if_the_document_is_invalid(world: World, client: httpx.AsyncClient) -> None:
    world.fail({"kind": "status", "status": 400, "body": {"errors": [{"message": "Cannot query field 'x'"}]}})
    answer = await post_transfer(client)
    document = answer.json()
    assert (answer.status_code, document["code"]) == (502, "invalid_document")
    assert (document["outcome"], document["retry"]) == ("nothing_moved", "never")
    assert world.used_cents() == 0
    assert world.states() == ["failed"]


async def test_a_pause_that_sequence_asks_for_holds_every_process(world: World, client: httpx.AsyncClient) -> None:
    await world.gateway.client.activity_summary()  # so that the clock is known
    other = await world.open_process()
    world.fail({"kind": "status", "status": 429, "headers": {"Retry-After": "60"}}, operation="ActivitySummary")
    limited = await client.get("/api/activity/summary")
    assert (limited.status_code, limited.headers["retry-after"]) == (502, "60")
    before = len(world.requests())
    async with world.http(other) as elsewhere:
        for one in (client, elsewhere):
            answer = await one.get("/api/pods")
            assert (answer.status_code, answer.json()["code"]) == (503, "busy")
            assert 50 <= int(answer.headers["retry-after"]) <= 61
        order = world.order().model_dump(mode="json")
        sent = await elsewhere.post("/api/transfers", json=order)
    document = sent.json()
    assert (sent.status_code, document["code"], document["outcome"]) == (503, "busy", "nothing_moved")
    assert document["retry"] == "later"
    assert len(world.requests()) == before
    assert world.used_cents() == 0
