"""What a caller may do at all, by the policy in force. The owner, and `default` without a policy, may do everything."""

from datetime import datetime

from pysequence_api.errors import CallerExpiredError, ScopeMissingError
from pysequence_api.safeguards.judge import is_free
from pysequence_api.safeguards.policy import ANY, Policy, Scope


def expired(policy: Policy | None, caller: str, now: datetime) -> CallerExpiredError | None:
    """Say that a caller was allowed anything only until a time that has passed."""
    if policy is None or is_free(policy, caller) or not policy.caller(caller).is_expired(now):
        return None
    return CallerExpiredError(f"The caller {caller} has expired. Only the owner can allow it more.")


def sees_everything(policy: Policy | None, caller: str, scope: Scope) -> bool:
    """Say whether a caller sees all that a scope is about, also what belongs to others or to no account."""
    if is_free(policy, caller):
        return True
    granted = None if policy is None else policy.caller(caller)
    return granted is not None and granted.reads == (ANY,) and scope in granted.scopes


def missing_scope(policy: Policy | None, caller: str, scope: Scope) -> ScopeMissingError | None:
    """Say that a caller lacks a scope; ``None`` if it has it.

    Every caller may read its own attempts and limits, which need no scope.
    """
    if is_free(policy, caller) or (policy is not None and scope in policy.caller(caller).scopes):
        return None
    return ScopeMissingError(f"The caller {caller} does not have the scope {scope.value}. Only the owner can grant it.")
