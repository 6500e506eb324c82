"""Reads of the Platform client: accounts and balances, activity and its cursors, one transfer, one pod, the summary."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from pysequence_api.errors import (
    AccessDeniedError,
    InvalidRequestError,
    NotAuthorizedError,
    NotFoundError,
    SequenceError,
    UnexpectedStatusError,
)
from pysequence_api.models import Accounts, ActivityFilter, ActivityPage, ExternalAccount, Pod, Port, Transfer
from pysequence_api.sandbox import ORGANIZATION_ID, KeyPermissions, Permission, Sandbox
from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
from pysequence_api.sequence.platform import activity as platform_activity
from pysequence_api.sequence.platform import client as platform_client
from pysequence_api.sequence.platform.client import PlatformSequenceClient
from pysequence_api.sequence.telemetry import called_by
from tests.sequence.platform_world import (
    ORGANIZATION,
    UNLIMITED,
    PlatformWorld,
    create,
    open_platform_world,
    platform_order,
    pod_id,
)
from tests.world import DESTINATION, SOURCE, world_settings

pytestmark = pytest.mark.anyio


async def every_transfer(client: PlatformSequenceClient, first: int, only: ActivityFilter | None = None) -> list[str]:
    """Read all pages, and return the ids."""
    ids: list[str] = []
    after, more = "", True
    while more:
        page = await client.activity(ORGANIZATION, first=first, after=after, only=only)
        assert page.complete
        assert len(page.transfers) <= first
        ids += [one.id for one in page.transfers]
        after, more = page.page_info.end_cursor, page.page_info.has_next_page
    assert after == ""
    return ids


def set_page_size(monkeypatch: pytest.MonkeyPatch, transfers: int) -> None:
    """Have the client ask for smaller pages."""
    for module in (platform_client, platform_activity):
        monkeypatch.setattr(module, "PAGE_TRANSFERS", transfers)


def everything_in(accounts: Accounts) -> list[Pod | Port | ExternalAccount]:
    """Return all pods, ports and accounts."""
    return [*accounts.pods, *accounts.ports, *accounts.accounts]


@pytest.fixture
async def platform(shared_sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[PlatformWorld]:
    """Clients in this process, because these tests make many requests."""
    async with open_platform_world(tmp_path, shared_sandbox) as world:
        yield world


def graphql_client(platform: PlatformWorld) -> GraphQLSequenceClient:
    """Return a client of the other upstream, on the same simulated Sequence."""
    settings = world_settings(platform.files.path, platform.sandbox)
    return GraphQLSequenceClient.open(settings, platform.files.path, platform.sandbox.transport())


async def graphql_activity(platform: PlatformWorld, only: ActivityFilter | None = None) -> list[Transfer]:
    """Read the whole activity through the other upstream."""
    found: list[Transfer] = []
    client, after, more = graphql_client(platform), "", True
    while more:
        page = await client.activity(ORGANIZATION_ID, first=100, after=after, only=only)
        found += page.transfers
        after, more = page.page_info.end_cursor, page.page_info.has_next_page
    await client.aclose()
    return found


# Accounts


async def test_accounts_are_the_same_as_through_graphql(platform: PlatformWorld) -> None:
    other = graphql_client(platform)
    theirs, ours = await other.accounts(ORGANIZATION_ID), await platform.client().accounts()
    await other.aclose()
    assert ours.complete
    assert ours.organization_ids == (ORGANIZATION,)

    def shown(accounts: Accounts) -> set[tuple[Any, ...]]:
        return {(type(one).__name__, one.id, one.name, one.balance_cents) for one in everything_in(accounts)}

    assert shown(ours) == shown(theirs)
    details = [(one.id, one.institution, one.can_be_source, one.account_number) for one in ours.accounts]
    assert details == [(one.id, one.institution, one.can_be_source, one.account_number) for one in theirs.accounts]


async def test_an_unknown_balance_is_null_with_its_reason(platform: PlatformWorld) -> None:
    accounts = await platform.client().accounts()
    by_name = {one.name: one for one in everything_in(accounts)}
    known = by_name["Everyday Checking"]
    assert known.balance_error is None
    assert isinstance(known.balance_updated_at, datetime)
    broken = by_name["Old Credit Union"]
    assert (broken.balance_cents, broken.balance, broken.balance_error) == (None, None, "DISCONNECTED_ACCOUNT")
    for name in ("Landlord", "Joint Account (pending)"):
        assert by_name[name].balance_cents is None
        assert by_name[name].balance_error == "Sequence has no balance of this account"
    assert accounts.complete


async def test_one_account_that_cannot_be_read_spoils_only_its_balance(platform: PlatformWorld) -> None:
    platform.fail({"kind": "status", "status": 500, "code": "UNEXPECTED_ERROR"}, operation="PlatformAccount")
    accounts = await platform.client().accounts()
    everything = everything_in(accounts)
    [spoiled] = [one for one in everything if one.balance_error and "500" in one.balance_error]
    assert "UNEXPECTED_ERROR" in (spoiled.balance_error or "")
    assert (spoiled.balance_cents, spoiled.name is None) == (None, False)
    assert not accounts.complete
    assert len(everything) == 21


async def test_an_odd_entry_spoils_only_itself(platform: PlatformWorld) -> None:
    items = [
        {"id": "a", "name": "A", "type": "POD"},
        {"id": "b", "name": 7, "type": "EXTERNAL_ACCOUNT"},
        {"id": "c", "name": "C", "type": "VAULT"},
        {"name": "no id", "type": "POD"},
        None,
        "text",
    ]
    body = {"data": {"items": items, "pagination": {"page": 1, "pageSize": 100, "hasNextPage": False}}}
    platform.fail({"kind": "garbage", "body": json.dumps(body)}, operation="PlatformAccounts")
    accounts = await platform.client().accounts(balances=False)
    assert [one.id for one in accounts.pods] == ["a"]
    assert [(one.id, one.name) for one in accounts.accounts] == [("b", None)]
    assert not accounts.complete


async def test_without_balances_one_request_is_enough(platform: PlatformWorld) -> None:
    accounts = await platform.client().accounts(balances=False)
    assert accounts.complete
    assert {one.balance_cents for one in accounts.pods} == {None}
    assert [entry.operation for entry in platform.requests()] == ["PlatformAccounts"]


async def test_one_balance_is_one_more_request(platform: PlatformWorld) -> None:
    client = platform.client()
    pods = (await client.accounts(balances=False)).pods
    pod = await client.with_balance(pods[0])
    assert pod.balance_cents is not None
    assert pod.balance_updated_at is not None
    assert pod == next(one for one in (await platform.client().accounts()).pods if one.id == pod.id).model_copy(
        update={"balance_updated_at": pod.balance_updated_at}
    )
    with pytest.raises(NotFoundError):
        await client.with_balance(pods[0].model_copy(update={"id": "gone"}))


async def test_everybody_who_asks_meanwhile_shares_the_requests(platform: PlatformWorld) -> None:
    client = platform.client()
    results = await asyncio.gather(*(client.accounts() for _ in range(20)))
    assert all(one is results[0] or one == results[0] for one in results)
    assert len(platform.requests("PlatformAccounts")) == 1
    assert len(platform.requests("PlatformAccount")) == 21


async def test_balances_are_read_side_by_side(platform: PlatformWorld) -> None:
    platform.fail({"kind": "delay", "seconds": 0.1}, operation="PlatformAccount", count=21)
    with anyio.fail_after(1.5):  # one after the other would take 2.1 seconds
        await platform.client().accounts()
    entries = platform.requests("PlatformAccount")
    most = max(
        sum(
            one.arrived_monotonic_seconds <= other.arrived_monotonic_seconds < (one.answered_monotonic_seconds or 0)
            for one in entries
        )
        for other in entries
    )
    assert 1 < most <= platform_client.MAX_READS_AT_ONCE


async def test_lost_connections_end_the_reading_of_balances(platform: PlatformWorld) -> None:
    platform.fail("close", operation="PlatformAccount", count=100)
    accounts = await platform.client().accounts()
    assert {one.balance_cents for one in everything_in(accounts)} == {None}
    assert all(one.balance_error for one in accounts.pods)
    assert len(platform.requests("PlatformAccount")) < 21


async def test_a_rejected_key_fails_the_whole_read(platform: PlatformWorld) -> None:
    fault = {"kind": "status", "status": 401, "code": "UNAUTHORIZED"}
    platform.fail(fault, operation="PlatformAccount")
    with pytest.raises(NotAuthorizedError):
        await platform.client().accounts()


async def test_another_organization_is_not_found(platform: PlatformWorld) -> None:
    client = platform.client()
    with pytest.raises(NotFoundError):
        await client.accounts("elsewhere")
    with pytest.raises(NotFoundError):
        await client.activity("elsewhere")
    assert platform.requests() == []
    named = platform.client(org_id="mine")
    assert (await named.accounts("mine", balances=False)).organization_ids == ("mine",)


async def test_what_the_key_cannot_read(platform: PlatformWorld) -> None:
    client = platform.client(KeyPermissions(permissions=frozenset({Permission.READ_ACCOUNTS})))
    await client.accounts(balances=False)
    with pytest.raises(AccessDeniedError, match="READ_TRANSFERS"):
        await client.activity(ORGANIZATION)
    detail = await client.pod_detail(ORGANIZATION, pod_id(SOURCE))
    assert (detail.recent_transfers, detail.complete) == ((), False)
    nothing = platform.client(KeyPermissions(permissions=frozenset()))
    with pytest.raises(AccessDeniedError, match="READ_ACCOUNTS"):
        await nothing.accounts()


async def test_a_wrong_address_says_so(platform: PlatformWorld) -> None:
    client = platform.client(platform_url=f"{platform.settings.platform_url}/v2")
    with pytest.raises(UnexpectedStatusError) as caught:
        await client.accounts()
    assert "SEQUENCE_PLATFORM_URL" in caught.value.advice


# Activity


async def test_all_pages_have_every_transfer_once(platform: PlatformWorld) -> None:
    month = ActivityFilter(date_start=datetime.now(UTC).date().replace(day=1))
    for first, only in ((7, month), (50, None)):
        ids = await every_transfer(platform.client(), first, only)
        assert ids == [one.id for one in await graphql_activity(platform, only)]
        assert len(ids) == len(set(ids))


async def test_new_transfers_do_not_shift_pages(platform: PlatformWorld) -> None:
    client = platform.client()
    before = [one.id for one in (await client.activity(ORGANIZATION, first=100)).transfers]
    page = await client.activity(ORGANIZATION, first=20)
    seen = [one.id for one in page.transfers]
    for _ in range(3):
        await create(client)
        page = await client.activity(ORGANIZATION, first=20, after=page.page_info.end_cursor)
        seen += [one.id for one in page.transfers]
    assert seen == before[:80]
    after = [one.id for one in (await client.activity(ORGANIZATION, first=100)).transfers]
    assert after[3:] == before[:97]


async def test_words_are_the_same_as_through_graphql(platform: PlatformWorld) -> None:
    theirs = {one.id: one for one in await graphql_activity(platform)}
    client, seen, after, more = platform.client(), [], "", True
    while more:
        page = await client.activity(ORGANIZATION, first=100, after=after)
        for ours in page.transfers:
            seen.append(ours.id)
            other = theirs[ours.id]
            assert (ours.status, ours.direction, ours.amount_cents) == (
                other.status,
                other.direction,
                other.amount_cents,
            )
            assert ours.activity_type == other.activity_type or ours.upstream_activity_type == "UNKNOWN"
            assert (ours.source.id, ours.source.name) == (other.source.id, other.source.name)
            assert other.source.type in {ours.source.type, "MERCHANT"}
            assert other.upstream_status == other.status
            assert ours.is_recognizable
        after, more = page.page_info.end_cursor, page.page_info.has_next_page
    assert seen == list(theirs)


FILTERS: list[tuple[ActivityFilter, dict[str, str]]] = [
    (ActivityFilter(statuses=("FAILED",)), {"status": "ERROR"}),
    (ActivityFilter(statuses=("COMPLETE",)), {"status": "COMPLETE"}),
    (ActivityFilter(statuses=("FAILED", "CANCELLED")), {}),
    (ActivityFilter(statuses=("ERROR",)), {"status": "ERROR"}),
    (ActivityFilter(directions=("INCOMING",)), {"direction": "MONEY_IN"}),
    (ActivityFilter(directions=("INCOMING", "OUTGOING")), {}),
    (ActivityFilter(activity_types=("RULE",)), {"origin": "RULE"}),
    (ActivityFilter(activity_types=("ONE_TIME_TRANSFER",)), {}),
    (ActivityFilter(activity_types=("USER", "SOMETHING_NEW")), {}),
    (ActivityFilter(hide_internal=True), {}),
    (ActivityFilter(name="rENT"), {}),
    (ActivityFilter(statuses=("COMPLETE",), directions=("OUTGOING",), hide_internal=True, name="land"), {}),
]


async def test_filters(platform: PlatformWorld) -> None:
    client, other = platform.client(), graphql_client(platform)
    own = {"ERROR": "FAILED", "USER": "ONE_TIME_TRANSFER"}
    for only, query in FILTERS:
        platform.sandbox.journal.clear()
        page = await client.activity(ORGANIZATION, first=100, only=only)
        [first, *_] = platform.queries()
        assert query.items() <= first.items()
        if not query and not (only.statuses and only.directions):
            assert not {"status", "direction", "origin"} & first.keys()
        common = only.model_copy(
            update={
                "statuses": tuple(own.get(one, one) for one in only.statuses),
                "activity_types": tuple(own.get(one, one) for one in only.activity_types),
            }
        )
        expected = await other.activity(ORGANIZATION_ID, first=100, only=common)
        ids = [one.id for one in page.transfers]
        assert ids == [one.id for one in expected.transfers][: len(ids)], only
        assert len(ids) == len(expected.transfers) or page.page_info.has_next_page, only
    await other.aclose()


async def test_dates(platform: PlatformWorld) -> None:
    day = datetime.now(UTC).date().replace(day=1)
    only = ActivityFilter(date_start=day, date_end=day.replace(day=5))
    ids = await every_transfer(platform.client(), 100, only)
    assert ids == [one.id for one in await graphql_activity(platform, only)]
    query = platform.queries()[0]
    assert query["from"] == f"{day}T00:00:00.000Z"
    assert query["to"] == f"{day.replace(day=5)}T23:59:59.999Z"


async def test_at_most_five_pages_are_read_for_one(platform: PlatformWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    set_page_size(monkeypatch, 10)
    client = platform.client()
    only = ActivityFilter(name="no such name")
    page = await client.activity(ORGANIZATION, first=10, only=only)
    assert page.transfers == ()
    assert page.page_info.has_next_page
    assert page.complete
    assert [query["page"] for query in platform.queries()] == ["1", "2", "3", "4", "5"]
    await client.activity(ORGANIZATION, first=10, only=only, after=page.page_info.end_cursor)
    assert [query["page"] for query in platform.queries()][5:] == ["6", "7", "8", "9", "10"]


CURSORS = [
    "nonsense",
    "é",
    "%%%",
    "a" * 400,
    base64.urlsafe_b64encode(b'[-1,null,""]').decode(),
    base64.urlsafe_b64encode(b'[1,"yesterday",""]').decode(),
    base64.urlsafe_b64encode(b'[1,"2026-01-01T00:00:00",""]').decode(),
    base64.urlsafe_b64encode(b'[99999999999,null,""]').decode(),
    base64.urlsafe_b64encode(b"{}").decode(),
]


async def test_a_bad_cursor_is_refused(platform: PlatformWorld) -> None:
    client = platform.client()
    for cursor in CURSORS:
        with pytest.raises(InvalidRequestError, match="cursor"):
            await client.activity(ORGANIZATION, after=cursor)
    assert platform.requests() == []


async def test_the_ids_of_accounts_are_read_once(platform: PlatformWorld) -> None:
    client = platform.client()
    for _ in range(3):
        await client.activity(ORGANIZATION)
    assert [entry.operation for entry in platform.requests()] == ["PlatformAccounts", *["PlatformTransfers"] * 3]
    assert platform.queries("PlatformAccounts") == [{"state": "ALL", "page": "1", "pageSize": "100"}]
    assert len(platform.queries()[0]["accountIds[]"]) >= 21


async def test_an_unknown_account_has_the_accounts_read_again(platform: PlatformWorld) -> None:
    order = platform_order()
    await create(platform.client(), order)
    one = {"id": order.destination_id, "type": "POD"}
    only_one = {"data": {"items": [one], "pagination": {"hasNextPage": False}}}
    platform.fail({"kind": "garbage", "body": json.dumps(only_one)}, operation="PlatformAccounts")
    client = platform.client()
    page = await client.activity(ORGANIZATION, first=100)
    assert len(platform.requests("PlatformAccounts")) == 2
    assert [one.id for one in page.transfers] == (await every_transfer(client, 100))[:100]
    assert len(platform.requests("PlatformAccounts")) == 2


async def test_accounts_that_the_key_cannot_list_are_looked_for_once(platform: PlatformWorld) -> None:
    await create(platform.client())
    only = KeyPermissions(account_ids=frozenset({pod_id(SOURCE)}), requests_per_minute=UNLIMITED)
    client = platform.client(only)
    for _ in range(3):
        page = await client.activity(ORGANIZATION, first=100)
        assert any(one.destination.id == pod_id(DESTINATION) for one in page.transfers)
        assert page.complete
    assert len(platform.requests("PlatformAccounts")) == 2


async def test_an_account_that_is_taken_out_of_a_key_has_the_accounts_read_again(
    platform: PlatformWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform_client, "NEW_ACCOUNT_IDS_SECONDS", 0)
    client = platform.client()
    await client.activity(ORGANIZATION)
    for fault in ({"status": 403, "code": "ACCESS_DENIED"}, {"status": 404, "code": "ACCOUNT_NOT_FOUND"}):
        platform.fail({"kind": "status"} | fault, operation="PlatformTransfers")
        assert (await client.activity(ORGANIZATION)).transfers
    assert len(platform.requests("PlatformAccounts")) == 3
    platform.fail(
        {"kind": "status", "status": 404, "code": "ACCOUNT_NOT_FOUND"}, operation="PlatformTransfers", count=2
    )
    with pytest.raises(UnexpectedStatusError, match="ACCOUNT_NOT_FOUND") as caught:
        await client.activity(ORGANIZATION)
    assert "URL" not in caught.value.advice


async def test_odd_transfers_spoil_only_themselves(platform: PlatformWorld) -> None:
    good = {
        "id": "t1",
        "amountInCents": 100,
        "direction": "SIDEWAYS",
        "origin": "MOON",
        "source": None,
        "destination": {"id": None, "name": "Shop", "type": "EXTERNAL_ENTITY", "isDeleted": False},
        "status": "PENDING_APPROVAL",
        "createdAt": "2026-11-01T00:00:00.000Z",
    }
    items = [
        good,
        good | {"id": "t2", "amountInCents": "7", "status": "INCOMPLETE", "errorCode": "PAYMENT_FAILED"},
        {"amountInCents": 1},
        None,
        good | {"id": "t3", "executionMode": "SIMULATION"},
    ]
    body = {"data": {"items": items, "pagination": {"hasNextPage": False}}}
    platform.fail({"kind": "garbage", "body": json.dumps(body)}, operation="PlatformTransfers")
    page: ActivityPage = await platform.client().activity(ORGANIZATION)
    first, second = page.transfers
    assert not page.complete
    assert (first.status, first.upstream_status) == ("PENDING", "PENDING_APPROVAL")
    assert (first.direction, first.activity_type) == ("SIDEWAYS", "MOON")
    assert (first.source.id, first.destination.id, first.destination.type) == (None, None, "EXTERNAL_ENTITY")
    assert first.is_recognizable
    assert (second.amount_cents, second.status, second.error_reason) == (None, "PROCESSING", "PAYMENT_FAILED")
    assert not second.is_recognizable


async def test_a_page_without_an_end_is_incomplete(platform: PlatformWorld) -> None:
    platform.fail({"kind": "garbage", "body": '{"data": {"items": []}}'}, operation="PlatformTransfers")
    page = await platform.client().activity(ORGANIZATION)
    assert (page.complete, page.page_info.has_next_page) == (False, False)


# One transfer, one pod, the summary


async def test_one_transfer(platform: PlatformWorld) -> None:
    client = platform.client()
    receipt = await create(client)
    assert receipt.transfer is not None
    detail = await client.transfer_detail(ORGANIZATION, receipt.transfer.id)
    assert (detail.id, detail.status, detail.complete) == (receipt.transfer.id, "PROCESSING", True)
    with pytest.raises(NotFoundError):
        await client.transfer_detail(ORGANIZATION, "unknown")
    with pytest.raises(NotFoundError):
        await client.transfer_detail(ORGANIZATION, "..")
    assert len(platform.requests("PlatformTransfer")) == 2


async def test_a_new_transfer_that_is_not_found_yet_is_waited_for(platform: PlatformWorld) -> None:
    client = platform.client()
    platform.fail({"kind": "not_found_seconds", "seconds": 0.6})
    receipt = await create(client)
    assert receipt.transfer is not None
    with pytest.raises(NotFoundError):  # another client does not know that it is new
        await platform.client().transfer_detail(ORGANIZATION, receipt.transfer.id)
    detail = await client.transfer_detail(ORGANIZATION, receipt.transfer.id)
    assert detail.id == receipt.transfer.id
    assert len(platform.requests("PlatformTransfer")) in {3, 4}


async def test_waiting_for_a_new_transfer_ends(platform: PlatformWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform_client, "NEW_TRANSFER_WAITS_SECONDS", (0.01, 0.01))
    client = platform.client()
    platform.fail({"kind": "not_found_seconds", "seconds": 600})
    receipt = await create(client)
    assert receipt.transfer is not None
    with pytest.raises(NotFoundError):
        await client.transfer_detail(ORGANIZATION, receipt.transfer.id)
    assert len(platform.requests("PlatformTransfer")) == 3


async def test_a_simulated_transfer_is_not_found(platform: PlatformWorld) -> None:
    body = {"data": {"id": "s", "amountInCents": 100, "executionMode": "SIMULATION", "status": "COMPLETE"}}
    platform.fail({"kind": "garbage", "body": json.dumps(body)}, operation="PlatformTransfer")
    with pytest.raises(NotFoundError, match="simulation"):
        await platform.client().transfer_detail(ORGANIZATION, "s")


async def test_one_pod(platform: PlatformWorld) -> None:
    client, other = platform.client(), graphql_client(platform)
    names = {pod.name: pod.id for pod in (await client.accounts(balances=False)).pods}
    for name in (SOURCE, DESTINATION, "Harbor Card Payoff"):
        ours = await client.pod_detail(ORGANIZATION, names[name])
        theirs = await other.pod_detail(ORGANIZATION_ID, names[name])
        assert ours.complete
        assert (ours.name, ours.goal_cents) == (theirs.name, theirs.goal_cents)
        assert ours.balance_cents == theirs.balance_cents
        assert (ours.account_number, ours.routing_number) == (theirs.account_number, theirs.routing_number)
        assert [one.id for one in ours.recent_transfers] == [one.id for one in theirs.recent_transfers]
        assert (ours.liability is None) == (theirs.liability is None)
        if ours.liability and theirs.liability:
            assert ours.liability.balance_cents == theirs.liability.balance_cents
            assert ours.liability.next_payment_due_date == theirs.liability.next_payment_due_date
    await other.aclose()
    for wrong in ("unknown", (await client.accounts(balances=False)).ports[0].id):
        with pytest.raises(NotFoundError):
            await client.pod_detail(ORGANIZATION, wrong)


async def test_the_summary_is_added_up(platform: PlatformWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    client, other = platform.client(), graphql_client(platform)
    ours, theirs = await client.activity_summary(), await other.activity_summary()
    assert ours.transfer_count is not None
    assert theirs.transfer_count is not None
    first_of_month = ActivityFilter(date_start=datetime.now(UTC).date().replace(day=1))
    this_month = await graphql_activity(platform, first_of_month)
    assert ours.transfer_count == len(this_month)
    assert ours.total_incoming_cents == sum(
        one.amount_cents or 0
        for one in this_month
        if one.direction == "INCOMING" and one.status not in {"FAILED", "CANCELLED"}
    )
    assert ours.complete
    await other.aclose()
    set_page_size(monkeypatch, 5)
    monkeypatch.setattr(platform_client, "MAX_SUMMARY_PAGES", 2)
    cut = await client.activity_summary()
    assert (cut.transfer_count, cut.complete) == (10, False)


# Who asks


async def test_reads_say_who_asks(platform: PlatformWorld) -> None:
    client = platform.client()
    await client.accounts(balances=False)
    with called_by("owner"):
        await client.activity(ORGANIZATION)
    with called_by("Zoë\r\nX: 1" + "x" * 500):
        await client.accounts(balances=False)
    first, *owner, odd = platform.reasons()
    assert "gateway" in first
    assert all("owner" in one for one in owner)
    assert odd.isascii()
    assert len(odd) <= 200


async def test_errors_of_shared_reads_are_separate(platform: PlatformWorld) -> None:
    client = platform.client()
    platform.fail({"kind": "status", "status": 500, "code": "UNEXPECTED_ERROR"}, operation="PlatformTransfer")
    errors: list[SequenceError] = []

    async def read() -> None:
        try:
            await client.transfer_detail(ORGANIZATION, "same")
        except SequenceError as error:
            errors.append(error)
        except NotFoundError:
            pass

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(read)
    assert len({id(error) for error in errors}) == len(errors) >= 1


async def test_signing_in_is_not_needed(platform: PlatformWorld) -> None:
    client = platform.client()
    assert await client.token_life() is None
    with pytest.raises(InvalidRequestError):
        await client.try_token("token")
    with anyio.move_on_after(0.02) as scope:
        await client.stay_signed_in()
    assert scope.cancelled_caught
    assert client.clock_offset_seconds is None
    await client.accounts(balances=False)
    assert abs(client.clock_offset_seconds or 99) < 3
    assert client.statistics.requests["GET /accounts", "ok"] == 1
