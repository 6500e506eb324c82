"""What the pages of the owner show."""

import json

import pytest

from pysequence_api.records.audit import Channel
from pysequence_api.records.control import freeze
from tests.owner.agents import AGENT, add_agent, ask, request
from tests.owner.person import Person, browsing, forms_of, links_of
from tests.world import DESTINATION, SOURCE, World

pytestmark = pytest.mark.anyio
PAGES = ("/", "/callers", "/transfers", "/audit")


async def test_the_overview_shows_what_waits_and_what_is_left(world: World, owner: Person) -> None:
    key = add_agent(world)
    await request(world, key, 4_520)
    asked = await ask(world, key)
    page = (await owner.open("/")).text
    assert "$200.00" in page
    assert f'href="/transfers/{asked}"' in page
    assert "$45.20 <span" in page  # of the daily limit
    assert page.count(SOURCE) >= 2
    assert AGENT in page


async def test_what_is_unknown_or_returned_is_on_the_overview(world: World, owner: Person) -> None:
    lost = await world.lose(amount_cents=1_234)
    assert f'href="/transfers/{lost}"' in (await owner.open("/")).text.split("Unknown or returned")[1]


async def test_a_caller_has_bars_for_its_windows(world: World, owner: Person) -> None:
    key = add_agent(world)
    await request(world, key, 4_520)
    page = (await owner.open("/callers")).text
    assert '<progress value="4520" max="50000" aria-label="Today">' in page
    assert '<progress value="1" max="9" aria-label="Transfers in 60 minutes">' in page
    assert f"…{key[-4:]}" in page
    assert key not in page


async def test_one_transfer_with_its_events(world: World, owner: Person) -> None:
    done = await world.transfer(4_520, description="for milk")
    page = (await owner.open(f"/transfers/{done.attempt_id}")).text
    for text in (SOURCE, DESTINATION, "$45.20", "for milk", "transfer requested", "transfer completed", str(done.id)):
        assert text in page
    missing = await owner.open("/transfers/00000000-0000-4000-8000-000000000000")
    assert missing.status_code == 404
    assert "There is no such page" in missing.text


async def test_older_transfers_and_events_are_on_further_pages(world: World, owner: Person) -> None:
    for amount_cents in range(1, 28):
        await world.transfer(amount_cents)
    first = await owner.open("/transfers")
    (older,) = [link for link in links_of(first) if "before=" in link]
    rest = await owner.open(older)
    rows = [link for page in (first, rest) for link in links_of(page) if link.startswith("/transfers/")]
    assert rows == [f"/transfers/{one.id}" for one in reversed(world.attempts())]
    (older,) = [
        link for link in links_of(await owner.open("/audit?event=transfer_completed")) if "before=" in link
    ] or [""]
    assert older == ""
    (older,) = [link for link in links_of(await owner.open("/audit")) if "before=" in link]
    assert (await owner.open(older)).text.count('class="event"') == len(world.files.trail()) - 50


async def test_the_audit_trail_has_filters(world: World, owner: Person) -> None:
    key = add_agent(world)
    done = await world.transfer(4_520, channel=Channel.CLI)
    await request(world, key, 40_000)
    for query, count in (
        ("event=transfer_rejected", 1),
        (f"caller={AGENT}", 2),
        (f"attempt={done.attempt_id}", 2),
        (f"attempt={done.attempt_id}&event=transfer_completed", 1),
        ("event=nothing", 0),
        ("event=&caller=&attempt=", len(world.files.trail())),
        ("before=2", 1),
        ("before=x", len(world.files.trail())),
    ):
        assert (await owner.open(f"/audit?{query}")).text.count('class="event"') == count, query


async def test_names_and_reasons_of_others_are_text(world: World, owner: Person) -> None:
    hostile = '"><script>alert(1)</script>\u202e<img src=x onerror=alert(2)>'
    done = await world.transfer(4_520, description=hostile[:60])
    for pod_id in world.pod_ids.values():
        world.gateway.names.learn(pod_id, hostile)
    freeze(world.gateway.records, hostile)
    for path in (*PAGES, f"/transfers/{done.attempt_id}", f"/transfers?caller={hostile}", f"/audit?caller={hostile}"):
        page = (await owner.open(path)).text
        assert "<script" not in page
        assert "<img" not in page
        assert "\u202e" not in page
        assert ("&lt;script" in page) == (path != "/callers")


async def test_a_robot_that_follows_every_link_changes_nothing(world: World, owner: Person) -> None:
    key = add_agent(world)
    await ask(world, key)
    await world.transfer(4_520, channel=Channel.CLI)

    def state() -> object:
        return world.gateway.records.read(
            lambda reader: (reader.audit_head(), reader.owner_secrets(), world.attempts())
        )

    before, moved = state(), await world.moved()
    seen, wanted = set[str](), ["/", "/sign-in", "/sign-out"]
    while wanted:
        path = wanted.pop()
        if path in seen:
            continue
        seen.add(path)
        page = await owner.open(path)
        if page.headers.get("content-type", "").startswith("text/html"):
            links = [link.partition("#")[0] for link in links_of(page)]
            wanted += [link for link in [*links, *[form.action for form in forms_of(page)]] if link.startswith("/")]
    assert len(seen) > 12
    assert state() == before
    assert await world.moved() == moved


async def test_without_the_records_the_page_says_so(world: World, owner: Person) -> None:
    async with browsing(world.gateway, owner.traveller) as later:
        later.client.cookies = owner.client.cookies
        world.gateway.records.close()
        world.files.damage(".records.db", b"nothing")
        answer = await later.open("/")
    assert answer.status_code == 503
    assert "records" in answer.text


async def test_a_long_line_of_another_program_is_cut(world: World, owner: Person) -> None:
    line = json.dumps({"event_type": "x" * 90_000, "x" * 90_000: "x" * 90_000, "timestamp": "x" * 90_000}).encode()
    world.gateway.records.write(lambda writer: writer.add_line(line, writer.now, "foreign"))
    page = (await owner.open("/audit?event=foreign")).text
    assert page.count("x" * 400) == 4
    assert len(page) < 20_000
