"""The one decision about a transfer: policy, history, order and time in; the decision and every check out.

It asks nothing but its arguments, so that the transfer service, `policy explain` and `policy replay` agree.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from functools import cached_property
from math import ceil
from typing import Literal, Protocol

from pysequence_api.models import TransferOrder
from pysequence_api.money import format_cents
from pysequence_api.records.attempts import DEFAULT_CALLER, OWNER, WINDOW_MARGIN, Freeze, Used
from pysequence_api.safeguards.policy import Caller, Limits, Pairs, Policy, Rule, Scope, Windows, account_of
from pysequence_api.text import quoted

Unit = Literal["cents", "count"]
GLOBAL_MAXIMUM = "global maximum"
"""The check of the per-transfer limit of the settings."""
GLOBAL_DAY = "global day_cents"
"""The check of the daily limit of the settings."""


class PolicyCode(StrEnum):
    """Why a policy refuses a transfer, for programs."""

    CALLER_EXPIRED = "caller_expired"
    FROZEN = "frozen"
    SCOPE_MISSING = "scope_missing"
    NEVER_ALLOWED = "never_allowed"
    PAIR_NOT_ALLOWED = "pair_not_allowed"
    OVER_MAX = "over_max"
    INSTANT_NOT_ALLOWED = "instant_not_allowed"
    NEEDS_APPROVAL = "needs_approval"
    OVER_HOUR = "over_hour"
    OVER_DAY = "over_day"
    OVER_MONTH = "over_month"
    COUNT_HOUR = "count_hour"
    COUNT_DAY = "count_day"
    OVER_GLOBAL = "over_global"


class History(Protocol):
    """What the attempts so far add up to."""

    def used(self, caller: str | None, pairs: Pairs | None, since: datetime, *, returned: bool) -> Used:
        """Add up what counts in a window that began at a time and goes on now.

        That is what is open, and what Sequence took and may have run in the window: its time at Sequence, or else the
        time when it ended, is not before ``since - WINDOW_MARGIN``. What lies in the future counts.

        Args:
            caller: whose attempts; ``None`` for those of all callers.
            pairs: between which accounts; ``None`` for all.
            since: when the window began.
            returned: whether attempts count whose money came back.
        """


class Window(StrEnum):
    """A time over which transfers are added up."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"

    def begin(self, now: datetime) -> datetime:
        """Return when the window began that goes on at a time."""
        if self is Window.HOUR:
            return now - timedelta(hours=1)
        day = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
        return day if self is Window.DAY else day.replace(day=1)

    @property
    def counts_returned(self) -> bool:
        """Whether a transfer counts whose money came back."""
        return self is not Window.MONTH

    @property
    def phrase(self) -> str:
        """The window, in words."""
        return "the last hour" if self is Window.HOUR else f"this UTC {self.value}"


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a transfer.

    Attributes:
        name: what is checked, such as ``scope`` or ``rule day_cents``.
        text: the result in one line, for people. It is safe for the caller to read.
        code: why it failed; ``None`` if it passed.
        limit: the limit, in cents or in transfers, if there is one. Of the global limits it is for the owner only.
        left: what was left of the limit before this transfer. Of the global limits it is for the owner only.
        retry_after_seconds: when it will pass, if only the window that closes at this moment refuses.
    """

    name: str
    text: str
    code: PolicyCode | None = None
    limit: int | None = None
    left: int | None = None
    retry_after_seconds: int | None = None

    @property
    def passed(self) -> bool:
        """Whether the transfer passed it."""
        return self.code is None

    @property
    def is_global(self) -> bool:
        """Whether it is about the limits of the settings, whose numbers are for the owner only."""
        return self.name in {GLOBAL_MAXIMUM, GLOBAL_DAY}


@dataclass(frozen=True)
class Judgement:
    """What was decided about a transfer.

    Attributes:
        checks: every check that applies, in order. The first that failed decides.
        rule: the rule that covers the two accounts, if any.
    """

    checks: tuple[Check, ...]
    rule: Rule | None = None

    @cached_property
    def refused_by(self) -> Check | None:
        """The first check that failed; ``None`` if the transfer is allowed."""
        return next((check for check in self.checks if not check.passed), None)

    @property
    def code(self) -> PolicyCode | None:
        """The code of the first check that failed."""
        return None if self.refused_by is None else self.refused_by.code

    @property
    def asks(self) -> bool:
        """Whether the owner has to approve it first. Windows come later: they may have room by then."""
        return self.code is PolicyCode.NEEDS_APPROVAL

    @property
    def retry_after_seconds(self) -> int | None:
        """When the same order will be allowed, if only windows that close at this moment refuse it."""
        waits = [check.retry_after_seconds for check in self.checks if not check.passed]
        known = [wait for wait in waits if wait is not None]
        return max(known) if known and len(known) == len(waits) else None


def judge(
    policy: Policy | None,
    caller: str,
    order: TransferOrder,
    *,
    history: History,
    limits: Limits,
    now: datetime,
    frozen: Freeze | None = None,
    own: bool = False,
    approved: str | None = None,
) -> Judgement:
    """Decide about a transfer.

    Args:
        policy: the policy in force; ``None`` if there is none.
        caller: who asks.
        order: the transfer.
        history: what counts so far.
        limits: the global limits.
        now: the time.
        frozen: why this caller's transfers are frozen, if they are.
        own: whether the order is among what counts already: its amount is reserved.
        approved: the name of the rule that asked, if the owner approved this order. That lifts `approve_above_cents` of
            this rule, and nothing else.
    """
    totals = _Totals(history, now, order.amount_cents, own)
    last = _frozen_check(frozen), *_global_checks(totals, limits)
    if is_free(policy, caller):
        return Judgement(last)
    granted = Caller() if policy is None else policy.caller(caller)
    rule = granted.rule_for(_source(order), _destination(order))
    checks = (
        _expiry_check(granted, now),
        last[0],
        _scope_check(granted, caller),
        _never_check(policy, order),
        _pair_check(rule, order),
        *(
            ()
            if rule is None
            else _rule_checks(rule, order, totals.of(caller, granted.pairs_by_rule[rule.name]), approved)
        ),
        *_window_checks("caller", "your limit of {}", granted, totals.of(caller, None)),
        *last[1:],
    )
    return Judgement(checks, rule)


def is_free(policy: Policy | None, caller: str) -> bool:
    """Say whether a caller is held by the global limits only: the owner, and `default` while there is no policy."""
    return caller == OWNER or (caller == DEFAULT_CALLER and policy is None)


def needs_key(caller: str) -> bool:
    """Say whether a caller has to name an idempotency key: every one that can only move what a policy grants it.

    `default` had none before there were policies, and a person at the terminal confirms each transfer.
    """
    return caller not in {OWNER, DEFAULT_CALLER}


@dataclass(frozen=True, slots=True)
class _Totals:
    """What counts in the windows of a caller and some pairs of accounts, without the order itself."""

    history: History
    now: datetime
    amount_cents: int
    own: bool
    caller: str | None = None
    pairs: Pairs | None = None
    found: dict[tuple[Window, datetime], Used] = field(default_factory=dict)

    def of(self, caller: str, pairs: Pairs | None) -> "_Totals":
        return _Totals(self.history, self.now, self.amount_cents, self.own, caller, pairs)

    def asked(self, unit: Unit) -> int:
        """Return how much of a limit the order takes."""
        return self.amount_cents if unit == "cents" else 1

    def left(self, window: Window, unit: Unit, limit: int) -> tuple[int, int | None]:
        """Return what is left of a limit; and, if only the window that closes now refuses the order, for how long.

        For Sequence, whose clock may be behind, it may be up to `WINDOW_MARGIN` earlier: that window holds, too.
        """
        left = limit - self._used(window, unit, self.now - WINDOW_MARGIN)
        wait = None
        if self.asked(unit) > left and self.asked(unit) <= limit - self._used(window, unit, self.now):
            closed = self.now if window is Window.HOUR else window.begin(self.now)
            wait = ceil((closed + WINDOW_MARGIN - self.now).total_seconds())
        return max(0, left), wait

    def _used(self, window: Window, unit: Unit, moment: datetime) -> int:
        key = window, moment
        if key not in self.found:
            since = window.begin(moment)
            self.found[key] = self.history.used(self.caller, self.pairs, since, returned=window.counts_returned)
        found = self.found[key].cents if unit == "cents" else self.found[key].count
        return found - self.asked(unit) if self.own else found


def _frozen_check(frozen: Freeze | None) -> Check:
    if frozen is None:
        return Check("frozen", "Transfers are not frozen.")
    text = f"Transfers are frozen since {frozen.since:%Y-%m-%d %H:%M} UTC ({frozen.reason})."
    return Check("frozen", text, PolicyCode.FROZEN)


def _expiry_check(granted: Caller, now: datetime) -> Check:
    if granted.expires is None:
        return Check("expiry", "The caller does not expire.")
    at = f"{granted.expires:%Y-%m-%d %H:%M} UTC"
    if granted.is_expired(now):
        return Check("expiry", f"The caller expired on {at}.", PolicyCode.CALLER_EXPIRED)
    return Check("expiry", f"The caller expires on {at}.")


def _scope_check(granted: Caller, caller: str) -> Check:
    if Scope.MOVE in granted.scopes:
        return Check("scope", "The policy grants the scope move.")
    text = f"The policy does not grant the scope move to {quoted(caller)}."
    return Check("scope", text, PolicyCode.SCOPE_MISSING)


def _never_check(policy: Policy | None, order: TransferOrder) -> Check:
    # By the id alone: a wrong type must not be a way around it.
    sources, destinations = (frozenset[str](), frozenset[str]()) if policy is None else policy.never_ids
    for is_listed, name in (
        (order.source_id in sources, "from its source"),
        (order.destination_id in destinations, "to its destination"),
    ):
        if is_listed:
            return Check("never", f"The policy never allows a transfer {name}.", PolicyCode.NEVER_ALLOWED)
    return Check("never", "Neither account is one that the policy never allows.")


def _pair_check(rule: Rule | None, order: TransferOrder) -> Check:
    if rule is not None:
        return Check("pair", f"The rule {rule.name} covers it.")
    # As the caller wrote them: the owner's words for accounts that it may not see are not for it.
    source, destination = quoted(_source(order)), quoted(_destination(order))
    text = f"No rule of the policy allows a transfer from {source} to {destination}."
    return Check("pair", text, PolicyCode.PAIR_NOT_ALLOWED)


def _rule_checks(rule: Rule, order: TransferOrder, totals: _Totals, approved: str | None) -> Iterator[Check]:
    amount, most = format_cents(order.amount_cents), format_cents(rule.max_cents)
    left, whose = rule.max_cents, f"the rule {rule.name}"
    if order.amount_cents > rule.max_cents:
        text = f"{amount} is over the {most} that {whose} allows for one transfer."
        yield Check("maximum", text, PolicyCode.OVER_MAX, limit=rule.max_cents, left=left)
    else:
        yield Check("maximum", f"{amount} of at most {most} for one transfer.", limit=rule.max_cents, left=left)
    if order.instant and not rule.instant:
        text = f"The rule {rule.name} does not allow instant transfers. Request it without instant."
        yield Check("instant", text, PolicyCode.INSTANT_NOT_ALLOWED)
    else:
        yield Check("instant", "It is instant, as the rule allows." if order.instant else "It is not instant.")
    yield _approval_check(rule, order, approved)
    yield from _window_checks("rule", f"the {{}} that {whose} allows", rule, totals)


def _approval_check(rule: Rule, order: TransferOrder, approved: str | None) -> Check:
    if rule.approve_above_cents is None:
        return Check("approval", f"The rule {rule.name} needs no approval.")
    needed = f"above {format_cents(rule.approve_above_cents)}" if rule.approve_above_cents else "for every transfer"
    if rule.asks(order.amount_cents) and approved == rule.name:
        return Check("approval", "The owner approved it.")
    if rule.asks(order.amount_cents):
        text = f"The rule {rule.name} needs the owner's approval {needed}."
        return Check("approval", text, PolicyCode.NEEDS_APPROVAL)
    return Check("approval", f"The rule {rule.name} needs approval only {needed}.")


WINDOW_LIMITS: tuple[tuple[str, Window, Unit, PolicyCode], ...] = (
    ("hour_cents", Window.HOUR, "cents", PolicyCode.OVER_HOUR),
    ("day_cents", Window.DAY, "cents", PolicyCode.OVER_DAY),
    ("month_cents", Window.MONTH, "cents", PolicyCode.OVER_MONTH),
    ("hour_count", Window.HOUR, "count", PolicyCode.COUNT_HOUR),
    ("day_count", Window.DAY, "count", PolicyCode.COUNT_DAY),
)
"""The limits of windows, in the order in which they are checked."""


def _window_checks(kind: str, phrase: str, windows: Windows, totals: _Totals) -> Iterator[Check]:
    for name, window, unit, code in WINDOW_LIMITS:
        limit: int | None = getattr(windows, name)
        if limit is not None:
            left, retry_after_seconds = totals.left(window, unit, limit)
            asked = totals.asked(unit)
            of = f"the {_shown(left, unit)} left of {phrase.format(_shown(limit, unit))} for {window.phrase}"
            if asked <= left:
                yield Check(f"{kind} {name}", f"{_shown(asked, unit)} of {of}.", limit=limit, left=left)
            else:
                later = "" if retry_after_seconds is None else f" It is allowed in {retry_after_seconds} seconds."
                text = f"{_shown(asked, unit)} is over {of}.{later}"
                yield Check(f"{kind} {name}", text, code, limit, left, retry_after_seconds)


def _global_checks(totals: _Totals, limits: Limits) -> Iterator[Check]:
    # Without numbers: they would tell a caller what others spent.
    refused, allowed = "The gateway's own limits do not allow it now.", "The gateway's own limits allow it."
    day_left, retry_after_seconds = totals.left(Window.DAY, "cents", limits.per_day)
    for name, limit, left, wait in (
        (GLOBAL_MAXIMUM, limits.per_transfer, limits.per_transfer, None),
        (GLOBAL_DAY, limits.per_day, day_left, retry_after_seconds),
    ):
        if totals.amount_cents <= left:
            yield Check(name, allowed, limit=limit, left=left)
        else:
            yield Check(name, refused, PolicyCode.OVER_GLOBAL, limit, left, wait)


def _shown(number: int, unit: Unit) -> str:
    if unit == "cents":
        return format_cents(number)
    return f"{number:,} transfer{'' if number == 1 else 's'}"


def _source(order: TransferOrder) -> str:
    return account_of(order.source_type, order.source_id)


def _destination(order: TransferOrder) -> str:
    return account_of(order.destination_type, order.destination_id)
