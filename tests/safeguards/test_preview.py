"""Whatever was moved before, a preview says what the transfer then does, and changes nothing."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pysequence_api.account.preview import Preview, Verdict
from pysequence_api.errors import GatewayError
from pysequence_api.models import TransferOrder
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import THE_DEFAULT, THE_OWNER, Caller
from pysequence_api.records.control import freeze, unfreeze
from tests.policies import NO_BREAKER, WORDS, apply_policy
from tests.world import World, open_world

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]
RULES = """
[never]
to = ["d"]
[callers.bot]
scopes = ["move", "read:accounts"]
reads = ["a", "b"]
day_cents = 9000
rules = [
  { name = "b", from = ["a"], to = ["b"], max_cents = 3000, hour_cents = 6000, hour_count = 4 },
  { name = "c", from = ["a"], to = ["c", "d"], max_cents = 5000, approve_above_cents = 1000, day_count = 2 },
]
[callers.default]
scopes = ["move"]
day_cents = 20000
rules = [{ name = "all", from = ["a", "b"], to = ["c"], max_cents = 4000 }]
"""
CALLERS = (Caller("bot", None), THE_DEFAULT, THE_OWNER)


async def test_random_orders_end_as_their_previews_say(tmp_path: Path) -> None:
    chance, seen = random.Random(18), Counter[str]()
    limits: dict[str, Any] = {"max_daily_transfer_cents": 60_000, "max_transfer_cents": 12_000}
    async with open_world(tmp_path, max_transfer_attempts_per_minute=1_000, **limits) as world:
        apply_policy(world, NO_BREAKER, RULES)
        request = random_request(world, chance, "first")
        for number in range(45):
            await disturb(world, chance, number)
            if number % 8:
                request = random_request(world, chance, f"key-{number}")
            order, key, caller = request  # now and then the same one again
            records = dump(world)
            told = await world.gateway.preview(order, Channel.API, key, caller=caller)
            assert dump(world) == records
            try:
                made = await world.gateway.transfers.transfer(order, Channel.API, key, caller=caller)
                end = Verdict.REPLAYED.value if made.replayed else Verdict.ALLOWED.value
            except GatewayError as error:
                end = error.code.value
            if told.verdict is not Verdict.NEEDS_APPROVAL:
                assert said(told) == end
            seen[said(told)] += 1
    assert {"allowed", "replayed", "frozen", "key_reused", "pair_not_allowed", "over_max"} <= set(seen), seen


def random_request(world: World, chance: random.Random, new_key: str) -> tuple[TransferOrder, str, Caller]:
    source, destination = (world.pod_ids[name] for name in chance.sample(list(WORDS.values()), 2))
    order = world.order(
        chance.choice((1, 900, 1_000, 1_001, 2_999, 3_001, 12_001)),
        instant=chance.random() < 0.1,
        source_id=source,
        destination_id=destination,
    )
    return order, chance.choice((new_key, new_key, "same", "other")), chance.choice(CALLERS)


async def disturb(world: World, chance: random.Random, number: int) -> None:
    """Freeze and unfreeze now and then, and lose an answer."""
    if number % 20 == 10:
        freeze(world.gateway.records, "a test")
    elif number % 20 == 13:
        unfreeze(world.gateway.records)
    elif number == 35:
        await world.lose(amount_cents=chance.choice((900, 1_000)), channel=Channel.CLI)


def said(told: Preview) -> str:
    return told.verdict.value if told.code is None else told.code.value


def dump(world: World) -> Any:
    """Return everything in the database, and the trail."""
    rows = world.gateway.records.read(
        lambda reader: [
            reader._connection.execute(f"SELECT * FROM {table}").fetchall()
            for table in ("store", "attempt", "idempotency", "caller", "caller_key", "policy", "audit")
        ]
    )
    return rows, world.files.trail()
