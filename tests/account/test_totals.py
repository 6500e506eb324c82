"""The total of all pods, and what came in and went out."""

from datetime import date
from pathlib import Path

import pytest

from pysequence_api.account.totals import total_activity, total_of
from pysequence_api.models import (
    Accounts,
    ActivityPage,
    ActivityTotals,
    LeftOut,
    PageInfo,
    Party,
    Pod,
    Transfer,
)
from pysequence_api.sequence.client import MAX_UPSTREAM_PAGES
from pysequence_api.sequence.graphql import client
from tests.world import open_world


def account(*balances_cents: int | None) -> Accounts:
    pods = tuple(
        Pod(id=f"p-{number}", name=None, organization_id="o", balance_cents=cents)
        for number, cents in enumerate(balances_cents)
    )
    return Accounts(pods=pods, ports=(), accounts=(), organization_ids=("o",), complete=True)


def test_the_total_lists_the_pods_that_it_leaves_out() -> None:
    total = total_of(account(5, None))
    assert (total.total_balance_cents, [pod.id for pod in total.left_out], total.complete) == (5, ["p-1"], False)


def test_the_total_is_unknown_if_no_balance_is_known() -> None:
    assert total_of(account(None)).total_balance_cents is None
    assert total_of(account()).total_balance_cents == 0


DAYS = date(2026, 11, 1), date(2026, 11, 30)
POD, PORT = Party(id="p", name="Rent", type="POD"), Party(id="i", name="Salary", type="PORT")
SHOP = Party(id="m", name="Shop", type="MERCHANT")
PAYROLL = Party(name="Acme", type="EXTERNAL_ENTITY")


def transfer(
    source: Party, destination: Party, direction: str | None, cents: int | None = 100, status: str = "COMPLETE"
) -> Transfer:
    return Transfer(
        id="t", source=source, destination=destination, direction=direction, amount_cents=cents, status=status
    )


def totals(*transfers: Transfer, complete: bool = True, has_next_page: bool = False) -> ActivityTotals:
    page_info = PageInfo(end_cursor="c", has_next_page=has_next_page)
    return total_activity(transfers, ActivityPage(transfers=(), page_info=page_info, complete=complete), "o", *DAYS)


def test_what_was_completed_with_third_parties_is_added_up_biggest_first() -> None:
    found = totals(
        transfer(POD, SHOP, "OUTGOING", 70),
        transfer(PAYROLL, PORT, "INCOMING", 500),
        transfer(POD, SHOP.model_copy(update={"name": "Renamed"}), "OUTGOING", 50),
        transfer(PAYROLL.model_copy(update={"name": "ACME"}), POD, "INCOMING", 1),
        transfer(SHOP, POD, "INCOMING", 120),
    )
    assert [
        (one.direction, one.type, one.id, one.name, one.amount_cents, one.transfer_count)
        for one in found.counterparties
    ] == [
        ("INCOMING", "EXTERNAL_ENTITY", None, "Acme", 501, 2),
        ("OUTGOING", "MERCHANT", "m", "Shop", 120, 2),
        ("INCOMING", "MERCHANT", "m", "Shop", 120, 1),
    ]
    assert (found.incoming_cents, found.incoming, found.outgoing_cents) == (621, "$6.21", 120)
    assert (found.left_out, found.complete) == (LeftOut(not_complete=0, unreadable=0, has_older=False), True)


def test_what_stays_within_the_account_is_not_counted_though_it_comes_in() -> None:
    found = totals(transfer(PORT, POD, "INCOMING"), transfer(POD, POD, "INTERNAL"), transfer(POD, PORT, "OUTGOING"))
    assert (found.counterparties, found.incoming_cents, found.outgoing_cents, found.complete) == ((), 0, 0, True)


@pytest.mark.parametrize("status", ["PENDING", "FAILED", "NEVER_HEARD_OF"])
def test_what_is_not_complete_is_left_out_and_told(status: str) -> None:
    found = totals(transfer(POD, SHOP, "OUTGOING", status=status), transfer(POD, SHOP, "OUTGOING", 5))
    assert (found.outgoing_cents, found.left_out.not_complete, found.complete) == (5, 1, True)


@pytest.mark.parametrize(
    "unreadable",
    [
        transfer(POD, SHOP, "OUTGOING", None),
        transfer(POD, SHOP, None),
        transfer(POD, SHOP, "NEVER_HEARD_OF"),
        transfer(Party(), POD, "INCOMING"),
    ],
)
def test_what_cannot_be_read_is_left_out_and_told(unreadable: Transfer) -> None:
    found = totals(unreadable, transfer(POD, SHOP, "OUTGOING", 5))
    assert (found.outgoing_cents, found.incoming_cents, found.left_out.unreadable) == (5, 0, 1)
    assert not found.complete


def test_what_was_not_read_makes_the_totals_incomplete() -> None:
    assert not totals(complete=False).complete
    older = totals(has_next_page=True)
    assert (older.left_out.has_older, older.complete) == (True, False)


@pytest.mark.anyio
async def test_the_totals_over_http_are_those_of_the_activity(tmp_path: Path, upstream: str) -> None:
    async with open_world(tmp_path, upstream=upstream) as world, world.http() as http:
        days = {"from": "2020-01-01", "to": "2100-01-01"}
        before = len(world.requests("ActivityLogV2Transfers"))
        found = (await http.get("/api/activity/totals", params=days)).json()
        assert len(world.requests("ActivityLogV2Transfers")) - before <= MAX_UPSTREAM_PAGES
        expected = 0
        path = "/api/activity?first=100"
        while path:
            page = (await http.get(path)).json()
            path = page["next"]
            for one in page["transfers"]:
                if one["direction"] == "INCOMING" and one["source"]["type"] not in {"POD", "PORT"}:
                    expected += one["amount_cents"] if one["status"] == "COMPLETE" else 0
        assert found["incoming_cents"] == expected > 0
        assert found["incoming_cents"] == sum(
            one["amount_cents"] for one in found["counterparties"] if one["direction"] == "INCOMING"
        )
        assert found["left_out"]["not_complete"] > 0
        month = (await http.get("/api/activity/totals")).json()
        assert month["date_start"] == f"{month['date_end'][:8]}01"
        assert 0 < month["incoming_cents"] < expected
        for query in ("from=2026-02-02&to=2026-02-01", "date_start=2026-01-01", "from=1700000000"):
            assert (await http.get(f"/api/activity/totals?{query}")).status_code == 422


@pytest.mark.anyio
@pytest.mark.upstream("graphql")
async def test_five_upstream_pages_are_read_and_the_rest_is_told(
    tmp_path: Path, upstream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_PAGE_TRANSFERS", 10)
    async with open_world(tmp_path, upstream=upstream) as world, world.http() as http:
        found = (await http.get("/api/activity/totals?from=2020-01-01")).json()
        assert len(world.requests("ActivityLogV2Transfers")) == MAX_UPSTREAM_PAGES
        assert (found["left_out"]["has_older"], found["complete"]) == (True, False)
        assert found["outgoing_cents"] > 0
