"""The states of an attempt: the enumeration, the schema, the documentation and the program agree."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pysequence_api.clock import utc_now
from pysequence_api.records.approvals import Approval
from pysequence_api.records.attempts import Attempt, Writer
from pysequence_api.records.audit import Channel, EventType, Line
from pysequence_api.records.callers import THE_DEFAULT
from pysequence_api.records.database import connect, create_tables
from pysequence_api.records.history import fold
from pysequence_api.records.states import RULES, State
from pysequence_api.safeguards.transfers import new_attempt
from tests.shipping.documented import table_rows
from tests.shipping.files import ARCHITECTURE
from tests.world import World

SOON = utc_now() + timedelta(hours=1)
ROWS = {row[0].strip("`"): row[1:] for row in table_rows(ARCHITECTURE, "The states of an attempt")}


def names(cell: str) -> set[str]:
    """Return the code in a cell of the table."""
    return set(re.findall(r"`(\w+)`", cell))


@pytest.fixture
def writer() -> Iterator[Writer]:
    """An empty database in memory."""
    with closing(connect(Path(":memory:"))) as connection:
        create_tables(connection, utc_now)
        yield Writer(connection, utc_now())


def attempt_in(state: State, attempt_id: str) -> Attempt:
    """Make an attempt that was announced."""
    now = utc_now()
    return Attempt(
        id=attempt_id, caller="default", channel="api", state=state, amount_cents=1, created_at=now, announced_at=now
    )


def approve(writer: Writer, attempt: Attempt) -> None:
    """Have the owner approve an attempt, without which it does not go on."""
    with pytest.raises(sqlite3.IntegrityError):
        writer.move(attempt, State.RESERVED)
    writer.add_approval(Approval(attempt_id=attempt.id, bound_sha256=bytes(32), expires_at=SOON))
    writer.decide_approval(attempt.id, "approved", Channel.CLI)


def test_the_table_has_every_state_in_order() -> None:
    assert list(ROWS) == [state.value for state in State] == [state.value for state in RULES]


@pytest.mark.parametrize("state", State)
def test_a_row_says_what_the_rule_says(state: State) -> None:
    meaning, comes_from, counts, keeps_key, *_ = ROWS[state]
    rule = RULES[state]
    assert meaning == rule.meaning
    assert names(comes_from) == {one.value for one in rule.comes_from}
    assert comes_from.startswith("new") is rule.begins
    assert (
        counts
        == {(False, False): "no", (True, False): "yes", (True, True): "yes, on every day"}[rule.counts, rule.is_open]
    )
    assert keeps_key == ("yes" if rule.keeps_key else "no")


def test_the_schema_knows_the_same_states(writer: Writer) -> None:
    for state in State:
        writer.add_attempt(attempt_in(state, state.value))
    (table,) = writer._connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'attempt'").fetchone()
    allowed = re.search(r"CHECK\(state IN \(([^)]*)\)\)", table)
    assert allowed is not None
    assert re.findall(r"'(\w+)'", allowed[1]) == [state.value for state in State]


@pytest.mark.parametrize("before", State)
def test_the_schema_allows_the_same_moves(writer: Writer, before: State) -> None:
    for after in set(State) - {before}:
        attempt = attempt_in(before, after.value)
        writer.add_attempt(attempt)
        if before in RULES[after].comes_from:
            if (before, after) == (State.AWAITING_APPROVAL, State.RESERVED):
                approve(writer, attempt)
            writer.move(attempt, after)
            continue
        with pytest.raises(sqlite3.IntegrityError):
            writer.move(attempt, after)


def test_an_approval_is_decided_once_and_only_while_its_attempt_waits(writer: Writer) -> None:
    waiting, other = attempt_in(State.AWAITING_APPROVAL, "waiting"), attempt_in(State.ACCEPTED, "other")
    writer.add_attempt(waiting)
    writer.add_attempt(other)
    with pytest.raises(sqlite3.IntegrityError):
        writer.add_approval(Approval(attempt_id="other", bound_sha256=bytes(32), expires_at=SOON))
    writer.add_approval(Approval(attempt_id="waiting", bound_sha256=bytes(32), expires_at=SOON))
    for change in ("UPDATE approval SET bound_sha256 = zeroblob(32)", "DELETE FROM approval"):
        with pytest.raises(sqlite3.IntegrityError):
            writer._connection.execute(change)
    writer.decide_approval("waiting", "denied", Channel.CLI)
    with pytest.raises(sqlite3.IntegrityError):
        writer.decide_approval("waiting", "approved", Channel.CLI)


def test_nothing_is_approved_once_it_has_expired(writer: Writer) -> None:
    writer.add_attempt(attempt_in(State.AWAITING_APPROVAL, "waiting"))
    writer.add_approval(Approval(attempt_id="waiting", bound_sha256=bytes(32), expires_at=writer.now))
    with pytest.raises(sqlite3.IntegrityError):
        writer.decide_approval("waiting", "approved", Channel.CLI)
    writer.decide_approval("waiting", "denied", Channel.CLI)


def test_a_code_is_not_used_again_unless_there_is_a_new_secret(writer: Writer) -> None:
    writer.set_owner_secrets(totp_secret="A" * 32, totp_set_at=writer.now, totp_step=5)
    with pytest.raises(sqlite3.IntegrityError):
        writer.set_owner_secrets(totp_step=4)
    writer.set_owner_secrets(totp_secret="B" * 32, totp_set_at=SOON, totp_step=0)
    assert writer.owner_secrets().totp_step == 0


@pytest.mark.parametrize("state", State)
def test_the_event_of_a_row_says_that_state(state: State) -> None:
    event = ROWS[state][4]
    told = names(event)
    event_types = told & set(EventType)
    if not event_types:
        assert (state, event) == (State.RESERVED, "none")
        return
    outcome = next(iter(told - event_types), None)
    about = {"attempt_id": "one", "amount_cents": 1}
    lines = [Line.model_validate({"event_type": one, **about, "outcome": outcome}) for one in event_types]
    assert fold(lines)["one"].state is state


@pytest.mark.anyio
async def test_a_replay_gets_what_the_row_says(world: World) -> None:
    for number, state in enumerate(State):
        await expect_replay(world, state, 1_000 + number)


async def expect_replay(world: World, state: State, amount_cents: int) -> None:
    """Replay an attempt in a state. The amount is of this one alone: equal ones of unknown outcome would matter."""
    wanted = ROWS[state][5]
    order, owners, now = world.order(amount_cents), world.gateway.records.owners, utc_now()
    earlier = new_attempt(order, Channel.API, state.value, THE_DEFAULT, now)
    owners.running.add(earlier.id)

    def add(writer: Writer) -> None:
        owned = replace(earlier, state=state, owner=owners.own_id(), announced_at=now, ended_at=now - timedelta(days=1))
        writer.add_attempt(owned)
        if state is State.AWAITING_APPROVAL:
            writer.add_approval(Approval(attempt_id=owned.id, bound_sha256=bytes(32), expires_at=SOON))

    world.gateway.records.write(add)
    async with world.http() as client:
        body = order.model_dump(mode="json")
        answer = await client.post("/api/transfers", json=body, headers={"Idempotency-Key": state.value})
    document = answer.json()
    if wanted == "a new decision":
        assert (answer.status_code, document["attempt_id"] == earlier.id) == (200, False)
        return
    assert document["attempt_id"] == earlier.id
    assert answer.headers["Idempotency-Replayed"] == "true"
    assert (answer.status_code == 202) == (state is State.AWAITING_APPROVAL)
    code = f" `{document['code']}`" if "code" in document else ""
    assert wanted == f"{answer.status_code}{code}"
