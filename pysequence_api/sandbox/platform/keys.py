"""The keys of the Platform API: what each may do, and its bucket of requests.

Keys are in the SQLite file, as hashes, so they survive a restart, and processes share their buckets.
"""

import hashlib
import math
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pysequence_api.sandbox.database import connected
from pysequence_api.sandbox.household import DELETED_PODS, HOLDERS, ORGANIZATION_BY_ID, Holder
from pysequence_api.sandbox.ids import ORGANIZATION_ID

REQUESTS_PER_MINUTE = 100
"""The limit at Sequence: the size of the bucket, and what fills it again each minute."""
_MINUTE_MS = 60_000
_BEARER = "bearer "
_FILLED = "min(:size, turns + :size * max(0, :now_ms - filled_at_ms) / 60000.0)"


class Permission(StrEnum):
    """What a key can be allowed to do."""

    READ_ACCOUNTS = "READ_ACCOUNTS"
    READ_TRANSFERS = "READ_TRANSFERS"
    READ_RULES = "READ_RULES"
    TRIGGER_RULES = "TRIGGER_RULES"
    MANUAL_TRANSFER = "MANUAL_TRANSFER"
    READ_AUDIT_LOGS = "READ_AUDIT_LOGS"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class ManualTransfer(_Model):
    """Two accounts between which a key may move money."""

    source: str
    target: str
    max_amount: int | None = Field(None, ge=0, description="In cents, for each transfer; null means any amount")


def _check_organization(organization_id: str) -> str:
    if organization_id not in ORGANIZATION_BY_ID:
        raise ValueError("there is no such organization")
    return organization_id


class KeyPermissions(_Model):
    """What a key may do, and how often it may ask. A new key may do everything unless restricted."""

    permissions: frozenset[Permission] = frozenset(Permission)
    account_ids: frozenset[str] | None = Field(None, description="The only accounts of the key; null means all")
    manual_transfers: tuple[ManualTransfer, ...] | None = Field(
        None, description="What `MANUAL_TRANSFER` allows; null means any transfer"
    )
    organization_id: Annotated[str, AfterValidator(_check_organization)] = ORGANIZATION_ID
    requests_per_minute: int = Field(REQUESTS_PER_MINUTE, ge=1, le=1_000_000)


@dataclass(frozen=True, slots=True)
class PlatformKey:
    """A valid key."""

    hash: str
    may: KeyPermissions

    def has(self, holder: Holder) -> bool:
        """Return whether an account of the organization is in the key."""
        return self.may.account_ids is None or holder.id in self.may.account_ids

    def knows(self, holder_id: str) -> Holder | None:
        """Return an account of the organization by its id, also one that is deleted or not in the key."""
        holder = HOLDERS.get(holder_id) or DELETED_PODS.get(holder_id)
        return holder if holder and holder.organization_id == self.may.organization_id else None


def issue_key(path: Path, may: KeyPermissions, clock: Callable[[], float]) -> str:
    """Make a key and return it. Blocks for a short write to the file.

    Args:
        path: the SQLite file.
        may: what the key may do.
        clock: Unix time in seconds.
    """
    key = f"sk_{secrets.token_urlsafe(24)}"
    with connected(path) as connection:
        connection.execute(
            "INSERT INTO platform_key VALUES (?, ?, ?, ?)",
            (_hash(key), may.model_dump_json(), float(may.requests_per_minute), int(clock() * 1000)),
        )
    return key


def find_key(connection: sqlite3.Connection, header: str | None) -> PlatformKey | None:
    """Return the key of an ``authorization`` header; ``None`` if it is missing or unknown."""
    if header is None or not header.lower().startswith(_BEARER):
        return None
    key_hash = hash_of_header(header)
    row = connection.execute("SELECT permissions FROM platform_key WHERE hash = ?", (key_hash,)).fetchone()
    return None if row is None else PlatformKey(key_hash, KeyPermissions.model_validate_json(row["permissions"]))


def hash_of_header(header: str) -> str:
    """Return the hash of the key in an ``authorization`` header."""
    return _hash(header[len(_BEARER) :].strip())


def take_turn(connection: sqlite3.Connection, key: PlatformKey, now_ms: int) -> int | None:
    """Take a request from the bucket of a key.

    Returns:
        ``None``, or after how many whole seconds the bucket has one again.
    """
    values = {"size": float(key.may.requests_per_minute), "now_ms": now_ms, "hash": key.hash}
    taken = connection.execute(
        f"""UPDATE platform_key SET turns = {_FILLED} - 1, filled_at_ms = :now_ms
        WHERE hash = :hash AND {_FILLED} >= 1""",
        values,
    )
    if taken.rowcount == 1:
        return None
    turns: float
    (turns,) = connection.execute(f"SELECT {_FILLED} FROM platform_key WHERE hash = :hash", values).fetchone()
    missing_ms = (1 - turns) * _MINUTE_MS / key.may.requests_per_minute
    return max(1, math.ceil(missing_ms / 1000))


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
