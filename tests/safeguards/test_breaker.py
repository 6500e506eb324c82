"""What freezes a caller without a person."""

from dataclasses import replace

import pytest

from pysequence_api.safeguards.breaker import REFUSALS, Counts, all_tripped, is_warned, tripped
from pysequence_api.safeguards.judge import PolicyCode
from tests.safeguards.policies import EXAMPLE, policy_of

POLICY = policy_of(EXAMPLE)
JUST_BELOW = Counts(never_hits=0, unknown=1, refusals=4, equal_orders=2)


@pytest.mark.parametrize(
    ("name", "count", "reason"),
    [
        ("never_hits", 1, "breaker: requests for what the policy never allows: 1, of which it takes 1"),
        ("unknown", 2, "breaker: transfers of unknown outcome: 2, of which it takes 2"),
        ("refusals", 6, "breaker: requests that the policy refused within 10 minutes: 6, of which it takes 5"),
        ("equal_orders", 3, "breaker: equal orders under different keys within 10 minutes: 3, of which it takes 3"),
    ],
)
def test_each_number_freezes_and_can_be_off(name: str, count: int, reason: str) -> None:
    assert tripped(POLICY, "openclaw", JUST_BELOW) is None
    counts = replace(JUST_BELOW, **{name: count})
    assert tripped(POLICY, "openclaw", counts) == reason
    off = policy_of(EXAMPLE + f"[breaker]\n{name} = 0\n")
    assert tripped(off, "openclaw", replace(JUST_BELOW, **{name: 1000})) is None
    higher = policy_of(EXAMPLE + f"[breaker]\n{name} = {count + 1}\n")
    assert tripped(higher, "openclaw", counts) is None


def test_only_callers_with_rules_are_frozen() -> None:
    everything = Counts(9, 9, 9, 9)
    assert tripped(POLICY, "openclaw", everything)
    for caller in ("bookkeeper", "default", "owner", "nobody"):
        assert tripped(POLICY, caller, everything) is None
    assert tripped(None, "default", everything) is None
    assert is_warned(None, "default", Counts(equal_orders=3))
    assert not is_warned(None, "default", Counts(equal_orders=2))
    assert not is_warned(POLICY, "default", Counts(equal_orders=3))


def test_three_unknown_outcomes_of_all_freeze_all() -> None:
    assert all_tripped(POLICY, 2) is None
    assert all_tripped(POLICY, 3) == "breaker: transfers of unknown outcome of all callers: 3, of which it takes 3"
    assert all_tripped(policy_of(EXAMPLE + "[breaker]\nall_unknown = 0\n"), 99) is None
    assert all_tripped(None, 99) is None


def test_what_the_caller_could_not_know_is_no_refusal_by_policy() -> None:
    assert set(PolicyCode) - REFUSALS == {"caller_expired", "frozen", "over_global"}
