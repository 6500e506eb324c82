"""An agent with a key of its own tries to learn, to block or to wear out what is not its own."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import time_machine
from pydantic import SecretStr

from pysequence_api.api.schema import openapi_schema
from pysequence_api.errors import ApprovalOverError, Code, GatewayError
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import Caller, add
from pysequence_api.records.control import freeze
from pysequence_api.records.database import Database
from pysequence_api.records.keys import sha256_of
from pysequence_api.sandbox import Sandbox
from tests.approvals import TOTP_SECRET, approve, code_now
from tests.noon import sandbox, traveller
from tests.policies import NO_BREAKER, apply_policy
from tests.world import DESTINATION, SOURCE, World, open_world

__all__ = ["sandbox", "traveller"]

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]
POLICY = """
[callers.agent]
scopes = ["move", "freeze", "read:accounts"]
reads = ["a", "b"]
rules = [{ name = "rent", from = ["a"], to = ["b"], max_cents = 5000, day_cents = 9000, approve_above_cents = 1000 }]
"""


@pytest.fixture
async def world(tmp_path: Path, sandbox: Sandbox, upstream: str) -> AsyncIterator[World]:
    """A world whose caller ``agent`` may move a little."""
    settings: dict[str, Any] = {"owner_totp": SecretStr(TOTP_SECRET), "max_transfer_attempts_per_minute": 1_000}
    async with open_world(tmp_path, sandbox, upstream=upstream, **settings) as world:
        apply_policy(world, NO_BREAKER, POLICY)
        yield world


@pytest.fixture
def key(world: World) -> str:
    """Return the agent's key."""
    return add(world.gateway.records, "agent").key


@pytest.fixture
async def api(world: World, key: str) -> AsyncIterator[httpx.AsyncClient]:
    """The API, with the agent's key."""
    async with world.http(key=key) as client:
        yield client


@pytest.fixture
def agent(key: str) -> Caller:
    """The agent."""
    return Caller("agent", sha256_of(key.encode()))


def body(world: World, amount_cents: int) -> dict[str, Any]:
    """Make the body of a transfer."""
    ids = {"source_id": world.pod_ids[SOURCE], "destination_id": world.pod_ids[DESTINATION]}
    return ids | {"amount_cents": amount_cents}


def count_writes(world: World, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Note each write transaction from now on: others wait for it."""
    writes: list[object] = []
    write = Database.write

    def noted(self: Database, *args: Any, **more: Any) -> Any:
        writes.append(args)
        return write(self, *args, **more)

    monkeypatch.setattr(Database, "write", noted)
    return writes


async def test_previews_do_not_tell_what_others_spent(world: World, api: httpx.AsyncClient) -> None:
    """With amounts far above its own limits, it could find out by bisection what is left of the global limit."""
    told = set()
    for spent_cents in (0, 900_000):
        if spent_cents:
            await world.transfer(spent_cents, channel=Channel.CLI)
        for cents in (500, 2_000, 6_000, 950_000, 1_900_000, 100_000_000):
            answer = (await api.post("/api/transfers/preview", json=body(world, cents))).json()
            names = [(each["name"], each["passed"]) for each in answer["checks"] if each["name"].startswith("global")]
            told.add((cents, answer["code"], *names))
    passed = ("global maximum", True), ("global day_cents", True)
    assert told == {
        (500, None, *passed),
        (2_000, "needs_approval"),
        *((cents, "over_max") for cents in (6_000, 950_000, 1_900_000, 100_000_000)),
    }


async def test_cancelling_what_does_not_wait_holds_nobody_up(
    world: World, api: httpx.AsyncClient, agent: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no rate for it, and each write takes the lock that every transfer needs."""
    sent = await world.transfer(500, caller=agent)
    others = await world.transfer(500, channel=Channel.CLI)
    asked = await world.ask(2_000, caller=agent)
    assert (await api.delete(f"/api/attempts/{asked.attempt_id}")).status_code == 200
    writes = count_writes(world, monkeypatch)
    answers = {
        attempt_id: (await api.delete(f"/api/attempts/{attempt_id}")).status_code
        for attempt_id in (sent.attempt_id, others.attempt_id, asked.attempt_id, "nothing")
    }
    assert list(answers.values()) == [409, 404, 200, 404]
    assert writes == []


async def test_freezing_itself_again_holds_nobody_up(
    world: World, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await api.post("/api/freeze", json={"reason": "odd"})
    writes = count_writes(world, monkeypatch)
    again = await api.post("/api/freeze", json={"reason": "odder"})
    assert (again.status_code, again.json()) == (200, first.json())
    assert writes == []


async def test_asking_and_cancelling_does_not_wear_out_the_owner(
    world: World, agent: Caller, traveller: time_machine.Traveller
) -> None:
    """Each request that waits is a message to the owner's phone."""

    async def ask_again_and_again() -> None:
        for cents in range(2_000, 2_100):
            asked = await world.ask(cents, caller=agent)
            await world.gateway.transfers.cancel(asked.attempt_id, agent)

    with pytest.raises(GatewayError) as error:
        await ask_again_and_again()
    assert (error.value.code, error.value.status) == (Code.TOO_MANY_PENDING, 429)
    assert world.files.events().count("approval_requested") <= 10
    preview = await world.gateway.transfers.preview(world.order(2_500), Channel.API, "new", caller=agent)
    assert (preview.error and preview.error.code) is Code.TOO_MANY_PENDING
    traveller.shift(timedelta(hours=1))
    await world.ask(2_500, caller=agent)


async def test_a_preview_counts_what_waits_and_not_what_is_over(
    world: World, agent: Caller, traveller: time_machine.Traveller
) -> None:
    for cents in (2_000, 3_000, 4_000):
        await world.ask(cents, caller=agent)

    async def needs_approval() -> bool:
        order = world.order(2_500)
        return (await world.gateway.transfers.preview(order, Channel.API, "new", caller=agent)).needs_approval

    assert not await needs_approval()
    traveller.shift(timedelta(minutes=241))
    assert await needs_approval()
    await world.ask(2_500, caller=agent)


async def test_what_was_shown_can_be_any_text(world: World, agent: Caller) -> None:
    asked = await world.ask(2_000, caller=agent)
    with pytest.raises(ApprovalOverError):
        await world.gateway.transfers.approve(asked.attempt_id, "ü" * 64, code_now(world), Channel.PAGE)
    await approve(world, asked.attempt_id)


OTHER = """
[callers.other]
scopes = ["move"]
rules = [{ name = "any", from = ["c"], to = ["d"], max_cents = 500000, approve_above_cents = 100000 }]
"""
SEES = POLICY.replace('"read:accounts"', '"read:accounts", "read:activity"')
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


async def be_busy(world: World) -> None:
    """Have others move, ask, be refused and be frozen, between accounts that the agent may not see."""
    other = Caller("other", None)
    parties: dict[str, Any] = {"source": "Groceries", "destination_id": world.pod_ids["Taxes 2025"]}
    for cents in (2_000, 2_001):
        await world.transfer(cents, caller=other, description="secret", **parties)
    await world.transfer(3_000, channel=Channel.CLI, **parties)
    await world.ask(200_000, caller=other, **parties)
    with pytest.raises(GatewayError):
        await world.transfer(900_000, caller=other, **parties)
    freeze(world.gateway.records, "secret", "other")


async def all_answers(directory: Path, *, is_busy: bool) -> dict[str, str]:
    """Ask everything that the agent can ask, and return the answers, without the ids of this world."""
    sandbox, answers = Sandbox(directory / "sequence.sqlite"), {}
    async with open_world(directory, sandbox, max_transfer_attempts_per_minute=1_000, read_max_age_seconds=10) as world:
        key = add(world.gateway.records, "agent").key
        add(world.gateway.records, "other")
        apply_policy(world, NO_BREAKER, SEES, OTHER)
        if is_busy:
            await be_busy(world)
        known = {world.pod_ids[name] for name in (SOURCE, DESTINATION)}
        hidden, total = world.pod_ids["Groceries"], 2_500_000
        async with world.http(key=key) as api:
            paths = [path for path in openapi_schema()["paths"] if "{" not in path]
            totals = "/api/activity/totals?from=2026-11-01&to=2026-11-23"
            finds = [f"/api/accounts/find?name={name}" for name in ("Groceries", "rent", hidden)]
            pods = [f"/api/pods/{name}/balance" for name in ("Groceries", DESTINATION)]
            asked: list[tuple[str, str, Any]] = [("GET", path, None) for path in (*paths, totals, *finds, *pods)]
            bodies = [body(world, cents) for cents in (500, 2_000, 6_000, total - 6_000, total)]
            bodies += [body(world, 500) | {"source_id": hidden}, body(world, 500) | {"destination_id": hidden}]
            asked += [("POST", "/api/transfers/preview", one) for one in bodies]
            asked += [("POST", "/api/transfers", one) for one in bodies]
            asked += [("GET", path, None) for path in ("/api/limits", "/api/activity")]
            for number, (method, path, content) in enumerate(asked):
                headers = {"Idempotency-Key": str(number)}
                answer = await api.request(method, path, json=content, headers=headers)
                text = ID.sub(lambda found: found[0] if found[0] in known else "an id", answer.text)
                answers[f"{number} {method} {path}"] = f"{answer.status_code} {text}"
    await sandbox.aclose()
    return answers


async def test_what_others_do_changes_no_answer(tmp_path: Path) -> None:
    for name in ("quiet", "busy"):
        (tmp_path / name).mkdir()
    with time_machine.travel(datetime(2026, 11, 23, 12, tzinfo=UTC), tick=False):
        quiet = await all_answers(tmp_path / "quiet", is_busy=False)
        busy = await all_answers(tmp_path / "busy", is_busy=True)
    assert sum(answer.startswith("200") for answer in quiet.values()) > 15
    assert {question for question in quiet if quiet[question] != busy[question]} == set()
