"""The policy in force, as the database has it, read once for each version."""

import logging
from dataclasses import dataclass

from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.records.database import Database
from pysequence_api.records.grants import GrantReader
from pysequence_api.safeguards.policy import Policy, PolicyError, parse_policy

log = logging.getLogger(__name__)

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


class UnusablePolicyError(SafeguardsUnavailableError):
    """The database has a text that is not a policy. Its text is for callers, and tells nothing of the policy."""


class PolicyInForce:
    """The policy in force, for reads, which go on where the records cannot be read.

    Args:
        records: the database.
    """

    def __init__(self, records: Database) -> None:
        self._records = records
        self._last: Policy | None = None

    def get(self) -> Policy | None:
        """Return the policy; the last one that this process knew, if the records cannot be read now.

        Raises:
            UnusablePolicyError: the database has a text that is not a policy.
        """
        try:
            self._last = self._records.read(policy_in_force)
        except SafeguardsUnavailableError as error:
            if isinstance(error, UnusablePolicyError):  # the records can be read, and what they grant is unknown
                raise
        return self._last


def policy_in_force(reader: GrantReader) -> Policy | None:
    """Return the policy in force without its version; ``None`` if none was ever applied."""
    current = current_policy(reader)
    return None if current is None else current.policy


_read: dict[bytes, Policy] = {}
MAX_READ = 16


def current_policy(reader: GrantReader) -> CurrentPolicy | None:
    """Return the policy in force; ``None`` if none was ever applied.

    Raises:
        UnusablePolicyError: the database has a text that is not a policy.
    """
    row = reader.policy()
    if row is None:
        return None
    if row.text is None:
        return CurrentPolicy(row.version, NOTHING)
    policy = _read.get(row.sha256)
    if policy is None:
        try:
            policy = parse_policy(row.text, _NoLimits())
        except PolicyError as error:
            log.error("version %d in the database cannot be used. %s", row.version, error)
            raise UnusablePolicyError(
                "The policy in force cannot be used, so that it allows nothing. The server's log says why."
            ) from None
        if len(_read) >= MAX_READ:
            _read.clear()
        _read[row.sha256] = policy
    return CurrentPolicy(row.version, policy)
