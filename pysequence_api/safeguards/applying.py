"""How a policy becomes a new version: by the owner's command, or from the file of `serve`."""

from datetime import datetime
from hashlib import sha256

from pysequence_api.errors import InvalidRequestError
from pysequence_api.records.attempts import DEFAULT_CALLER, OWNER, Writer
from pysequence_api.records.audit import Event, EventType
from pysequence_api.records.database import Database
from pysequence_api.records.grants import GrantReader
from pysequence_api.safeguards.policy import Limits, Policy, parse_policy


def apply_policy(records: Database, text: str, limits: Limits, *, after: int | None) -> int:
    """Store a policy as a new version, which is in force from now on, in every process.

    Args:
        records: the database.
        text: the TOML document.
        limits: the global limits.
        after: the version in force with which it was compared; ``None`` if there was none.

    Returns:
        The new version.

    Raises:
        PolicyError: with everything that is wrong with the policy.
        InvalidRequestError: another version was applied meanwhile.
        SafeguardsUnavailableError: the records cannot be written.
    """
    parse_policy(text, limits)

    def decide(writer: Writer) -> int:
        row = writer.policy()
        if (row and row.version) != after:
            raise InvalidRequestError("Another policy was applied meanwhile. Compare with that one: run this again.")
        return _add(writer, text, from_file=False)

    return records.write(decide)


def apply_policy_file(records: Database, text: str, limits: Limits) -> int | None:
    """Store the policy of a file as a new version, if the file was changed since a start last applied it.

    It is compared with that version, not with the one in force: a restart must not undo a later `policy apply`.

    Args:
        records: the database.
        text: the TOML document.
        limits: the global limits.

    Returns:
        The new version; ``None`` if the file was not changed.

    Raises:
        PolicyError: with everything that is wrong with the policy.
        SafeguardsUnavailableError: the records cannot be read or written.
    """
    if records.read(lambda reader: is_file_applied(reader, text)):
        return None
    parse_policy(text, limits)
    return records.write(lambda writer: None if is_file_applied(writer, text) else _add(writer, text, from_file=True))


def is_file_applied(reader: GrantReader, text: str) -> bool:
    """Say whether the text of the policy file is what a start last applied, so that the next one leaves it alone."""
    last, newest = reader.policy_from_file(), reader.policy()
    # After a restore the text in force may be unknown. Then the file brings it back.
    is_lost = newest is not None and newest.text is None and newest.sha256 == _hash(text)
    return last is not None and last.sha256 == _hash(text) and not is_lost


def is_in_force(reader: GrantReader, text: str) -> bool:
    """Say whether a text is that of the policy in force."""
    row = reader.policy()
    return row is not None and row.text == text


def unmatched(policy: Policy, reader: GrantReader, now: datetime, *, has_default: bool) -> list[str]:
    """Say which tables of a policy are for no caller, and which callers have none.

    Args:
        policy: the policy.
        reader: knows the callers.
        now: the time, in UTC.
        has_default: whether there is a key for the caller `default`.
    """
    rows = {row.name: row for row in reader.callers() if row.name not in {OWNER, DEFAULT_CALLER}}
    found = []
    for name, granted in policy.callers.items():
        if name != DEFAULT_CALLER and name not in rows:
            found.append(f"There is no caller {name}. Add it: pysequence-api callers add {name}")
        elif name in rows and rows[name].removed_at is not None:
            found.append(f"The caller {name} was removed. Remove [callers.{name}] from the policy.")
        elif granted.is_expired(now):
            found.append(f"The caller {name} has expired. Change `expires` in [callers.{name}], or remove the caller.")
    present = [name for name, row in rows.items() if row.removed_at is None]
    for name in [*([DEFAULT_CALLER] if has_default else []), *present]:
        if name not in policy.callers:
            found.append(f"The policy has no [callers.{name}], so {name} may only read its own attempts and limits.")
    return found


def _add(writer: Writer, text: str, *, from_file: bool) -> int:
    row = writer.policy()
    version = 1 if row is None else row.version + 1
    event = Event(
        timestamp=writer.now,
        event_type=EventType.POLICY_APPLIED,
        policy_version=version,
        policy_sha256=_hash(text).hex(),
        from_file=from_file or None,
    )
    writer.change_grants(event, text)
    return version


def _hash(text: str) -> bytes:
    return sha256(text.encode()).digest()
