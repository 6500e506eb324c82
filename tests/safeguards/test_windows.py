"""Which attempts count in which window, compared with a plain reference."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pysequence_api.records import open_records
from pysequence_api.records.attempts import Attempt, Writer
from pysequence_api.records.database import Database
from pysequence_api.records.states import RULES, State
from pysequence_api.safeguards.policy import Pairs
from pysequence_api.safeguards.replay import InMemoryHistory
from tests.safeguards.plain_judge import CALLERS, PlainHistory, times
from tests.safeguards.plain_judge import attempts as plain_attempts

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MARGIN = timedelta(minutes=2)
SECONDS = st.integers(-3 * 86_400, 86_400)
STATES = [state for state in State if state not in {State.SENDING, State.UNKNOWN}]


@st.composite
def attempts(draw: st.DrawFn, number: int) -> Attempt:
    state = draw(st.sampled_from(list(State)))
    announced = NOON + timedelta(seconds=draw(SECONDS))
    ended = None
    if state not in {State.RESERVED, State.SENDING, State.UNKNOWN, State.AWAITING_APPROVAL}:
        ended = announced + timedelta(seconds=draw(st.integers(0, 86_400)))
    created = announced + timedelta(seconds=draw(st.integers(-120, 120))) if draw(st.booleans()) else None
    return Attempt(
        id=str(number),
        caller="default",
        channel="api",
        state=state,
        amount_cents=draw(st.integers(1, 1_000_000)),
        created_at=announced,
        announced_at=announced,
        ended_at=ended,
        upstream_created_at=created if ended is not None else None,
    )


def counts(attempt: Attempt, window_start: datetime) -> bool:
    """Say in plain words whether an attempt counts in a window that began then and has not ended."""
    if attempt.state in {State.RESERVED, State.SENDING, State.UNKNOWN}:
        return True
    if attempt.state not in {State.ACCEPTED, State.ARRIVED, State.RETURNED}:
        return False
    newest = attempt.upstream_created_at or attempt.ended_at
    assert newest is not None
    return newest + MARGIN >= window_start


def add_all(records: Database, drawn: list[Attempt]) -> None:
    def add(writer: Writer) -> None:
        for attempt in drawn:
            writer.add_attempt(attempt)

    records.write(add)


@settings(max_examples=settings().max_examples // 2)
@given(data=st.data(), seconds=SECONDS)
def test_a_window_counts_what_may_have_run_in_it(data: st.DataObject, seconds: int) -> None:
    drawn = [data.draw(attempts(number)) for number in range(data.draw(st.integers(0, 12)))]
    window_start = NOON + timedelta(seconds=seconds)
    with tempfile.TemporaryDirectory() as directory:
        records = open_records(Path(directory), clock=lambda: NOON)
        add_all(records, drawn)
        used_cents = records.read(lambda reader: reader.used_cents(window_start))
        records.close()
    assert used_cents == sum(one.amount_cents for one in drawn if counts(one, window_start))


@settings(max_examples=settings().max_examples // 2)
@given(data=st.data(), now=times)
def test_the_database_counts_as_the_history_in_memory_does(data: st.DataObject, now: datetime) -> None:
    drawn = data.draw(plain_attempts(now))
    ids = st.sampled_from(["1", "2", "3", "4"])
    pairs = st.none() | st.builds(Pairs, st.frozensets(st.tuples(ids, ids)), st.frozensets(ids))
    asked = data.draw(st.lists(st.tuples(st.sampled_from([None, *CALLERS]), pairs, times, st.booleans()), min_size=1))
    in_memory = InMemoryHistory()
    for attempt in drawn:
        if RULES[attempt.state].counts:
            in_memory.add(attempt)
    in_memory.advance(now + timedelta(days=99))
    with tempfile.TemporaryDirectory() as directory:
        records = open_records(Path(directory), clock=lambda: now)
        add_all(records, drawn)
        for caller, some, since, returned in asked:
            expected = in_memory.used(caller, some, since, returned=returned)
            found = records.read(lambda reader: reader.used(caller, some, since, returned=returned))  # noqa: B023
            assert found == expected == PlainHistory(drawn).used(caller, some, since, returned=returned)
        records.close()
