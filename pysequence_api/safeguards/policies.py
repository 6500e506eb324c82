"""The policy in force, as the database has it, read once for each version."""

from dataclasses import dataclass

from pysequence_api.records.grants import GrantReader
from pysequence_api.safeguards.policy import Policy, parse_policy

NOTHING = Policy(version=1)
"""Grants nothing: a restore knows that there is a policy, and not what it says."""


@dataclass(frozen=True, slots=True)
class _NoLimits:
    """A policy that was applied holds beside lower global limits of today: each of them holds."""

    per_transfer: int = 2**62
    per_day: int = 2**62


@dataclass(frozen=True, slots=True)
class CurrentPolicy:
    """A policy with its version."""

    version: int
    policy: Policy


_read: dict[bytes, Policy] = {}
MAX_READ = 16


def current_policy(reader: GrantReader) -> CurrentPolicy | None:
    """Return the policy in force; ``None`` if none was ever applied.

    Raises:
        PolicyError: the database has a text that is not a policy.
    """
    row = reader.policy()
    if row is None:
        return None
    if row.text is None:
        return CurrentPolicy(row.version, NOTHING)
    policy = _read.get(row.sha256)
    if policy is None:
        policy = parse_policy(row.text, _NoLimits())
        if len(_read) >= MAX_READ:
            _read.clear()
        _read[row.sha256] = policy
    return CurrentPolicy(row.version, policy)
