"""An agent with a key of its own tries to learn, to block or to wear out what is not its own."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import time_machine
from pydantic import SecretStr

from pysequence_api.errors import ApprovalOverError, Code, GatewayError
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import Caller, add
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
