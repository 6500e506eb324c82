"""Lines of the audit trail, made from what the ledger remembers: a crash between the two may have kept some back."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pysequence_api.clock import read_time
from pysequence_api.records.audit import Channel, Event, EventType
from pysequence_api.records.ledger import Ended, Entry, Ledger, State
from pysequence_api.records.store import REMEMBERED, Past, Store


def write_missing_lines(store: Store, ledger: Ledger) -> None:
    """Write what the audit trail lacks of what the ledger remembers, while the data lock is held.

    Raises:
        SafeguardsUnavailableError: the trail cannot be written, or not be trusted.
    """
    past, now = store.past(), store.clock()
    records = [one for one in ledger.records() if one.attempt_id is not None and one.json_text not in store.complete]
    # What is older than the index is looked for in the whole trail: nobody may have been here for days.
    old = {one.attempt_id for one in records if (read_time(one.timestamp) or now) < now - REMEMBERED}
    past = past | store.past_of(old) if old else past
    events = [event for one in records for event in _missing_lines(one, past.get(one.attempt_id or "", Past()), now)]
    if events:
        store.append(*events)
    store.complete = {one.json_text for one in ledger.records()}


def event_of(record: Entry | Ended, event_type: EventType, now: datetime, **more: Any) -> Event:
    """Make a line about an attempt."""
    return Event(
        timestamp=now,
        event_type=event_type,
        amount_cents=record.amount_cents,
        source=record.source_id or "",
        destination=record.destination_id or "",
        attempt_id=record.attempt_id,
        via=Channel(record.via) if record.via in set(Channel) else None,
        **more,
    )


def requested_of(record: Entry | Ended, now: datetime) -> Event:
    """Make the line that should have begun it."""
    hashes = {"request_sha256": record.request_sha256, "key_sha256": record.key_sha256}
    return event_of(record, EventType.REQUESTED, now, recovered=True, **hashes)


def _missing_lines(record: Entry | Ended, known: Past, now: datetime) -> Iterable[Event]:
    """Give the lines that a crash between ledger and audit trail kept from being written."""
    if isinstance(record, Ended):
        if known.requested is None:
            yield requested_of(record, now)
        if known.ended is None or known.ended.outcome == State.UNKNOWN:
            yield event_of(
                record, EventType.FAILED, now, error=record.error, outcome=record.outcome.value, recovered=True
            )
    elif record.state is State.SETTLED and known.requested is not None:
        if known.ended is None or known.ended.event_type == EventType.FAILED:
            yield event_of(record, EventType.COMPLETED, now, transfer_id=record.transfer_id, recovered=True)
        elif record.transfer_id is not None and known.ended.transfer_id is None and not known.identified:
            yield event_of(record, EventType.IDENTIFIED, now, transfer_id=record.transfer_id, recovered=True)
