"""GraphQL: payments and their refusals, activity, and responses to invalid requests."""

import json
from typing import Any

import pytest

from pysequence_api.sandbox import KYC_ID, ORGANIZATION_ID
from pysequence_api.sandbox.ids import SECOND_KYC_ID, SECOND_ORGANIZATION_ID
from tests.sandbox.caller import Caller
from tests.sandbox.conftest import START_SECONDS, FakeClock
from tests.sandbox.published import (
    ACTIVITY_LOG_TRANSFERS,
    ACTIVITY_SUMMARY,
    CREATE_PAYMENT,
    POD_DRAWER_CONTENT,
    SELECT_SOURCE_AND_DESTINATION,
    TRANSFER_REFERENCE_DETAIL,
)

pytestmark = pytest.mark.anyio
CREATE_AND_LOOK = """mutation CreatePayment($id: ID!, $source: PaymentAccountInput!, $destination: PaymentAccountInput!,
  $amount: Int!, $isInstantTransfer: Boolean, $achDescription: String) {
  forKYC(id: $id) { createPayment(fields: {amount: $amount, source: $source, destination: $destination,
    isInstantTransfer: $isInstantTransfer, achDescription: $achDescription}) {
    ok { organization { id transferReferences { edges { node {
      id status createdAt amount { cents } direction activityType description
      source { ... on Pod { id } ... on Account { id } } destination { ... on Pod { id } ... on Account { id } }
    } } } } } error { message } } } }"""


REFUSALS: list[tuple[str, dict[str, Any]]] = [
    ("Insufficient funds", {"source": "Empty Envelope"}),
    ("Insufficient funds", {"amount": 2_147_483_647}),
    ("Source not found", {"source": "nobody"}),
    ("Destination not found", {"destination": "nobody"}),
    ("Source not found", {"source": "Operating"}),
    ("Destination not found", {"destination": "Business Checking", "destination_type": "ACCOUNT"}),
    ("Source is not of type PORT", {"source_type": "PORT"}),
    ("Destination is not of type ACCOUNT", {"destination_type": "ACCOUNT"}),
    ("Source and destination must be different", {"destination": "Emergency Fund"}),
    ("Amount must be greater than zero", {"amount": 0}),
    ("Amount must be greater than zero", {"amount": -5}),
    ("This account cannot be the source of a transfer", {"source": "Landlord", "source_type": "ACCOUNT"}),
    (
        "Transfers between two external accounts are not possible",
        {"source": "Everyday Checking", "source_type": "ACCOUNT", "destination": "Landlord",
         "destination_type": "ACCOUNT"},
    ),
]  # fmt: skip


async def test_refusals_move_nothing(caller: Caller) -> None:
    before = await caller.balances()
    for message, change in REFUSALS:
        names = {"source": "Emergency Fund", "destination": "Rent"} | change
        result = await caller.pay(names.pop("source"), names.pop("destination"), **names)
        assert result["ok"] is None, change
        assert result["error"]["message"] == message, change
    assert await caller.balances() == before
    assert await caller.moved() == []


async def test_an_unknown_kyc_id_is_an_error(caller: Caller) -> None:
    variables = caller.payment()
    message = await caller.message("CreatePayment", CREATE_PAYMENT, **{**variables, "id": "nobody"})
    assert "not found" in message
    result = await caller.pay(id=SECOND_KYC_ID)
    assert result["error"]["message"] == "Source not found"
    assert await caller.moved() == []


PAYMENTS = [
    (("Emergency Fund", "Rent"), ("POD", "POD"), "INTERNAL", (-1, 1)),
    (("Emergency Fund", "Everyday Checking"), ("POD", "ACCOUNT"), "OUTGOING", (-1, 1)),
    (("Emergency Fund", "Harbor Rewards Card"), ("POD", "ACCOUNT"), "OUTGOING", (-1, -1)),
    (("Everyday Checking", "Rent"), ("ACCOUNT", "POD"), "INCOMING", (-1, 1)),
    (("Salary", "Rent"), ("PORT", "POD"), "INCOMING", (-1, 1)),
]


async def test_a_payment_moves_money_once(caller: Caller) -> None:
    before = await caller.balances()
    for number, (names, types, direction, changes) in enumerate(PAYMENTS, start=1):
        variables = caller.payment(*names, source_type=types[0], destination_type=types[1], achDescription="Why")
        data = await caller.data("CreatePayment", CREATE_AND_LOOK, **variables)
        edges = data["forKYC"]["createPayment"]["ok"]["organization"]["transferReferences"]["edges"]
        assert len(edges) == 10
        new = edges[0]["node"]
        assert (new["status"], new["direction"], new["activityType"]) == ("PENDING", direction, "ONE_TIME_TRANSFER")
        assert (new["amount"]["cents"], new["description"]) == (12_345, "Why")
        assert new["createdAt"] == "2026-01-01T00:00:00.000Z"
        after = await caller.balances()
        assert after == before | {name: before[name] + sign * 12_345 for name, sign in zip(names, changes, strict=True)}
        before = after
        moved = await caller.moved()
        assert len(moved) == number
        assert moved[-1] == {
            "id": new["id"],
            "source": caller.ids[names[0]],
            "destination": caller.ids[names[1]],
            "amount_cents": 12_345,
            "created_at": "2026-01-01T00:00:00.000Z",
            "status": "PENDING",
        }


async def test_money_to_an_account_without_a_balance(caller: Caller) -> None:
    assert (await caller.pay("Rent", "Landlord", destination_type="ACCOUNT"))["ok"]
    assert len(await caller.moved()) == 1


async def test_the_status_depends_on_the_clock(caller: Caller, clock: FakeClock) -> None:
    await caller.pay()
    seen = []
    for elapsed_seconds in (0, 1.9, 2, 9.9, 10, 86_400):
        clock.now = START_SECONDS + elapsed_seconds
        caller.access_token = (await caller.client.post("/sandbox/tokens", json={})).json()["access_token"]
        node = (await caller.activity(first=1))["edges"][0]["node"]
        seen.append(node["status"])
        assert await caller.nodes(statuses=[node["status"]], name="Rent")
        data = await caller.data(
            "TransferReferenceDrawerContentV2", TRANSFER_REFERENCE_DETAIL, organizationId=ORGANIZATION_ID, id=node["id"]
        )
        assert data["organization"]["transferReference"]["details"]["status"]["status"] == node["status"]
    assert seen == ["PENDING", "PENDING", "PROCESSING", "PROCESSING", "COMPLETE", "COMPLETE"]


async def test_totals_by_utc_day(caller: Caller, clock: FakeClock) -> None:
    clock.now = START_SECONDS + 86_399.999
    await caller.pay()
    clock.now = START_SECONDS + 86_400
    caller.access_token = (await caller.client.post("/sandbox/tokens", json={})).json()["access_token"]
    await caller.pay(amount=5)
    await caller.pay(amount=7)
    totals = (await caller.client.get("/sandbox/transfers")).json()["total_cents_by_day"]
    assert totals == {"2026-01-01": 12_345, "2026-01-02": 12}


async def test_pages_are_complete_while_transfers_are_added(caller: Caller, clock: FakeClock) -> None:
    found: list[Any] = []
    after, more = "", True
    while more:
        page = await caller.activity(first=37, after=after)
        found += [edge["node"] for edge in page["edges"]]
        after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
        clock.now += 0.001
        await caller.pay(amount=1)
    ids = [node["id"] for node in found]
    assert 300 <= len(ids) <= 500
    assert len(ids) == len(set(ids))
    assert [node["createdAt"] for node in found] == sorted((node["createdAt"] for node in found), reverse=True)
    new = {one["id"] for one in await caller.moved()}
    assert not new & set(ids)
    newest = (await caller.activity(first=1000))["edges"]
    assert len(newest) == 100
    assert {edge["node"]["id"] for edge in newest[: len(new)]} == new


async def test_history_is_varied_and_repeatable(caller: Caller) -> None:
    found: list[Any] = []
    after = ""
    for _ in range(10):
        page = await caller.activity(after=after)
        found += [edge["node"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert {node["status"] for node in found} == {"PENDING", "PROCESSING", "COMPLETE", "FAILED", "CANCELLED"}
    assert {node["direction"] for node in found} == {"INTERNAL", "INCOMING", "OUTGOING"}
    assert {node["activityType"] for node in found} == {"ONE_TIME_TRANSFER", "RULE", "DIRECT_DEPOSIT", "ACH"}
    parties = {node[side]["__typename"] for node in found for side in ("source", "destination")}
    assert parties == {"Pod", "Port", "Account", "Merchant", "ExternalEntity"}
    assert all(node["createdAt"] < "2026-01-01" for node in found)


async def test_filters(caller: Caller) -> None:
    assert await caller.nodes(name="TRAVEL")
    assert await caller.nodes(name="café ☕")
    assert await caller.nodes(name="bÜcherei")
    assert await caller.nodes(name="% rule")
    assert await caller.nodes(name="100%") == []
    assert await caller.nodes(statuses=["NO_SUCH_STATUS"]) == []
    assert await caller.nodes(directions=["SIDEWAYS"]) == []
    assert await caller.nodes(activityTypes=["BARTER"]) == []
    assert all(node["direction"] != "INTERNAL" for node in await caller.nodes(hideInternalTransfers=True))
    assert all(node["status"] in {"FAILED", "PENDING"} for node in await caller.nodes(statuses=["FAILED", "PENDING"]))
    everything = await caller.nodes()
    day = everything[30]["createdAt"][:10]
    on_day = await caller.nodes(createdAt={"start": day, "end": day})
    assert on_day == [node for node in everything if node["createdAt"].startswith(day)]
    moment = everything[30]["createdAt"]
    assert everything[30] in await caller.nodes(createdAt={"start": moment, "end": moment})
    assert len(await caller.nodes(createdAt={"start": None}, name=None, statuses=None)) == 100


async def test_unknown_ids_are_null(caller: Caller) -> None:
    data = await caller.data("PodDrawerContent", POD_DRAWER_CONTENT, organizationId="nobody", id="nothing")
    assert data["organization"] is None
    for operation, query, name in (
        ("PodDrawerContent", POD_DRAWER_CONTENT, "pod"),
        ("TransferReferenceDrawerContentV2", TRANSFER_REFERENCE_DETAIL, "transferReference"),
    ):
        data = await caller.data(operation, query, organizationId=ORGANIZATION_ID, id="nothing")
        assert data["organization"][name] is None
    foreign = caller.ids["Operating"]
    data = await caller.data("PodDrawerContent", POD_DRAWER_CONTENT, organizationId=ORGANIZATION_ID, id=foreign)
    assert data["organization"]["pod"] is None


async def test_pods_with_a_liability(caller: Caller) -> None:
    found = {}
    for name in ("Harbor Card Payoff", "Student Loan Payoff", "Rent"):
        data = await caller.data(
            "PodDrawerContent", POD_DRAWER_CONTENT, organizationId=ORGANIZATION_ID, id=caller.ids[name]
        )
        found[name] = data["organization"]["pod"]["liabilityMetadata"]
        assert len(data["organization"]["pod"]["transferReferences"]["edges"]) <= 5
    assert found["Harbor Card Payoff"]["balance"]["formatted"] == "$2,148.57"
    assert found["Student Loan Payoff"]["errorCode"] == "ITEM_LOGIN_REQUIRED"
    assert found["Rent"] is None


async def test_second_organization(caller: Caller) -> None:
    data = await caller.data(
        "ActivityLogV2Transfers",
        ACTIVITY_LOG_TRANSFERS,
        organizationId=SECOND_ORGANIZATION_ID,
        transferFilter={},
        first=100,
    )
    assert 24 <= len(data["organization"]["transferReferences"]["edges"]) < 60
    assert data["organization"]["plan"] is None
    result = await caller.pay("Operating", "Sales Tax", id=SECOND_KYC_ID)
    assert result["ok"]["organization"]["id"] == SECOND_ORGANIZATION_ID


async def test_invalid_documents_are_graphql_errors(caller: Caller) -> None:
    assert "Cannot query field" in await caller.message("X", "query X { me { shoeSize } }")
    assert "Syntax Error" in await caller.message("X", "query X {")
    assert "Unknown operation" in await caller.message("Y", "query X { me { id } }")
    assert "operation name" in await caller.message("", "query X { me { id } }")
    assert "Int" in await caller.message("CreatePayment", CREATE_PAYMENT, **caller.payment(amount=2_147_483_648))
    assert "Int" in await caller.message("CreatePayment", CREATE_PAYMENT, **caller.payment(amount="5000"))
    assert "PaymentAccountType" in await caller.message(
        "CreatePayment", CREATE_PAYMENT, **caller.payment(source_type="SOCK")
    )
    query = 'query X { organization(id: "%s") { transferReferences(%s) { edges { cursor } } } }'
    for arguments, message in (
        ('after: "nonsense"', "Invalid cursor"),
        ("first: 0", "at least 1"),
        ('filter: {createdAt: {start: "soon"}}', "ISO 8601"),
    ):
        assert message in await caller.message("X", query % (ORGANIZATION_ID, arguments))
    assert await caller.moved() == []


async def test_invalid_bodies_are_rejected(caller: Caller) -> None:
    headers = {"authorization": f"Bearer {caller.access_token}"}
    bodies = (b"", b"{", b"[]", b"null", b'{"query": 5}', b"\xff", b"[" * 100_000, b'{"query":"\\ud800"}')
    for body in bodies:
        response = await caller.client.post("/api/graphql", content=body, headers=headers)
        assert response.status_code == 400, body[:20]
        assert (await caller.client.get("/sandbox/requests")).status_code == 200, body[:20]


async def test_other_paths_and_methods_are_rejected(caller: Caller) -> None:
    assert (await caller.client.get("/api/graphql")).status_code == 405
    assert (await caller.client.get("/elsewhere")).status_code == 404
    assert (await caller.client.get("/sandbox/elsewhere")).status_code == 404
    assert (await caller.client.post("/api/graphql", content=b"x" * 1_048_577)).status_code == 413


async def test_the_date_header_is_by_the_clock(caller: Caller) -> None:
    for path in ("/sandbox/faults", "/api/graphql", "/elsewhere"):
        assert (await caller.client.get(path)).headers["date"] == "Thu, 01 Jan 2026 00:00:00 GMT"


async def test_the_journal_has_no_secrets(caller: Caller, tcp_caller: Caller) -> None:
    await tcp_caller.client.delete("/sandbox/requests")
    await tcp_caller.data("ActivitySummary", ACTIVITY_SUMMARY)
    await caller.pay()
    await caller.client.post(
        "/oauth/token", json={"grant_type": "refresh_token", "client_id": "x", "refresh_token": "secret-one"}
    )
    response = await caller.client.get("/sandbox/requests")
    first, second, third = response.json()["requests"]
    assert [one["operation"] for one in (first, second, third)] == ["ActivitySummary", "CreatePayment", "oauth/token"]
    assert [one["status"] for one in (first, second, third)] == [200, 200, 401]
    assert first["number"] < second["number"] < third["number"]
    assert first["arrived_monotonic_seconds"] <= first["answered_monotonic_seconds"]
    assert (first["connection_is_fresh"], second["connection_is_fresh"]) == (False, True)
    assert second["variables"]["id"] == KYC_ID
    assert "authorization" not in second["headers"]
    assert second["headers"]["host"] == "app.getsequence.io"
    for secret in (caller.access_token, "secret-one"):
        assert secret not in response.text
    assert json.loads(response.text)["requests"][0]["arrived_at"] == "2026-01-01T00:00:00.000Z"


async def test_select_has_every_kind_of_account(caller: Caller) -> None:
    data = await caller.data("SelectSourceAndDestination", SELECT_SOURCE_AND_DESTINATION)
    accounts = data["me"]["memberships"][0]["organization"]["accounts"]
    kinds = {(one["metadata"] or {}).get("__typename") for one in accounts}
    assert kinds == {"PlaidMetadata", "MethodMetadata", "ManualAccountMetadata", None}
    assert {one["type"] for one in accounts} == {"DEPOSITORY_ACCOUNT", "CREDIT_CARD", "LOAN"}
