"""Following attempts until they are over: what became of unknown outcomes, and whether money arrived or returned.

One lookup reads the account and its activity; one transaction decides about everything that is followed.
"""

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from functools import partial
from time import monotonic
from uuid import UUID, uuid5

import anyio
import anyio.to_thread
from pydantic import BaseModel, ConfigDict

from pysequence_api.clock import MAX_CLOCK_OFFSET_SECONDS, Clock
from pysequence_api.errors import NotFoundError, SafeguardsUnavailableError, SequenceError
from pysequence_api.models import ActivityFilter, Transfer
from pysequence_api.records.attempts import FIRST_UPSTREAM, FOLLOWED, OWNER, Attempt, Order, Reader, Writer
from pysequence_api.records.audit import EventType
from pysequence_api.records.database import Database
from pysequence_api.records.owners import Owners
from pysequence_api.records.states import TAKEN_STATES, State
from pysequence_api.safeguards.decide import accept_attempt, fail_dead, missing_error, month_begin
from pysequence_api.safeguards.enforce import is_resent
from pysequence_api.safeguards.matching import ONE_DAY, describes, matches, speaks_against_absence
from pysequence_api.safeguards.resend import RESEND_SECONDS
from pysequence_api.sequence.client import SequenceClient
from pysequence_api.text import bounded

UPSTREAM_ENDS = {"COMPLETE": State.ARRIVED, "FAILED": State.RETURNED, "CANCELLED": State.RETURNED}
"""What a status of Sequence means for an accepted attempt. With any other one, also an unknown one, it is not over."""
UNKNOWN_PAUSES_SECONDS = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Pauses between lookups while an outcome or an id is unknown; the last one repeats."""
ACCEPTED_PAUSES_SECONDS = (60.0, 300.0, 900.0, 3600.0)
"""The same while money has not arrived."""
SLOW_PAUSE_SECONDS = 6 * 3600.0
"""The same for what is over unless Sequence says otherwise later: what arrived, and what was not executed."""
IDLE_SECONDS = 300.0
"""How often to look whether another process left something behind; this makes no upstream call."""
PAGE_TRANSFERS = 100
MAX_PAGES = 200
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
"""Before this there was nothing to look up."""
OTHER_ACTIVITIES = {"RULE", "DIRECT_DEPOSIT", "ACH"}
"""What is certainly not a one-time transfer."""
RESTORE_CHANNEL = "restore"
IN_FLIGHT = "an equal transfer is in flight, and what is found could be that one"
LATE = "a transfer that was taken for not executed appeared at Sequence"

_MISSING_IDS = UUID("0d0f2f0e-58d5-4bfb-9c5c-5b3f2c6a9f27")

log = logging.getLogger(__name__)


class Result(StrEnum):
    """What a lookup found out about an attempt."""

    ACCEPTED = "accepted"
    IDENTIFIED = "identified"
    ARRIVED = "arrived"
    RETURNED = "returned"
    NOT_EXECUTED = "not_executed"
    STILL_UNKNOWN = "still_unknown"
    NOT_ARRIVED = "not_arrived"
    NO_LONGER_FOLLOWED = "no_longer_followed"


class Finding(BaseModel):
    """What was found out about one attempt."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    attempt_id: str
    amount_cents: int
    result: Result
    transfer_id: str | None = None
    reason: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has to be looked up again soon."""
        return self.result is Result.STILL_UNKNOWN


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the account and its activity show.

    Attributes:
        began_at: when the lookup began.
        since: how far back the activity was read.
        transfers: from the activity, in any order.
        party_ids: everything in the account that a transfer can name.
        external_ids: which of them are connected accounts.
        problem: why something may be missing.
        clock_offset_seconds: how far Sequence's clock is ahead of ours; ``None`` while that is unknown.
        upstream: which one shows that. It decides only about what it sent.
        resend_seconds: how long after it was announced a transfer can have been sent again.
    """

    began_at: datetime
    since: datetime
    transfers: tuple[Transfer, ...]
    party_ids: frozenset[str]
    external_ids: frozenset[str] = frozenset()
    problem: str | None = None
    clock_offset_seconds: float | None = None
    upstream: str = FIRST_UPSTREAM
    resend_seconds: float = 0.0


class FollowUp:
    """Looks up what is followed, and has it decided.

    Args:
        client: the account at Sequence.
        records: the database.
        grace_seconds: how long after it was sent a transfer that is not in the activity counts as not executed.
        clock: returns the time in UTC.
    """

    def __init__(self, client: SequenceClient, records: Database, *, grace_seconds: float, clock: Clock) -> None:
        self._client = client
        self._records = records
        self._grace = timedelta(seconds=grace_seconds)
        self._clock = clock
        self._wake = asyncio.Event()
        self._slow_look_at = -math.inf

    def wake(self) -> None:
        """Look again soon."""
        self._wake.set()

    async def run_for_ever(self) -> None:
        """Look at once, then with growing pauses while something is followed."""
        looks = 0
        while True:
            try:
                findings = await self.run(slow=monotonic() - self._slow_look_at >= SLOW_PAUSE_SECONDS)
            except SafeguardsUnavailableError as error:
                log.error("%s", error)
                findings = []
            except Exception:
                # What is open stays counted; the next look comes.
                log.exception("following up failed")
                findings = []
            pause_seconds = _pause_seconds(findings, looks)
            looks += 1
            with anyio.move_on_after(pause_seconds):
                await self._wake.wait()
                looks = 0
            self._wake.clear()

    async def run(self, *, slow: bool = True) -> list[Finding]:
        """Look once.

        Args:
            slow: look also if only what arrived, or was not executed, is followed.

        Returns:
            What was found out about each attempt that is followed.

        Raises:
            SafeguardsUnavailableError: the records cannot be trusted or written.
        """
        if slow:
            self._slow_look_at = monotonic()
        since = await anyio.to_thread.run_sync(self._begin, slow)
        if since is None:
            return []
        lookup = await self._look(since)
        decide = partial(decide_followed, owners=self._records.owners, lookup=lookup, grace=self._grace)
        findings = await anyio.to_thread.run_sync(self._records.write, decide)
        for finding in findings:
            level = logging.INFO if finding.result in {Result.STILL_UNKNOWN, Result.NOT_ARRIVED} else logging.WARNING
            level = logging.INFO if finding.result is Result.ARRIVED else level
            reason = finding.reason or (f"transfer {finding.transfer_id}" if finding.transfer_id else "")
            result = finding.result.replace("_", " ")
            log.log(level, "attempt %s: %s%s", finding.attempt_id, result, f" ({reason})" if reason else "")
        return findings

    async def count_missing(self) -> None:
        """Count what Sequence moved this month that restored records lack.

        Raises:
            SafeguardsUnavailableError: that cannot be read completely, or the records cannot be written.
        """
        followed_since = await anyio.to_thread.run_sync(self._begin, True)
        since = missing_since(self._clock())
        lookup = await self._look(since if followed_since is None else min(since, followed_since))
        count = partial(count_missing, owners=self._records.owners, lookup=lookup, grace=self._grace)
        for attempt in await anyio.to_thread.run_sync(self._records.write, count):
            log.warning(
                "attempt %s: counted after the restore (%d cents, %s)",
                attempt.id,
                attempt.amount_cents,
                attempt.transfer_id or "it may be another attempt's transfer",
            )

    def _begin(self, slow: bool) -> datetime | None:
        """End what dead processes left behind, and say since when to look; ``None`` if nothing is to be looked up."""

        def begin(writer: Writer) -> datetime | None:
            fail_dead(writer, self._records.owners)
            return min((max(LONG_AGO, one.sent_at) for one in followed(writer)), default=None)

        def followed(reader: Reader) -> list[Attempt]:
            slow_states = {State.ARRIVED, State.NOT_EXECUTED}
            waiting = [one for one in reader.followed_attempts() if slow or one.state not in slow_states]
            return waiting + [one for one in reader.open_attempts() if one.state is State.UNKNOWN]

        is_anything_to_do = self._records.read(
            lambda reader: bool(reader.open_attempts() or followed(reader) or reader.overdue_approvals())
        )
        return self._records.write(begin) if is_anything_to_do else None

    async def _look(self, since: datetime) -> Lookup:
        began_at = self._clock()
        transfers: list[Transfer] = []
        party_ids: frozenset[str] = frozenset()
        external_ids: frozenset[str] = frozenset()
        try:
            accounts = await self._client.accounts(balances=False)
            external_ids = frozenset(one.id for one in accounts.accounts)
            party_ids = external_ids.union((pod.id for pod in accounts.pods), (port.id for port in accounts.ports))
            problem = None if accounts.complete else "Sequence left out a part of the account"
            for organization_id in accounts.organization_ids:
                problem = await self._look_in(organization_id, since, transfers) or problem
        except SequenceError as error:
            problem = f"the lookup failed: {error}"
        offset_seconds = self._client.clock_offset_seconds
        if offset_seconds is not None and abs(offset_seconds) > MAX_CLOCK_OFFSET_SECONDS:
            problem = f"this machine's clock is {offset_seconds:+.0f} seconds from Sequence's"
        can = self._client.capabilities
        return Lookup(
            began_at,
            since,
            tuple(transfers),
            party_ids,
            external_ids,
            problem,
            offset_seconds,
            can.upstream.value,
            RESEND_SECONDS if can.resend else 0.0,
        )

    async def _look_in(self, organization_id: str, since: datetime, found: list[Transfer]) -> str | None:
        only = ActivityFilter(date_start=(since - ONE_DAY).date())
        problem, after = None, ""
        for _ in range(MAX_PAGES):
            try:
                page = await self._client.activity(organization_id, first=PAGE_TRANSFERS, after=after, only=only)
            except (SequenceError, NotFoundError) as error:
                return f"the lookup failed: {error}"  # other organizations can be read all the same
            found.extend(page.transfers)
            if not page.complete:
                problem = "Sequence left out a part of the activity"
            if not page.page_info.has_next_page:
                return problem
            if page.page_info.end_cursor in {"", after}:
                return "the activity has another page, but no cursor for it"
            after = page.page_info.end_cursor
        return f"the activity has more than {MAX_PAGES} pages since then"


def decide_followed(writer: Writer, owners: Owners, lookup: Lookup, grace: timedelta) -> list[Finding]:
    """Decide about everything that is followed, in one transaction, against one lookup.

    Attempts of equal source, destination and amount are interchangeable, and are decided together.
    """
    decisions = _Decisions(writer, lookup, grace)
    groups: dict[Order, list[Attempt]] = defaultdict(list)
    open_attempts = writer.open_attempts()
    waits: dict[Order, str] = {}
    for attempt in writer.followed_attempts() + open_attempts:
        is_mine = attempt.sent_through == lookup.upstream
        if attempt.state in {State.RESERVED, State.SENDING} or is_resent(attempt, owners):
            waits[attempt.order] = IN_FLIGHT
        elif attempt.transfer_id is None and not is_mine:
            waits.setdefault(attempt.order, f"only `{attempt.sent_through}`, which sent it or an equal one, decides")
        if attempt.state not in {State.RESERVED, State.SENDING} and (is_mine or attempt.state is State.UNKNOWN):
            groups[attempt.order].append(attempt)
    for order, group in groups.items():
        decisions.claim(sorted(group, key=_claims_first), waits_for=waits.get(order))
    decisions.conclude()
    return decisions.findings


def missing_since(now: datetime) -> datetime:
    """Return since when what restored records lack is counted: the UTC month, and the windows that are open now."""
    return month_begin(now) - ONE_DAY


def count_missing(writer: Writer, owners: Owners, lookup: Lookup, grace: timedelta) -> list[Attempt]:
    """Add an accepted attempt for each one-time transfer at Sequence that no attempt has.

    What an attempt of unknown outcome, or without an id, could be is counted beside it, and does not take the id away
    from it: so too much counts rather than too little.

    Returns:
        The attempts that were added.

    Raises:
        SafeguardsUnavailableError: something may be missing in the lookup.
    """
    if not writer.must_count_missing():
        return []
    if lookup.problem is not None:
        raise missing_error(lookup.problem)
    decide_followed(writer, owners, lookup, grace)
    missing = _Missing(writer, lookup)
    added = [missing.add(transfer) for transfer in missing.transfers()]
    writer.set_missing_counted()
    return added


class _Missing:
    """The transfers of a lookup that no attempt has."""

    def __init__(self, writer: Writer, lookup: Lookup) -> None:
        self._writer = writer
        self._lookup = lookup
        self._since = missing_since(writer.now)
        begin = self._since - ONE_DAY  # as far back as the lookup goes
        self._transfers = {transfer.id: transfer for transfer in lookup.transfers}
        added_ids = {_missing_id(transfer) for transfer in lookup.transfers}
        counted = [one for one in writer.attempts_counted_since(begin) if one.sent_at >= begin]
        followed = {one.id: one for one in writer.followed_attempts() + writer.open_attempts()}
        self._waiting = [one for one in followed.values() if one.transfer_id is None]
        unnamed = [one for one in counted if one.transfer_id is None and one.id not in added_ids]
        self._unnamed = [one for one in unnamed if one.state in TAKEN_STATES]

    def transfers(self) -> Iterator[Transfer]:
        """Go through them, oldest first."""
        for transfer in sorted(self._transfers.values(), key=self._time):
            claimed_by = self._writer.attempt_by_transfer(transfer.id)
            if claimed_by is not None:
                self._set_time(claimed_by, transfer)
            if claimed_by is not None or transfer.activity_type in OTHER_ACTIVITIES:
                continue
            if self._writer.attempt(_missing_id(transfer)) is not None:
                continue
            # Sequence took what is accepted, so that one equal transfer is its own, whichever that is.
            own = next((one for one in self._unnamed if self._can_be(one, transfer)), None)
            if own is not None:
                self._unnamed.remove(own)
            elif self._time(transfer) < self._since:
                continue
            elif transfer.amount_cents is None:
                raise missing_error(f"Sequence does not say how much transfer {transfer.id} moved")
            elif transfer.amount_cents != 0:
                yield transfer

    def add(self, transfer: Transfer) -> Attempt:
        """Add an attempt for a transfer."""
        exact = transfer.created_at if isinstance(transfer.created_at, datetime) else None
        is_doubtful = any(self._can_be(one, transfer) or self._is_like(one, transfer) for one in self._waiting)
        attempt = Attempt(
            id=_missing_id(transfer),
            caller=OWNER,
            channel=RESTORE_CHANNEL,
            state=State.ACCEPTED,
            upstream=self._lookup.upstream,
            amount_cents=abs(transfer.amount_cents or 0),
            created_at=self._time(transfer),
            source_type=transfer.source.type,
            source_id=transfer.source.id,
            destination_type=transfer.destination.type,
            destination_id=transfer.destination.id,
            announced_at=self._time(transfer),
            ended_at=self._time(transfer),
            upstream_created_at=exact,
            upstream_status=transfer.status,
            transfer_id=None if is_doubtful else transfer.id,
        )
        self._writer.add_attempt(attempt)
        more = {"transfer_id": attempt.transfer_id, "recovered": True}
        self._writer.add_event(attempt.event(EventType.COMPLETED, self._writer.now, **more))
        return attempt

    def _set_time(self, attempt: Attempt, transfer: Transfer) -> None:
        """Note the time of a transfer that the audit trail named without it."""
        if attempt.upstream_created_at is None and isinstance(transfer.created_at, datetime):
            self._writer.update(attempt, upstream_created_at=transfer.created_at)

    def _time(self, transfer: Transfer) -> datetime:
        """Return when a transfer was created; where only the day is known, its end; now where nothing is."""
        created_at = transfer.created_at
        if isinstance(created_at, datetime):
            return created_at
        if created_at is None:
            return self._writer.now
        return min(datetime.combine(created_at, time.max, UTC), self._writer.now)

    def _can_be(self, attempt: Attempt, transfer: Transfer) -> bool:
        found = matches(attempt.order, [transfer], attempt.sent_at, self._lookup.clock_offset_seconds)
        return bool(found) and describes(attempt, transfer)

    def _is_like(self, attempt: Attempt, transfer: Transfer) -> bool:
        return speaks_against_absence(attempt, transfer, self._lookup.external_ids)


def _missing_id(transfer: Transfer) -> str:
    return str(uuid5(_MISSING_IDS, transfer.id))


def _claims_first(attempt: Attempt) -> tuple[int, datetime]:
    """Accepted attempts claim a transfer first, then those of unknown outcome, then those taken for not executed."""
    rank = {State.UNKNOWN: 1, State.NOT_EXECUTED: 2}
    return rank.get(attempt.state, 0), attempt.sent_at


@dataclass
class _Decisions:
    writer: Writer
    lookup: Lookup
    grace: timedelta
    findings: list[Finding] = field(default_factory=list)
    free: dict[str, Transfer] = field(init=False)
    """The transfers that no attempt has, by id."""
    by_id: dict[str, Transfer] = field(init=False)
    missing: list[Attempt] = field(default_factory=list)
    """Attempts without a transfer. What that means is decided when every other one has claimed its own."""
    restored_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.by_id = {transfer.id: transfer for transfer in self.lookup.transfers}
        self.restored_at = self.writer.restored_at() or LONG_AGO
        self.free = {key: one for key, one in self.by_id.items() if not self.writer.is_claimed(key)}

    def conclude(self) -> None:
        """Decide about the attempts for which there is no transfer."""
        for attempt in self.missing:
            self._not_found(attempt)

    def claim(self, group: list[Attempt], *, waits_for: str | None) -> None:
        """Follow the transfers of attempts of one order, and claim those that are free, in the order of the group.

        Args:
            group: the attempts.
            waits_for: why those without a transfer cannot be decided now; ``None`` if they can.
        """
        for attempt in [one for one in group if one.transfer_id is not None]:
            self._follow(attempt, self.by_id.get(attempt.transfer_id or ""))
        waiting = [one for one in group if one.transfer_id is None]
        if waits_for is not None:
            for attempt in waiting:
                self._leave(attempt, waits_for)
            return
        candidates = [self._candidates(one) for one in waiting]
        free_ids = {transfer.id for found in candidates for transfer in found}
        wanting = sum(one.state is not State.NOT_EXECUTED for one in waiting)
        is_ambiguous = len(free_ids) > wanting > 0
        for attempt in waiting:
            transfer = next(iter(self._candidates(attempt)), None)
            if transfer is None or not self._sees(attempt):
                self.missing.append(attempt)
            elif is_ambiguous:
                self._ambiguous(attempt, [self.free[key] for key in sorted(free_ids)])
            else:
                del self.free[transfer.id]
                self._claim(attempt, transfer)

    def _candidates(self, attempt: Attempt) -> list[Transfer]:
        """List the free transfers that an attempt could be, oldest first.

        Sequence may show a transfer later than a younger, equal one, which the older attempt has claimed by then. Equal
        attempts are interchangeable: what is left for the older one is left for the younger one.
        """
        found: dict[str, Transfer] = {}
        attempts, seen = [attempt], {attempt.id}
        for one in attempts:
            for transfer in matches(one.order, self.by_id.values(), one.sent_at, self.lookup.clock_offset_seconds):
                if not describes(one, transfer):
                    continue
                if transfer.id in self.free:
                    found.setdefault(transfer.id, transfer)
                    continue
                holder = self.writer.attempt_by_transfer(transfer.id)
                if holder is not None and holder.id not in seen:
                    seen.add(holder.id)
                    attempts.append(holder)
        return list(found.values())

    def _claim(self, attempt: Attempt, transfer: Transfer) -> None:
        if attempt.state is State.UNKNOWN or attempt.state is State.NOT_EXECUTED:
            is_late = attempt.state is State.NOT_EXECUTED
            accepted = accept_attempt(self.writer, attempt, transfer, reconciled=True)
            self._found(accepted, Result.ACCEPTED, LATE if is_late else None)
            if is_late and self.writer.freeze() is None:
                self.writer.set_freeze(f"attempt {attempt.id}: {LATE}", callers_only=True)
        else:
            created_at = transfer.created_at
            accepted = self.writer.update(
                attempt,
                transfer_id=transfer.id,
                upstream_created_at=created_at if isinstance(created_at, datetime) else None,
            )
            event = accepted.event(EventType.IDENTIFIED, self.writer.now, transfer_id=transfer.id)
            self.writer.add_event(event)
            self._found(accepted, Result.IDENTIFIED)
        self._follow(accepted, transfer)

    def _follow(self, attempt: Attempt, transfer: Transfer | None) -> None:
        """Record what the transfer of an accepted attempt became."""
        end = UPSTREAM_ENDS.get(transfer.status or "") if transfer is not None else None
        if transfer is not None and transfer.status != attempt.upstream_status:
            attempt = self.writer.update(attempt, upstream_status=transfer.status)
        if end is State.RETURNED:
            reason = bounded(transfer.error_reason or "Sequence gave no reason") if transfer is not None else ""
            self._end(attempt, State.RETURNED, EventType.RETURNED, error=reason, followed_until=None)
        elif end is State.ARRIVED and attempt.state is State.ACCEPTED:
            self._end(attempt, State.ARRIVED, EventType.ARRIVED)
        elif self._is_expired(attempt):
            self.writer.update(attempt, followed_until=None)
            self._found(attempt, Result.NO_LONGER_FOLLOWED)
        elif attempt.state is State.ACCEPTED:
            self._found(attempt, Result.NOT_ARRIVED)

    def _end(self, attempt: Attempt, state: State, event_type: EventType, **changes: object) -> None:
        changed = self.writer.move(attempt, state, **changes)
        error = changed.error if state is State.RETURNED else None
        event = changed.event(event_type, self.writer.now, transfer_id=changed.transfer_id, error=error)
        self.writer.add_event(event)
        self._found(changed, Result(state.value), error)

    def _ambiguous(self, attempt: Attempt, candidates: list[Transfer]) -> None:
        """There are more equal transfers than attempts, the owner's own for example: report only what all agree on."""
        ends = {UPSTREAM_ENDS.get(transfer.status or "") for transfer in candidates}
        end = next(iter(ends)) if len(ends) == 1 else None
        if attempt.state is State.ACCEPTED and end is not None:
            event_type = EventType.ARRIVED if end is State.ARRIVED else EventType.RETURNED
            self._end(attempt, end, event_type, followed_until=None, upstream_status=candidates[0].status)
        else:
            self._leave(attempt, "Sequence shows more equal transfers than were requested here")

    def _not_found(self, attempt: Attempt) -> None:
        if attempt.state is not State.UNKNOWN:
            if self._is_expired(attempt):
                self.writer.update(attempt, followed_until=None)
                self._found(attempt, Result.NO_LONGER_FOLLOWED)
            elif attempt.state is not State.NOT_EXECUTED:
                self._leave(attempt, "Sequence does not show it yet")
            return
        reason = self._why_not_absent(attempt)
        if reason is not None:
            self._leave(attempt, reason)
            return
        error = "it was looked up in the activity and is not there"
        until = self.writer.now + FOLLOWED
        changed = self.writer.move(
            attempt, State.NOT_EXECUTED, error=error, ended_at=self.writer.now, followed_until=until
        )
        outcome = State.NOT_EXECUTED.value
        self.writer.add_event(
            changed.event(EventType.FAILED, self.writer.now, error=error, outcome=outcome, reconciled=True)
        )
        self._found(changed, Result.NOT_EXECUTED, error)

    def _why_not_absent(self, attempt: Attempt) -> str | None:
        """Say why an attempt that was not found must not be taken for not executed."""
        lookup = self.lookup
        if lookup.problem is not None:
            return lookup.problem
        if attempt.sent_at < lookup.since:
            return "the lookup did not go back far enough"
        if not self._sees(attempt):
            return "its source or destination is not in the account that was looked up"
        if any(speaks_against_absence(attempt, one, lookup.external_ids) for one in self.free.values()):
            return "Sequence shows a similar transfer near that time, which could be this one"
        # What a backup knows as reserved can have been sent at any time until the restore.
        final_after = self.grace + timedelta(seconds=lookup.resend_seconds)
        if lookup.began_at - max(attempt.sent_at, self.restored_at) <= final_after:
            return f"it is not there yet; that is final after {final_after.total_seconds():g} seconds"
        return None

    def _sees(self, attempt: Attempt) -> bool:
        """Say whether the account that was looked up has both parties: another key may list fewer."""
        return {attempt.source_id, attempt.destination_id} <= self.lookup.party_ids

    def _is_expired(self, attempt: Attempt) -> bool:
        return attempt.followed_until is not None and attempt.followed_until <= self.writer.now

    def _leave(self, attempt: Attempt, reason: str) -> None:
        if attempt.state is State.NOT_EXECUTED:
            return
        self._found(attempt, Result.STILL_UNKNOWN, reason)

    def _found(self, attempt: Attempt, result: Result, reason: str | None = None) -> None:
        self.findings.append(
            Finding(
                attempt_id=attempt.id,
                amount_cents=attempt.amount_cents,
                result=result,
                transfer_id=attempt.transfer_id,
                reason=reason,
            )
        )


def _pause_seconds(findings: list[Finding], looks: int) -> float:
    results = {finding.result for finding in findings}
    if Result.STILL_UNKNOWN in results:
        return UNKNOWN_PAUSES_SECONDS[min(looks, len(UNKNOWN_PAUSES_SECONDS) - 1)]
    if Result.NOT_ARRIVED in results:
        return ACCEPTED_PAUSES_SECONDS[min(looks, len(ACCEPTED_PAUSES_SECONDS) - 1)]
    return IDLE_SECONDS
