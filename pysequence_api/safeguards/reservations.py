"""What was reserved, sent, settled and refused: ledger and audit trail as the two halves of one record.

Every method blocks and belongs into a worker thread; each takes the data lock once and gives it back. A change of an
attempt's state is a compare-and-set: it happens only if the attempt is still in the state that it is changed from.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, computed_field

from pysequence_api.clock import Clock, read_time, utc_now
from pysequence_api.errors import (
    GatewayError,
    KeyReusedError,
    LimitExceededError,
    NotExecutedError,
    OutcomeUnknownError,
    RefusedError,
    SafeguardsUnavailableError,
    TransferPendingError,
)
from pysequence_api.models import Moment, Party, Transfer, TransferOrder
from pysequence_api.money import format_cents
from pysequence_api.records.audit import AuditTrail, Channel, Event, EventType
from pysequence_api.records.ledger import FILE_NAME, Ended, Entry, Ledger, Outcome, State
from pysequence_api.records.lines import write_missing_lines
from pysequence_api.records.repair import rebuilt
from pysequence_api.records.store import Store, log_unwritten, unavailable

END_LOCK_TIMEOUT_SECONDS = 60.0
"""How long the end of an attempt waits for the data lock: the money has moved, so that giving up early helps nobody."""
IN_FLIGHT_RETRY_SECONDS = 5
MAX_KEY_CHARACTERS = 255
"""How long an idempotency key may be: visible ASCII characters, without spaces."""

log = logging.getLogger(__name__)


class CompletedTransfer(BaseModel):
    """A transfer that Sequence took."""

    model_config = ConfigDict(frozen=True)

    id: str | None = Field(description="Null if Sequence does not show it yet; the audit trail gets it later")
    status: str | None
    amount_cents: int
    source: Party
    destination: Party
    created_at: Moment | None
    attempt_id: str
    daily_remaining_cents: int = Field(description="What is left of the daily limit, in cents")
    replayed: bool = Field(default=False, exclude=True)

    @computed_field(description="Amount for people")  # type: ignore[prop-decorator]
    @property
    def amount(self) -> str:
        """The amount for people."""
        return format_cents(self.amount_cents)


@dataclass(slots=True)
class Attempt:
    """One attempt to transfer, through all files.

    Attributes:
        key: the caller's idempotency key, of which only the hash is ever stored.
    """

    order: TransferOrder
    via: Channel
    key: str | None = None
    attempt_id: str = field(default_factory=lambda: str(uuid4()))
    announced_at: datetime | None = None

    @property
    def request_sha256(self) -> str:
        """What makes two requests equal: everything of the order, with ids resolved and defaults filled in."""
        canonical = json.dumps(self.order.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def key_sha256(self) -> str | None:
        """What is stored of the key."""
        return None if self.key is None else hashlib.sha256(self.key.encode()).hexdigest()

    def event(self, event_type: EventType, now: datetime, **more: Any) -> Event:
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
        hashes = {"request_sha256": self.request_sha256, "key_sha256": self.key_sha256}
        return self.event(EventType.REQUESTED, now, description=self.order.description or None, **hashes)

    def reservation(self, now: datetime, owner: str, audit_head: str | None) -> Entry:
        """Make the ledger's entry."""
        optional = {
            "description": self.order.description or None,
            "key_sha256": self.key_sha256,
            "audit_head": audit_head,
        }
        return Entry(
            transfer_id=None,
            amount_cents=self.order.amount_cents,
            timestamp=now.isoformat(),
            attempt_id=self.attempt_id,
            state=State.RESERVED,
            owner=owner,
            source_id=self.order.source_id,
            destination_id=self.order.destination_id,
            via=self.via.value,
            request_sha256=self.request_sha256,
            **{name: value for name, value in optional.items() if value is not None},
        )


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
    reason: str | None = Field(description="Why it has not ended")


class Limits(BaseModel):
    """Both limits, and what is used and left of this UTC day."""

    model_config = ConfigDict(frozen=True)

    max_transfer_cents: int
    max_daily_cents: int
    used_cents: int = Field(description="What counts today, with all that is unsettled")
    remaining_cents: int
    date: date
    unsettled: tuple[Unsettled, ...]
    audit_head: str | None = Field(description="The hash of the newest line of the audit trail; note it elsewhere")


class Records:
    """Reserves, announces and ends attempts.

    Args:
        directory: the data directory.
        max_transfer_cents: the per-transfer limit.
        max_daily_cents: the daily limit.
        clock: gives the time in UTC.
    """

    def __init__(
        self, directory: Path, *, max_transfer_cents: int, max_daily_cents: int, clock: Clock = utc_now
    ) -> None:
        self.store = Store(directory, clock)
        self._max_transfer_cents = max_transfer_cents
        self._max_daily_cents = max_daily_cents
        self._pruned_on: date | None = None

    @property
    def audit(self) -> AuditTrail:
        """The audit trail."""
        return self.store.audit

    def limits(self) -> Limits:
        """Say what is used and left today.

        Raises:
            SafeguardsUnavailableError: the ledger cannot be trusted.
        """
        with self.store.held():
            ledger = self.store.load()
            now = self.store.clock()
            head = self.store.head()
            used_cents = ledger.used_cents(now)
            return Limits(
                max_transfer_cents=self._max_transfer_cents,
                max_daily_cents=self._max_daily_cents,
                used_cents=used_cents,
                remaining_cents=max(0, self._max_daily_cents - used_cents),
                date=now.date(),
                unsettled=tuple(self._unsettled(entry) for _, entry in ledger.entries() if entry.unsettled),
                audit_head=head.sha256 if head.count else None,
            )

    def reserve(
        self, attempt: Attempt, margin: timedelta = timedelta(), *, prune: bool = False
    ) -> CompletedTransfer | None:
        """Check both limits and take what the transfer needs, in one atomic replacement of the ledger.

        Args:
            attempt: the attempt.
            margin: how far Sequence's clock may be from ours.
            prune: drop what ended more than two days ago, once a day; only for a clock that is known to be right.

        Returns:
            The answer to an earlier request with the same idempotency key; then nothing is reserved.

        Raises:
            LimitExceededError: the amount is over a limit; the audit trail has a line about it.
            TransferPendingError: one with the same key is under way, or an equal one's outcome is unknown.
            KeyReusedError: the key belongs to another transfer.
            SequenceError: what became of the earlier request with the same key.
            SafeguardsUnavailableError: the files cannot be trusted, or not be written.
        """
        with self.store.held():
            ledger = self.store.load()
            if (answer := self._recall(ledger, attempt)) is not None:
                return answer
            now = self.store.clock()
            self._check_limits(ledger, attempt, now, margin)
            head = self.store.head()
            try:
                owner = self.store.owners.own_id()
            except OSError as error:
                raise unavailable(f"{error.filename} cannot be written ({error.strerror})") from error
            if prune and now.date() != self._pruned_on:
                write_missing_lines(self.store, ledger)  # of what is dropped, nobody could write them any more
                ledger.prune(now.date())
                self._pruned_on = now.date()
            ledger.add(now.date(), attempt.reservation(now, owner, head.sha256 if head.count else None))
            self.store.owners.running.add(attempt.attempt_id)
            self.store.save(ledger)
            return None

    def rehearse(self, attempt: Attempt, margin: timedelta = timedelta()) -> CompletedTransfer | None:
        """Do what `reserve` does, and write nothing: neither a reservation nor a line about a refusal.

        Args:
            attempt: the attempt.
            margin: how far Sequence's clock may be from ours.

        Returns:
            The answer to an earlier request with the same idempotency key.

        Raises:
            GatewayError: as `reserve` does.
        """
        with self.store.held():
            ledger = self.store.load()
            answer = self._recall(ledger, attempt)
            if answer is None and (problem := self._over_limit(ledger, attempt, margin)) is not None:
                raise LimitExceededError(problem)
            return answer

    def announce(self, attempt: Attempt) -> None:
        """Put on disk that the transfer is now sent.

        Raises:
            SafeguardsUnavailableError: it is no longer reserved, or cannot be written. Then nothing may be sent.
        """
        with self.store.held():
            entry = self.store.load().find(attempt.attempt_id)
            if entry is None or entry.state is not State.RESERVED:
                raise SafeguardsUnavailableError("The reservation was taken back before it was sent. Ask again.")
            now = self.store.clock()
            self.store.append(attempt.requested(now))
            attempt.announced_at = now

    def withdraw(self, attempt: Attempt) -> None:
        """Take back a reservation, if there is one, that could not be announced because a file could not be written.

        It is remembered: if the announcement is on the disk after all, its end is written when that is possible again.
        """
        with self.store.held():
            ledger = self.store.load()
            if ledger.find(attempt.attempt_id) is not None:
                ledger.release(attempt.attempt_id, Outcome.FAILED, self.store.clock(), "it could not be recorded")
                self.store.save(ledger)

    def release(self, attempt: Attempt, error: str, *, refused: bool) -> None:
        """End an attempt that certainly moved nothing. It counts no longer.

        Args:
            attempt: the attempt.
            error: why it failed.
            refused: Sequence refused it, so that its idempotency key stays taken.
        """

        def change(ledger: Ledger, _: Entry) -> None:
            ledger.release(attempt.attempt_id, outcome, now, error)

        outcome = Outcome.REFUSED if refused else Outcome.FAILED
        with self.store.held(END_LOCK_TIMEOUT_SECONDS):
            now = self.store.clock()
            failed = attempt.event(EventType.FAILED, now, error=error, outcome=outcome.value)
            # What failed before it was announced (no token, no turn) begins and ends in one write.
            events = [failed] if attempt.announced_at else [attempt.requested(now), failed]
            self._end(attempt, events, change)

    def doubt(self, attempt: Attempt, error: str) -> None:
        """End an attempt of which nobody knows what became of it. It keeps counting."""

        def change(ledger: Ledger, entry: Entry) -> None:
            ledger.replace(entry.changed(state=State.UNKNOWN, error=error))

        with self.store.held(END_LOCK_TIMEOUT_SECONDS):
            failed = attempt.event(EventType.FAILED, self.store.clock(), error=error, outcome=State.UNKNOWN.value)
            self._end(attempt, [failed], change)

    def settle(
        self, attempt: Attempt, candidates: Sequence[Transfer], *, organization_id: str | None, last: bool
    ) -> CompletedTransfer | None:
        """End an attempt that Sequence took, under the oldest transfer that no other attempt has.

        Args:
            attempt: the attempt.
            candidates: the transfers that could be it, oldest first.
            organization_id: where to look for it later, if it is not among them.
            last: end it without an id, if none of them is free.

        Returns:
            The answer for the caller; ``None`` if none was free and it has not ended.
        """
        with self.store.held(END_LOCK_TIMEOUT_SECONDS):
            now = self.store.clock()
            try:
                claimed = self.store.load().claimed()
                transfer = next((one for one in candidates if one.id not in claimed), None)
            except SafeguardsUnavailableError:
                transfer = None  # whose they are cannot be told
            if transfer is None and not last:
                return None
            answer = attempt_answer(attempt, transfer)

            def change(ledger: Ledger, entry: Entry) -> None:
                nonlocal answer
                answer = answer.model_copy(update={"daily_remaining_cents": self._remaining_cents(ledger)})
                kept = {} if attempt.key is None else {"answer": answer.model_dump(mode="json")}
                transfer_id = transfer.id if transfer else None
                ledger.replace(settled_entry(entry, transfer_id, now, organization_id=organization_id, **kept))

            event = attempt.event(EventType.COMPLETED, now, transfer_id=transfer.id if transfer else None)
            self._end(attempt, [event], change)
            return answer

    def let_go(self, attempt: Attempt) -> None:
        """Say that this process is not at an attempt any more, whether its end could be recorded or not."""
        self.store.owners.running.discard(attempt.attempt_id)

    def close(self) -> None:
        """Give up this process's place among the owners."""
        with self.store.held():
            self.store.owners.close()

    def _check_limits(self, ledger: Ledger, attempt: Attempt, now: datetime, margin: timedelta) -> None:
        message = self._over_limit(ledger, attempt, margin)
        if message is None:
            return
        rejected = attempt.event(EventType.REJECTED, now, error=message).model_copy(update={"attempt_id": None})
        try:
            self.store.append(rejected)
        except SafeguardsUnavailableError as error:
            log_unwritten([rejected], error)
        raise LimitExceededError(message)

    def _over_limit(self, ledger: Ledger, attempt: Attempt, margin: timedelta) -> str | None:
        amount_cents, remaining_cents = attempt.order.amount_cents, self._remaining_cents(ledger, margin)
        if amount_cents > self._max_transfer_cents:
            return f"Amount {amount_cents} cents exceeds per-transfer limit of {self._max_transfer_cents} cents"
        if amount_cents > remaining_cents:
            return f"Amount {amount_cents} cents exceeds daily remaining limit of {remaining_cents} cents"
        return None

    def _recall(self, ledger: Ledger, attempt: Attempt) -> CompletedTransfer | None:
        if attempt.key is None:
            equal = (one for _, one in ledger.entries() if one.request_sha256 == attempt.request_sha256)
            for entry in equal:
                if entry.unsettled and not self._in_flight(entry):
                    raise TransferPendingError(
                        "The outcome of an equal transfer (same accounts, amount and details) is unknown, so that this"
                        " could be the same one again. Find out first what became of it. Only where a person says that"
                        " a second one is meant, send it with an idempotency key of its own.",
                        attempt_id=entry.attempt_id,
                    )
            return None
        record = _taking(attempt.key_sha256, ledger.records()) or self._of_old(attempt.key_sha256)
        if record is None:
            return None
        if record.request_sha256 != attempt.request_sha256:
            raise KeyReusedError("This idempotency key was used for another transfer. Use a new one for this.")
        return self._replay(ledger, record)

    def _of_old(self, key_sha256: str | None) -> Entry | Ended | None:
        """Find what has a key in the audit trail, which remembers it longer than the ledger."""
        trail = self.store.audit
        ids = {line.attempt_id for line in trail.lines_holding(key_sha256 or "") if line.key_sha256 == key_sha256}
        return _taking(key_sha256, rebuilt(reversed(list(trail.lines_of_any(ids)))).records()) if ids else None

    def _replay(self, ledger: Ledger, record: Entry | Ended) -> CompletedTransfer:
        if isinstance(record, Entry) and record.state is State.SETTLED:
            return entry_answer(record, self._remaining_cents(ledger))
        error: GatewayError
        if isinstance(record, Entry) and self._in_flight(record):
            raise TransferPendingError(
                "A transfer with this idempotency key is under way.",
                retry_after_seconds=IN_FLIGHT_RETRY_SECONDS,
                attempt_id=record.attempt_id,
            )
        if isinstance(record, Entry):
            error = unknown_outcome(record.error or "the process that sent it ended", record.attempt_id)
        elif record.outcome is Outcome.REFUSED:
            error = RefusedError(record.error or "Sequence refused it", attempt_id=record.attempt_id)
        else:
            error = NotExecutedError(
                "The transfer with this idempotency key was not executed; nothing moved. Use a new key to send it.",
                attempt_id=record.attempt_id,
            )
        error.replayed = True
        raise error

    def _in_flight(self, entry: Entry) -> bool:
        return entry.state is State.RESERVED and self.store.owners.is_running(entry.owner, entry.attempt_id)

    def _unsettled(self, entry: Entry) -> Unsettled:
        running = self._in_flight(entry)
        if entry.state is State.UNKNOWN:
            reason = entry.error
        else:
            reason = "on its way" if running else "its process ended, or could not record its end"
        return Unsettled(
            attempt_id=entry.attempt_id,
            state=entry.state,
            amount_cents=entry.amount_cents,
            source_id=entry.source_id,
            destination_id=entry.destination_id,
            since=read_time(entry.timestamp),
            running=running,
            reason=reason,
        )

    def _end(self, attempt: Attempt, events: Sequence[Event], change: Callable[[Ledger, Entry], object]) -> None:
        """Change the ledger, then write the trail. What cannot be recorded stays unsettled, and so keeps counting."""
        try:
            ledger = self.store.load()
            entry = ledger.find(attempt.attempt_id)
            if entry is None and events[-1].outcome in set(Outcome):
                raise unavailable(f"{FILE_NAME} lacks attempt {attempt.attempt_id}")
            if entry is None:
                # Somebody took it for not executed while it was on its way. What moved, or may have, counts.
                day = attempt.announced_at or self.store.clock()
                entry = attempt.reservation(day, "", None)  # whose it was matters no more: it ends now
                ledger.forget(attempt.attempt_id)
                ledger.add(day.date(), entry)
            if not entry.unsettled:
                return  # ended already, with a line of its own
            unsettled = entry.changed(state=State.UNKNOWN, error="its end could not be recorded")
            change(ledger, entry)
            self.store.save(ledger)
        except SafeguardsUnavailableError as error:
            # Nor is its end in the trail, or it would get a second one when it is found out.
            log.critical("attempt %s has ended, but stays unsettled: %s", attempt.attempt_id, error)
            log_unwritten(events, error)
            return
        try:
            self.store.append(*events)
        except SafeguardsUnavailableError as error:
            log_unwritten(events, error)
            if not self._has_line(events[-1]):  # a sync that failed may have left it whole
                self._put_back(attempt, unsettled)

    def _has_line(self, event: Event) -> bool:
        try:
            lines = self.store.audit.lines_of(event.attempt_id or "")
            return any(line.event_type == event.event_type and line.outcome == event.outcome for line in lines)
        except OSError:
            return False

    def _put_back(self, attempt: Attempt, entry: Entry) -> None:
        try:
            ledger = self.store.load()
            ledger.forget(attempt.attempt_id)
            ledger.add((read_time(entry.timestamp) or self.store.clock()).date(), entry)
            self.store.save(ledger)
        except SafeguardsUnavailableError as error:
            log.critical("attempt %s could not be kept unsettled: %s", attempt.attempt_id, error)

    def _remaining_cents(self, ledger: Ledger, margin: timedelta = timedelta()) -> int:
        return max(0, self._max_daily_cents - ledger.used_cents(self.store.clock(), margin))


def _taking(key_sha256: str | None, records: Iterable[Entry | Ended]) -> Entry | Ended | None:
    """Find what took a key; a certain failure gave it back."""
    keyed = (one for one in records if one.key_sha256 == key_sha256)
    return next((one for one in keyed if not isinstance(one, Ended) or one.outcome is not Outcome.FAILED), None)


def settled_entry(entry: Entry, transfer_id: str | None, now: datetime, **more: Any) -> Entry:
    """Make the entry of an attempt that Sequence executed."""
    return entry.changed(state=State.SETTLED, transfer_id=transfer_id, settled_at=now.isoformat(), **more)


def attempt_answer(attempt: Attempt, transfer: Transfer | None) -> CompletedTransfer:
    """Make the answer for the caller of an attempt that Sequence took."""
    order = attempt.order
    return CompletedTransfer(
        id=transfer.id if transfer else None,
        status=transfer.status if transfer else None,
        amount_cents=order.amount_cents,
        source=transfer.source if transfer else Party(id=order.source_id, type=order.source_type),
        destination=transfer.destination if transfer else Party(id=order.destination_id, type=order.destination_type),
        created_at=transfer.created_at if transfer else None,
        attempt_id=attempt.attempt_id,
        daily_remaining_cents=0,
    )


def entry_answer(entry: Entry, remaining_cents: int) -> CompletedTransfer:
    """Make the answer again from what the ledger remembers; what was found out later never had one."""
    if entry.answer is not None:
        return CompletedTransfer.model_validate(entry.answer | {"replayed": True})
    return CompletedTransfer(
        id=entry.transfer_id,
        status=None,
        amount_cents=entry.amount_cents,
        source=Party(id=entry.source_id),
        destination=Party(id=entry.destination_id),
        created_at=None,
        attempt_id=entry.attempt_id or "",
        daily_remaining_cents=remaining_cents,
        replayed=True,
    )


def unknown_outcome(why: str, attempt_id: str | None) -> OutcomeUnknownError:
    """Make the error of an attempt of which nobody knows what became of it."""
    return OutcomeUnknownError(
        f"Nobody knows whether the money moved: {why.rstrip('.')}. It counts as spent until that is known."
        " Do not send it again.",
        attempt_id=attempt_id,
    )


def oldest_first(transfers: Iterable[Transfer]) -> list[Transfer]:
    """Sort transfers by the time of their creation."""
    return sorted(transfers, key=lambda transfer: (str(transfer.created_at), transfer.id))
