"""What freezes callers without a person: a pure function of counts. Only a person ends such a freeze."""

from dataclasses import dataclass
from typing import Final

from pysequence_api.safeguards.judge import PolicyCode, is_free
from pysequence_api.safeguards.policy import Breaker, Policy

REFUSALS: Final = frozenset(PolicyCode) - {PolicyCode.CALLER_EXPIRED, PolicyCode.FROZEN, PolicyCode.OVER_GLOBAL}
"""The refusals that count: by the policy, and of what the caller could know before."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a caller did since its last unfreeze.

    Attributes:
        never_hits: requests refused with `never_allowed`.
        unknown: its transfers whose outcome is unknown now.
        refusals: requests refused with one of `REFUSALS`, within the breaker's minutes.
        equal_orders: the most orders that are equal and have different idempotency keys, within the breaker's minutes;
            without those that certainly moved nothing or joined a pending one.
    """

    never_hits: int = 0
    unknown: int = 0
    refusals: int = 0
    equal_orders: int = 0


def tripped(policy: Policy | None, caller: str, counts: Counts) -> str | None:
    """Decide whether a caller is frozen.

    Returns:
        The reason of the freeze; ``None`` if the caller goes on. A caller without rules is never frozen.
    """
    if policy is None or is_free(policy, caller) or not policy.caller(caller).rules:
        return None
    breaker = policy.breaker
    within = f"within {breaker.minutes} minutes"
    for count, most, what in (
        (counts.never_hits, breaker.never_hits, "requests for what the policy never allows"),
        (counts.unknown, breaker.unknown, "transfers of unknown outcome"),
        (counts.refusals, breaker.refusals, f"requests that the policy refused {within}"),
        (counts.equal_orders, breaker.equal_orders, f"equal orders under different keys {within}"),
    ):
        if 0 < most <= count:
            return _reason(count, what, most)
    return None


def all_tripped(policy: Policy | None, unknown: int) -> str | None:
    """Decide whether all callers with a policy are frozen.

    Args:
        policy: the policy in force, if there is one.
        unknown: how many transfers of all callers have an unknown outcome now.

    Returns:
        The reason of the freeze; ``None`` if they go on.
    """
    most = 0 if policy is None else policy.breaker.all_unknown
    return _reason(unknown, "transfers of unknown outcome of all callers", most) if 0 < most <= unknown else None


def is_warned(policy: Policy | None, caller: str, counts: Counts) -> bool:
    """Say whether equal orders are worth a warning in the log: of a caller that the breaker never freezes."""
    return is_free(policy, caller) and counts.equal_orders >= Breaker().equal_orders


def _reason(count: int, what: str, most: int) -> str:
    return f"breaker: {what}: {count}, of which it takes {most}"
