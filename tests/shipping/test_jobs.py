"""The jobs of the documentation, played by agents that have nothing but the skill, or the tools, and a key.

The agents are scripts. They know what `SKILL.md` or the list of the tools says, and take every id from an answer.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

import httpx
import httpx2
import pytest

from pysequence_api.gateway import SANDBOX_DATABASE_NAME, open_gateway
from pysequence_api.records.callers import add
from pysequence_api.sandbox import Sandbox
from pysequence_api.settings import Settings
from tests.api.server import Server, start_server
from tests.mcp.clients import MODERN, connected
from tests.shipping.documented import blocks_of, table_rows
from tests.shipping.files import AGENTS, REFERENCES, SKILL
from tests.world import DESTINATION, SOURCE, open_world

if TYPE_CHECKING:
    from mcp import Client

pytestmark = pytest.mark.anyio

CHARACTERS_PER_TOKEN = 4
TOLERANCE = 0.1
"""How far the documented tokens may be off: some answers depend on the day."""
DEPENDS_ON_THE_DAY = ("totals", "weeks")
"""Whose answers are shorter on other days than the documentation's, which is the end of a month."""
RECENT_DAYS = 25
"""What was paid within these days was paid for this month."""
JOBS = {
    "groceries": ("how much is there for groceries", 1),
    "arrival": ("move $25 and say when it arrived", 4),
    "rent": ("pay the rent like last month: a rule has paid it", 3),
    "again": ("the same, where it was not paid yet", 3),
    "totals": ("what came in and went out this month, biggest first", 1),
    "percent": ("set aside 10% of the last paycheck", 4),
    "weeks": ("three weeks of activity", 2),
    "lost": ("an answer lost on the way", 2),
}
"""What the documentation calls each job, and in how many calls it has to be done."""


@dataclass
class Count:
    """What a job took."""

    calls: int = 0
    characters: int = 0

    @property
    def tokens(self) -> int:
        """The tokens, about."""
        return self.characters // CHARACTERS_PER_TOKEN


@dataclass
class Transcript:
    """Counts what goes over the wire."""

    count: Count = field(default_factory=Count)

    def add(self, request: str, answer: str) -> None:
        """Count one call."""
        self.count.calls += 1
        self.count.characters += len(request) + len(answer)


class LostError(Exception):
    """No answer came."""


class Channel(Protocol):
    """How an agent reaches the gateway, in the words of the jobs."""

    transcript: Transcript

    async def find(self, name: str) -> dict[str, Any]: ...
    async def accounts(self) -> dict[str, dict[str, Any]]: ...
    async def activity(self, since: datetime, name: str = "", after: str = "") -> tuple[list[dict[str, Any]], str]: ...
    async def last_pay(self) -> dict[str, Any]: ...
    async def totals(self) -> tuple[list[int], list[int]]: ...
    async def preview(self, order: dict[str, Any]) -> dict[str, Any]: ...
    async def transfer(self, order: dict[str, Any], key: str) -> dict[str, Any]: ...
    async def attempt(self, attempt_id: str) -> str: ...


class Http:
    """An agent with the skill: each request is one that the skill shows."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.transcript = Transcript()
        self._skill = "".join(page.read_text() for page in (SKILL, *REFERENCES))

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None, key: str = "") -> Any:
        route = re.sub(r"/[0-9a-f-]{36}", "/{attempt_id}", path.partition("?")[0])
        assert f"`{method} {route}" in self._skill, "the skill does not tell that"
        headers = {"Idempotency-Key": key} if key else {}
        text = "" if body is None else json.dumps(body)
        request = " ".join([method, path, key, text])
        try:
            answer = await self._client.request(
                method, path, content=text or None, headers=headers | {"Content-Type": "application/json"}
            )
        except httpx.TransportError:
            self.transcript.add(request, "")
            raise LostError from None
        self.transcript.add(request, answer.text)
        return answer.json()

    async def find(self, name: str) -> dict[str, Any]:
        found = await self._call("GET", f"/api/accounts/find?name={quote(name)}")
        return _the_match(found)

    async def accounts(self) -> dict[str, dict[str, Any]]:
        listed = await self._call("GET", "/api/accounts")
        kinds = (("pods", "POD"), ("ports", "PORT"), ("accounts", "ACCOUNT"))
        return {one["name"]: {"id": one["id"], "type": kind} for name, kind in kinds for one in listed[name]}

    async def activity(self, since: datetime, name: str = "", after: str = "") -> tuple[list[dict[str, Any]], str]:
        query = {"date_start": since.date().isoformat(), "first": 100} | ({"name": name} if name else {})
        page = await self._call("GET", after or f"/api/activity?{urlencode(query)}")
        names = ("created_at", "amount_cents", "activity_type")
        listed = [
            {name: one[name] for name in names} | {"source": one["source"], "destination": one["destination"]}
            for one in page["transfers"]
        ]
        return listed, page["next"] or ""

    async def last_pay(self) -> dict[str, Any]:
        page = await self._call("GET", "/api/activity?activity_types=DIRECT_DEPOSIT&first=1")
        [paid] = page["transfers"]
        return {"amount_cents": paid["amount_cents"], "port": paid["destination"]}

    async def totals(self) -> tuple[list[int], list[int]]:
        totals = await self._call("GET", "/api/activity/totals")
        assert totals["complete"]
        by = {"INCOMING": [], "OUTGOING": []}  # type: dict[str, list[int]]
        for one in totals["counterparties"]:
            by[one["direction"]].append(one["amount_cents"])
        assert (sum(by["INCOMING"]), sum(by["OUTGOING"])) == (totals["incoming_cents"], totals["outgoing_cents"])
        return by["INCOMING"], by["OUTGOING"]

    async def preview(self, order: dict[str, Any]) -> dict[str, Any]:
        preview = await self._call("POST", "/api/transfers/preview", order)
        similar = [(one["created_at"], one["activity_type"]) for one in preview["similar"]]
        return {"verdict": preview["verdict"], "similar": similar}

    async def transfer(self, order: dict[str, Any], key: str) -> dict[str, Any]:
        return dict(await self._call("POST", "/api/transfers", order, key))

    async def attempt(self, attempt_id: str) -> str:
        return str((await self._call("GET", f"/api/attempts/{attempt_id}?wait_seconds=30"))["state"])


class Mcp:
    """An agent with the tools.

    Args:
        connect: connects a client of the SDK, which ends when a connection breaks: so each call has its own.
    """

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager["Client"]]) -> None:
        self._connect = connect
        self.transcript = Transcript()

    async def _call(self, tool: str, **arguments: Any) -> Any:
        request = json.dumps({"name": tool, "arguments": arguments})
        try:
            async with self._connect() as client:
                result = await client.call_tool(tool, arguments)
        except* httpx2.TransportError:
            self.transcript.add(request, "")
            raise LostError from None
        [text] = result.content
        assert text.type == "text"
        self.transcript.add(request, text.text)
        return result.structured_content

    async def find(self, name: str) -> dict[str, Any]:
        return _the_match(await self._call("find_account", name=name))

    async def accounts(self) -> dict[str, dict[str, Any]]:
        listed = await self._call("list_accounts")
        kinds = (("pods", "POD"), ("ports", "PORT"), ("accounts", "ACCOUNT"))
        return {one["name"]: {"id": one["id"], "type": kind} for name, kind in kinds for one in listed[name]}

    async def activity(self, since: datetime, name: str = "", after: str = "") -> tuple[list[dict[str, Any]], str]:
        only = ({"name": name} if name else {}) | ({"after": after} if after else {})
        page = await self._call("list_activity", limit=100, **{"from": since.date().isoformat()}, **only)
        accounts = page["accounts"]

        def party(label: str) -> dict[str, Any]:
            told: dict[str, Any] = accounts.get(label, {"type": None})
            return {"name": label, "type": "POD"} | told

        listed = [
            {"created_at": one["at"], "amount_cents": one["amount_cents"], "activity_type": one["kind"]}
            | {"source": party(one["from"]), "destination": party(one["to"])}
            for one in page["transfers"]
        ]
        return listed, page.get("next", "")

    async def last_pay(self) -> dict[str, Any]:
        page = await self._call("list_activity", direction="INCOMING")
        paid = next(one for one in page["transfers"] if one["kind"] == "DIRECT_DEPOSIT")
        port = {"type": "POD"} | page["accounts"][paid["to"]]
        return {"amount_cents": paid["amount_cents"], "port": port}

    async def totals(self) -> tuple[list[int], list[int]]:
        totals = await self._call("list_activity", totals=True)
        came, went = ([one["amount_cents"] for one in totals[name]] for name in ("incoming", "outgoing"))
        assert (sum(came), sum(went)) == (totals["incoming_cents"], totals["outgoing_cents"])
        return came, went

    async def preview(self, order: dict[str, Any]) -> dict[str, Any]:
        preview = await self._call("preview_transfer", **order)
        similar = [(one["at"], one["kind"]) for one in preview["similar"]]
        return {"verdict": preview["verdict"], "similar": similar}

    async def transfer(self, order: dict[str, Any], key: str) -> dict[str, Any]:
        return dict(await self._call("transfer", **order, idempotency_key=key))

    async def attempt(self, attempt_id: str) -> str:
        return str((await self._call("get_attempt", attempt_id=attempt_id, wait_seconds=30))["state"])


class Relay:
    """Stands between an agent and the server, and loses an answer if told to."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.loses_next = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        theirs, ours = await asyncio.open_connection(self._server.host, self._server.port)

        async def forward() -> None:
            while data := await reader.read(65_536):
                ours.write(data)
            ours.close()

        forwarding = asyncio.create_task(forward())
        try:
            while data := await theirs.read(65_536):
                if self.loses_next:
                    self.loses_next = False
                    break
                writer.write(data)
                await writer.drain()
        finally:
            forwarding.cancel()
            ours.close()
            writer.close()


def _the_match(found: dict[str, Any]) -> dict[str, Any]:
    [match] = [one for one in found["candidates"] if one["id"] == found["match"]]
    return dict(match)


def _order(source: dict[str, Any], destination: dict[str, Any], amount_cents: int) -> dict[str, Any]:
    parties = {"source": source, "destination": destination}
    ids = {f"{side}_{name}": party[name] for side, party in parties.items() for name in ("id", "type")}
    return {name: value for name, value in ids.items() if value != "POD"} | {"amount_cents": amount_cents}


def _days_since(moment: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds() / 86_400


def _was_paid(similar: list[tuple[str, str]]) -> bool:
    """Decide as the skill says: a rule pays it, or it was paid for this month."""
    return any(kind == "RULE" or _days_since(moment) < RECENT_DAYS for moment, kind in similar)


async def groceries(agent: Channel) -> None:
    """Say how much is there for groceries."""
    assert (await agent.find("groceries"))["balance_cents"] == 87_643


async def arrival(agent: Channel) -> None:
    """Move $25, and say when it arrived."""
    accounts = await agent.accounts()
    order = _order(accounts["Emergency Fund"], accounts["Rent"], 2_500)
    preview = await agent.preview(order)
    assert preview == {"verdict": "allowed", "similar": []}
    moved = await agent.transfer(order, "rent-top-up")
    assert moved["state"] == "accepted"
    assert await agent.attempt(moved["attempt_id"]) == "arrived"


async def like_last_month(agent: Channel, name: str, source: str) -> bool:
    """Pay something as it was paid last month, unless it is paid."""
    transfers, _ = await agent.activity(datetime.now(UTC) - timedelta(days=40), name)
    paid = [one for one in transfers if (one["source"]["name"], one["destination"]["name"]) == (source, name)]
    last = max(paid, key=lambda one: (_days_since(one["created_at"]) > RECENT_DAYS, one["created_at"]))
    order = _order(last["source"], last["destination"], last["amount_cents"])
    preview = await agent.preview(order)
    if _was_paid(preview["similar"]):
        return False
    assert preview["verdict"] == "allowed"
    assert (await agent.transfer(order, f"{name.lower()}-of-this-month"))["state"] == "accepted"
    return True


async def rent(agent: Channel) -> None:
    """Pay the rent like last month: a rule at Sequence has paid it."""
    assert not await like_last_month(agent, "Landlord", "Rent")


async def again(agent: Channel) -> None:
    """Pay something like last month that was not paid yet."""
    assert await like_last_month(agent, "Groceries", "Vacation / Travel")


async def totals(agent: Channel) -> None:
    """Say what came in and went out this month, biggest first."""
    for amounts in await agent.totals():
        assert amounts == sorted(amounts, reverse=True)


async def percent(agent: Channel) -> None:
    """Set aside 10% of the last paycheck."""
    paid = await agent.last_pay()
    savings = await agent.find("emergency fund")
    order = _order(paid["port"], savings, paid["amount_cents"] // 10)
    preview = await agent.preview(order)
    assert (preview["verdict"], _was_paid(preview["similar"])) == ("allowed", False)
    assert (await agent.transfer(order, "tenth-of-the-paycheck"))["state"] == "accepted"


async def weeks(agent: Channel) -> None:
    """List three weeks of activity."""
    since = datetime.now(UTC) - timedelta(days=21)
    transfers, after = await agent.activity(since)
    while after:
        more, after = await agent.activity(since, after=after)
        transfers += more
    assert len(transfers) > 20
    assert all(one["created_at"] >= since.date().isoformat() for one in transfers)


async def lost(agent: Channel, relay: Relay) -> None:
    """Make a transfer whose answer is lost, after the ids were found and it was looked at."""
    accounts = await agent.accounts()
    order = _order(accounts["Emergency Fund"], accounts["Groceries"], 1_234)
    agent.transcript.count = Count()
    relay.loses_next = True
    with pytest.raises(LostError):
        await agent.transfer(order, "lost")
    assert (await agent.transfer(order, "lost"))["state"] == "accepted"


PLAYS: dict[str, Callable[[Channel], Awaitable[None]]] = {
    "groceries": groceries,
    "rent": rent,
    "again": again,
    "totals": totals,
    "percent": percent,
    "weeks": weeks,
}


def documented_policy(directory: Path) -> Path:
    """Write the policy of the documentation into a new directory."""
    directory.mkdir()
    [policy] = [block.text for block in blocks_of(AGENTS) if block.language == "toml"]
    path = directory / "policy.toml"
    path.touch(mode=0o600)
    path.write_text(policy)
    return path


@asynccontextmanager
async def served(directory: Path) -> AsyncIterator[tuple[Server, str]]:
    """Start a server with the documented policy, on a simulated Sequence of its own. Yields the agent's key, too."""
    path = documented_policy(directory)
    async with open_gateway(Settings(data_dir=directory, sandbox=True)) as gateway:
        key = add(gateway.records, "agent").key
    async with start_server(directory, SANDBOX="1", POLICY_FILE=str(path)) as server:
        yield server, key


@asynccontextmanager
async def agent_at(kind: str, url: str, key: str) -> AsyncIterator[Channel]:
    """Give an agent an address and a key."""
    headers = {"X-API-Key": key}
    if kind == "http":
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
            yield Http(client)
        return
    from mcp import Client  # noqa: PLC0415 - see tests.mcp.clients
    from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415

    async with httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as wire:
        yield Mcp(lambda: Client(streamable_http_client(f"{url}/mcp", http_client=wire), mode=MODERN))


async def play(kind: str, directory: Path) -> dict[str, Count]:
    """Play every job, and say what each took. The one that waits goes beside the others."""
    counts = {}
    async with served(directory) as (server, key), AsyncExitStack() as stack:
        relay = Relay(server)
        listener = await stack.enter_async_context(await asyncio.start_server(relay.serve, "127.0.0.1", 0))
        host, port = listener.sockets[0].getsockname()
        waiting = await stack.enter_async_context(agent_at(kind, server.url, key))
        agent = await stack.enter_async_context(agent_at(kind, f"http://{host}:{port}", key))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(arrival(waiting))
            for name, job in PLAYS.items():
                agent.transcript.count = Count()
                await job(agent)
                counts[name] = agent.transcript.count
            agent.transcript.count = Count()
            await lost(agent, relay)
    return counts | {"arrival": waiting.transcript.count, "lost": agent.transcript.count}


@pytest.mark.waits
async def test_each_job_takes_what_the_documentation_says(tmp_path: Path) -> None:
    """All in one test: most of its time, both agents wait for money to arrive."""
    kinds = ("http", "mcp")
    by_http, by_mcp = await asyncio.gather(*(play(kind, tmp_path / kind) for kind in kinds))
    rows = {row[0]: [_number(cell) for cell in row[2:]] for row in table_rows(AGENTS, "What a job takes")}
    measured = {
        text: [most, by_http[name].calls, by_http[name].tokens, by_mcp[name].calls, by_mcp[name].tokens]
        for name, (text, most) in JOBS.items()
    }
    differing = {
        text: counts
        for text, counts in measured.items()
        if not _agree(rows.get(text, []), counts, at_most=text in {JOBS[name][0] for name in DEPENDS_ON_THE_DAY})
    }
    assert (differing, set(rows) - set(measured)) == ({}, set())
    assert [text for text, counts in measured.items() if max(counts[1], counts[3]) > counts[0]] == []
    for kind in kinds:
        assert sorted(await _moved(tmp_path / kind)) == [1_234, 2_500, 7_560, 31_294]


def _number(cell: str) -> int:
    return int(cell.replace(",", ""))


def _agree(documented: list[int], measured: list[int], *, at_most: bool) -> bool:
    """Compare the calls exactly, and the tokens within the tolerance."""
    is_tokens = (False, False, True, False, True)
    return len(documented) == len(measured) and all(
        (1 - TOLERANCE) * told <= count <= (1 + TOLERANCE) * told or (at_most and count < told)
        if is_about
        else told == count
        for told, count, is_about in zip(documented, measured, is_tokens, strict=True)
    )


async def test_what_an_agent_carries_along_is_documented(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, connected(world) as client:
        listed = (await client.list_tools()).tools
    tools = json.dumps([tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed])
    text = " ".join(AGENTS.read_text().split())
    told = re.search(r"the skill, (\d+) tokens, or the list of the tools, ([\d,]+) tokens", text)
    assert told is not None
    for text, number in zip((SKILL.read_text(), tools), told.groups(), strict=True):
        assert len(text) / CHARACTERS_PER_TOKEN == pytest.approx(_number(number), rel=TOLERANCE)


async def _moved(directory: Path) -> list[int]:
    """Say what Sequence moved."""
    sandbox = Sandbox(directory / "sandbox" / SANDBOX_DATABASE_NAME)
    try:
        async with httpx.AsyncClient(transport=sandbox.transport(), base_url="http://sequence") as control:
            return [one["amount_cents"] for one in (await control.get("/sandbox/transfers")).json()["transfers"]]
    finally:
        await sandbox.aclose()


@pytest.mark.parametrize("kind", ["http", "mcp"])
async def test_an_answer_that_sequence_loses_takes_two_calls_and_is_paid_once(tmp_path: Path, kind: str) -> None:
    async with open_world(tmp_path) as world, AsyncExitStack() as stack:
        following = asyncio.create_task(world.gateway.follow_up.run_for_ever())
        http = await stack.enter_async_context(world.http())
        agent: Channel = Http(http) if kind == "http" else Mcp(lambda: connected(world))
        order = {"source_id": world.pod_ids[SOURCE], "destination_id": world.pod_ids[DESTINATION], "amount_cents": 100}
        world.fail("close", when="after")
        answer = await agent.transfer(order, "lost")
        assert (answer["code"], answer["outcome"]) == ("outcome_unknown", "unknown")
        assert "not send it again" in answer["detail"]
        assert await agent.attempt(answer["attempt_id"]) == "accepted"
        assert (agent.transcript.count.calls, len(await world.moved())) == (2, 1)
        following.cancel()
