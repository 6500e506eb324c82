"""Every read without faults, and what happens if something does not exist."""

from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta
from importlib.resources import files

import pytest
from graphql import build_schema, parse, validate

from pysequence_api import sandbox
from pysequence_api.account.totals import total_of
from pysequence_api.errors import InvalidRequestError, NotFoundError
from pysequence_api.models import (
    ActivityFilter,
    CompoundDetails,
    SimpleDetails,
    Transfer,
)
from pysequence_api.sandbox import ORGANIZATION_ID
from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
from pysequence_api.sequence.graphql.documents import DOCUMENTS, Operation
from tests.sequence.conftest import ClientWorld, order_of, transfer

pytestmark = pytest.mark.anyio


def schema_text() -> str:
    return files(sandbox).joinpath("schema.graphql").read_text()


def test_documents_fit_the_schema() -> None:
    schema = build_schema(schema_text())
    for operation in Operation:
        document = parse(DOCUMENTS[operation])
        assert validate(schema, document) == []
        (definition, *_) = document.definitions
        assert definition.to_dict()["name"]["value"] == operation.value
        lines = DOCUMENTS[operation].splitlines()
        assert ":" not in "".join(line for line in lines if "$" not in line and "(" not in line)


async def test_accounts_of_all_organizations(world: ClientWorld) -> None:
    accounts = await world.client().accounts()
    assert accounts.complete
    assert len(accounts.organization_ids) == 2
    assert {pod.organization_id for pod in accounts.pods} == set(accounts.organization_ids)
    assert all(pod.balance == f"${pod.balance_cents / 100:,.2f}" for pod in accounts.pods if pod.balance_cents)
    (checking,) = [one for one in accounts.accounts if one.name == "Everyday Checking"]
    assert checking.account_number is not None
    assert checking.account_number.startswith("••••")
    assert len(checking.account_number) == 8
    manual = [one for one in accounts.accounts if one.provider_type == "MANUAL"]
    assert manual
    assert all(one.balance_cents is None and one.balance is None for one in manual)


async def test_accounts_of_one_organization(world: ClientWorld) -> None:
    client = world.client()
    accounts = await client.accounts(ORGANIZATION_ID)
    assert accounts.organization_ids == (ORGANIZATION_ID,)
    assert {pod.organization_id for pod in accounts.pods} == {ORGANIZATION_ID}
    with pytest.raises(NotFoundError, match="'nowhere'"):
        await client.accounts("nowhere")


async def test_total_balance_lists_what_it_leaves_out(world: ClientWorld) -> None:
    client = world.client()
    total = total_of(await client.accounts())
    pods = await client.pods()
    assert total.total_balance_cents == sum(pod.balance_cents or 0 for pod in pods)
    assert total.complete
    world.fail(
        {"kind": "nulls", "paths": ["me.memberships.0.organization.pods.0.metadata"]},
        operation="SelectSourceAndDestination",
    )
    without = total_of(await client.accounts())
    assert without.total_balance_cents == total.total_balance_cents - (pods[0].balance_cents or 0)
    assert [pod.id for pod in without.left_out] == [pods[0].id]
    assert not without.complete


async def test_pod_detail(world: ClientWorld) -> None:
    client = world.client()
    pods = [pod for pod in await client.pods() if pod.organization_id == ORGANIZATION_ID]
    details = [await client.pod_detail(ORGANIZATION_ID, pod.id) for pod in pods]
    assert [(pod.id, pod.name, pod.balance_cents) for pod in details] == [
        (pod.id, pod.name, pod.balance_cents) for pod in pods
    ]
    liabilities = [pod.liability for pod in details if pod.liability is not None]
    assert any(liability.error_code for liability in liabilities)
    assert any(liability.balance_cents is not None and liability.error_code is None for liability in liabilities)
    assert any(pod.goal for pod in details)
    assert max(len(pod.recent_transfers) for pod in details) == 5


async def test_activity_summary(any_world: ClientWorld) -> None:
    summary = await any_world.client().activity_summary()
    assert isinstance(summary.transfer_count, int)
    assert summary.total_incoming_cents is not None


async def test_activity_pages(world: ClientWorld) -> None:
    client = world.client()
    all_at_once = await client.activity(ORGANIZATION_ID, first=9)
    pages: list[Transfer] = []
    after = ""
    for _ in range(3):
        page = await client.activity(ORGANIZATION_ID, first=3, after=after)
        assert page.complete
        assert page.page_info.has_next_page
        after = page.page_info.end_cursor
        pages += page.transfers
    assert tuple(pages) == all_at_once.transfers
    times = [transfer.created_at for transfer in pages if isinstance(transfer.created_at, datetime)]
    assert times == sorted(times, reverse=True)
    assert all(time.utcoffset() == timedelta(0) for time in times)


async def test_activity_filters(world: ClientWorld) -> None:
    client = world.client()
    only = ActivityFilter(
        statuses=("COMPLETE", "NEVER_HEARD_OF"),
        directions=("OUTGOING",),
        activity_types=("ACH", "RULE"),
        date_start=date(2000, 1, 1),
        date_end=date(2100, 1, 1),
        hide_internal=True,
        name="a",
    )
    page = await client.activity(ORGANIZATION_ID, first=100, only=only)
    assert {transfer.status for transfer in page.transfers} <= {"COMPLETE"}
    assert world.requests("ActivityLogV2Transfers")[-1].variables == {
        "organizationId": ORGANIZATION_ID,
        "transferFilter": {
            "createdAt": {"start": "2000-01-01", "end": "2100-01-01"},
            "statuses": ["COMPLETE", "NEVER_HEARD_OF"],
            "directions": ["OUTGOING"],
            "activityTypes": ["ACH", "RULE"],
            "hideInternalTransfers": True,
            "name": "a",
        },
        "after": "",
        "first": 100,
    }


async def test_the_size_of_a_page_is_checked(world: ClientWorld) -> None:
    client = world.client()
    for first in (0, -1, 101):
        with pytest.raises(InvalidRequestError):
            await client.activity(ORGANIZATION_ID, first=first)
    assert world.requests() == []


async def test_transfer_details_of_both_kinds(world: ClientWorld) -> None:
    client = world.client()
    page = await client.activity(ORGANIZATION_ID, first=40)
    details = [await client.transfer_detail(ORGANIZATION_ID, transfer.id) for transfer in page.transfers]
    assert {type(detail.details) for detail in details} >= {SimpleDetails, CompoundDetails}
    assert any(detail.rule is not None and detail.rule.trigger_type for detail in details)
    assert [(detail.id, detail.amount_cents) for detail in details] == [
        (transfer.id, transfer.amount_cents) for transfer in page.transfers
    ]
    assert {party.type for detail in details for party in (detail.source, detail.destination)} >= {"POD", "ACCOUNT"}


async def test_an_unknown_id_is_not_found(any_world: ClientWorld) -> None:
    client = any_world.client()
    for organization_id in (ORGANIZATION_ID, "nowhere"):
        with pytest.raises(NotFoundError, match="'no-such-thing'"):
            await client.pod_detail(organization_id, "no-such-thing")
        with pytest.raises(NotFoundError, match="'no-such-thing'"):
            await client.transfer_detail(organization_id, "no-such-thing")
    with pytest.raises(NotFoundError, match="'nowhere'"):
        await client.activity("nowhere")
    with pytest.raises(NotFoundError) as caught:
        await client.pod_detail(ORGANIZATION_ID, "x\n" * 10_000)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


BY_ID: dict[str, Callable[[GraphQLSequenceClient], Awaitable[object]]] = {
    "PodDrawerContent": lambda client: client.pod_detail(ORGANIZATION_ID, "a"),
    "TransferReferenceDrawerContentV2": lambda client: client.transfer_detail(ORGANIZATION_ID, "a"),
    "ActivityLogV2Transfers": lambda client: client.activity(ORGANIZATION_ID),
}


async def test_not_found_as_a_graphql_error(world: ClientWorld) -> None:
    client = world.client()
    for operation, read in BY_ID.items():
        world.fail({"kind": "graphql_error", "message": "It was NOT FOUND here"}, operation=operation)
        with pytest.raises(NotFoundError):
            await read(client)


async def test_a_receipt_holds_the_new_transfer(any_world: ClientWorld) -> None:
    client = any_world.client()
    order = order_of(12_345)
    receipt = await transfer(client, order)
    (moved,) = await any_world.moved()
    assert moved["id"] in {one.id for one in receipt.transfers}
    assert receipt.organization_id == ORGANIZATION_ID
    second = await transfer(client, order)
    assert {one["id"] for one in await any_world.moved()} <= {one.id for one in second.transfers}
    detail = await client.transfer_detail(ORGANIZATION_ID, moved["id"])
    assert detail.amount == "$123.45"


async def test_each_transfer_uses_a_new_connection(tcp_world: ClientWorld) -> None:
    client = tcp_world.client()
    order = order_of()
    for _ in range(2):
        await client.accounts()
        await transfer(client, order)
    reads, transfers = tcp_world.requests("SelectSourceAndDestination"), tcp_world.requests("CreatePayment")
    assert len({entry.connection_id for entry in reads}) == 1
    assert len({entry.connection_id for entry in transfers}) == 2
    assert all(entry.connection_is_fresh and entry.headers["connection"] == "close" for entry in transfers)


async def test_headers_are_those_of_the_web_application(tcp_world: ClientWorld) -> None:
    client = tcp_world.client()
    await client.activity_summary()
    await client.activity_summary()
    first, second = (entry.headers for entry in tcp_world.requests())
    assert first["content-type"] == "application/json"
    assert first["accept"].startswith("application/graphql-response+json, application/graphql+json, application/json,")
    assert (first["origin"], first["referer"]) == ("https://app.getsequence.io", "https://app.getsequence.io/")
    assert [first[f"sec-fetch-{name}"] for name in ("dest", "mode", "site")] == ["empty", "cors", "same-origin"]
    assert first["x-request-id"].startswith("webapp-")
    assert first["x-request-id"] != second["x-request-id"]


async def test_clock_offset_follows_the_date(any_world: ClientWorld) -> None:
    client = any_world.client()
    assert client.clock_offset_seconds is None
    any_world.fail("no_date", operation="ActivitySummary")
    await client.activity_summary()
    assert client.clock_offset_seconds is None
    await client.activity_summary()
    assert client.clock_offset_seconds == pytest.approx(0, abs=1)
    any_world.fail({"kind": "date_offset_seconds", "seconds": 3600}, operation="ActivitySummary")
    await client.activity_summary()
    assert client.clock_offset_seconds == pytest.approx(3600, abs=1)
    any_world.fail("no_date", operation="ActivitySummary")
    await client.activity_summary()
    assert client.clock_offset_seconds == pytest.approx(3600, abs=1)
