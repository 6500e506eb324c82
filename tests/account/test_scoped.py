"""Pages of what a caller may see: filled from few upstream pages, with nothing lost and nothing repeated."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pysequence_api.account.scoped import ScopedReads, View
from pysequence_api.models import ActivityFilter, ActivityPage, Transfer
from pysequence_api.sandbox import ORGANIZATION_ID
from pysequence_api.sequence.client import MAX_UPSTREAM_PAGES
from pysequence_api.sequence.graphql import client
from tests.api.conftest import anyio_backend, shared_world
from tests.world import World, open_world

__all__ = ["anyio_backend", "shared_world"]

pytestmark = pytest.mark.anyio

ACTIVITY = "ActivityLogV2Transfers"
SOME = ("Groceries", "Café ☕")
FEW = ("Taxes 2026",)


@pytest.fixture
async def world(tmp_path: Path, anyio_backend: str, upstream: str) -> AsyncIterator[World]:
    async with open_world(tmp_path, upstream=upstream) as world:
        yield world


@pytest.fixture(scope="module")
async def history(shared_world: World) -> list[Transfer]:
    """All transfers of the shared world."""
    return await everything(shared_world)


def reads_of(world: World, *names: str) -> ScopedReads:
    view = View(frozenset(f"POD:{world.pod_ids[name]}" for name in names))
    return ScopedReads(world.gateway.client, view, world.gateway.fresh, records="")


def organization_of(world: World) -> str:
    return world.gateway.default_organization_id or ORGANIZATION_ID


async def page_of(
    world: World, reads: ScopedReads, first: int, after: str = "", only: ActivityFilter | None = None
) -> ActivityPage:
    return await reads.activity(organization_of(world), first=first, after=after, only=only or ActivityFilter())


async def everything(world: World, *, only: ActivityFilter | None = None) -> list[Transfer]:
    found: list[Transfer] = []
    after = ""
    while True:
        page = await world.gateway.client.activity(organization_of(world), first=100, after=after, only=only)
        found += page.transfers
        after = page.page_info.end_cursor
        if not page.page_info.has_next_page:
            return found


@pytest.mark.parametrize("first", [1, 7, 100])
@pytest.mark.parametrize("names", [SOME, FEW])
async def test_pages_have_what_may_be_seen_once_and_in_order(
    shared_world: World, history: list[Transfer], names: tuple[str, ...], first: int
) -> None:
    world, reads = shared_world, reads_of(shared_world, *names)
    expected = [one.id for one in history if reads.view.shows(one)][: 3 * first]
    found: list[str] = []
    after = ""
    while len(found) < len(expected):
        before = len(world.requests(ACTIVITY))
        page = await page_of(world, reads, first, after)
        assert len(world.requests(ACTIVITY)) - before <= MAX_UPSTREAM_PAGES
        assert len(page.transfers) <= first
        assert page.complete
        found += [one.id for one in page.transfers]
        after = page.page_info.end_cursor
        if not page.page_info.has_next_page:
            break
    assert found[: len(expected)] == expected


async def test_the_last_page_says_that_it_is_the_last(shared_world: World, history: list[Transfer]) -> None:
    world, reads = shared_world, reads_of(shared_world, *FEW)
    expected = [one.id for one in history if reads.view.shows(one)]
    found: list[str] = []
    page = await page_of(world, reads, 100)
    while True:
        found += [one.id for one in page.transfers]
        if not page.page_info.has_next_page:
            break
        page = await page_of(world, reads, 100, page.page_info.end_cursor)
    assert found == expected


@pytest.mark.upstream("graphql")
async def test_a_page_ends_after_five_upstream_pages_and_the_next_one_goes_on(
    shared_world: World, history: list[Transfer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_PAGE_TRANSFERS", 10)
    world, reads = shared_world, reads_of(shared_world)
    all_ids = [one.id for one in history]
    before = len(world.requests(ACTIVITY))
    page = await page_of(world, reads, 10)
    assert len(world.requests(ACTIVITY)) - before == MAX_UPSTREAM_PAGES
    assert (page.transfers, page.page_info.has_next_page, page.complete) == ((), True, True)
    rest = await world.gateway.client.activity(organization_of(world), first=1, after=page.page_info.end_cursor)
    assert rest.transfers[0].id == all_ids[MAX_UPSTREAM_PAGES * 10]


async def test_new_transfers_between_two_pages_change_nothing(world: World) -> None:
    reads = reads_of(world, *SOME)
    newest = (await world.gateway.client.activity(organization_of(world), first=100)).transfers
    expected = [one.id for one in newest if reads.view.shows(one)][:6]
    first = await page_of(world, reads, 3)
    for _ in range(3):
        await world.transfer_outside(source="Groceries")
    second = await page_of(world, reads, 3, first.page_info.end_cursor)
    assert [one.id for one in (*first.transfers, *second.transfers)] == expected


async def test_a_name_is_looked_for_only_in_what_may_be_seen(shared_world: World) -> None:
    world, reads = shared_world, reads_of(shared_world, "Groceries")
    named = [one for one in await everything(world, only=ActivityFilter(name="salary")) if reads.view.shows(one)]
    assert named
    found = [
        one
        for name in ("salary", "vacation")
        for one in (await page_of(world, reads, 100, only=ActivityFilter(name=name))).transfers
    ]
    assert found == []
    page = await page_of(world, reads, 5, only=ActivityFilter(name="GROC"))
    assert len(page.transfers) == 5


@pytest.mark.upstream("graphql")
async def test_a_gap_in_any_upstream_page_is_told(world: World) -> None:
    edges = "organization.transferReferences.edges"
    world.fail({"kind": "nulls", "paths": [f"{edges}.0"]}, operation=ACTIVITY, when="after")
    page = await page_of(world, reads_of(world, *SOME), 3)
    assert (len(page.transfers), page.complete) == (3, False)


@pytest.mark.upstream("graphql")
async def test_a_missing_cursor_ends_the_page(world: World) -> None:
    page_info = "organization.transferReferences.pageInfo"
    world.fail({"kind": "nulls", "paths": [f"{page_info}.endCursor"]}, operation=ACTIVITY, when="after")
    before = len(world.requests(ACTIVITY))
    page = await page_of(world, reads_of(world), 3)
    assert len(world.requests(ACTIVITY)) - before == 1
    assert (page.page_info.end_cursor, page.complete) == ("", False)


@pytest.mark.upstream("graphql")
@pytest.mark.parametrize("value", [None, 5])
async def test_a_missing_cursor_within_a_page_is_told(world: World, value: object) -> None:
    path = "organization.transferReferences.edges.*.cursor"
    world.fail({"kind": "values", "paths": [path], "value": value}, operation=ACTIVITY, when="after")
    page = await page_of(world, reads_of(world, *SOME), 3)
    assert len(page.transfers) == 3
    assert (page.page_info.end_cursor, page.page_info.has_next_page, page.complete) == ("", True, False)
