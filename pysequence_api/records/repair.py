"""Making a ledger again from the audit trail, when the one that is there cannot be trusted."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pysequence_api.clock import read_time
from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.records.audit import FILE_NAME as TRAIL_NAME
from pysequence_api.records.audit import EventType, Line
from pysequence_api.records.ledger import FILE_NAME, MAX_RECORDED_CENTS, Entry, Ledger, Outcome, State
from pysequence_api.records.store import Store, unavailable


@dataclass(frozen=True, slots=True)
class Repair:
    """A ledger that could take the place of the one that is there.

    Attributes:
        problem: what is wrong with the one that is there; ``None`` if nothing is.
        ledger: what would be written.
        used_cents: what would count today.
        counted_cents: what counts today by the one that is there; ``None`` if that cannot be told.
    """

    problem: str | None
    ledger: Ledger
    used_cents: int
    counted_cents: int | None


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
        if proposed.counted_cents is not None and proposed.used_cents < proposed.counted_cents:
            raise SafeguardsUnavailableError(
                f"{FILE_NAME} is in order and counts more than {TRAIL_NAME} shows, so that repairing it would free what"
                " is spent. Nothing was written. If the trail was moved away, put it back first."
            )
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
    problem = counted_cents = None
    try:
        counted_cents = store.load().used_cents(store.clock())
    except SafeguardsUnavailableError as error:
        problem = str(error)
    ledger = rebuilt(store.audit.oldest_first())
    # By the trail's own time where it is earlier: nobody has confirmed this machine's clock.
    newest = (time for line in store.audit.newest_first() if (time := read_time(line.timestamp)) is not None)
    ledger.prune(min(store.clock(), next(newest, store.clock())).date())
    return Repair(problem, ledger, ledger.used_cents(store.clock()), counted_cents)


def rebuilt(lines: Iterable[Line]) -> Ledger:
    """Make a ledger from lines of the audit trail, oldest first. What is known to have moved counts in any case.

    Raises:
        SafeguardsUnavailableError: a line cannot be.
    """
    entries: dict[str, tuple[datetime, Entry]] = {}
    failures: dict[str, tuple[Outcome, datetime, str | None]] = {}
    for number, line in enumerate(lines, 1):
        time, amount_cents = read_time(line.timestamp), line.amount_cents
        if time is None or amount_cents is None or amount_cents < 1:
            continue
        if amount_cents > MAX_RECORDED_CENTS:
            raise unavailable(f"line {number} of {TRAIL_NAME} says {amount_cents} cents, which cannot be")
        if line.event_type == EventType.REQUESTED:
            entries[line.attempt_id or f"line {number}"] = time, _requested(line, time, amount_cents)
        elif line.event_type == EventType.COMPLETED and line.attempt_id is not None and line.attempt_id not in entries:
            # Its beginning is in another trail.
            entries[line.attempt_id] = time, _applied(_requested(line, time, amount_cents), line, time)
        elif line.attempt_id in entries:
            if line.event_type == EventType.FAILED and line.outcome in set(Outcome):
                failures[line.attempt_id] = Outcome(line.outcome), time, line.error
            else:
                if line.event_type == EventType.COMPLETED:
                    failures.pop(line.attempt_id, None)
                requested_at, entry = entries[line.attempt_id]
                entries[line.attempt_id] = requested_at, _applied(entry, line, time)
    ledger = Ledger({}, {})
    for time, entry in entries.values():
        if (failure := failures.get(entry.attempt_id or "")) is not None:
            ledger.remember(time.date(), entry, *failure)
        else:
            ledger.add(time.date(), entry)
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
