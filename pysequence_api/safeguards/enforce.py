"""Applies the policy in force to attempts, and the breaker to callers, within the transaction that decides."""

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Final

from pysequence_api.errors import (
    Code,
    LimitExceededError,
    PolicyRefusedError,
    Retry,
    SafeguardError,
    ScopeMissingError,
)
from pysequence_api.models import AccountType, TransferOrder
from pysequence_api.records.attempts import DEFAULT_CALLER, OWNER, Attempt, Freeze, Reader, Writer
from pysequence_api.records.owners import Owners
from pysequence_api.records.states import State
from pysequence_api.safeguards.breaker import REFUSALS, Counts, all_tripped, is_warned, tripped
from pysequence_api.safeguards.judge import GLOBAL_MAXIMUM, Check, Judgement, PolicyCode, is_free, judge
from pysequence_api.safeguards.policies import deciding_policy, policy_in_force
from pysequence_api.safeguards.policy import Breaker, Limits, Policy

AT_ONCE: Final = frozenset(
    {
        PolicyCode.SCOPE_MISSING,
        PolicyCode.NEVER_ALLOWED,
        PolicyCode.PAIR_NOT_ALLOWED,
        PolicyCode.OVER_MAX,
        PolicyCode.INSTANT_NOT_ALLOWED,
    }
)
"""Refusals for which the caller's earlier transfers do not matter."""
_FINAL = {PolicyCode.NEVER_ALLOWED, PolicyCode.PAIR_NOT_ALLOWED}
"""No correction of the order helps."""

log = logging.getLogger(__name__)


def judged(
    reader: Reader, attempt: Attempt, limits: Limits, *, frozen: Freeze | None, own: bool, approved: str | None = None
) -> tuple[Attempt, Judgement]:
    """Judge an attempt by the policy in force.

    Args:
        reader: the records.
        attempt: the attempt.
        limits: the global limits.
        frozen: why transfers of its caller are frozen, if they are.
        own: whether the attempt's own reservation is among what counts already.
        approved: the rule whose question the owner answered with yes.

    Returns:
        The attempt, with the rule and the version of the policy that decided; and what was decided.
    """
    current = deciding_policy(reader)
    policy = None if current is None else current.policy
    judgement = judge(
        policy,
        attempt.caller,
        order_of(attempt),
        history=reader,
        limits=limits,
        now=reader.now,
        frozen=frozen,
        own=own,
        approved=approved,
    )
    is_held = current is not None and not is_free(policy, attempt.caller)
    by_seed = judgement.refused_by is not None and _is_of_the_settings(judgement.refused_by, attempt.caller)
    rule = None if judgement.rule is None else judgement.rule.name
    version = current.version if current is not None and is_held and not by_seed else None
    if (rule, version) != (attempt.rule, attempt.policy_version):
        attempt = replace(attempt, rule=rule, policy_version=version)
    return attempt, judgement


def refusal(attempt: Attempt, judgement: Judgement) -> SafeguardError | None:
    """Make the error of the first check that failed, after those of `decide.stopped_by`; ``None`` if all passed.

    The caller `default` and the terminal get the answers of the two settings, as they always did.
    """
    check = judgement.refused_by
    if check is None or check.code is None:
        return None
    if _is_of_the_settings(check, attempt.caller):
        return _limit_exceeded(attempt.amount_cents, check, judgement)
    if check.code is PolicyCode.SCOPE_MISSING:
        return ScopeMissingError(check.text)
    error = PolicyRefusedError(check.text, code=Code(check.code.value))
    error.retry = Retry.NEVER if check.code in _FINAL else Retry.SAME_KEY
    return _later(error, judgement)


def trip(writer: Writer, owners: Owners, caller: str) -> None:
    """Freeze a caller, or all that the policy holds, if the breaker's numbers are reached.

    The counts start at the last unfreeze, of all or of this caller. Nothing here ends a freeze.

    Args:
        writer: the transaction.
        owners: which processes live.
        caller: whose attempts have changed.
    """
    policy = policy_in_force(writer)
    if policy is None:
        return
    unknown = [one for one in writer.open_attempts() if one.state is State.UNKNOWN and not is_resent(one, owners)]
    since = writer.unfrozen_at()
    if writer.freeze() is None:
        reason = all_tripped(policy, sum(writer.became_unknown_at(one) > since for one in unknown))
        if reason is not None:
            log.critical("all callers are frozen: %s", reason)
            writer.set_freeze(reason, callers_only=True)
    row = writer.caller(caller)
    if is_free(policy, caller) or (row is not None and (row.removed_at or row.frozen_at) is not None):
        return
    own = [one for one in unknown if one.caller == caller]
    reason = tripped(policy, caller, _counts(writer, policy.breaker, caller, own))
    if reason is not None:
        log.critical("the caller %s is frozen: %s", caller, reason)
        writer.set_freeze(reason, caller=caller)


def warn_of_equal_orders(reader: Reader, caller: str) -> None:
    """Log a warning if `default`, which without a policy is never frozen, repeats an order again and again."""
    policy = policy_in_force(reader)
    if caller != DEFAULT_CALLER or not is_free(policy, caller):
        return
    counts = _counts(reader, Breaker(), caller, [])
    if is_warned(policy, caller, counts):
        log.warning(
            "the caller %s made %d equal transfers within %d minutes. A policy can freeze a caller that does so",
            caller,
            counts.equal_orders,
            Breaker().minutes,
        )


def is_resent(attempt: Attempt, owners: Owners) -> bool:
    """Say whether a process sends an attempt again whose answer was lost."""
    return attempt.state is State.UNKNOWN and owners.is_running(attempt.owner, attempt.id)


def order_of(attempt: Attempt) -> TransferOrder:
    """Return the order of an attempt, as the attempt was made from it."""
    return TransferOrder(
        kyc_id=attempt.kyc_id,
        source_id=attempt.source_id or "",
        source_type=AccountType(str(attempt.source_type)),
        destination_id=attempt.destination_id or "",
        destination_type=AccountType(str(attempt.destination_type)),
        amount_cents=attempt.amount_cents,
        description=attempt.description or "",
        instant=attempt.instant,
    )


def day_limit(policy: Policy | None, caller: str, limits: Limits) -> int:
    """Return how much a caller may move on a UTC day, in cents: the lower one of its own limit and the global one."""
    own = None if policy is None or is_free(policy, caller) else policy.caller(caller).day_cents
    return limits.per_day if own is None else min(own, limits.per_day)


def _counts(reader: Reader, breaker: Breaker, caller: str, unknown: list[Attempt]) -> Counts:
    since = reader.unfrozen_at(caller)
    recent = max(since, reader.now - timedelta(minutes=breaker.minutes))
    return Counts(
        never_hits=reader.count_never(caller, since),
        unknown=sum(reader.became_unknown_at(one) > since for one in unknown),
        refusals=reader.count_refused(caller, REFUSALS, recent),
        equal_orders=reader.count_equal(caller, recent),
    )


def _is_of_the_settings(check: Check, caller: str) -> bool:
    return check.code is PolicyCode.OVER_GLOBAL and caller in {OWNER, DEFAULT_CALLER}


def _limit_exceeded(amount_cents: int, check: Check, judgement: Judgement) -> SafeguardError:
    if check.name == GLOBAL_MAXIMUM:
        text = f"Amount {amount_cents} cents exceeds per-transfer limit of {check.limit} cents"
        return LimitExceededError(text, code=Code.OVER_MAX)
    error = LimitExceededError(f"Amount {amount_cents} cents exceeds daily remaining limit of {check.left} cents")
    return _later(error, judgement)


def _later(error: SafeguardError, judgement: Judgement) -> SafeguardError:
    if judgement.retry_after_seconds is not None:
        error.retry, error.retry_after_seconds = Retry.LATER, judgement.retry_after_seconds
    return error
