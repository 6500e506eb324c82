"""Ledger and audit trail of one data directory, as the two halves of one record.

Every method blocks and belongs into a worker thread; each takes the data lock once and gives it back. A change of an
attempt's state is a compare-and-set: it happens only if the attempt is still in the state that it is changed from.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from pysequence_api.errors import LimitExceededError, SafeguardsUnavailableError
from pysequence_api.files import LOCK_TIMEOUT_SECONDS, OWNER_ONLY, locked, read_bytes, replace_atomically
from pysequence_api.safeguards import audit as audit_file
from pysequence_api.safeguards import ledger as ledger_file
from pysequence_api.safeguards.audit import AuditTrail, Event, EventType, Via
from pysequence_api.safeguards.ledger import Entry, Ledger, State
from pysequence_api.safeguards.owner import Owners
from pysequence_api.safeguards.times import Clock, read_time, utc_now
from pysequence_api.sequence.models import Transfer, TransferOrder

LOCK_FILE_NAME = ".lock"
END_LOCK_TIMEOUT_SECONDS = 60.0
"""How long the end of an attempt waits for the data lock: the money has moved, so that giving up early helps nobody."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Attempt:
    """One attempt to transfer, through all files."""

    order: TransferOrder
    via: Via
    attempt_id: str = field(default_factory=lambda: str(uuid4()))
    announced_at: datetime | None = None

    def event(self, event_type: EventType, now: datetime, **more: str | None) -> Event:
        """Make a line of the audit trail about it."""
        return Event(
            timestamp=now,
            event_type=event_type,
            amount_cents=self.order.amount_cents,
            source=self.order.source_id,
            destination=self.order.destination_id,
            attempt_id=self.attempt_id,
            via=self.via,
            **more,
        )

    def requested(self, now: datetime) -> Event:
        """Make the line that begins it."""
        canonical = json.dumps(self.order.model_dump(mode="json"), sort_keys=True).encode()
        return self.event(EventType.REQUESTED, now, request_sha256=hashlib.sha256(canonical).hexdigest())


class Unsettled(BaseModel):
    """An attempt that counts and has not ended."""

    model_config = ConfigDict(frozen=True)

    attempt_id: str | None
    state: State = Field(description="reserved: on its way; unknown: it was sent and nobody knows what became of it")
    amount_cents: int
    source_id: str | None
    destination_id: str | None
    since: datetime | None
    running: bool = Field(description="Whether the process that made it still lives")


class Limits(BaseModel):
    """Both limits, and what is used and left of this UTC day."""

    model_config = ConfigDict(frozen=True)

    max_transfer_cents: int
    max_daily_cents: int
    used_cents: int = Field(description="What counts today, with all that is unsettled")
    remaining_cents: int
    date: date
    unsettled: tuple[Unsettled, ...]


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended, and what was left of the day then."""

    transfer: Transfer | None
    remaining_cents: int


class Records:
    """What was reserved, sent, settled and refused.

    Args:
        directory: the data directory.
        max_transfer_cents: the per-transfer limit.
        max_daily_cents: the daily limit.
        clock: gives the time in UTC.
    """

    def __init__(
        self, directory: Path, *, max_transfer_cents: int, max_daily_cents: int, clock: Clock = utc_now
    ) -> None:
        self.audit = AuditTrail(directory)
        self._max_transfer_cents = max_transfer_cents
        self._max_daily_cents = max_daily_cents
        self._clock = clock
        self._owners = Owners(directory)
        self._lock_path = directory / LOCK_FILE_NAME
        self._ledger_path = directory / ledger_file.FILE_NAME

    def prepare(self) -> None:
        """Make the audit trail if there is none, and both files readable by their owner alone.

        Raises:
            SafeguardsUnavailableError: a file cannot be written, or the ledger cannot be trusted.
        """
        with self._held():
            try:
                self.audit.prepare()
                with suppress(FileNotFoundError):
                    self._ledger_path.chmod(OWNER_ONLY)
            except OSError as error:
                raise _unavailable(f"{error.filename} cannot be written ({error.strerror})") from error
            self._load()

    def limits(self) -> Limits:
        """Say what is used and left today.

        Raises:
            SafeguardsUnavailableError: the ledger cannot be trusted.
        """
        with self._held():
            ledger = self._load()
            today = self._clock().date()
            return Limits(
                max_transfer_cents=self._max_transfer_cents,
                max_daily_cents=self._max_daily_cents,
                used_cents=ledger.used_cents(today),
                remaining_cents=self._remaining_cents(ledger),
                date=today,
                unsettled=tuple(
                    Unsettled(
                        attempt_id=entry.attempt_id,
                        state=entry.state,
                        amount_cents=entry.amount_cents,
                        source_id=entry.source_id,
                        destination_id=entry.destination_id,
                        since=read_time(entry.timestamp),
                        running=self._owners.is_alive(entry.owner),
                    )
                    for _, entry in ledger.entries()
                    if entry.unsettled
                ),
            )

    def check_amount(self, attempt: Attempt) -> None:
        """Hold a transfer against the per-transfer limit.

        Raises:
            LimitExceededError: it is over the limit; the audit trail has a line about it.
        """
        amount_cents = attempt.order.amount_cents
        if amount_cents > self._max_transfer_cents:
            with self._held():
                raise self._reject(
                    attempt,
                    f"Amount {amount_cents} cents exceeds per-transfer limit of {self._max_transfer_cents} cents",
                )

    def reserve(self, attempt: Attempt) -> None:
        """Check what is left of the day and take it, in one atomic replacement of the ledger.

        Raises:
            LimitExceededError: not enough is left; the audit trail has a line about it.
            SafeguardsUnavailableError: the ledger cannot be trusted, or not be written.
        """
        order = attempt.order
        with self._held():
            ledger = self._load()
            now = self._clock()
            remaining_cents = self._remaining_cents(ledger)
            if order.amount_cents > remaining_cents:
                raise self._reject(
                    attempt,
                    f"Amount {order.amount_cents} cents exceeds daily remaining limit of {remaining_cents} cents",
                )
            entry = Entry(
                transfer_id=None,
                amount_cents=order.amount_cents,
                timestamp=now.isoformat(),
                attempt_id=attempt.attempt_id,
                state=State.RESERVED,
                owner=self._owners.own_id(),
                source_id=order.source_id,
                destination_id=order.destination_id,
            )
            ledger.add(now.date(), entry)
            self._save(ledger)

    def announce(self, attempt: Attempt) -> None:
        """Put on disk that the transfer is now sent.

        Raises:
            SafeguardsUnavailableError: it is no longer reserved, or cannot be written. Then nothing may be sent.
        """
        with self._held():
            entry = self._load().find(attempt.attempt_id)
            if entry is None or entry.state is not State.RESERVED:
                raise SafeguardsUnavailableError(
                    "The reservation was taken back before the transfer was sent. Ask again."
                )
            now = self._clock()
            try:
                self.audit.append(attempt.requested(now))
            except OSError as error:
                raise _unavailable(f"{audit_file.FILE_NAME} cannot be written ({error.strerror})") from error
            attempt.announced_at = now

    def withdraw(self, attempt: Attempt) -> None:
        """Take back a reservation that was not announced because the audit trail could not be written."""
        with self._held():
            ledger = self._load()
            ledger.remove(attempt.attempt_id)
            self._save(ledger)

    def release(self, attempt: Attempt, error: str) -> None:
        """End an attempt that certainly moved nothing. It counts no longer."""
        with self._held(END_LOCK_TIMEOUT_SECONDS):
            failed = attempt.event(EventType.FAILED, self._clock(), error=error, outcome="failed")
            # What failed before it was announced (no token, no turn) begins and ends in one write.
            events = [failed] if attempt.announced_at else [attempt.requested(failed.timestamp), failed]
            self._end(attempt, events, lambda ledger, _: ledger.remove(attempt.attempt_id))

    def doubt(self, attempt: Attempt, error: str) -> None:
        """End an attempt of which nobody knows what became of it. It keeps counting."""
        with self._held(END_LOCK_TIMEOUT_SECONDS):
            failed = attempt.event(EventType.FAILED, self._clock(), error=error, outcome="unknown")
            self._end(attempt, [failed], lambda _, entry: setattr(entry, "state", State.UNKNOWN))

    def settle(
        self, attempt: Attempt, candidates: Sequence[Transfer], *, organization_id: str | None, last: bool, prune: bool
    ) -> End | None:
        """End an attempt that Sequence took, under the oldest transfer that no other attempt has.

        Args:
            attempt: the attempt.
            candidates: the transfers that could be it, oldest first.
            organization_id: where to look for it later, if it is not among them.
            last: end it without an id, if none of them is free.
            prune: drop what is older than two days; only for a clock that is known to be right.

        Returns:
            How it ended; ``None`` if none was free and it has not ended.
        """
        with self._held(END_LOCK_TIMEOUT_SECONDS):
            now = self._clock()
            transfer = self._claim(candidates)
            if transfer is None and not last:
                return None

            def change(ledger: Ledger, entry: Entry) -> None:
                entry.state = State.SETTLED
                entry.transfer_id = transfer.id if transfer else None
                entry.settled_at = now.isoformat()
                entry.organization_id = organization_id
                if prune:
                    ledger.prune(now.date())

            event = attempt.event(EventType.COMPLETED, now, transfer_id=transfer.id if transfer else None)
            self._end(attempt, [event], change)
            return End(transfer, self._remaining_cents_if_known())

    def unidentified(self) -> list[Entry]:
        """List what Sequence took under an id that is not known yet."""
        with self._held():
            return [
                entry
                for _, entry in self._load().entries()
                if entry.attempt_id and not entry.unsettled and entry.transfer_id is None
            ]

    def identify(self, attempt_id: str, candidates: Sequence[Transfer]) -> Transfer | None:
        """Give a settled attempt the id of its transfer, found later.

        Returns:
            The transfer; ``None`` if none of the candidates is free, or another process was first.
        """
        with self._held():
            transfer = self._claim(candidates)
            ledger = self._load()
            entry = ledger.find(attempt_id)
            if transfer is None or entry is None or entry.unsettled or entry.transfer_id is not None:
                return None
            entry.transfer_id = transfer.id
            self._save(ledger)
            self.audit.append(
                Event(
                    timestamp=self._clock(),
                    event_type=EventType.IDENTIFIED,
                    amount_cents=entry.amount_cents,
                    source=entry.source_id or "",
                    destination=entry.destination_id or "",
                    attempt_id=attempt_id,
                    transfer_id=transfer.id,
                )
            )
            return transfer

    def close(self) -> None:
        """Give up this process's place among the owners."""
        with self._held():
            self._owners.close()

    @contextmanager
    def _held(self, timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self._lock_path, timeout_seconds))
            except OSError as error:
                raise _unavailable(f"{self._lock_path} cannot be locked ({error.strerror})") from error
            yield

    def _load(self) -> Ledger:
        try:
            content = read_bytes(self._ledger_path)
        except OSError as error:
            raise _unavailable(f"{ledger_file.FILE_NAME} cannot be read ({error.strerror})") from error
        if content is None and self.audit.has_attempts_since(self._clock() - timedelta(days=ledger_file.KEPT_DAYS)):
            raise _unavailable(
                f"{ledger_file.FILE_NAME} is missing, but {audit_file.FILE_NAME} shows transfers. Put a copy of it back"
            )
        return Ledger.parse(content)

    def _save(self, ledger: Ledger) -> None:
        try:
            replace_atomically(self._ledger_path, ledger.dump())
        except OSError as error:
            raise _unavailable(f"{ledger_file.FILE_NAME} cannot be written ({error.strerror})") from error

    def _claim(self, candidates: Sequence[Transfer]) -> Transfer | None:
        try:
            claimed = self._load().claimed()
        except SafeguardsUnavailableError:
            return None  # whose they are cannot be told
        return next((candidate for candidate in candidates if candidate.id not in claimed), None)

    def _end(self, attempt: Attempt, events: Sequence[Event], change: Callable[[Ledger, Entry], object]) -> None:
        """Change the ledger, then write the trail. What cannot be recorded stays unsettled, and so keeps counting."""
        try:
            ledger = self._load()
            entry = ledger.find(attempt.attempt_id)
            if entry is not None and not entry.unsettled:
                return  # ended already, with a line of its own
            if entry is None:
                raise _unavailable(f"{ledger_file.FILE_NAME} lacks attempt {attempt.attempt_id}")
            unsettled = entry.model_copy(update={"state": State.UNKNOWN})
            change(ledger, entry)
            self._save(ledger)
        except SafeguardsUnavailableError as error:
            log.critical("attempt %s has ended, but stays unsettled: %s", attempt.attempt_id, error)
            unsettled = None
        try:
            self.audit.append(*events)
        except OSError as error:
            _log_unwritten(events, error)
            if unsettled is not None:
                self._put_back(attempt, unsettled)

    def _put_back(self, attempt: Attempt, entry: Entry) -> None:
        try:
            ledger = self._load()
            ledger.remove(attempt.attempt_id)
            ledger.add((read_time(entry.timestamp) or self._clock()).date(), entry)
            self._save(ledger)
        except SafeguardsUnavailableError as error:
            log.critical("attempt %s could not be kept unsettled: %s", attempt.attempt_id, error)

    def _reject(self, attempt: Attempt, message: str) -> LimitExceededError:
        event = attempt.event(EventType.REJECTED, self._clock(), error=message).model_copy(update={"attempt_id": None})
        try:
            self.audit.append(event)
        except OSError as error:
            _log_unwritten([event], error)
        return LimitExceededError(message)

    def _remaining_cents_if_known(self) -> int:
        try:
            return self._remaining_cents(self._load())
        except SafeguardsUnavailableError:
            return 0  # nothing more can be transferred

    def _remaining_cents(self, ledger: Ledger) -> int:
        return max(0, self._max_daily_cents - ledger.used_cents(self._clock().date()))


def _unavailable(why: str) -> SafeguardsUnavailableError:
    return SafeguardsUnavailableError(f"No transfer is possible: {why}. Reads go on.")


def _log_unwritten(events: Sequence[Event], error: OSError) -> None:
    for event in events:
        log.critical(
            "%s cannot be written (%s): %s", audit_file.FILE_NAME, error.strerror, event.line().decode().strip()
        )
