"""What another policy would have decided about recorded attempts. Nothing is asked or changed."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from heapq import heappop, heappush

from pysequence_api.models import AccountType, TransferOrder
from pysequence_api.records.attempts import WINDOW_MARGIN, Attempt, Used
from pysequence_api.records.states import RULES, TAKEN_STATES, State
from pysequence_api.safeguards.judge import Judgement, PolicyCode, judge
from pysequence_api.safeguards.policy import Limits, Pairs, Policy, account_id


class Change(StrEnum):
    """What becomes different for an attempt."""

    SAME = "same"
    NOW_REFUSED = "now_refused"
    NOW_ALLOWED = "now_allowed"
    NOW_ASKS = "now_asks"


@dataclass(frozen=True, slots=True)
class Changed:
    """An attempt about which another policy decides differently.

    Attributes:
        code: why it is refused now, or was refused then.
    """

    attempt: Attempt
    change: Change
    code: str


@dataclass(frozen=True, slots=True)
class Replay:
    """What another policy would have decided.

    Attributes:
        changed: what becomes different, oldest first.
        totals: how many attempts of each kind there are, and their amounts.
        by_code: the same for those that change, by the code of `Changed`.
        not_judged: attempts that something else than a policy refused, or that name no accounts. They are in no total.
    """

    changed: tuple[Changed, ...]
    totals: dict[Change, Used]
    by_code: dict[tuple[Change, str], Used]
    not_judged: Used


def history_of(attempts: Iterable[Attempt], now: datetime) -> "InMemoryHistory":
    """Return what counts at a time.

    Args:
        attempts: as they are recorded, in any order.
        now: the time; what was requested later does not count.
    """
    history = InMemoryHistory()
    for attempt in attempts:
        if attempt.created_at <= now and _past(attempt) is _Decision.ALLOWED:
            history.add(attempt)
    history.advance(now)
    return history


def replay(
    attempts: Iterable[Attempt],
    policy: Policy,
    limits: Limits,
    *,
    since: datetime | None = None,
    asked: Collection[str] = (),
) -> Replay:
    """Run recorded attempts through a policy. Budgets accumulate what this policy lets through, and nothing else.

    An attempt that was let through counts as its record says. One that was refused, and now is allowed, counts as if
    it had been made at once. A transfer whose money came back never counts in its month: when that was known is not
    in its record. What the owner approved counts as its record says if this policy asks, too.

    Args:
        attempts: oldest first.
        policy: the other policy.
        limits: the global limits.
        since: earlier attempts only fill the budgets, and are in no result; ``None`` for all.
        asked: the attempts that the owner was asked about, by their ids.
    """
    history, changed, not_judged = InMemoryHistory(), list[Changed](), Used()
    totals = dict.fromkeys(Change, Used())
    by_code: dict[tuple[Change, str], Used] = defaultdict(Used)
    types = {account_id(account): AccountType(account.partition(":")[0]) for account in policy.accounts.values()}
    for attempt in attempts:
        past, order = _past(attempt, asked), _order(attempt, types)
        is_counted = RULES[attempt.state].counts
        is_told = since is None or attempt.created_at >= since
        if past is None or order is None:
            not_judged = _plus(not_judged, attempt) if is_told else not_judged
            if past is _Decision.ALLOWED or is_counted:
                history.add(attempt)
            continue
        history.advance(attempt.created_at)
        judgement = judge(policy, attempt.caller, order, history=history, limits=limits, now=attempt.created_at)
        now = _decision(judgement)
        if now is _Decision.ALLOWED or (now is _Decision.ASKS and past is _Decision.ASKS and is_counted):
            history.add(attempt, is_made_at_once=past is not _Decision.ALLOWED and not is_counted)
        if not is_told:
            continue
        change = Change.SAME if now is past else _CHANGES[now]
        totals[change] = _plus(totals[change], attempt)
        if change is not Change.SAME:
            code = judgement.code or attempt.code or attempt.state.value
            changed.append(Changed(attempt, change, code))
            by_code[change, code] = _plus(by_code[change, code], attempt)
    return Replay(tuple(changed), totals, dict(by_code), not_judged)


class _Decision(StrEnum):
    ALLOWED = "allowed"
    REFUSED = "refused"
    ASKS = "asks"


_CHANGES = {
    _Decision.ALLOWED: Change.NOW_ALLOWED,
    _Decision.REFUSED: Change.NOW_REFUSED,
    _Decision.ASKS: Change.NOW_ASKS,
}
_ASKED = {State.AWAITING_APPROVAL, State.DENIED, State.EXPIRED}
_JUDGED = set(PolicyCode) - {PolicyCode.FROZEN}
"""The codes of refusals that another policy could change."""


def _past(attempt: Attempt, asked: Collection[str] = ()) -> _Decision | None:
    """Return what was decided; ``None`` if something else than a policy refused it."""
    if attempt.id in asked or attempt.state in _ASKED or attempt.code == PolicyCode.NEEDS_APPROVAL:
        return _Decision.ASKS
    if attempt.state is not State.REJECTED:
        return _Decision.ALLOWED
    return _Decision.REFUSED if attempt.code in _JUDGED else None


def _decision(judgement: Judgement) -> _Decision:
    if judgement.code is None:
        return _Decision.ALLOWED
    return _Decision.ASKS if judgement.asks else _Decision.REFUSED


def _order(attempt: Attempt, types: dict[str, AccountType]) -> TransferOrder | None:
    source, destination = attempt.source_id, attempt.destination_id
    if source is None or destination is None:
        return None
    # Attempts from old files have no types.
    source_type = attempt.source_type or types.get(source, AccountType.POD)
    destination_type = attempt.destination_type or types.get(destination, AccountType.POD)
    return TransferOrder.model_construct(
        source_id=source,
        source_type=AccountType(source_type),
        destination_id=destination,
        destination_type=AccountType(destination_type),
        amount_cents=attempt.amount_cents,
        instant=attempt.instant,
    )


def _plus(used: Used, attempt: Attempt) -> Used:
    return Used(used.cents + attempt.amount_cents, used.count + 1)


_Key = tuple[str | None, str | None, str | None]
"""Caller, source id and destination id; ``None`` for all."""


@dataclass(slots=True)
class _Sums:
    """What counts of one key: what is open, and what was taken, by its time."""

    open: Used = field(default_factory=Used)
    times: list[datetime] = field(default_factory=list)
    sums: list[tuple[Used, Used]] = field(default_factory=list)
    """Up to and including each time: all, and what did not come back."""

    def add_open(self, cents: int, count: int) -> None:
        self.open = Used(self.open.cents + cents, self.open.count + count)

    def add_taken(self, at: datetime, cents: int, *, returned: bool) -> None:
        place = bisect_right(self.times, at)
        self.times.insert(place, at)
        self.sums.insert(place, self.sums[place - 1] if place else (Used(), Used()))
        for index in range(place, len(self.sums)):  # few: attempts end nearly in order
            everything, kept = self.sums[index]
            everything = Used(everything.cents + cents, everything.count + 1)
            self.sums[index] = everything, kept if returned else Used(kept.cents + cents, kept.count + 1)

    def since(self, begin: datetime, *, returned: bool) -> Used:
        place, kind = bisect_left(self.times, begin), 0 if returned else 1
        last = self.sums[-1][kind] if self.sums else Used()
        before = self.sums[place - 1][kind] if place else Used()
        return Used(self.open.cents + last.cents - before.cents, self.open.count + last.count - before.count)


class InMemoryHistory:
    """A `judge.History` that is told what happens, in order."""

    def __init__(self) -> None:
        self._sums: dict[_Key, _Sums] = defaultdict(_Sums)
        self._ends: list[tuple[datetime, int, Attempt]] = []
        self._added = 0

    def add(self, attempt: Attempt, *, is_made_at_once: bool = False) -> None:
        """Add an attempt that is let through. It is open until `advance` passes its end.

        Args:
            attempt: with its end, as it is known later.
            is_made_at_once: whether it counts as made when it was requested, whatever its record says.
        """
        if is_made_at_once:
            self._take(attempt, attempt.created_at)
            return
        for key in _keys(attempt):
            self._sums[key].add_open(attempt.amount_cents, 1)
        if not RULES[attempt.state].is_open:
            self._added += 1
            heappush(self._ends, (attempt.ended_at or attempt.sent_at, self._added, attempt))

    def advance(self, now: datetime) -> None:
        """Let time pass: what ended until now is open no longer."""
        while self._ends and self._ends[0][0] <= now:
            ended_at, _, attempt = heappop(self._ends)
            for key in _keys(attempt):
                self._sums[key].add_open(-attempt.amount_cents, -1)
            if attempt.state in TAKEN_STATES:
                self._take(attempt, attempt.upstream_created_at or ended_at)

    def used(self, caller: str | None, pairs: Pairs | None, since: datetime, *, returned: bool) -> Used:
        """Add up what counts, as `judge.History` says."""
        begin = since - WINDOW_MARGIN
        if pairs is None:
            return self._since((caller, None, None), begin, returned=returned)
        named = [pair for pair in pairs.named if not pairs.sources or pair[0] in pairs.sources]
        of_named = self._total([(caller, *pair) for pair in named], begin, returned=returned)
        if not pairs.sources:
            return of_named
        everything = self._total([(caller, source, None) for source in pairs.sources], begin, returned=returned)
        return Used(everything.cents - of_named.cents, everything.count - of_named.count)

    def _total(self, keys: Iterable[_Key], begin: datetime, *, returned: bool) -> Used:
        found = [self._since(key, begin, returned=returned) for key in keys]
        return Used(sum(one.cents for one in found), sum(one.count for one in found))

    def _since(self, key: _Key, begin: datetime, *, returned: bool) -> Used:
        sums = self._sums.get(key)
        return Used() if sums is None else sums.since(begin, returned=returned)

    def _take(self, attempt: Attempt, at: datetime) -> None:
        for key in _keys(attempt):
            self._sums[key].add_taken(at, attempt.amount_cents, returned=attempt.state is State.RETURNED)


def _keys(attempt: Attempt) -> Iterator[_Key]:
    for caller in (None, attempt.caller):
        yield caller, None, None
        if attempt.source_id is not None:
            yield caller, attempt.source_id, None
            if attempt.destination_id is not None:
                yield caller, attempt.source_id, attempt.destination_id
