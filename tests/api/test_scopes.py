"""What a caller with a policy reads: what it may see, and of everything else as little as of what does not exist."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st

from pysequence_api.gateway import Gateway
from pysequence_api.models import Accounts
from pysequence_api.records.audit import Event, EventType
from pysequence_api.records.callers import add
from pysequence_api.records.keys import sha256_of
from pysequence_api.sandbox import ORGANIZATION_ID
from pysequence_api.sequence.graphql import client as graphql_client
from tests.world import World, open_world

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]
BOTH = pytest.mark.upstream("graphql", "platform")

READ = '["read:accounts", "read:activity"]'
UNKNOWN = "00000000-0000-4000-8000-000000000000"
ELSEWHERE = "11111111-0000-4000-8000-000000000000"
SEEN = "Groceries"
HIDDEN = "Rent"
ALL = '["*"]'
FIND = "/api/accounts/find?name=x"
TOTALS = "/api/activity/totals"


def apply(world: World, text: str) -> None:
    """Store a policy as the newest version."""

    def change(writer: Any) -> None:
        current = writer.policy()
        event = Event(
            timestamp=writer.now,
            event_type=EventType.POLICY_APPLIED,
            policy_version=1 if current is None else current.version + 1,
            policy_sha256=sha256_of(text.encode()).hex(),
            from_file=False,
        )
        writer.change_grants(event, text)

    world.gateway.records.write(change)


def policy(reads: Iterable[str] | None, *, name: str = "one", scopes: str = READ, more: str = "") -> str:
    """Write a policy of one caller that may see some accounts, each as ``TYPE:id``; ``None`` for all."""
    words = {account: f"a{number}" for number, account in enumerate(sorted(reads or ()))}
    listed = ALL if reads is None else json.dumps(list(words.values()))
    accounts = "".join(f"{word} = {json.dumps(account)}\n" for account, word in words.items())
    return f"version = 1\n[accounts]\n{accounts}[callers.{name}]\nscopes = {scopes}\nreads = {listed}\n{more}"


def pods(world: World, *names: str) -> list[str]:
    return [f"POD:{world.pod_ids[name]}" for name in names]


@asynccontextmanager
async def reader(
    world: World, *names: str, process: Gateway | None = None, **policy_fields: str
) -> AsyncIterator[httpx.AsyncClient]:
    """A caller that may see some pods, and a client with its key."""
    apply(world, policy(pods(world, *names), **policy_fields))
    async with world.http(process, key=add(world.gateway.records, "one").key) as client:
        yield client


async def get(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refusal(client: httpx.AsyncClient, path: str) -> tuple[int, str, str]:
    answer = await client.get(path)
    assert set(answer.json()) == {"detail", "code"}, answer.text
    return answer.status_code, answer.json()["code"], answer.json()["detail"]


async def assert_the_same(
    world: World, client: httpx.AsyncClient, path: str, hidden: str, missing: str = UNKNOWN
) -> None:
    """Check that what may not be seen is answered as what does not exist, after the same requests to Sequence."""
    told = []
    for identifier in (hidden, missing):
        before = len(world.requests())
        status, code, detail = await refusal(client, path.format(quote(identifier, safe="")))
        requests = [entry.operation for entry in world.requests()[before:]]
        told.append((status, code, detail.replace(identifier, "?"), requests))
    assert told[0] == told[1]
    assert told[0][:2] == (404, "not_found")


# Accounts and pods.


async def test_accounts_are_those_that_may_be_seen(world: World) -> None:
    everything = await world.gateway.client.accounts()
    landlord = next(one for one in everything.accounts if one.name == "Landlord")
    async with reader(world, SEEN) as client:
        apply(world, policy([*pods(world, SEEN), f"ACCOUNT:{landlord.id}", f"PORT:{everything.pods[0].id}"]))
        found = await get(client, "/api/accounts")
        assert [one["name"] for one in found["pods"]] == [SEEN]
        assert found["ports"] == []
        assert [one["name"] for one in found["accounts"]] == ["Landlord"]
        assert found["organization_ids"] == [landlord.organization_id]
        assert [one["name"] for one in await get(client, "/api/pods")] == [SEEN]


async def test_the_total_is_over_the_pods_that_may_be_seen(world: World) -> None:
    async with reader(world, SEEN, "Café ☕") as client:
        seen = await get(client, "/api/pods")
        total = await get(client, "/api/pods/balance")
        assert total["total_balance_cents"] == sum(pod["balance_cents"] for pod in seen)
        assert (total["pod_count"], total["left_out"], total["complete"]) == (2, [], True)


async def test_the_total_names_no_pod_that_may_not_be_seen(world: World) -> None:
    paths = ["me.memberships.*.organization.pods.*.metadata"]
    async with reader(world, SEEN) as client:
        world.fail({"kind": "nulls", "paths": paths}, operation="SelectSourceAndDestination", when="after")
        total = await get(client, "/api/pods/balance")
        assert [pod["name"] for pod in total["left_out"]] == [SEEN]
        assert (total["total_balance_cents"], total["pod_count"]) == (None, 1)


async def test_a_name_is_looked_for_only_among_what_may_be_seen(world: World) -> None:
    async with reader(world, SEEN, "Taxes 2025") as client:
        await assert_the_same(world, client, "/api/pods/{}/balance", HIDDEN, "Nothing like it")
        await assert_the_same(world, client, "/api/pods/{}/balance", "Emergency Fun", "Nothing like it")
        assert (await get(client, "/api/pods/Taxes/balance"))["name"] == "Taxes 2025"  # 2026 is not in the way
        _, _, hint = await refusal(client, "/api/pods/Grocerys/balance")
        assert SEEN in hint
        assert (await get(client, "/api/pods/Groceries/balance"))["balance_cents"] is not None


async def test_only_what_may_be_seen_is_found(world: World) -> None:
    async with reader(world, SEEN, "Taxes 2025") as client:
        told = []
        for name in (HIDDEN, world.pod_ids[HIDDEN], "Emergency Fun", "Nothing like it"):
            before = len(world.requests())
            found = await get(client, f"/api/accounts/find?name={quote(name)}")
            told.append((found, [entry.operation for entry in world.requests()[before:]]))
        assert told.count(told[0]) == len(told)
        assert told[0][0] == {"match": None, "candidates": [], "complete": True}
        taxes = await get(client, "/api/accounts/find?name=taxes")
        assert [(one["name"], one["matched"]) for one in taxes["candidates"]] == [("Taxes 2025", "part")]
        assert (await get(client, "/api/accounts/find?name=groceries"))["match"] == world.pod_ids[SEEN]


@BOTH
async def test_a_pod_that_may_not_be_seen_does_not_exist(world: World) -> None:
    organization = organization_of(world)
    async with reader(world, SEEN) as client:
        for path in ("/api/pods/detail/{}", f"/api/pods/{organization}/{{}}", f"/api/pods/{ELSEWHERE}/{{}}"):
            await assert_the_same(world, client, path, world.pod_ids[HIDDEN])
        await assert_the_same(world, client, f"/api/pods/{{}}/{world.pod_ids[HIDDEN]}", organization)


async def test_the_detail_of_a_pod_names_no_other_account(world: World) -> None:
    async with reader(world, SEEN, "Harbor Card Payoff") as client:
        detail = await get(client, f"/api/pods/detail/{world.pod_ids[SEEN]}")
        assert detail["recent_transfers"]
        for transfer in detail["recent_transfers"]:
            assert_hidden(transfer, SEEN)
        payoff = await get(client, f"/api/pods/detail/{world.pod_ids['Harbor Card Payoff']}")
        assert payoff["liability"] is None
        apply(world, policy(None))
        payoff = await get(client, f"/api/pods/detail/{world.pod_ids['Harbor Card Payoff']}")
        assert payoff["liability"]["name"] == "Harbor Rewards Card"


def assert_hidden(transfer: dict[str, Any], *seen: str) -> None:
    """Check that a transfer names only pods that may be seen, and who is outside Sequence."""
    names = [transfer[side]["name"] for side in ("source", "destination")]
    assert set(names) & set(seen)
    for side in ("source", "destination"):
        party = transfer[side]
        if party["name"] not in seen and party["type"] not in {"MERCHANT", "EXTERNAL_ENTITY"}:
            assert party["type"] is not None
            assert (party["id"], party["name"], party["icon"]) == (None, None, None)
            assert (transfer["description"], transfer["error_reason"]) == (None, None)


# Activity.


@BOTH
async def test_the_activity_is_that_of_what_may_be_seen(world: World) -> None:
    async with reader(world, SEEN) as client:
        page = await get(client, "/api/activity?first=30")
        assert len(page["transfers"]) == 30
        for transfer in page["transfers"]:
            assert_hidden(transfer, SEEN)
        kinds = {transfer[side]["type"] for transfer in page["transfers"] for side in ("source", "destination")}
        assert kinds - {"POD"}  # there was something to hide


async def test_the_filter_by_name_reveals_no_name(world: World) -> None:
    async with reader(world, SEEN) as client, world.http() as default:
        for name in ("sala", "Vacation"):
            apply(world, policy(pods(world, SEEN)))
            assert (await get(client, f"/api/activity?name={name}"))["transfers"] == []
            apply(world, policy(None, name="default"))
            assert (await get(default, f"/api/activity?first=1&name={name}"))["transfers"]


@BOTH
async def test_a_transfer_that_may_not_be_seen_does_not_exist(world: World) -> None:
    organization = organization_of(world)
    activity = (await world.gateway.client.activity(organization, first=100)).transfers
    hidden = next(one for one in activity if SEEN not in {one.source.name, one.destination.name})
    shown = next(one for one in activity if one.destination.name == SEEN and one.source.type == "PORT")
    async with reader(world, SEEN) as client:
        for path in ("/api/transfers/{}", f"/api/activity/{organization}/{{}}", f"/api/activity/{ELSEWHERE}/{{}}"):
            await assert_the_same(world, client, path, hidden.id)
        for path in (f"/api/transfers/{shown.id}", f"/api/activity/{organization}/{shown.id}"):
            transfer = await get(client, path)
            assert_hidden(transfer, SEEN)
            assert transfer["source"] == {"id": None, "name": None, "type": "PORT", "icon": None}


async def test_an_organization_of_which_nothing_may_be_seen_does_not_exist(world: World) -> None:
    everything = await world.gateway.client.accounts()
    async with reader(world) as client:
        for path in ("/api/accounts?org_id={}", "/api/activity?org_id={}"):
            for organization in everything.organization_ids:
                await assert_the_same(world, client, path, organization)
        assert (await get(client, "/api/accounts"))["organization_ids"] == []
        apply(world, policy(pods(world, SEEN)))
        organization = organization_of(world)
        assert (await get(client, f"/api/accounts?org_id={organization}"))["organization_ids"] == [organization]
        assert (await get(client, f"/api/activity?org_id={organization}"))["transfers"]


async def test_whether_an_organization_exists_is_unknown_if_the_list_has_gaps(world: World) -> None:
    async with reader(world) as client:
        for organization in (ORGANIZATION_ID, UNKNOWN):
            paths = ["me.memberships.0.organization.pods"]
            world.fail({"kind": "nulls", "paths": paths}, operation="SelectSourceAndDestination", when="after")
            status, code, _ = await refusal(client, f"/api/accounts?org_id={organization}")
            assert (status, code) == (502, "unreadable_answer")


async def test_the_answer_to_a_transfer_names_no_account_that_may_not_be_seen(world: World) -> None:
    seen, hidden = pods(world, SEEN, HIDDEN)
    rule = '{ name = "rent", from = ["seen"], to = ["hidden"], max_cents = 10000 }'
    order = {"source_id": world.pod_ids[SEEN], "destination_id": world.pod_ids[HIDDEN], "amount_cents": 5_000}
    async with reader(world, SEEN) as client:
        words = f'version = 1\n[accounts]\nseen = "{seen}"\nhidden = "{hidden}"\n'
        apply(world, f'{words}[callers.one]\nscopes = ["move"]\nreads = ["seen"]\nrules = [{rule}]\n')
        for _ in range(2):  # and its replay
            answer = await client.post("/api/transfers", json=order, headers={"Idempotency-Key": "rent"})
            assert answer.status_code == 200, answer.text
            assert answer.json()["source"]["name"] == SEEN
            hides = {"id": world.pod_ids[HIDDEN], "type": "POD", "name": None, "icon": None}
            assert answer.json()["destination"] == hides


async def test_the_totals_are_over_what_may_be_seen(world: World) -> None:
    async with reader(world, SEEN, "Rent") as client:
        path = f"/api/activity/totals?from={datetime.now(UTC).date() - timedelta(days=60)}"
        found = await get(client, path)
        apply(world, policy(None))
        expected = await get(client, path)
        grocer = [one for one in found["counterparties"] if one["name"] == "Green Grocer"]
        assert grocer == [one for one in expected["counterparties"] if one["name"] == "Green Grocer"]
        # The landlord's account may not be seen; what the rent came to may.
        assert sorted((one["type"], one["name"]) for one in found["counterparties"] if one not in grocer) == [
            ("ACCOUNT", None)
        ]
        apply(world, policy(pods(world, SEEN)))
        await assert_the_same(world, client, "/api/activity/totals?org_id={}", ELSEWHERE)


async def test_the_summary_is_for_those_who_may_see_everything(world: World) -> None:
    async with reader(world, *world.pod_ids) as client:
        before = len(world.requests())
        status, code, detail = await refusal(client, "/api/activity/summary")
        assert (status, code) == (403, "scope_missing")
        assert 'reads = ["*"]' in detail
        assert len(world.requests()) == before
        apply(world, policy(None))
        assert (await get(client, "/api/activity/summary"))["transfer_count"] is not None


# Scopes.


@pytest.mark.parametrize(
    ("scope", "paths"),
    [
        ("read:accounts", ["/api/pods", "/api/pods/balance", "/api/pods/x/balance", "/api/accounts", FIND]),
        (
            "read:activity",
            ["/api/activity", "/api/activity/summary", "/api/activity/totals", "/api/transfers/x", "/api/activity/x/y"],
        ),
        ("read:metrics", ["/metrics"]),
    ],
)
async def test_each_route_needs_its_scope(world: World, scope: str, paths: list[str]) -> None:
    others = {"read:accounts", "read:activity", "read:metrics", "freeze"} - {scope}
    async with reader(world) as client:
        apply(world, policy(None, scopes=json.dumps(sorted(others))))
        for path in paths:
            status, code, detail = await refusal(client, path)
            assert (status, code) == (403, "scope_missing"), path
            assert scope in detail
        apply(world, policy(None, scopes=json.dumps([scope])))
        assert {(await client.get(path)).status_code for path in paths} <= {200, 404}


async def test_the_detail_of_a_pod_needs_both_scopes(world: World) -> None:
    async with reader(world, SEEN) as client:
        for scopes, status in (('["read:accounts"]', 403), ('["read:activity"]', 403), (READ, 200)):
            apply(world, policy(pods(world, SEEN), scopes=scopes))
            assert (await client.get(f"/api/pods/detail/{world.pod_ids[SEEN]}")).status_code == status


async def test_a_caller_that_the_policy_does_not_name_reads_nothing(world: World) -> None:
    async with reader(world, SEEN) as client:
        apply(world, policy(None, name="other"))
        assert (await refusal(client, "/api/pods"))[:2] == (403, "scope_missing")


async def test_an_expired_caller_reads_nothing(world: World) -> None:
    async with reader(world, SEEN) as client:
        for time, status in (("2100-01-01T00:00:00Z", 200), ("2020-01-01T00:00:00Z", 403)):
            apply(world, policy(None, more=f"expires = {time}\n"))
            assert (await client.get("/api/pods")).status_code == status


async def test_the_caller_default(world: World) -> None:
    async with world.http() as client:
        count = len(await get(client, "/api/pods"))
        assert count == len(world.pod_ids)
        apply(world, policy(None))
        assert (await refusal(client, "/api/pods"))[:2] == (403, "scope_missing")
        apply(world, policy(pods(world, SEEN), name="default"))
        assert [pod["name"] for pod in await get(client, "/api/pods")] == [SEEN]
        assert (await refusal(client, "/metrics"))[0] == 403


async def test_a_policy_holds_from_the_next_request_in_every_process(world: World) -> None:
    other = await world.open_process()
    async with reader(world, SEEN, process=other) as client:
        assert len(await get(client, "/api/pods")) == 1
        apply(world, policy([]))
        assert await get(client, "/api/pods") == []


async def test_a_policy_that_cannot_be_read_grants_nothing_and_is_not_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with reader(world, SEEN) as client, world.http() as default:
        apply(world, policy(pods(world, HIDDEN)).replace("scopes", "scoops"))
        for each in (client, default):
            status, code, detail = await refusal(each, "/api/pods")
            assert (status, code) == (503, "records_unavailable")
            assert "scoops" not in detail
        assert "callers.one.scoops" in caplog.text


async def test_without_the_records_default_keeps_what_the_last_policy_allowed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(world, policy(pods(world, SEEN), name="default"))
    async with world.http() as client:
        assert len(await get(client, "/api/pods")) == 1
        world.gateway.records.close()
        assert len(await get(client, "/api/pods")) == 1


# Everything at once.


def names_and_ids(accounts: Accounts) -> dict[str, tuple[str, str]]:
    """Return the id and the name of each account, by ``TYPE:id``."""
    parties = [
        *(("POD", one.id, one.name) for one in accounts.pods),
        *(("PORT", one.id, one.name) for one in accounts.ports),
        *(("ACCOUNT", one.id, one.name) for one in accounts.accounts),
    ]
    return {f"{kind}:{identifier}": (identifier, name or "") for kind, identifier, name in parties}


async def answers(client: httpx.AsyncClient, world: World, known: dict[str, tuple[str, str]], word: str) -> list[str]:
    """Ask every route, and return the answers without what was asked for."""
    organization = organization_of(world)
    transfers = (await world.gateway.client.activity(organization, first=20)).transfers
    identifier, name = known[word]
    paths = {
        "/api/pods": "",
        "/api/pods/balance": "",
        f"/api/pods/{quote(name[:-1], safe='')}/balance": "",
        f"/api/pods/detail/{identifier}": identifier,
        f"/api/pods/{organization}/{identifier}": identifier,
        "/api/accounts": "",
        f"/api/accounts/find?name={quote(name[:-1])}": "",
        "/api/activity?first=20": "",
        f"/api/activity/totals?from={datetime.now(UTC).date() - timedelta(days=60)}": "",
        f"/api/activity?first=20&name={quote(name[:-1])}": "",
        "/api/activity/summary": "",
        "/api/limits": "",
        "/metrics": "",
    } | {f"/api/transfers/{one.id}": "" for one in transfers[len(word) % 7 :: 7]}
    found = []
    for path, asked in paths.items():
        answer = await client.get(path)
        assert answer.status_code in {200, 403, 404}, answer.text
        if answer.status_code == 404 and asked:
            found.append(answer.text.replace(asked, ""))
        else:
            found.append(answer.text)
    return found


def test_no_answer_names_what_may_not_be_seen(
    tmp_path_factory: pytest.TempPathFactory, upstream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An answer takes up to five of Sequence's pages.
    monkeypatch.setattr(graphql_client, "MAX_PAGE_TRANSFERS", 20)
    with start_blocking_portal() as portal:
        running = open_world(tmp_path_factory.mktemp("scopes"), upstream=upstream, read_max_age_seconds=600)
        with portal.wrap_async_context_manager(running) as world:
            key = add(world.gateway.records, "one").key
            known = names_and_ids(portal.call(world.gateway.client.accounts))
            with portal.wrap_async_context_manager(world.http(key=key)) as http:

                @given(reads=st.sets(st.sampled_from(sorted(known)), max_size=6), word=st.sampled_from(sorted(known)))
                @settings(max_examples=max(4, settings().max_examples // 1_000), deadline=None, database=None)
                def check(reads: set[str], word: str) -> None:
                    apply(world, policy(reads))
                    hidden = {text for one, pair in known.items() if one not in reads for text in pair}
                    hidden -= {known[one][1] for one in reads}  # two accounts can have one name
                    for text in portal.call(answers, http, world, known, word):
                        decoded = (
                            json.dumps(json.loads(text), ensure_ascii=False) if text.startswith(("{", "[")) else text
                        )
                        assert [one for one in hidden if one in decoded] == []

                check()


def organization_of(world: World) -> str:
    return world.gateway.organization_id
