"""The policy in force, as the database has it, read once for each version."""

import logging
from dataclasses import dataclass, replace

from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.records.attempts import Reader
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


@dataclass(frozen=True, slots=True)
class Moment:
    """What a request has to know of the records, looked up at once.

    Attributes:
        policy: the policy in force; the last one that was known, if the records cannot be read.
        records: the state of the records, which every step of a transfer changes, in every process; ``None`` if they
            cannot be read.
    """

    policy: Policy | None
    records: str | None


class PolicyInForce:
    """The policy in force, for reads, which go on where the records cannot be read.

    Args:
        records: the database.
    """

    def __init__(self, records: Database) -> None:
        self._records = records
        self._last: Moment | PolicyError = Moment(None, None)

    def now(self) -> Moment:
        """Look the policy up, and the state of the records.

        Raises:
            SafeguardsUnavailableError: the policy is not one.
        """
        try:
            # Each question costs calls to the system, to see whether the database changed: these two are one.
            found = self._last = self._records.read_kept("policy", _look)
        except SafeguardsUnavailableError:
            found = self._last if isinstance(self._last, PolicyError) else replace(self._last, records=None)
        if isinstance(found, PolicyError):
            raise _unreadable(found)
        return found

    def get(self) -> Policy | None:
        """Return the policy; see `now`."""
        return self.now().policy


def _look(reader: Reader) -> Moment | PolicyError:
    current = _current_or_error(reader)
    if isinstance(current, PolicyError):
        return current
    return Moment(None if current is None else current.policy, reader.audit_head() or "")


def policy_in_force(reader: GrantReader) -> Policy | None:
    """Return the policy in force without its version; ``None`` if none was ever applied."""
    current = deciding_policy(reader)
    return None if current is None else current.policy


def deciding_policy(reader: GrantReader) -> CurrentPolicy | None:
    """Return the policy in force; ``None`` if none was ever applied.

    Raises:
        SafeguardsUnavailableError: it cannot be read. What is wrong with it is for the owner only.
    """
    current = _current_or_error(reader)
    if isinstance(current, PolicyError):
        raise _unreadable(current)
    return current


def _current_or_error(reader: GrantReader) -> CurrentPolicy | PolicyError | None:
    try:
        return current_policy(reader)
    except PolicyError as error:
        return error


def _unreadable(error: PolicyError) -> SafeguardsUnavailableError:
    log.error("%s", error)
    return SafeguardsUnavailableError("The policy in force cannot be read, so nothing is allowed. Ask the owner.")


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
