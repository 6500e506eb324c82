"""What a caller may know: what it has used of its limits, and its attempts."""

from datetime import date

from pydantic import Field

from pysequence_api.errors import InvalidRequestError
from pysequence_api.models import PageInfo, Timestamp
from pysequence_api.records.attempts import Attempt, Reader
from pysequence_api.records.database import Database
from pysequence_api.records.keys import sha256_of
from pysequence_api.records.states import State
from pysequence_api.safeguards.judge import WINDOW_LIMITS, Window, is_free
from pysequence_api.safeguards.now import frozen_for, state_now
from pysequence_api.safeguards.policies import policy_in_force
from pysequence_api.safeguards.policy import Caller, Pairs, Scope, Windows
from pysequence_api.safeguards.scopes import sees_everything
from pysequence_api.safeguards.status import (
    AttemptStatus,
    Result,
    UnsettledAttempt,
    read_attempt,
    status_of,
    used_today,
)
from pysequence_api.sequence.client import NOT_A_CURSOR

MAX_ATTEMPTS_READ = 1000
"""For one page of a list of attempts. This runs on the event loop."""
_ROLLING = {name for name, window, _, _ in WINDOW_LIMITS if window is Window.HOUR}
"""The limits whose windows begin later with every moment."""


class CallerWindow(Result):
    """One limit of the policy, and what a caller has used of it."""

    rule: str | None = Field(description="The rule that it belongs to; null for the caller's own limit")
    name: str = Field(description="Such as day_cents or hour_count: rolling hours, UTC days, UTC months")
    limit: int = Field(description="In cents, or in transfers")
    used: int
    left: int


class CallerLimits(Result):
    """What a caller has used of this UTC day, and of the limits that the policy sets it."""

    caller: str
    frozen: bool = Field(description="Whether transfers of this caller are frozen")
    frozen_reason: str | None = Field(description="Why they are frozen")
    frozen_since: Timestamp | None = Field(description="Since when they are frozen")
    used_cents: int = Field(description="What of this caller counts today, with everything that has not ended")
    windows: tuple[CallerWindow, ...] = Field(description="The caller's own limits, then those of its rules")
    date: date
    unsettled: tuple[UnsettledAttempt, ...]


class AttemptList(Result):
    """Attempts of one caller, newest first."""

    attempts: tuple[AttemptStatus, ...]
    page_info: PageInfo


def read_caller_limits(records: Database, caller: str) -> CallerLimits:
    """Say what a caller has used today, and nothing of others.

    Raises:
        SafeguardsUnavailableError: the records cannot be read.
    """

    def ask(reader: Reader) -> CallerLimits:
        used_cents, unsettled = used_today(reader, records, caller)
        frozen = frozen_for(reader, caller)
        return CallerLimits(
            caller=caller,
            frozen=frozen is not None,
            frozen_reason=frozen.reason if frozen else None,
            frozen_since=frozen.since if frozen else None,
            used_cents=used_cents,
            windows=caller_windows(reader, caller),
            date=reader.now.date(),
            unsettled=unsettled,
        )

    return records.read_kept(("limits of", caller, records.now().date()), ask, _is_lasting)


def _is_lasting(limits: CallerLimits) -> bool:
    """Say whether only a change of the database, or another day, changes these limits."""
    rolls = any(one.used and one.name in _ROLLING for one in limits.windows)
    return not limits.unsettled and not rolls


def read_attempt_of(records: Database, attempt_id: str, caller: str) -> AttemptStatus:
    """Say what a caller may know of an attempt: it is its own, or the caller sees everything.

    Raises:
        NotFoundError: there is no such attempt, or not one that the caller may see.
        SafeguardsUnavailableError: the records cannot be read.
    """

    def may_see(reader: Reader, attempt: Attempt) -> bool:
        return attempt.caller == caller or sees_everything(policy_in_force(reader), caller, Scope.READ_ACTIVITY)

    return read_attempt(records, attempt_id, may_see)


def list_attempts(
    records: Database,
    caller: str,
    *,
    state: State | None = None,
    key: str | None = None,
    limit: int = 10,
    after: str = "",
) -> AttemptList:
    """List the attempts of a caller, newest first.

    At most `MAX_ATTEMPTS_READ` are read for one page. If few of them match, it is short, and has a next one.

    Args:
        records: the database.
        caller: whose attempts.
        state: only those that are in this state now.
        key: only those with this idempotency key.
        limit: how many.
        after: the end cursor of the previous page; empty for the first page.

    Raises:
        InvalidRequestError: ``after`` is not a cursor of this list.
        SafeguardsUnavailableError: the records cannot be read.
    """

    key_sha256 = None if key is None else sha256_of(key.encode())
    # What is recorded as one of the last three can be another state by now.
    recorded = None if state is None else {state, State.RESERVED, State.SENDING, State.AWAITING_APPROVAL}

    def ask(reader: Reader) -> AttemptList:
        before = reader.attempt(after) if after else None
        if after and (before is None or before.caller != caller):
            raise InvalidRequestError(NOT_A_CURSOR)
        overdue = reader.overdue_approvals()
        count = limit + 1 if state is None and key is None else MAX_ATTEMPTS_READ
        listed = reader.outlines_of(caller, count, before)
        # An order that waited for the owner can have more keys than its first one.
        named = None if key_sha256 is None else reader.attempt_by_key(caller, key_sha256)
        found: list[AttemptStatus] = []
        for one in listed:
            has_key = key_sha256 in {None, one.key_sha256} or (named is not None and one.id == named.id)
            if has_key and (recorded is None or one.state in recorded):
                attempt = reader.attempt(one.id)
                if attempt is not None and state in {None, state_now(attempt, records.owners, overdue)}:
                    found.append(status_of(reader, attempt, records.owners))
            if len(found) > limit:
                break
        end = ""
        if len(found) > limit:
            end = found[limit - 1].attempt_id
        elif len(listed) == MAX_ATTEMPTS_READ:
            end = listed[-1].id
        return AttemptList(attempts=tuple(found[:limit]), page_info=PageInfo(end_cursor=end, has_next_page=bool(end)))

    return records.read(ask)


def caller_windows(reader: Reader, caller: str) -> tuple[CallerWindow, ...]:
    """Say what a caller has used of the limits that the policy sets it; nothing of one that no policy holds."""
    policy = policy_in_force(reader)
    if policy is None or is_free(policy, caller):
        return ()
    granted: Caller = policy.caller(caller)
    tables: list[tuple[str | None, Windows, Pairs | None]] = [(None, granted, None)]
    tables += [(rule.name, rule, granted.pairs_by_rule[rule.name]) for rule in granted.rules]
    found = []
    for rule, windows, pairs in tables:
        for name, window, unit, _ in WINDOW_LIMITS:
            limit: int | None = getattr(windows, name)
            if limit is not None:
                used = reader.used(caller, pairs, window.begin(reader.now), returned=window.counts_returned)
                count = used.cents if unit == "cents" else used.count
                found.append(CallerWindow(rule=rule, name=name, limit=limit, used=count, left=max(0, limit - count)))
    return tuple(found)
