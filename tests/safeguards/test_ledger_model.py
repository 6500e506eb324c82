"""Random transfers, outcomes, days and restarts, held against a model that knows nothing of files."""

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from uuid import uuid4

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, consumes, invariant, multiple, rule

from pysequence_api.errors import LimitExceededError
from pysequence_api.models import Party, Transfer
from pysequence_api.records.ledger import FILE_NAME, Ledger
from pysequence_api.safeguards.reservations import Attempt, Records

from .conftest import MAX_DAILY_CENTS, MAX_TRANSFER_CENTS, SetClock, attempt_of, open_records


@dataclass
class Modelled:
    """What the model remembers of an attempt: it may have run on any day from the first to the last."""

    amount_cents: int
    first_day: date
    last_day: date | None = None
    announced: bool = False
    unknown: bool = False

    def may_have_run_on(self, day: date) -> bool:
        return self.announced and self.first_day <= day and (self.last_day is None or day <= self.last_day)

    def counts_on(self, day: date) -> bool:
        return self.last_day is None or self.last_day >= day


Taken = tuple[Records, Attempt]


class LedgerMachine(RuleBasedStateMachine):
    """Two processes on one data directory, time that goes on, and every way for an attempt to end."""

    attempts: Bundle[tuple[Records, Attempt]] = Bundle("attempts")
    sent: Bundle[tuple[Records, Attempt]] = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = SetClock()
        self.processes = [self.open(), self.open()]
        self.model: dict[str, Modelled] = {}
        self.rejected = 0
        self.days = {self.today}

    def open(self) -> Records:
        return open_records(Path(self.folder.name), self.clock)

    @property
    def today(self) -> date:
        return self.clock.now.date()

    def used_cents(self) -> int:
        return sum(one.amount_cents for one in self.model.values() if one.counts_on(self.today))

    @rule(
        target=attempts,
        amount_cents=st.integers(1, MAX_TRANSFER_CENTS) | st.sampled_from([1, 500_000, MAX_TRANSFER_CENTS]),
        process=st.integers(0, 1),
        prune=st.booleans(),
    )
    def reserve(self, amount_cents: int, process: int, prune: bool) -> MultipleResults[Taken] | Taken:
        records, attempt = self.processes[process], attempt_of(amount_cents, key=str(uuid4()))
        fits = self.used_cents() + amount_cents <= MAX_DAILY_CENTS
        try:
            records.reserve(attempt, prune=prune)
        except LimitExceededError as error:
            left = MAX_DAILY_CENTS - self.used_cents()
            message = f"Amount {amount_cents} cents exceeds daily remaining limit of {left} cents"
            assert (fits, str(error)) == (False, message)  # noqa: PT017
            self.rejected += 1
            return multiple()
        assert fits
        self.model[attempt.attempt_id] = Modelled(amount_cents, self.today)
        return records, attempt

    @rule(target=sent, taken=consumes(attempts))
    def announce(self, taken: tuple[Records, Attempt]) -> tuple[Records, Attempt]:
        records, attempt = taken
        records.announce(attempt)
        self.model[attempt.attempt_id].announced = True
        return taken

    @rule(taken=consumes(attempts) | consumes(sent))
    def fail_for_certain(self, taken: tuple[Records, Attempt]) -> None:
        records, attempt = taken
        records.release(attempt, "no connection", refused=False)
        del self.model[attempt.attempt_id]

    @rule(taken=consumes(sent))
    def lose(self, taken: tuple[Records, Attempt]) -> None:
        records, attempt = taken
        records.doubt(attempt, "timed out")
        self.model[attempt.attempt_id].unknown = True

    @rule(taken=consumes(sent), identified=st.booleans())
    def settle(self, taken: tuple[Records, Attempt], identified: bool) -> None:
        records, attempt = taken
        transfer = Transfer(id=f"transfer-of-{attempt.attempt_id}", amount_cents=1, source=Party(), destination=Party())
        end = records.settle(attempt, [transfer] * identified, organization_id=None, last=True)
        self.model[attempt.attempt_id].last_day = self.today
        assert end is not None
        assert (end.id is not None) == identified
        assert end.daily_remaining_cents == MAX_DAILY_CENTS - self.used_cents()

    @rule(process=st.integers(0, 1))
    def restart(self, process: int) -> None:
        self.processes[process] = self.open()

    @rule(seconds=st.integers(1, 20 * 3600))
    def pass_time(self, seconds: int) -> None:
        self.clock.advance(seconds=seconds)
        self.days.add(self.today)

    @rule()
    def come_close_to_midnight(self) -> None:
        tomorrow = self.clock.now + timedelta(days=1)
        self.clock.now = tomorrow.replace(hour=0, minute=0, second=0) - timedelta(seconds=1)
        self.days.add(self.today)

    @invariant()
    def counts_what_the_model_counts(self) -> None:
        for records in self.processes:
            limits = records.limits()
            assert limits.used_cents == self.used_cents()
            assert {one.attempt_id for one in limits.unsettled} == {
                attempt_id for attempt_id, one in self.model.items() if one.last_day is None
            }

    @invariant()
    def what_is_remembered_is_what_stands_in_the_file(self) -> None:
        path = Path(self.folder.name) / FILE_NAME
        if path.exists():
            content = path.read_bytes()
            read = Ledger.parse(content)
            assert read.dump() == content
            assert all(list(records.store.load().records()) == list(read.records()) for records in self.processes)

    @invariant()
    def no_day_can_have_moved_more_than_the_limit(self) -> None:
        for day in self.days:
            moved = sum(one.amount_cents for one in self.model.values() if one.may_have_run_on(day))
            assert moved <= MAX_DAILY_CENTS

    @invariant()
    def every_attempt_has_one_beginning_and_one_end(self) -> None:
        path = Path(self.folder.name) / ".audit.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        seen: dict[str, list[str]] = {}
        for line in lines:
            if line["event_type"] != "transfer_rejected":
                seen.setdefault(line["attempt_id"], []).append(line["event_type"])
        assert Counter(line["event_type"] for line in lines)["transfer_rejected"] == self.rejected
        for attempt_id, events in seen.items():
            one = self.model.get(attempt_id)
            running = one is not None and one.last_day is None and not one.unknown
            assert events[0] == "transfer_requested"
            assert events[1:] in ([[]] if running else [["transfer_completed"], ["transfer_failed"]])

    def teardown(self) -> None:
        self.folder.cleanup()


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
