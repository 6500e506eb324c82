"""What another policy would have decided about recorded attempts."""

from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from pysequence_api.records.attempts import Attempt, Used
from pysequence_api.records.states import State
from pysequence_api.safeguards.judge import judge
from pysequence_api.safeguards.now import MaxCents
from pysequence_api.safeguards.policy import Policy
from pysequence_api.safeguards.replay import Change, InMemoryHistory, history_of, replay
from tests.safeguards.plain_judge import (
    BOUNDARIES,
    CALLERS,
    OPEN,
    PlainHistory,
    an_attempt,
    as_toml,
    order_of,
    plain_codes,
    specs,
)
from tests.safeguards.policies import LIMITS, NOON, policy_of

BOUNDS = MaxCents(60, 600)
FIXED = """
version = 1
accounts = {a = "POD:1", b = "POD:2", c = "PORT:3", d = "ACCOUNT:4"}
[callers.x]
scopes = ["move"]
day_cents = 200
rules = [
  { name = "b", from = ["a"], to = ["b"], max_cents = 60, hour_cents = 100 },
  { name = "any", from = ["a"], to = ["*"], max_cents = 60, approve_above_cents = 0 },
]
"""
PAIRS = (("a", "b"), ("a", "c"), ("b", "d"))


def recorded(policy: Policy, seed: int, start: datetime, count: int = 40) -> list[Attempt]:
    """Run a service under a policy, with transfers that overlap, and return its attempts as it recorded them."""
    chance, now, attempts = Random(seed), start, list[Attempt]()
    for number in range(count):
        now += timedelta(seconds=chance.choice((1, 20, 90, 900, 3000, 20_000)))
        pair, caller = chance.choice(PAIRS), chance.choice((*CALLERS, "x"))
        one = an_attempt(f"{number}", caller, *pair, amount_cents=chance.randrange(1, 70), at=now)
        history = PlainHistory([_as_of(each, now) for each in attempts])
        judgement = judge(policy, caller, order_of(one), history=history, limits=BOUNDS, now=now)
        ended_at = now + timedelta(seconds=chance.choice((0, 1, 40, 400)))
        state = chance.choice((State.ACCEPTED, State.ARRIVED, State.FAILED, State.NOT_EXECUTED, State.UNKNOWN))
        at_sequence = ended_at if state is State.ACCEPTED and chance.random() < 0.5 else None
        if judgement.code is not None:
            ended_at, state, at_sequence = now, State.REJECTED, None
        one = replace(one, state=state, code=judgement.code, upstream_created_at=at_sequence)
        attempts.append(one if state is State.UNKNOWN else replace(one, ended_at=ended_at))
    return attempts


def _as_of(one: Attempt, now: datetime) -> Attempt:
    is_over = one.ended_at is not None and one.ended_at <= now
    return one if is_over else replace(one, state=State.SENDING, ended_at=None, upstream_created_at=None)


@given(specs(), st.integers(0, 2**32), st.sampled_from(BOUNDARIES))
def test_the_policy_in_force_changes_nothing(spec: dict[str, object], seed: int, start: datetime) -> None:
    policy = policy_of(as_toml(spec))
    attempts = recorded(policy, seed, start - timedelta(hours=1))
    result = replay(attempts, policy, BOUNDS)
    assert result.changed == ()
    assert result.totals[Change.SAME] == Used(sum(one.amount_cents for one in attempts), len(attempts))


@given(specs(), specs(), st.integers(0, 2**32), st.sampled_from(BOUNDARIES))
def test_it_decides_as_the_plain_implementation_does(
    old: dict[str, object], new: dict[str, object], seed: int, start: datetime
) -> None:
    attempts = recorded(policy_of(as_toml(old)), seed, start - timedelta(hours=1))
    expected, let_through = [], list[Attempt]()
    for one in attempts:
        past = [_as_of(each, one.created_at) for each in let_through]
        codes = plain_codes(new, one.caller, order_of(one), past, limits=(60, 600), now=one.created_at)
        kind = "asks" if codes[:1] == ["needs_approval"] else "refused" if codes else "allowed"
        was = {None: "allowed", "needs_approval": "asks"}.get(one.code, "refused")
        if kind == "allowed":
            at_once = replace(one, state=State.ACCEPTED, ended_at=one.created_at, upstream_created_at=None)
            let_through.append(one if was == "allowed" else at_once)
        if kind != was:
            expected.append((one.id, f"now_{kind}"))
    result = replay(attempts, policy_of(as_toml(new)), BOUNDS)
    assert [(each.attempt.id, each.change) for each in result.changed] == expected


def taken(identifier: str, amount_cents: int, minutes: int, to: str = "b", **changes: object) -> Attempt:
    at = NOON + timedelta(minutes=minutes)
    one = an_attempt(identifier, "x", "a", to, amount_cents=amount_cents, at=at)
    return replace(one, **({"state": State.ACCEPTED, "ended_at": at} | changes))  # type: ignore[arg-type]


def refused(identifier: str, amount_cents: int, minutes: int, code: str, to: str = "b") -> Attempt:
    return taken(identifier, amount_cents, minutes, to, state=State.REJECTED, code=code)


def test_each_kind_by_code_and_in_cents() -> None:
    attempts = [
        taken("same", 60, 0),
        taken("now over the hour", 50, 1),
        taken("now over the maximum", 61, 2),
        refused("still refused, for another reason", 70, 3, "scope_missing"),
        refused("now allowed", 30, 4, "over_day"),
        taken("the budget counts what is now allowed, and not what is now refused", 11, 5),
        taken("now asks", 5, 6, "c"),
        refused("asked already", 5, 7, "needs_approval", "c"),
        refused("now without asking", 10, 8, "needs_approval"),
        refused("no policy's word", 5, 9, "equal_unknown"),
        refused("frozen then", 5, 9, "frozen"),
        taken("without accounts", 60, 9, source_id=None, destination_id=None),
        taken("fits no longer", 41, 50),
        taken("an hour later", 60, 80),
    ]
    result = replay(attempts, policy_of(FIXED), LIMITS)
    assert [(each.attempt.id, each.change, each.code) for each in result.changed] == [
        ("now over the hour", "now_refused", "over_hour"),
        ("now over the maximum", "now_refused", "over_max"),
        ("now allowed", "now_allowed", "over_day"),
        ("the budget counts what is now allowed, and not what is now refused", "now_refused", "over_hour"),
        ("now asks", "now_asks", "needs_approval"),
        ("now without asking", "now_allowed", "needs_approval"),
        ("fits no longer", "now_refused", "over_hour"),
        ("an hour later", "now_refused", "over_day"),
    ]
    assert result.totals == {
        Change.SAME: Used(135, 3),
        Change.NOW_REFUSED: Used(50 + 61 + 11 + 41 + 60, 5),
        Change.NOW_ALLOWED: Used(40, 2),
        Change.NOW_ASKS: Used(5, 1),
    }
    assert result.by_code[Change.NOW_REFUSED, "over_hour"] == Used(50 + 11 + 41, 3)
    assert result.by_code[Change.NOW_ALLOWED, "over_day"] == Used(30, 1)
    assert result.not_judged == Used(70, 3)


def test_attempts_of_old_files_have_no_types() -> None:
    one = taken("old", 60, 0, source_type=None, destination_type=None)
    assert replay([one], policy_of(FIXED), LIMITS).changed == ()


@given(specs(), st.integers(0, 2**32), st.booleans())
def test_the_history_in_memory_adds_up_as_a_list_does(spec: dict[str, object], seed: int, returned: bool) -> None:
    policy, chance = policy_of(as_toml(spec)), Random(seed)
    history, attempts, now = InMemoryHistory(), list[Attempt](), NOON
    for number in range(20):
        now += timedelta(seconds=chance.choice((1, 200, 4000)))
        state = chance.choice([State(each) for each in (*OPEN, "accepted", "returned", "failed")])
        one = an_attempt(f"{number}", chance.choice(CALLERS), *chance.choice(PAIRS), amount_cents=number, at=now)
        ended_at = None if state in OPEN else now + timedelta(seconds=chance.choice((0, 5, 300)))
        exact = now + timedelta(seconds=chance.randrange(-300, 300)) if state == "accepted" else None
        attempts.append(replace(one, state=state, ended_at=ended_at, upstream_created_at=exact))
        history.advance(now)
        history.add(attempts[-1])
    now += timedelta(seconds=chance.choice((0, 400)))
    history.advance(now)
    plain = PlainHistory([_as_of(one, now) for one in attempts])
    since = now - timedelta(seconds=chance.choice((0, 100, 5000, 50_000)))
    for caller in (None, *CALLERS):
        for pairs in (None, *(each for one in policy.callers.values() for each in one.pairs_by_rule.values())):
            expected = plain.used(caller, pairs, since, returned=returned)
            assert history.used(caller, pairs, since, returned=returned) == expected


@given(specs(), st.integers(0, 2**32), st.sampled_from(BOUNDARIES), st.booleans())
def test_the_history_at_a_time_is_what_counted_then(
    spec: dict[str, object], seed: int, start: datetime, returned: bool
) -> None:
    policy, chance = policy_of(as_toml(spec)), Random(seed)
    attempts = recorded(policy, seed, start)
    now = chance.choice(attempts).created_at + timedelta(seconds=chance.choice((0, 1, 60, 5000)))
    plain = PlainHistory([_as_of(one, now) for one in attempts if one.created_at <= now and one.code is None])
    history = history_of(chance.sample(attempts, len(attempts)), now)
    since = now - timedelta(seconds=chance.choice((0, 100, 5000, 50_000)))
    for caller in (None, *CALLERS):
        for pairs in (None, *(each for one in policy.callers.values() for each in one.pairs_by_rule.values())):
            expected = plain.used(caller, pairs, since, returned=returned)
            assert history.used(caller, pairs, since, returned=returned) == expected


@settings(max_examples=settings().max_examples // 2)
@given(specs(), specs(), st.integers(0, 2**32), st.sampled_from(BOUNDARIES))
def test_earlier_attempts_only_fill_the_budgets(
    old: dict[str, object], new: dict[str, object], seed: int, start: datetime
) -> None:
    attempts = recorded(policy_of(as_toml(old)), seed, start)
    since = attempts[20].created_at
    everything = replay(attempts, policy_of(as_toml(new)), BOUNDS)
    late = replay(attempts, policy_of(as_toml(new)), BOUNDS, since=since)
    assert late.changed == tuple(one for one in everything.changed if one.attempt.created_at >= since)
    assert sum(used.count for used in late.totals.values()) + late.not_judged.count == len(attempts) - 20


def test_what_the_owner_approved_was_asked_for_and_counts() -> None:
    attempts = [
        *(taken(f"approved {number}", 55, number, "c") for number in range(3)),
        taken("denied", 60, 4, "c", state=State.DENIED),
        taken("approved, now without asking", 20, 5),
        taken("over what is left", 20, 6),
    ]
    asked = {one.id for one in attempts[:-1]}
    result = replay(attempts, policy_of(FIXED), LIMITS, asked=asked)
    assert [(each.attempt.id, each.change, each.code) for each in result.changed] == [
        ("approved, now without asking", "now_allowed", "accepted"),
        ("over what is left", "now_refused", "over_day"),
    ]
