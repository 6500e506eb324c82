"""Making a ledger again from the audit trail, when the one that is there cannot be trusted."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.safeguards.audit import FILE_NAME as TRAIL_NAME
from pysequence_api.safeguards.audit import EventType, Line
from pysequence_api.safeguards.ledger import FILE_NAME, MAX_RECORDED_CENTS, Entry, Ledger, Outcome, State
from pysequence_api.safeguards.store import Store, unavailable
from pysequence_api.safeguards.times import read_time


@dataclass(frozen=True, slots=True)
class Repair:
    """A ledger that could take the place of the one that is there.

    Attributes:
        problem: what is wrong with the one that is there; ``None`` if nothing is.
        ledger: what would be written.
        used_cents: what would count today.
    """

    problem: str | None
    ledger: Ledger
    used_cents: int


def propose(store: Store) -> Repair:
    """Make a ledger from the audit trail. It counts everything that has no certain failure.

    Raises:
        SafeguardsUnavailableError: the audit trail cannot be trusted either.
    """
    with store.held():
        return _propose(store)


def carry_out(store: Store, proposed: Repair) -> Path | None:
    """Put the new ledger in the place of the old one.

    Args:
        store: the files.
        proposed: what a person agreed to.

    Returns:
        Where the damaged file is kept; ``None`` if there was none.

    Raises:
        SafeguardsUnavailableError: the files changed since, or cannot be written.
    """
    with store.held():
        if _propose(store).ledger.dump() != proposed.ledger.dump():
            raise SafeguardsUnavailableError("The audit trail has changed since this was proposed. Run it again.")
        aside = None
        try:
            if store.ledger_path.exists():
                stamp = f"{store.clock():%Y%m%dT%H%M%S%f}"
                aside = store.ledger_path.with_name(f"{FILE_NAME}.damaged-{stamp}")
                aside.hardlink_to(store.ledger_path)  # the damaged file stays in its place until the new one takes it
        except OSError as error:
            raise unavailable(f"{FILE_NAME} cannot be put aside ({error.strerror})") from error
        store.save(proposed.ledger)
        return aside


def _propose(store: Store) -> Repair:
    verification = store.audit.verify()
    if not verification.intact:
        raise unavailable(f"the audit trail cannot be trusted either: line {verification.line} {verification.problem}")
    try:
        store.load()
        problem = None
    except SafeguardsUnavailableError as error:
        problem = str(error)
    ledger = _rebuild(store)
    return Repair(problem, ledger, ledger.used_cents(store.clock()))


def _rebuild(store: Store) -> Ledger:
    entries: dict[str, tuple[datetime, Entry]] = {}
    failures: dict[str, tuple[Outcome, datetime, str | None]] = {}
    for number, line in enumerate(store.audit.oldest_first(), 1):
        time, amount_cents = read_time(line.timestamp), line.amount_cents
        if time is None or amount_cents is None or amount_cents < 1:
            continue
        if amount_cents > MAX_RECORDED_CENTS:
            raise unavailable(f"line {number} of {TRAIL_NAME} says {amount_cents} cents, which cannot be")
        if line.event_type == EventType.REQUESTED:
            entries[line.attempt_id or f"line {number}"] = time, _requested(line, time, amount_cents)
        elif line.attempt_id in entries:
            if line.event_type == EventType.FAILED and line.outcome in set(Outcome):
                failures[line.attempt_id] = Outcome(line.outcome), time, line.error
            else:
                requested_at, entry = entries[line.attempt_id]
                entries[line.attempt_id] = requested_at, _applied(entry, line, time)
    ledger = Ledger({}, {})
    for time, entry in entries.values():
        if (failure := failures.get(entry.attempt_id or "")) is not None:
            ledger.remember(time.date(), entry, *failure)
        else:
            ledger.add(time.date(), entry)
    ledger.prune(store.clock().date())
    return ledger


def _requested(line: Line, time: datetime, amount_cents: int) -> Entry:
    # What another program requested has no attempt id, and its failures are not certain: it counts, as ended.
    optional: dict[str, Any] = {
        "attempt_id": line.attempt_id,
        "description": line.description,
        "via": line.via,
        "request_sha256": line.request_sha256,
        "key_sha256": line.key_sha256,
    }
    return Entry(
        transfer_id=line.transfer_id,
        amount_cents=amount_cents,
        timestamp=time.isoformat(),
        state=State.SETTLED if line.attempt_id is None else State.UNKNOWN,
        source_id=line.source,
        destination_id=line.destination,
        **{name: value for name, value in optional.items() if value is not None},
    )


def _applied(entry: Entry, line: Line, time: datetime) -> Entry:
    if line.event_type in {EventType.COMPLETED, EventType.IDENTIFIED}:
        transfer_id, settled_at = line.transfer_id or entry.transfer_id, entry.settled_at or time.isoformat()
        return entry.changed(state=State.SETTLED, transfer_id=transfer_id, settled_at=settled_at)
    return entry.changed(error=line.error) if line.event_type == EventType.FAILED else entry
