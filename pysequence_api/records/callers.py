"""Callers and their keys: added, rotated, revoked and removed by the owner, and looked up for each request."""

import logging
import re
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from pysequence_api.clock import utc_now
from pysequence_api.errors import InvalidRequestError, NotFoundError, SafeguardsUnavailableError
from pysequence_api.records import fill_new
from pysequence_api.records.attempts import DEFAULT_CALLER, OWNER, Reader, Writer
from pysequence_api.records.audit import Event, EventType
from pysequence_api.records.database import Database
from pysequence_api.records.grants import KeyRow
from pysequence_api.records.keys import hint_of, looks_like_key, new_key, sha256_of
from pysequence_api.text import quoted

MAX_NAME_CHARACTERS = 32
USE_WRITTEN_EVERY = timedelta(minutes=1)
"""When a key was used is written at most this often."""
USE_LOCK_TIMEOUT_SECONDS = 1.0
"""That is not worth a longer wait."""

log = logging.getLogger(__name__)
_RESERVED = {"gateway", "none"}
"""They stand for no caller in Sequence's log and in the metrics."""
_BUILT_IN = {OWNER: "the terminal", DEFAULT_CALLER: "its key is SEQUENCE_API_KEY; change that and restart the server"}
_NAME = re.compile(rf"[a-z][a-z0-9_-]{{0,{MAX_NAME_CHARACTERS - 1}}}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        name: of the caller; attempts, budgets and idempotency keys belong to it.
        key_sha256: the key that it sent; ``None`` for the caller `default` and the terminal.
    """

    name: str
    key_sha256: bytes | None = None


THE_OWNER = Caller(OWNER)
"""The terminal."""
THE_DEFAULT = Caller(DEFAULT_CALLER)
"""Whoever has the API key of the settings."""


class KeyInfo(BaseModel):
    """A key that works, without the key."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    hint: str = Field(description="The end of the key")
    created_at: datetime
    last_used_at: datetime | None = Field(description="Up to a minute ago; null if it was never used")
    old: bool = Field(description="Whether it was replaced, and works until it is revoked")


class CallerInfo(BaseModel):
    """A caller, as the owner sees it."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    name: str
    created_at: datetime
    removed_at: datetime | None = None
    frozen_since: datetime | None = None
    frozen_reason: str | None = None
    keys: tuple[KeyInfo, ...] = Field((), description="The keys that work")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, in the only moment in which it is known.

    Attributes:
        key: the key.
        replaced: the ends of the keys that ended with it.
        old: the end of the old key that still works.
    """

    key: str
    replaced: tuple[str, ...] = ()
    old: str | None = None


# What the owner does.


def add(records: Database, name: str) -> NewKey:
    """Add a caller with a key.

    Raises:
        InvalidRequestError: the name cannot be used, or is or was the name of another caller.
        SafeguardsUnavailableError: the records cannot be written.
    """
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise InvalidRequestError(
            f"{quoted(name)} cannot be the name of a caller. Use 1 to {MAX_NAME_CHARACTERS} lower-case letters, digits,"
            " - and _, beginning with a letter; not gateway or none."
        )
    if name in {OWNER, DEFAULT_CALLER}:
        raise InvalidRequestError(f"{name} is a caller already: {_BUILT_IN[name]}.")

    def decide(writer: Writer) -> NewKey:
        if writer.is_name_taken(name):
            raise InvalidRequestError(
                f"There is or was a caller {name}. A name is never given out again, because attempts and limits belong"
                " to it. Choose another name."
            )
        return NewKey(_add_key(writer, name))

    return records.write(decide)


def rotate(records: Database, name: str, *, keep_old: bool = False) -> NewKey:
    """Give a caller a new key.

    Args:
        records: the database.
        name: the caller.
        keep_old: let the present key work beside it, until `revoke`.

    Raises:
        NotFoundError: there is no such caller.
        InvalidRequestError: there is an old key already that should be kept.
        SafeguardsUnavailableError: the records cannot be written.
    """

    def decide(writer: Writer) -> NewKey:
        keys = keys_of(writer, name)
        old = [key for key in keys if key.is_old]
        if keep_old and old:
            raise InvalidRequestError(
                f"Caller {name} still has the old key that ends in {old[0].hint}. End it first: pysequence-api callers"
                f" revoke {name} --old"
            )
        if not keep_old:
            _revoke_keys(writer, keys)
        new = _add_key(writer, name)
        hints = tuple(key.hint for key in keys)
        return NewKey(new, old=hints[0] if hints else None) if keep_old else NewKey(new, hints)

    return records.write(decide)


def revoke(records: Database, name: str, *, old_only: bool = False) -> tuple[str, ...]:
    """End the keys of a caller, from the next request on, in every process.

    What they asked for and still waits is released.

    Args:
        records: the database.
        name: the caller, which stays.
        old_only: only the key that a rotation kept.

    Returns:
        The ends of the keys.

    Raises:
        NotFoundError: there is no such caller.
        InvalidRequestError: there is no such key.
        SafeguardsUnavailableError: the records cannot be written.
    """

    def decide(writer: Writer) -> tuple[str, ...]:
        keys = [key for key in keys_of(writer, name) if key.is_old or not old_only]
        if not keys:
            raise InvalidRequestError(f"Caller {name} has no {'old key' if old_only else 'key'} to revoke.")
        _revoke_keys(writer, keys)
        return tuple(key.hint for key in keys)

    return records.write(decide)


def remove(records: Database, name: str) -> None:
    """Remove a caller for ever: its keys end, and its attempts and its name stay.

    Raises:
        NotFoundError: there is no such caller.
        InvalidRequestError: it cannot be removed.
        SafeguardsUnavailableError: the records cannot be written.
    """

    def decide(writer: Writer) -> None:
        _revoke_keys(writer, keys_of(writer, name))
        writer.change_grants(Event(timestamp=writer.now, event_type=EventType.CALLER_REMOVED, caller=name))

    records.write(decide)


def listed(reader: Reader) -> list[CallerInfo]:
    """List the callers by name, also removed ones, with the keys that work."""
    keys = reader.working_keys()
    return [
        CallerInfo(
            name=row.name,
            created_at=row.created_at,
            removed_at=row.removed_at,
            frozen_since=row.frozen_at,
            frozen_reason=row.frozen_reason,
            keys=tuple(
                KeyInfo(hint=key.hint, created_at=key.created_at, last_used_at=key.last_used_at, old=key.is_old)
                for key in keys
                if key.caller == row.name
            ),
        )
        for row in reader.callers()
    ]


def require_caller(reader: Reader, name: str) -> None:
    """Check that there is such a caller, and that it was not removed.

    Raises:
        NotFoundError: there is none.
        InvalidRequestError: it was removed.
    """
    row = reader.caller(name)
    if row is None:
        raise NotFoundError(f"There is no caller {quoted(name)}. `pysequence-api callers list` lists them.")
    if row.removed_at is not None:
        raise InvalidRequestError(f"Caller {name} was removed.")


def keys_of(reader: Reader, name: str) -> list[KeyRow]:
    """List the keys of a caller that work, oldest first.

    Raises:
        NotFoundError: there is no such caller.
        InvalidRequestError: it was removed, or has its key elsewhere.
    """
    if name in _BUILT_IN:
        raise InvalidRequestError(f"{name} has no key here: {_BUILT_IN[name]}.")
    require_caller(reader, name)
    return reader.working_keys(name)


def _add_key(writer: Writer, name: str) -> str:
    key = new_key()
    writer.change_grants(_key_event(writer, EventType.KEY_ADDED, name, sha256_of(key.encode()), hint_of(key)))
    return key


def _revoke_keys(writer: Writer, keys: list[KeyRow]) -> None:
    for key in keys:
        writer.change_grants(_key_event(writer, EventType.KEY_REVOKED, key.caller, key.sha256, key.hint))


def _key_event(writer: Writer, event_type: EventType, caller: str, sha256: bytes, hint: str) -> Event:
    return Event(timestamp=writer.now, event_type=event_type, caller=caller, caller_key_sha256=sha256.hex(), hint=hint)


# What the server does.


class Callers:
    """Looks callers up by the key that they send.

    Args:
        records: the database.
    """

    def __init__(self, records: Database) -> None:
        self._records = records
        self._mutex = threading.Lock()
        self._used: dict[bytes, datetime] = {}

    def find(self, given: bytes) -> Caller | None:
        """Return the caller of a key that works. One indexed read, which may run on the event loop.

        Args:
            given: the key as it was sent.

        Raises:
            SafeguardsUnavailableError: the records cannot be read.
        """
        if not looks_like_key(given):
            return None
        sha256 = sha256_of(given)
        key, now = self._records.read(lambda reader: (reader.caller_key(sha256), reader.now))
        # A key that does not exist costs the same work, whether its checksum is right or not.
        if key is None or key.revoked_at is not None:
            return None
        if key.last_used_at is None or not timedelta(0) <= now - key.last_used_at < USE_WRITTEN_EVERY:
            with self._mutex:
                self._used[sha256] = now
        return Caller(key.caller, sha256)

    def knows(self, given: bytes) -> bool:
        """Say whether this is, or was, the key of a caller."""
        return self._records.read(lambda reader: reader.caller_key(sha256_of(given))) is not None

    def has_keys(self) -> bool:
        """Say whether a caller has a key that works."""
        return bool(self._records.read(lambda reader: reader.working_keys()))

    def save_uses(self) -> None:
        """Write when keys were used. This blocks; after a failure, the next use is written."""
        with self._mutex:
            used, self._used = self._used, {}
        try:
            if used:
                self._records.write(lambda writer: writer.note_uses(used, USE_WRITTEN_EVERY), USE_LOCK_TIMEOUT_SECONDS)
        except SafeguardsUnavailableError as error:
            log.debug("when keys were used cannot be written (%s)", error)


def has_callers(directory: Path) -> bool:
    """Say whether a caller of a data directory has a key that works; no if its records cannot be read."""
    records = Database(directory, utc_now, fill_new)
    try:
        return Callers(records).has_keys()
    except SafeguardsUnavailableError:
        return False
    finally:
        records.close_reading()
