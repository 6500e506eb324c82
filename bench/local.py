"""What a transfer costs in the records, compared with bare appends and syncs on the same disk.

All are measured in turn, so that a busy moment of the machine slows all of them down.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter

from bench import trail
from bench.table import Row, in_turn
from pysequence_api.clock import utc_now
from pysequence_api.files import OWNER_ONLY
from pysequence_api.models import TransferOrder
from pysequence_api.records import open_records
from pysequence_api.records.attempts import Attempt, Writer
from pysequence_api.records.audit import FIRST_HASH, Channel, Event, EventType, hash_of
from pysequence_api.records.callers import THE_DEFAULT
from pysequence_api.records.database import Database
from pysequence_api.records.states import State
from pysequence_api.safeguards import decide
from pysequence_api.safeguards.decide import accept_attempt
from pysequence_api.safeguards.now import MaxCents
from pysequence_api.safeguards.transfers import new_attempt

ROUNDS = 200
WARM_UP_ROUNDS = 10
MAX_TIMES_APPENDS = 4.0
MAX_TIMES_EMPTY = 1.5
LIMITS = MaxCents(per_transfer=10**9, per_day=10**12)
LINES_PER_ATTEMPT = 2


def measure(directory: Path, entries: int, lines: int, rounds: int) -> Iterator[Row]:
    """Measure transfers, and the audit trail.

    Args:
        directory: gets a data directory for each measurement.
        entries: number of transfers today in one of them.
        lines: number of audit lines of earlier days in another one.
        rounds: how often the audit trail is read.
    """
    with ExitStack() as stack:
        empty = stack.enter_context(_opened(directory / "empty"))
        today = stack.enter_context(_opened(directory / "today", entries))
        history = stack.enter_context(_opened(directory / "history", lines // LINES_PER_ATTEMPT, timedelta(days=40)))
        append = stack.enter_context(_appending(directory / "appends", _lines_of(empty, transfer(empty))))
        appends_ms, empty_ms, today_ms, history_ms = _medians_ms(
            append, lambda: transfer(empty), lambda: transfer(today), lambda: transfer(history)
        )
    appends = "three appends of its events, each with a sync, median time"
    transfers = "a transfer in an empty directory, median time"
    for name, how, taken_ms, base_ms, at_most in (
        ("local cost of a transfer", appends, empty_ms, appends_ms, MAX_TIMES_APPENDS),
        (f"after {entries:,} transfers today", transfers, today_ms, empty_ms, MAX_TIMES_EMPTY),
        (f"after {lines:,} audit lines", transfers, history_ms, empty_ms, MAX_TIMES_EMPTY),
    ):
        yield Row(name, how, f"{taken_ms:.3f} ms", f"{base_ms:.3f} ms", taken_ms / base_ms, at_most)
    yield from trail.measure(directory / "history", directory / "empty", lines, rounds)


def _medians_ms(*runs: Callable[[], object]) -> list[float]:
    def timed(run: Callable[[], object]) -> Callable[[], float]:
        def measure_ms() -> float:
            begin_seconds = perf_counter()
            run()
            return (perf_counter() - begin_seconds) * 1000

        return measure_ms

    measurements = [timed(run) for run in runs]
    in_turn(WARM_UP_ROUNDS, *measurements)
    return in_turn(ROUNDS, *measurements, pick=median)


def transfer(records: Database) -> Attempt:
    """Run the three transactions of a transfer, as the transfer service does."""
    owners = records.owners
    attempt = replace(_new_attempt(utc_now(), os.urandom(16).hex()), owner=owners.own_id())
    owners.running.add(attempt.id)
    reserved = records.write(lambda writer: decide.reserve(writer, owners, attempt, LIMITS))
    assert isinstance(reserved, Attempt), reserved
    announced = records.write(lambda writer: decide.announce(writer, owners, reserved, LIMITS), needs_trail=True)
    assert isinstance(announced, Attempt), announced
    ended = records.write(lambda writer: accept_attempt(writer, announced, None))
    owners.running.discard(attempt.id)
    return ended


def _new_attempt(now: datetime, key: str | None = None) -> Attempt:
    order = TransferOrder(source_id="pod_source", destination_id="pod_destination", amount_cents=1, kyc_id="kyc_1")
    return new_attempt(order, Channel.API, key, THE_DEFAULT, now)


def _lines_of(records: Database, attempt: Attempt) -> list[bytes]:
    requested, completed = records.read(lambda reader: reader.events_of(attempt.id))
    return [requested, requested, completed]  # reserving has no event of its own


@contextmanager
def _appending(path: Path, lines: list[bytes]) -> Iterator[Callable[[], None]]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, OWNER_ONLY)

    def append() -> None:
        for line in lines:
            os.write(descriptor, line + b"\n")
            os.fsync(descriptor)

    try:
        yield append
    finally:
        os.close(descriptor)


@contextmanager
def _opened(directory: Path, attempts: int = 0, age: timedelta = timedelta()) -> Iterator[Database]:
    """Open records that hold so many accepted attempts of that age."""
    filling = open_records(directory)
    filling.write(lambda writer: fill(writer, attempts, age))
    filling.write(lambda writer: writer.now)  # completes the audit trail
    filling.sync_trail()
    filling.close()  # which empties the log of the database
    records = open_records(directory)
    try:
        yield records
    finally:
        records.close()


def fill(writer: Writer, attempts: int, age: timedelta) -> None:
    """Add so many accepted attempts of that age, with their events."""
    at, prev = writer.now - age, FIRST_HASH
    for _ in range(attempts):
        attempt = replace(_new_attempt(at), state=State.ACCEPTED, announced_at=at, ended_at=at)
        writer.add_attempt(attempt)
        for event in (decide.requested(attempt, at), attempt.event(EventType.COMPLETED, at)):
            prev = _add(writer, event, prev)


def _add(writer: Writer, event: Event, prev: str) -> str:
    line = event.line(prev)
    writer.add_line(line, event.timestamp, event.event_type, event.attempt_id, event.caller)
    return hash_of(line)
