"""The one decision about a transfer, compared with a plain second implementation."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pysequence_api.models import TransferOrder
from pysequence_api.records.attempts import Attempt, Freeze
from pysequence_api.records.states import State
from pysequence_api.safeguards.judge import Judgement, PolicyCode, Window, judge
from pysequence_api.safeguards.now import MaxCents
from pysequence_api.safeguards.policy import Policy, Windows
from tests.safeguards.plain_judge import (
    BOUNDARIES,
    CALLERS,
    TWO_MINUTES,
    WINDOW_LIMITS,
    PlainHistory,
    an_attempt,
    as_toml,
    attempts,
    order_of,
    orders,
    plain_codes,
    specs,
    times,
)
from tests.safeguards.policies import EXAMPLE, LIMITS, NOON, order, policy_of

ORDER_OF_CODES = [code.value for code in PolicyCode]
ENDS = (*[State.ACCEPTED, State.ARRIVED] * 4, State.RETURNED, State.UNKNOWN)
limits = st.builds(MaxCents, st.integers(1, 400), st.integers(1, 1500))
random = settings(suppress_health_check=[HealthCheck.too_slow])


def judged(
    policy: Policy | None,
    caller: str = "openclaw",
    asked: TransferOrder | None = None,
    *,
    history: list[Attempt] | None = None,
    now: datetime = NOON,
    frozen: Freeze | None = None,
    own: bool = False,
) -> Judgement:
    past = PlainHistory(history or [])
    return judge(policy, caller, asked or order(), history=past, limits=LIMITS, now=now, frozen=frozen, own=own)


def taken(amount_cents: int, at: datetime, caller: str = "openclaw", to: str = "b") -> Attempt:
    return replace(
        an_attempt(f"{at}", caller, "a", to, amount_cents=amount_cents, at=at), state=State.ACCEPTED, ended_at=at
    )


@random
@given(st.data())
def test_it_decides_as_the_plain_implementation_does(data: st.DataObject) -> None:
    spec, now, bounds = data.draw(specs()), data.draw(times), data.draw(limits)
    history, (caller, asked) = data.draw(attempts(now)), data.draw(orders(spec))
    judgement = judge(policy_of(as_toml(spec)), caller, asked, history=PlainHistory(history), limits=bounds, now=now)
    found = [check.code.value for check in judgement.checks if check.code is not None]
    assert found == plain_codes(spec, caller, asked, history, limits=(bounds.per_transfer, bounds.per_day), now=now)
    assert judgement.code == next(iter(found), None)
    assert found == sorted(found, key=_place)
    assert all(check.text.isprintable() for check in judgement.checks)


def _place(code: str) -> tuple[bool, int]:
    """Put a code in its place. The windows of the rule come before those of the caller, so that they can repeat."""
    is_window = code.startswith(("over_h", "over_d", "over_mo", "count_"))
    return code == "over_global", ORDER_OF_CODES.index("over_hour" if is_window else code)


@random
@given(st.data())
def test_no_limit_raises_another(data: st.DataObject) -> None:
    spec, now, bounds = data.draw(specs()), data.draw(times), data.draw(limits)
    history, (caller, asked) = PlainHistory(data.draw(attempts(now))), data.draw(orders(spec))
    table = spec["callers"].get(caller, {})
    holders = [each for each in (table, *table.get("rules", [])) if set(each) & set(WINDOW_LIMITS)]
    assume(holders)
    holder = data.draw(st.sampled_from(holders))
    with_it = judge(policy_of(as_toml(spec)), caller, asked, history=history, limits=bounds, now=now)
    del holder[data.draw(st.sampled_from(sorted(set(holder) & set(WINDOW_LIMITS))))]
    without_it = judge(policy_of(as_toml(spec)), caller, asked, history=history, limits=bounds, now=now)
    failed_with, failed_without = ({check.name for check in one.checks if check.code} for one in (with_it, without_it))
    assert failed_without <= failed_with


GENEROUS = """
version = 1
accounts = {a = "POD:1", b = "POD:2", c = "PORT:3", d = "ACCOUNT:4"}
[callers.x]
scopes = ["move"]
hour_cents = 240
day_cents = 420
month_cents = 900
hour_count = 9
day_count = 14
rules = [
  { name = "b", from = ["a"], to = ["b"], max_cents = 60, hour_cents = 130, hour_count = 4, month_cents = 500 },
  { name = "cd", from = ["a", "b"], to = ["c", "d"], max_cents = 60, day_cents = 300, day_count = 9 },
]
[callers.y]
scopes = ["move"]
hour_count = 5
rules = [{ name = "all", from = ["a", "b", "c"], to = ["d"], max_cents = 60, hour_cents = 150, day_cents = 250 }]
"""
PAIRS = (("a", "b"), ("a", "c"), ("b", "d"))
GAPS_SECONDS = (1, 20, 61, 119, 121, 300, 900, 1700, 3400, 3700, 30_000)


@given(st.integers(0, 2**32), st.sampled_from(BOUNDARIES), st.integers(0, 7200))
def test_no_window_is_ever_exceeded(seed: int, boundary: datetime, before_seconds: int) -> None:
    """Transfers run at Sequence at any moment that its clock and the time of the request allow."""
    chance, policy, now = Random(seed), policy_of(GENEROUS), boundary - timedelta(seconds=before_seconds)
    bounds, history, moved = MaxCents(60, 600), list[Attempt](), list[tuple[Attempt, datetime]]()
    for number in range(60):
        now += timedelta(seconds=chance.choice(GAPS_SECONDS[: chance.randrange(1, len(GAPS_SECONDS))]))
        if chance.random() < 0.1:
            now = max(now, Window.DAY.begin(now) + timedelta(days=1, seconds=chance.randrange(-90, 120)))
        elif moved and chance.random() < 0.2:
            now = max(now, chance.choice(moved)[1] + timedelta(hours=1, seconds=chance.randrange(-300, 300)))
        pair, caller = chance.choice(PAIRS), chance.choice((*CALLERS, "x"))
        one = an_attempt(f"{number}", caller, *pair, amount_cents=chance.randrange(1, 61), at=now)
        if judge(policy, caller, order_of(one), history=PlainHistory(history), limits=bounds, now=now).code:
            continue
        now += timedelta(seconds=chance.choice((0, 1, 90, 200)))
        reserved = PlainHistory([*history, one])
        if judge(policy, caller, order_of(one), history=reserved, limits=bounds, now=now, own=True).code:
            continue
        ended_at = now + timedelta(seconds=chance.choice((0, 1, 90)))
        at = chance.choice((now, ended_at)) + timedelta(seconds=chance.choice((-120, -120, 0, 60, 120)))
        one = replace(one, announced_at=now, ended_at=ended_at, state=chance.choice(ENDS))
        exact = at if one.state != State.UNKNOWN and chance.random() < 0.5 else None
        history.append(replace(one, upstream_created_at=exact))
        moved.append((history[-1], at))
        now = chance.choice((now, ended_at))
    _assert_within(policy, bounds, moved)


def _assert_within(policy: Policy, bounds: MaxCents, moved: list[tuple[Attempt, datetime]]) -> None:
    _assert_windows(Windows(day_cents=bounds.per_day), moved)
    for name, caller in policy.callers.items():
        own = [(one, at) for one, at in moved if one.caller == name]
        _assert_windows(caller, own)
        for rule in caller.rules:
            pairs = caller.pairs_by_rule[rule.name]
            _assert_windows(rule, [(one, at) for one, at in own if pairs.covers(one.source_id, one.destination_id)])


def _assert_windows(windows: Windows, moved: list[tuple[Attempt, datetime]]) -> None:
    for name in WINDOW_LIMITS:
        limit = getattr(windows, name)
        for _, begin in moved if limit is not None else ():
            within = [one for one, at in moved if _is_within(name, begin, at, one)]
            used = len(within) if "count" in name else sum(one.amount_cents for one in within)
            assert used <= limit, name


def _is_within(name: str, begin: datetime, at: datetime, one: Attempt) -> bool:
    if name.startswith("hour"):
        return begin <= at <= begin + timedelta(hours=1)
    if name.startswith("day"):
        return at.date() == begin.date()
    return (at.year, at.month) == (begin.year, begin.month) and one.state != State.RETURNED


def test_each_check_has_one_line_with_dollars() -> None:
    judgement = judged(policy_of(EXAMPLE), history=[taken(9_950, NOON - timedelta(minutes=5))])
    assert judgement.code is None
    assert judgement.rule is not None
    assert [(check.name, check.text) for check in judgement.checks] == [
        ("expiry", "The caller does not expire."),
        ("frozen", "Transfers are not frozen."),
        ("scope", "The policy grants the scope move."),
        ("never", "Neither account is one that the policy never allows."),
        ("pair", "The rule groceries covers it."),
        ("maximum", "$1.00 of at most $100.00 for one transfer."),
        ("instant", "It is not instant."),
        ("approval", "The rule groceries needs no approval."),
        ("rule day_cents", "$1.00 of the $100.50 left of the $200.00 that the rule groceries allows for this UTC day."),
        (
            "rule hour_count",
            "1 transfer of the 1 transfer left of the 2 transfers that the rule groceries allows for the last hour.",
        ),
        ("caller day_cents", "$1.00 of the $1,900.50 left of your limit of $2,000.00 for this UTC day."),
        ("caller month_cents", "$1.00 of the $2,500.50 left of your limit of $2,600.00 for this UTC month."),
        ("global maximum", "The gateway's own limits allow it."),
        ("global day_cents", "The gateway's own limits allow it."),
    ]


FREEZE = Freeze(NOON - timedelta(hours=1), "lost phone")
CAREFUL = """
version = 1
accounts = {a = "POD:1", b = "POD:2", c = "PORT:3", d = "ACCOUNT:4"}
never = {from = ["c"], to = ["d"]}
[callers.old]
expires = 2026-11-23T12:00:00Z
[callers.agent]
scopes = ["move"]
hour_cents = 500
day_cents = 600
month_cents = 700
hour_count = 4
day_count = 5
rules = [
  { name = "b", from = ["a"], to = ["b"], max_cents = 300, approve_above_cents = 200, hour_cents = 350 },
  { name = "any", from = ["a", "c"], to = ["*"], max_cents = 300, approve_above_cents = 0, instant = true },
]
"""


@pytest.mark.parametrize(
    ("caller", "asked", "code", "text"),
    [
        ("old", order(), "caller_expired", "The caller expired on 2026-11-23 12:00 UTC."),
        ("nobody", order(), "scope_missing", "The policy does not grant the scope move to 'nobody'."),
        ("default", order(), "scope_missing", "The policy does not grant the scope move to 'default'."),
        ("agent", order(1, "POD:1", "ACCOUNT:4"), "never_allowed", "The policy never allows a transfer to its"),
        ("agent", order(1, "POD:1", "POD:4"), "never_allowed", "to its destination."),  # whatever type it names
        ("agent", order(1, "PORT:3", "POD:1"), "never_allowed", "The policy never allows a transfer from its source."),
        (
            "agent",
            order(1, "POD:2", "POD:1"),
            "pair_not_allowed",
            "allows a transfer from 'POD:2' to 'POD:1'.",
        ),
        ("agent", order(1, "POD:2", "POD:9"), "pair_not_allowed", "from 'POD:2' to 'POD:9'."),
        ("agent", order(301), "over_max", "$3.01 is over the $3.00 that the rule b allows for one transfer."),
        ("agent", order(1, instant=True), "instant_not_allowed", "The rule b does not allow instant transfers."),
        ("agent", order(201), "needs_approval", "The rule b needs the owner's approval above $2.00."),
        ("agent", order(1, "POD:1", "PORT:3", instant=True), "needs_approval", "approval for every transfer."),
        ("agent", order(200), None, ""),
    ],
)
def test_each_refusal(caller: str, asked: TransferOrder, code: str | None, text: str) -> None:
    judgement = judged(policy_of(CAREFUL), caller, asked)
    assert judgement.code == code
    assert judgement.asks == (code == "needs_approval")
    assert judgement.retry_after_seconds is None
    assert text in ("" if judgement.refused_by is None else judgement.refused_by.text)


@pytest.mark.parametrize(
    ("amounts", "minutes", "code", "text"),
    [
        ([151], 30, "over_hour", "$2.00 is over the $1.99 left of the $3.50 that the rule b allows for the last hour."),
        ([100, 300, 100], 90, "over_day", "$2.00 is over the $1.00 left of your limit of $6.00 for this UTC day."),
        ([300, 300], 1500, "over_month", "$2.00 is over the $1.00 left of your limit of $7.00 for this UTC month."),
        (
            [1, 1, 1, 1],
            30,
            "count_hour",
            "1 transfer is over the 0 transfers left of your limit of 4 transfers for the",
        ),
        ([1, 1, 1, 1, 1], 90, "count_day", "of your limit of 5 transfers for this UTC day."),
    ],
)
def test_each_window(amounts: list[int], minutes: int, code: str, text: str) -> None:
    at = NOON - timedelta(minutes=minutes)
    history = [taken(amount, at + timedelta(seconds=number), "agent") for number, amount in enumerate(amounts)]
    judgement = judged(policy_of(CAREFUL), "agent", order(200), history=history)
    assert judgement.code == code
    assert judgement.refused_by is not None
    assert text in judgement.refused_by.text
    others = [replace(one, caller="another") for one in history]
    assert judged(policy_of(CAREFUL), "agent", order(200), history=others).code is None


def test_a_freeze_comes_before_the_policy() -> None:
    judgement = judged(policy_of(CAREFUL), "nobody", frozen=FREEZE)
    assert judgement.refused_by is not None
    assert (judgement.code, judgement.refused_by.text) == (
        "frozen",
        "Transfers are frozen since 2026-11-23 11:00 UTC (lost phone).",
    )


@pytest.mark.parametrize(("policy", "caller"), [(None, "owner"), (None, "default"), (policy_of(CAREFUL), "owner")])
def test_who_has_the_global_limits_only(policy: Policy | None, caller: str) -> None:
    assert [check.name for check in judged(policy, caller).checks] == ["frozen", "global maximum", "global day_cents"]
    assert judged(policy, caller, frozen=FREEZE).code == "frozen"
    [refused] = [check for check in judged(policy, caller, order(1_000_001)).checks if check.code]
    assert (refused.name, refused.code, refused.limit) == ("global maximum", "over_global", 1_000_000)


def test_without_a_policy_other_callers_have_nothing() -> None:
    assert judged(None, "agent").code == "scope_missing"


def test_the_global_limits_are_told_without_numbers() -> None:
    spent = [taken(2_450_000, NOON - timedelta(hours=3), "another")]
    wide = CAREFUL.replace("300", "1000000").replace("= 200", "= 1000000").replace("= 350", "= 2000000")
    for limit in ("hour_cents = 500", "day_cents = 600", "month_cents = 700"):
        wide = wide.replace(limit, "")
    judgement = judged(policy_of(wide), "agent", order(50_001), history=spent)
    assert judgement.refused_by is not None
    assert (judgement.code, judgement.refused_by.left) == ("over_global", 50_000)
    assert not any(character.isdigit() for character in judgement.refused_by.text)
    assert judged(policy_of(wide), "agent", order(50_000), history=spent).code is None


def test_a_renamed_rule_and_another_version_give_no_fresh_budget() -> None:
    history = [taken(340, NOON - timedelta(minutes=9), "agent")]
    for text in (CAREFUL, CAREFUL.replace('name = "b"', 'name = "fresh"'), CAREFUL.replace('["b"]', '["d", "b"]')):
        assert judged(policy_of(text), "agent", order(11), history=history).code == "over_hour"


def test_its_own_reservation_counts_once() -> None:
    reserved = an_attempt("1", "agent", "a", "b", amount_cents=200, at=NOON)
    asked = order_of(reserved)
    assert judged(policy_of(CAREFUL), "agent", asked, history=[reserved]).code == "over_hour"
    assert judged(policy_of(CAREFUL), "agent", asked, history=[reserved], own=True).code is None
    others = [reserved, taken(151, NOON, "agent")]
    assert judged(policy_of(CAREFUL), "agent", asked, history=others, own=True).code == "over_hour"


MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)
NEW_MONTH = datetime(2026, 12, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_what_only_the_closing_window_refuses_can_be_asked_again() -> None:
    policy = policy_of(CAREFUL.replace("hour_cents = 350", "instant = false"))
    history = [taken(300, NOON, "agent"), taken(250, NOON + SECOND, "agent")]
    for before, code in ((SECOND, "over_day"), (-TWO_MINUTES + SECOND, "over_day"), (-TWO_MINUTES, None)):
        judgement = judged(policy, "agent", order(100), history=history, now=MIDNIGHT - before)
        assert judgement.code == code
        assert judgement.retry_after_seconds == (1 if code and before < SECOND else None)
    at_midnight = judged(policy, "agent", order(100), history=history, now=MIDNIGHT)
    assert at_midnight.retry_after_seconds == 120
    assert at_midnight.refused_by is not None
    assert at_midnight.refused_by.text.endswith(" It is allowed in 120 seconds.")
    # If another check fails, too, asking again is of no use.
    assert judged(policy, "agent", order(300), history=history, now=MIDNIGHT).retry_after_seconds is None


def test_the_end_of_a_month() -> None:
    policy = policy_of(CAREFUL)
    history = [taken(300, NEW_MONTH - timedelta(days=days), "agent") for days in (10, 20)]
    for now, code in ((NEW_MONTH - SECOND, "over_month"), (NEW_MONTH + SECOND, "over_month")):
        assert judged(policy, "agent", order(101), history=history, now=now).code == code
    assert judged(policy, "agent", order(101), history=history, now=NEW_MONTH + TWO_MINUTES).code is None
    # What ended two minutes before the month may have run in it.
    for before, expected in ((TWO_MINUTES, "over_month"), (TWO_MINUTES + SECOND, None)):
        late = [taken(200, NEW_MONTH - before, "agent"), taken(300, NEW_MONTH + timedelta(days=2), "agent")]
        later = NEW_MONTH + timedelta(days=5)
        third = [*late, taken(150, later - timedelta(days=1), "agent")]
        assert judged(policy, "agent", order(100), history=third, now=later).code == expected


def test_the_rolling_hour() -> None:
    policy, history = policy_of(CAREFUL), [taken(300, NOON, "agent")]
    hour = timedelta(hours=1)
    for later, code, seconds in (
        (hour, "over_hour", None),
        (hour + TWO_MINUTES, "over_hour", None),
        (hour + TWO_MINUTES + SECOND, "over_hour", 120),
        (hour + 2 * TWO_MINUTES, "over_hour", 120),
        (hour + 2 * TWO_MINUTES + SECOND, None, None),
    ):
        judgement = judged(policy, "agent", order(100), history=history, now=NOON + later)
        assert (judgement.code, judgement.retry_after_seconds) == (code, seconds)


def test_what_came_back_counts_in_hour_and_day_and_not_in_the_month() -> None:
    returned = [replace(taken(300, NOON - timedelta(days=day), "agent"), state=State.RETURNED) for day in (0, 1, 2)]
    names = {
        check.name for check in judged(policy_of(CAREFUL), "agent", order(200), history=returned).checks if check.code
    }
    assert names == {"rule hour_cents"}
    judgement = judged(policy_of(CAREFUL), "agent", order(200), history=returned)
    assert {check.name: check.left for check in judgement.checks if check.name.startswith("caller")} == {
        "caller hour_cents": 200, "caller day_cents": 300, "caller month_cents": 700,
        "caller hour_count": 3, "caller day_count": 4,
    }  # fmt: skip


def test_windows_are_those_of_utc() -> None:
    new_york = datetime.fromisoformat("2026-11-01T01:30:00-04:00")  # the night in which its clocks go back
    assert Window.DAY.begin(new_york) == datetime(2026, 11, 1, tzinfo=UTC)
    assert Window.HOUR.begin(new_york) == datetime(2026, 11, 1, 4, 30, tzinfo=UTC)
    assert Window.DAY.begin(datetime.fromisoformat("2026-10-31T22:00:00-04:00")) == datetime(2026, 11, 1, tzinfo=UTC)
    assert Window.MONTH.begin(datetime.fromisoformat("2026-10-31T22:00:00-04:00")) == datetime(2026, 11, 1, tzinfo=UTC)
