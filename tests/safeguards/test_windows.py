"""Which attempts count in which window, compared with a plain reference."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pysequence_api.records import open_records
from pysequence_api.records.attempts import Attempt, Writer
from pysequence_api.records.states import State

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


@settings(max_examples=50, deadline=None)
@given(data=st.data(), seconds=SECONDS)
def test_a_window_counts_what_may_have_run_in_it(data: st.DataObject, seconds: int) -> None:
    drawn = [data.draw(attempts(number)) for number in range(data.draw(st.integers(0, 12)))]
    window_start = NOON + timedelta(seconds=seconds)
    with tempfile.TemporaryDirectory() as directory:
        records = open_records(Path(directory), clock=lambda: NOON)

        def add(writer: Writer) -> None:
            for attempt in drawn:
                writer.add_attempt(attempt)

        records.write(add)
        used_cents = records.read(lambda reader: reader.used_cents(window_start))
        records.close()
    assert used_cents == sum(one.amount_cents for one in drawn if counts(one, window_start))
