"""Deciding what became of attempts whose outcome is unknown, or whose process died.

What the account's activity shows settles or releases them. Doubt keeps them unsettled and counted, until a person
decides. Every method of `Recovery` blocks and belongs into a worker thread; each takes the data lock once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from pysequence_api.clock import read_time
from pysequence_api.errors import InvalidRequestError, NotFoundError, SafeguardsUnavailableError
from pysequence_api.models import Transfer
from pysequence_api.records.audit import Channel, Event, EventType
from pysequence_api.records.ledger import Ended, Entry, Ledger, Outcome, State
from pysequence_api.records.lines import event_of, requested_of, write_missing_lines
from pysequence_api.records.store import Past, log_unwritten
from pysequence_api.safeguards.matching import cannot_be_ruled_out, matches
from pysequence_api.safeguards.reservations import Records, settled_entry
from pysequence_api.text import plain_text

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
"""Before this there was nothing to look up."""


class Result(StrEnum):
    """What a lookup did with an attempt."""

    COMPLETED = "completed"
    IDENTIFIED = "identified"
    NOT_EXECUTED = "not_executed"
    NEVER_SENT = "never_sent"
    IN_DOUBT = "in_doubt"


class Finding(BaseModel):
    """What was found out about one attempt."""

    model_config = ConfigDict(frozen=True)

    attempt_id: str
    amount_cents: int
    result: Result
    transfer_id: str | None = None
    reason: str | None = None


class AttemptStatus(BaseModel):
    """What is known of one attempt by now."""

    model_config = ConfigDict(frozen=True)

    attempt_id: str
    status: str = Field(description="running, unknown, completed, failed, refused, not_executed")
    amount_cents: int
    source_id: str | None
    destination_id: str | None
    transfer_id: str | None = None
    error: str | None = None
    requested_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the account's activity shows, and since when it was looked for.

    Attributes:
        party_ids: everything in the account that a transfer can name.
        external_ids: what of it is a connected account.
        problem: why something may be missing.
        clock_offset_seconds: how far Sequence's clock is ahead of ours; ``None`` while that is unknown.
    """

    began_at: datetime
    since: datetime
    transfers: tuple[Transfer, ...]
    party_ids: frozenset[str]
    external_ids: frozenset[str] = frozenset()
    problem: str | None = None
    clock_offset_seconds: float | None = None


class Recovery:
    """The decisions, on the files.

    Args:
        records: ledger and audit trail.
        grace_seconds: how long after the announcement "not found" means "not executed".
    """

    def __init__(self, records: Records, *, grace_seconds: float) -> None:
        self._store = records.store
        self._grace_seconds = grace_seconds

    def begin(self) -> tuple[list[Finding], datetime | None]:
        """Write the ends that a crash kept from the audit trail, and release what was never sent.

        Returns:
            What was released, and since when to look for the rest; ``None`` if nothing is left to look for.
        """
        with self._store.held():
            ledger = self._store.load()
            write_missing_lines(self._store, ledger)
            findings = self._release_unannounced(ledger)
            waiting = [entry for _, entry in ledger.entries() if self._is_open(entry) or entry.lacks_id]
            since = min((max(LONG_AGO, self._sent_at(entry)) for entry in waiting), default=None)
            return findings, since

    def decide(self, lookup: Lookup) -> list[Finding]:
        """Settle what was found, release what certainly is not there, leave the rest as it is."""
        with self._store.held():
            ledger = self._store.load()
            now = self._store.clock()
            decisions = _Decisions(ledger, lookup, self._sent_at, self._store.was_announced, now)
            for entry in sorted((one for _, one in ledger.entries() if one.lacks_id), key=self._sent_at):
                decisions.identify(entry)
            # What was never announced comes last and takes nothing: only with another trail could it have moved.
            for entry in sorted((one for _, one in ledger.entries() if self._is_open(one)), key=self._order_of):
                if any(entry.order == one.order for _, one in ledger.entries() if self._is_running(one)):
                    decisions.doubt(entry, "an equal transfer is on its way, and what is found could be that one")
                else:
                    decisions.close(entry, timedelta(seconds=self._grace_seconds))
            if decisions.events:
                self._store.save(ledger)
                self._append(decisions.events)
            return decisions.findings

    def resolve(self, attempt_id: str, transfer_id: str | None) -> AttemptStatus:
        """End an attempt by a person's word.

        Args:
            attempt_id: which; it must be unsettled, and no living process may be at it.
            transfer_id: the transfer that it was; ``None`` if it was not executed.

        Raises:
            NotFoundError: there is no such attempt.
            InvalidRequestError: it has ended, is still on its way, or the transfer belongs to another attempt.
        """
        with self._store.held():
            ledger = self._store.load()
            entry = ledger.find(attempt_id)
            if entry is None:
                raise NotFoundError(f"No attempt {attempt_id!r} is unsettled; `pysequence-api limits show` lists them.")
            if not entry.unsettled:
                raise InvalidRequestError(f"Attempt {attempt_id} has ended already.")
            if self._is_running(entry):
                raise InvalidRequestError(f"Attempt {attempt_id} is still on its way; wait for it.")
            if transfer_id is not None and self._is_taken(transfer_id, ledger):
                raise InvalidRequestError(f"Transfer {transfer_id!r} belongs to another attempt.")
            now, was_announced = self._store.clock(), self._store.was_announced(attempt_id)
            if transfer_id is not None and not was_announced:
                raise InvalidRequestError(f"Attempt {attempt_id} was never sent: no transfer can be its own.")
            if transfer_id is not None:
                ledger.replace(settled_entry(entry, transfer_id, now))
                event = event_of(entry, EventType.COMPLETED, now, transfer_id=transfer_id, resolved=True)
            else:
                error = "a person found that it was not executed"
                ledger.release(attempt_id, Outcome.NOT_EXECUTED, now, error)
                event = event_of(
                    entry, EventType.FAILED, now, error=error, outcome=Outcome.NOT_EXECUTED.value, resolved=True
                )
            events = [] if was_announced else [requested_of(entry, now)]  # every end has a beginning
            self._store.save(ledger)
            self._append([*events, event.model_copy(update={"via": Channel.CLI})])
        return self.status(attempt_id)

    def status(self, attempt_id: str) -> AttemptStatus:
        """Say what is known of an attempt by now.

        Raises:
            NotFoundError: neither ledger nor audit trail knows it.
        """
        with self._store.held():
            record = next((one for one in self._store.load().records() if one.attempt_id == attempt_id), None)
            known = None if record is None else self._status_of(record, attempt_id)
        # Outside of the lock: the trail may be long, and its lines do not change.
        return known or self._status_from_trail(attempt_id)

    def _status_of(self, record: Entry | Ended, attempt_id: str) -> AttemptStatus:
        ended_at = record.ended_at if isinstance(record, Ended) else record.settled_at
        return AttemptStatus(
            attempt_id=attempt_id,
            status=self._status_name(record),
            amount_cents=record.amount_cents,
            source_id=record.source_id,
            destination_id=record.destination_id,
            transfer_id=record.transfer_id if isinstance(record, Entry) else None,
            error=record.error,
            requested_at=read_time(record.timestamp),
            ended_at=read_time(ended_at),
        )

    def _status_name(self, record: Entry | Ended) -> str:
        if isinstance(record, Ended):
            return record.outcome.value
        if record.state is State.SETTLED:
            return "completed"
        return "running" if self._is_running(record) else "unknown"

    def _status_from_trail(self, attempt_id: str) -> AttemptStatus:
        past = Past()
        transfer_id = None
        for line in reversed(list(self._store.audit.lines_of(attempt_id))):
            transfer_id = line.transfer_id or transfer_id
            past.take(line)
        if past.requested is None:
            raise NotFoundError(f"No attempt {attempt_id[:100]!r} is in the audit trail.")
        ended = past.ended
        status = (
            "unknown" if ended is None else "completed" if ended.event_type == EventType.COMPLETED else ended.outcome
        )
        return AttemptStatus(
            attempt_id=attempt_id,
            status=status or "unknown",
            amount_cents=past.requested.amount_cents or 0,
            source_id=past.requested.source,
            destination_id=past.requested.destination,
            transfer_id=transfer_id,
            error=ended.error if ended else None,
            requested_at=read_time(past.requested.timestamp),
            ended_at=read_time(ended.timestamp) if ended else None,
        )

    def _is_running(self, entry: Entry) -> bool:
        return entry.state is State.RESERVED and self._store.owners.is_running(entry.owner, entry.attempt_id)

    def _is_open(self, entry: Entry) -> bool:
        return entry.attempt_id is not None and entry.unsettled and not self._is_running(entry)

    def _sent_at(self, entry: Entry) -> datetime:
        times = (self._store.announced_at(entry.attempt_id), read_time(entry.timestamp))
        return next((time for time in times if time is not None), self._store.clock())

    def _order_of(self, entry: Entry) -> tuple[bool, datetime]:
        return not self._store.was_announced(entry.attempt_id or ""), self._sent_at(entry)

    def _release_unannounced(self, ledger: Ledger) -> list[Finding]:
        never_sent = [
            entry
            for _, entry in ledger.entries()
            if self._is_open(entry)
            and entry.state is State.RESERVED
            and not self._store.was_announced(entry.attempt_id or "")
        ]
        if not never_sent or not (proof := self._store.audit.verify()).intact:
            return []
        # Only a trail that still holds what it held when they were reserved can show that they were not announced.
        never_sent = [one for one in never_sent if one.audit_head and self._holds(one.audit_head, proof.head)]
        if not never_sent:
            return []
        for entry in never_sent:
            ledger.forget(entry.attempt_id or "")
        self._store.save(ledger)
        return [
            _finding(entry, Result.NEVER_SENT, reason="its process ended before it was sent") for entry in never_sent
        ]

    def _holds(self, head: str, newest: str | None) -> bool:
        """Say whether some line of a trail that is intact has a hash: it is the newest, or the next line names it."""
        return head == newest or any(line.prev == head for line in self._store.audit.lines_holding(head))

    def _is_taken(self, transfer_id: str, ledger: Ledger) -> bool:
        lines = self._store.audit.lines_holding(transfer_id)
        return transfer_id in ledger.claimed() or any(line.transfer_id == transfer_id for line in lines)

    def _append(self, events: list[Event]) -> None:
        """Write what was decided. What the trail lacks of it, the next look writes from the ledger."""
        try:
            self._store.append(*events)
        except SafeguardsUnavailableError as error:
            log_unwritten(events, error)
            raise


class _Decisions:
    """One pass over everything that is open, against one lookup."""

    def __init__(
        self,
        ledger: Ledger,
        lookup: Lookup,
        sent_at: Callable[[Entry], datetime],
        was_announced: Callable[[str], bool],
        now: datetime,
    ) -> None:
        claimed = ledger.claimed()
        self._ledger = ledger
        self._sent_at = sent_at
        self._was_announced = was_announced
        self._lookup = lookup
        self._now = now
        self._free = {transfer.id: transfer for transfer in lookup.transfers if transfer.id not in claimed}
        self.events: list[Event] = []
        self.findings: list[Finding] = []

    def identify(self, entry: Entry) -> None:
        """Give what completed without an id the oldest transfer that it could be."""
        transfer = self._take(entry)
        if transfer is None:
            self.doubt(entry, "Sequence does not show it yet")
            return
        self._ledger.replace(entry.changed(transfer_id=transfer.id, identified_at=self._now.isoformat()))
        self.events.append(event_of(entry, EventType.IDENTIFIED, self._now, transfer_id=transfer.id))
        self.findings.append(_finding(entry, Result.IDENTIFIED, transfer_id=transfer.id))

    def close(self, entry: Entry, grace: timedelta) -> None:
        """End what is open, if it can be known how."""
        sent_at, was_announced = self._sent_at(entry), self._was_announced(entry.attempt_id or "")
        transfer = self._take(entry) if was_announced else None
        if transfer is not None:
            self._ledger.replace(settled_entry(entry, transfer.id, self._now))
            done = event_of(entry, EventType.COMPLETED, self._now, transfer_id=transfer.id, reconciled=True)
            self.events.append(done)
            self.findings.append(_finding(entry, Result.COMPLETED, transfer_id=transfer.id))
        elif self._lookup.problem is not None:
            self.doubt(entry, self._lookup.problem)
        elif sent_at < self._lookup.since:
            self.doubt(entry, "the lookup did not go back so far")
        elif not {entry.source_id, entry.destination_id} <= self._lookup.party_ids:
            self.doubt(entry, "what it names is not in the account that was looked at")
        elif any(cannot_be_ruled_out(entry, sent_at, one, self._lookup.external_ids) for one in self._free.values()):
            self.doubt(entry, "a transfer is there that could be it: its parties, time, kind or words do not tell")
        elif self._lookup.began_at - sent_at <= grace:
            self.doubt(entry, f"it is not there yet; that is final after {grace.total_seconds():g} seconds")
        else:
            error = "it was looked for in the activity and is not there"
            if not was_announced:
                self.events.append(requested_of(entry, self._now))  # every end has a beginning
            outcome = Outcome.NOT_EXECUTED.value
            self.events.append(
                event_of(entry, EventType.FAILED, self._now, error=error, outcome=outcome, reconciled=True)
            )
            self.findings.append(_finding(entry, Result.NOT_EXECUTED, reason=error))
            self._ledger.release(entry.attempt_id or "", Outcome.NOT_EXECUTED, self._now, error)

    def doubt(self, entry: Entry, reason: str) -> None:
        """Leave it as it is, and say why."""
        self.findings.append(_finding(entry, Result.IN_DOUBT, reason=reason))

    def _take(self, entry: Entry) -> Transfer | None:
        """Take a free transfer for an attempt: one that it could be, or else one that makes such a one free.

        Sequence may show a transfer later than a younger, equal one, which the older attempt has got by then. Equal
        attempts are interchangeable: what is left for the older one is left for the younger one.
        """
        holders = {one.transfer_id: one for _, one in self._ledger.entries() if one.transfer_id is not None}
        attempts, asked = [entry], {entry.attempt_id}
        for attempt in attempts:
            for transfer in matches(
                attempt.order, self._lookup.transfers, self._sent_at(attempt), self._lookup.clock_offset_seconds
            ):
                if attempt.description and transfer.description not in {None, plain_text(attempt.description)}:
                    continue
                if transfer.id in self._free:
                    return self._free.pop(transfer.id)
                holder = holders.get(transfer.id)
                if holder is not None and holder.attempt_id not in asked:
                    asked.add(holder.attempt_id)
                    attempts.append(holder)
        return None


def _finding(entry: Entry, result: Result, **more: str | None) -> Finding:
    return Finding(attempt_id=entry.attempt_id or "", amount_cents=entry.amount_cents, result=result, **more)
