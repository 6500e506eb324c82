"""Callers, their keys and the policies, as the database keeps them.

Each change is an audit event, and the tables hold what these events add up to. So a check can compare them, and a
restore takes over what the audit trail knows beyond a backup.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Self

from pysequence_api.clock import from_micros, to_micros
from pysequence_api.records.audit import Event, EventType, Line, hash_bytes, read_utc

_CHANGES = {EventType.KEY_ADDED, EventType.KEY_REVOKED, EventType.CALLER_REMOVED, EventType.POLICY_APPLIED}
_FREEZES = {EventType.FROZEN, EventType.UNFROZEN}
"""With a caller; without one, they are about all transfers."""
_COMPARED = {
    "caller": "name, created_at, removed_at, frozen_at, frozen_reason, unfrozen_at",
    "caller_key": "sha256, caller, hint, created_at, replaced_at, revoked_at",
    "policy": "version, applied_at, sha256, from_file",
}
"""What the audit events say about each table."""


@dataclass(frozen=True, slots=True)
class CallerRow:
    """A caller. Times are aware, in UTC."""

    name: str
    created_at: datetime
    removed_at: datetime | None
    frozen_at: datetime | None
    frozen_reason: str | None
    unfrozen_at: datetime | None

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        """Read a row of the table."""
        name, created_at, removed_at, frozen_at, reason, unfrozen_at = row
        return cls(name, from_micros(created_at), _time(removed_at), _time(frozen_at), reason, _time(unfrozen_at))


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A caller's key. Times are aware, in UTC.

    Attributes:
        sha256: the raw SHA-256 of the key.
        hint: the end of the key, for people.
        replaced_at: since then it is the old key, beside a new one.
    """

    sha256: bytes
    caller: str
    hint: str
    created_at: datetime
    replaced_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        """Read a row of the table."""
        sha256, caller, hint, created_at, *times = row
        return cls(sha256, caller, hint, from_micros(created_at), *map(_time, times))

    @property
    def is_old(self) -> bool:
        """Whether it works beside a new key."""
        return self.replaced_at is not None and self.revoked_at is None


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A version of the policy.

    Attributes:
        applied_at: aware, in UTC.
        sha256: the raw SHA-256 of the text.
        text: ``None`` if a restore knows it from the audit trail alone; then it grants nothing.
        from_file: whether a start of the server applied it from a file.
    """

    version: int
    applied_at: datetime
    sha256: bytes
    text: str | None
    from_file: bool


class GrantReader:
    """Questions about callers, keys and policies.

    Args:
        connection: to the database.
        now: the time, in UTC.
    """

    def __init__(self, connection: sqlite3.Connection, now: datetime) -> None:
        self._connection = connection
        self.now = now

    def caller(self, name: str) -> CallerRow | None:
        """Find a caller by its name, also a removed one."""
        row = self._connection.execute(f"SELECT {_COMPARED['caller']} FROM caller WHERE name = ?", (name,)).fetchone()
        return None if row is None else CallerRow.from_row(row)

    def callers(self) -> list[CallerRow]:
        """List all callers by name, also removed ones."""
        rows = self._connection.execute(f"SELECT {_COMPARED['caller']} FROM caller ORDER BY name")
        return [CallerRow.from_row(row) for row in rows]

    def caller_key(self, sha256: bytes) -> KeyRow | None:
        """Find a key by its SHA-256, also a revoked one."""
        found = self._keys("WHERE sha256 = ?", sha256)
        return found[0] if found else None

    def working_keys(self, caller: str | None = None) -> list[KeyRow]:
        """List the keys that work, of all callers or of one, oldest first."""
        return self._keys(
            "WHERE revoked_at IS NULL AND (?1 IS NULL OR caller = ?1) ORDER BY created_at, sha256", caller
        )

    def key_works(self, sha256: bytes) -> bool:
        """Say whether a key works."""
        key = self.caller_key(sha256)
        return key is not None and key.revoked_at is None

    def is_name_taken(self, name: str) -> bool:
        """Say whether a caller has or had this name, or an attempt names it."""
        taken = "SELECT 1 FROM caller WHERE name = ?1 UNION ALL SELECT 1 FROM attempt WHERE caller = ?1 LIMIT 1"
        return self._connection.execute(taken, (name,)).fetchone() is not None

    def policy(self, version: int | None = None) -> PolicyRow | None:
        """Return a version of the policy, or the newest one; ``None`` if there is none."""
        if version is None:
            return self._newest_policy
        found = self._policies("WHERE version = ?", version)
        return found[0] if found else None

    @cached_property
    def _newest_policy(self) -> PolicyRow | None:
        # Kept, because each decision asks several times. What applies another one in this transaction forgets it.
        found = self._policies("ORDER BY version DESC LIMIT 1")
        return found[0] if found else None

    def policy_from_file(self) -> PolicyRow | None:
        """Return the newest version that a start of the server applied from a file; ``None`` if there is none."""
        found = self._policies("WHERE from_file ORDER BY version DESC LIMIT 1")
        return found[0] if found else None

    def policies(self) -> list[PolicyRow]:
        """List all versions of the policy, oldest first."""
        return self._policies("ORDER BY version")

    def _policies(self, where: str, *values: object) -> list[PolicyRow]:
        columns = f"{_COMPARED['policy']}, text"
        rows = self._connection.execute(f"SELECT {columns} FROM policy {where}", values)
        return [PolicyRow(row[0], from_micros(row[1]), row[2], row[4], bool(row[3])) for row in rows]

    def _keys(self, where: str, *values: object) -> list[KeyRow]:
        columns = f"{_COMPARED['caller_key']}, last_used_at"
        return [
            KeyRow.from_row(row)
            for row in self._connection.execute(f"SELECT {columns} FROM caller_key {where}", values)
        ]


def is_grant(line: Line | Event) -> bool:
    """Say whether a line of the audit trail is about callers, keys or policies."""
    return line.event_type in _CHANGES or (line.event_type in _FREEZES and line.caller is not None)


def apply(connection: sqlite3.Connection, line: Line, policy_text: str | None = None) -> None:
    """Make the change that an audit event describes.

    Args:
        connection: to the database, in a transaction.
        line: the event, for which `is_grant` holds.
        policy_text: the text of a policy that is applied.

    Raises:
        sqlite3.IntegrityError: it contradicts what is there, or is not complete.
    """
    time = read_utc(line.timestamp)
    at = None if time is None else to_micros(time)
    key = hash_bytes(line.caller_key_sha256)
    execute = connection.execute
    match line.event_type:
        case EventType.KEY_ADDED:
            _add_caller(connection, line.caller, at)
            execute(
                "UPDATE caller_key SET replaced_at = ? WHERE caller = ? AND revoked_at IS NULL AND replaced_at IS NULL",
                (at, line.caller),
            )
            execute(
                "INSERT INTO caller_key(sha256, caller, hint, created_at) VALUES(?, ?, ?, ?)",
                (key, line.caller, line.hint, at),
            )
        case EventType.KEY_REVOKED:
            execute("UPDATE caller_key SET revoked_at = ? WHERE sha256 = ?", (at, key))
        case EventType.CALLER_REMOVED:
            execute("UPDATE caller SET removed_at = ? WHERE name = ?", (at, line.caller))
        case EventType.FROZEN:
            _add_caller(connection, line.caller, at)
            execute("UPDATE caller SET frozen_at = ?, frozen_reason = ? WHERE name = ?", (at, line.reason, line.caller))
        case EventType.UNFROZEN:
            execute(
                "UPDATE caller SET frozen_at = NULL, frozen_reason = NULL, unfrozen_at = ? WHERE name = ?",
                (at, line.caller),
            )
        case EventType.POLICY_APPLIED:
            execute(
                "INSERT INTO policy(version, applied_at, sha256, text, from_file) VALUES(?, ?, ?, ?, ?)",
                (line.policy_version, at, hash_bytes(line.policy_sha256), policy_text, bool(line.from_file)),
            )


def difference(kept: sqlite3.Connection, said: sqlite3.Connection) -> str | None:
    """Say in which table a database is not what its audit events add up to.

    Args:
        kept: the database.
        said: one that has only these events.
    """
    for table, columns in _COMPARED.items():
        question = f"SELECT {columns} FROM {table} ORDER BY 1"
        if kept.execute(question).fetchall() != said.execute(question).fetchall():
            return table
    return None


def _add_caller(connection: sqlite3.Connection, name: str | None, at: int | None) -> None:
    connection.execute("INSERT INTO caller(name, created_at) VALUES(?, ?) ON CONFLICT(name) DO NOTHING", (name, at))


def _time(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
