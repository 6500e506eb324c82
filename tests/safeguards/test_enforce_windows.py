"""No window of a policy is ever exceeded: random policies over real records, two processes, and a thief."""

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from hypothesis import given, settings
from hypothesis import strategies as st

from pysequence_api.errors import Code, GatewayError
from pysequence_api.models import AccountType
from pysequence_api.records import open_records
from pysequence_api.records.attempts import Attempt
from pysequence_api.records.callers import Caller
from pysequence_api.records.database import Database
from pysequence_api.records.states import State
from pysequence_api.safeguards import decide
from pysequence_api.safeguards.now import MaxCents
from pysequence_api.safeguards.policy import Pairs
from pysequence_api.sandbox import Sandbox
from tests.policies import NO_BREAKER, apply_policy, apply_text
from tests.safeguards.plain_judge import BOUNDARIES, WINDOW_LIMITS, Spec, as_toml, orders, plain_codes, specs
from tests.safeguards.policies import EXAMPLE, policy_of
from tests.world import World, open_world

LIMITS = MaxCents(60, 600)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that a test moves."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def run(records: Database, attempt: Attempt, clock: Clock, chance: random.Random) -> str | None:
    """Take an attempt through its steps, as the service does, and return why it was not reserved."""
    owners = records.owners
    owners.running.add(attempt.id)
    reserved = records.write(lambda writer: decide.reserve(writer, owners, attempt, LIMITS))
    if not isinstance(reserved, Attempt):
        asks = reserved is not None and reserved.code is Code.TOO_MANY_PENDING
        return Code.NEEDS_APPROVAL.value if asks else reserved.code.value if reserved is not None else None
    if reserved.state is State.AWAITING_APPROVAL:
        return Code.NEEDS_APPROVAL.value
    clock.now += timedelta(seconds=chance.choice((0, 1, 70)))
    sending = records.write(lambda writer: decide.announce(writer, owners, reserved, LIMITS))
    clock.now += timedelta(seconds=chance.choice((0, 1, 50)))
    if isinstance(sending, GatewayError):
        end(records, reserved, State.FAILED)
    elif chance.random() < 0.8:
        records.write(lambda writer: decide.accept_attempt(writer, sending, None))
    else:
        end(records, sending, chance.choice((State.FAILED, State.UNKNOWN)))
    return None


def end(records: Database, attempt: Attempt, state: State) -> None:
    records.write(lambda writer: decide.end(writer, attempt, state, error="for a test"))


@settings(max_examples=settings().max_examples * 2 // 5)
@given(data=st.data(), spec=specs(), boundary=st.sampled_from(BOUNDARIES), seed=st.integers(0, 2**32))
def test_two_processes_decide_as_the_plain_implementation(
    data: st.DataObject, spec: Spec, boundary: datetime, seed: int
) -> None:
    chance = random.Random(seed)
    clock = Clock(boundary - timedelta(minutes=chance.randrange(120)))
    with tempfile.TemporaryDirectory() as directory:
        processes = [open_records(Path(directory), clock) for _ in range(2)]
        apply_text(processes[0], f"{as_toml(spec)}{NO_BREAKER}")
        for number in range(12):
            clock.now += timedelta(seconds=chance.choice((1, 30, 100, 900, 3700)))
            caller, order = data.draw(orders(spec))
            attempt = Attempt(
                id=f"{number}",
                caller=caller,
                channel="api",
                state=State.RESERVED,
                created_at=clock.now,
                request_sha256=number.to_bytes(32),
                **order.model_dump(exclude={"description", "kyc_id"}),
            )
            expected = plain_codes(spec, caller, order, all_attempts(processes[0]), limits=(60, 600), now=clock.now)
            code = run(chance.choice(processes), attempt, clock, chance)
            if caller == "owner":
                assert (code is None) is (not expected)
            elif code != "too_many_unknown":
                assert code == next(iter(expected), None)
        assert_within(spec, all_attempts(processes[1]))
        for records in processes:
            records.close()


def all_attempts(records: Database) -> list[Attempt]:
    return records.read(lambda reader: reader.attempts_since(LONG_AGO))


def assert_within(spec: Spec, attempts: list[Attempt]) -> None:
    """Check every window that ends with an attempt that was let through, by when it was taken."""
    policy = policy_of(as_toml(spec))
    for name, caller in policy.callers.items():
        counted = [one for one in attempts if one.caller == name and one.state is State.ACCEPTED]
        for table, pairs in [(caller, None), *((rule, caller.pairs_by_rule[rule.name]) for rule in caller.rules)]:
            some = [one for one in counted if covers(pairs, one)]
            for limit_name in WINDOW_LIMITS:
                limit: int | None = getattr(table, limit_name)
                for last in some if limit is not None else ():
                    inside = [one for one in some if is_in(limit_name, one, last)]
                    amounts = [one.amount_cents if "cents" in limit_name else 1 for one in inside]
                    assert sum(amounts) <= (limit or 0)


def covers(pairs: Pairs | None, one: Attempt) -> bool:
    return pairs is None or pairs.covers(one.source_id, one.destination_id)


def is_in(limit_name: str, one: Attempt, last: Attempt) -> bool:
    at, until = one.ended_at, last.ended_at
    assert at is not None
    assert until is not None
    if at > until:
        return False
    if limit_name.startswith("hour"):
        return until - at < timedelta(hours=1)
    length = len("2026-11-23") if limit_name.startswith("day") else len("2026-11")
    return at.isoformat()[:length] == until.isoformat()[:length]


# Through the service.


@pytest.fixture
async def world(tmp_path: Path, sandbox: Sandbox) -> AsyncIterator[World]:
    """A world in which a caller may ask often."""
    async with open_world(tmp_path, sandbox, max_transfer_attempts_per_minute=10_000) as world:
        yield world


@pytest.mark.anyio
async def test_sixty_requests_at_once_through_two_processes(world: World) -> None:
    table = """[callers.bot]
    scopes = ["move"]
    day_cents = 5000
    rules = [
      { name = "b", from = ["a"], to = ["b"], max_cents = 1000, day_cents = 3000 },
      { name = "c", from = ["a"], to = ["c"], max_cents = 1000, hour_count = 3 },
    ]"""
    apply_policy(world, NO_BREAKER, table)
    processes = [world.gateway, await world.open_process()]
    groceries = world.pod_ids["Groceries"]

    async def request(number: int) -> str:
        more: Any = {"destination_id": groceries} if number % 2 else {}
        try:
            caller = Caller("bot", None)
            await world.transfer(900 + number, process=processes[number // 2 % 2], caller=caller, **more)
        except GatewayError as error:
            return error.code.value
        return ""

    found = await asyncio.gather(*(request(number) for number in range(60)))
    assert set(found) <= {"", "over_day", "count_hour"}
    moved = await world.moved()
    to_groceries = [one["amount_cents"] for one in moved if one["destination"] == groceries]
    others = [one["amount_cents"] for one in moved if one["destination"] != groceries]
    assert sum(others) <= 3_000
    assert len(to_groceries) <= 3
    assert 4_000 <= sum(one["amount_cents"] for one in moved) <= 5_000


@pytest.mark.anyio
@pytest.mark.parametrize("has_breaker", [True, False])
async def test_what_a_thief_moves_in_a_day_with_an_agents_key(
    world: World, traveller: time_machine.Traveller, *, has_breaker: bool
) -> None:
    """The example policy lets $200.00 a day go to groceries, and nothing elsewhere without the owner."""
    apply_text(world.gateway.records, example(world) + ("" if has_breaker else NO_BREAKER))
    accounts = await world.gateway.client.accounts(balances=False)
    places = [(one.id, kind) for kind, some in ((AccountType.POD, accounts.pods), (AccountType.PORT, accounts.ports),
              (AccountType.ACCOUNT, accounts.accounts)) for one in some]  # fmt: skip
    pods = world.pod_ids["Emergency Fund"], world.pod_ids["Groceries"]
    chance, thief = random.Random(17), Caller("openclaw", None)
    traveller.move_to(datetime(2026, 11, 24, 0, 5, tzinfo=UTC))
    codes = set()
    for number in range(200):
        (source_id, source_type), (destination_id, destination_type) = chance.sample(places, 2)
        if chance.random() < 0.4:
            (source_id, destination_id), source_type, destination_type = pods, AccountType.POD, AccountType.POD
        amount_cents = chance.choice((1, 100, 4_999, 9_999, 10_000, 10_001, 180_000, 1_000_000))
        parties: dict[str, Any] = {
            "source_id": source_id,
            "source_type": source_type,
            "destination_id": destination_id,
            "destination_type": destination_type,
        }
        try:
            key, instant = chance.choice((None, f"key {number}", "same")), chance.random() < 0.2
            await world.transfer(amount_cents, key=key, caller=thief, instant=instant, **parties)
            codes.add("")
        except GatewayError as error:
            codes.add(error.code.value)
        traveller.shift(timedelta(seconds=chance.choice((0, 5, 30, 60, 600))))
    moved = await world.moved()
    assert {(one["source"], one["destination"]) for one in moved} <= {pods}
    assert max((one["amount_cents"] for one in moved), default=0) <= 10_000
    assert len(moved) <= 48
    assert sum(one["amount_cents"] for one in moved) <= 20_000
    if has_breaker:
        assert codes >= {"frozen"}
    else:
        assert codes >= {"", "pair_not_allowed", "over_max", "over_day", "count_hour", "instant_not_allowed"}
        assert sum(one["amount_cents"] for one in moved) > 15_000


def example(world: World) -> str:
    """Write the example policy with accounts of the simulated Sequence."""
    ids = {'"POD:1"': "Emergency Fund", '"POD:2"': "Groceries", '"ACCOUNT:3"': "Rent"}
    text = EXAMPLE
    for account, name in ids.items():
        text = text.replace(account, f'"POD:{world.pod_ids[name]}"')
    return text
