"""The SQLite file of the sandbox. Several processes can share one file.

All calls block, so they run in worker threads. Each operation opens its own connection.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from pysequence_api.sandbox.ids import PLATFORM_KEY

BUSY_TIMEOUT_SECONDS = 10.0
"""How long a process waits for another process that is writing."""
_RETRY_SECONDS = 0.01
_OWNER_ONLY = 0o600
_APPLICATION_ID = 0x50534551  # "PSEQ"
_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
        # Negative for money that is owed, so that a transfer never changes the sum of all balances.
        "CREATE TABLE balance (holder_id TEXT PRIMARY KEY, cents INTEGER NOT NULL) STRICT",
        """CREATE TABLE transfer (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            organization_id TEXT NOT NULL,
            source_id TEXT NOT NULL,
            destination_id TEXT NOT NULL,
            amount_cents INTEGER NOT NULL CHECK (amount_cents > 0),
            direction TEXT NOT NULL,
            activity_type TEXT NOT NULL,
            status TEXT, -- NULL: depends on the time since created_at_ms
            error_reason TEXT,
            description TEXT,
            is_compound INTEGER NOT NULL,
            rule_trigger_type TEXT,
            rule_trigger_cron TEXT,
            created_at_ms INTEGER NOT NULL,
            visible_from_ms INTEGER NOT NULL,
            is_payment INTEGER NOT NULL -- 1: made by CreatePayment, 0: history
        ) STRICT""",
        "CREATE INDEX transfer_newest ON transfer (organization_id, created_at_ms, sequence)",
        # Hashes only, so that the tokens in the file cannot be used.
        "CREATE TABLE refresh_token (hash TEXT PRIMARY KEY, created_at_ms INTEGER NOT NULL) STRICT",
    ),
    (
        "ALTER TABLE transfer ADD COLUMN fee_cents INTEGER NOT NULL DEFAULT 0",
        # When the transfer fails or is returned, and its money goes back to the source. NULL: never.
        "ALTER TABLE transfer ADD COLUMN reverses_at_ms INTEGER",
        "ALTER TABLE transfer ADD COLUMN reversed_status TEXT",
        # 0: PROCESSING until it fails, 1: COMPLETE after the usual time
        "ALTER TABLE transfer ADD COLUMN completes INTEGER NOT NULL DEFAULT 1",
        "CREATE INDEX transfer_reversal ON transfer (reverses_at_ms) WHERE reverses_at_ms IS NOT NULL",
    ),
    (
        # What the Platform API makes: simulations, and transfers that are accepted without sufficient funds.
        "ALTER TABLE transfer ADD COLUMN is_simulation INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE transfer ADD COLUMN moves_money INTEGER NOT NULL DEFAULT 1",
        # 1: never PENDING
        "ALTER TABLE transfer ADD COLUMN starts_processing INTEGER NOT NULL DEFAULT 0",
        # Before, the Platform API does not find it by its id.
        "ALTER TABLE transfer ADD COLUMN readable_from_ms INTEGER NOT NULL DEFAULT 0",
        # A key with what it may do, as JSON, and its bucket of requests.
        """CREATE TABLE platform_key (
            hash TEXT PRIMARY KEY,
            permissions TEXT NOT NULL,
            turns REAL NOT NULL,
            filled_at_ms INTEGER NOT NULL
        ) STRICT""",
        f"INSERT INTO platform_key VALUES ('{sha256(PLATFORM_KEY.encode()).hexdigest()}', '{{}}', 1e9, 0)",
        """CREATE TABLE platform_answer (
            key_hash TEXT NOT NULL,
            idempotency_key TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            status INTEGER NOT NULL,
            body TEXT NOT NULL,
            created_at_ms INTEGER NOT NULL,
            PRIMARY KEY (key_hash, idempotency_key)
        ) STRICT""",
    ),
)
"""The statements of each version of the schema. A file stores how many versions it has."""


class SandboxFileError(RuntimeError):
    """The file cannot be used for the sandbox. The message says why and what to do."""


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a connection for one operation, for the calling thread.

    Args:
        path: a file that `prepare` has prepared.

    Raises:
        sqlite3.OperationalError: the file does not exist, or another process is writing for too long.
    """
    address = f"file:{quote(str(path.absolute()))}?mode=rw"
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
    with closing(connection):
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = NORMAL")
        yield connection


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """Run one transaction under the write lock of the file."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def prepare(path: Path, seed: Callable[[sqlite3.Connection], None]) -> None:
    """Create and fill the file, or upgrade its schema. Several processes can do this at once.

    Args:
        path: the file; only its owner can read it afterwards.
        seed: fills the empty tables.

    Raises:
        SandboxFileError: the file is not a sandbox file, or a newer version made it.
        OSError: the file cannot be created.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _OWNER_ONLY)
    try:
        os.fchmod(descriptor, _OWNER_ONLY)
    finally:
        os.close(descriptor)
    try:
        with connected(path) as connection:
            _use_write_ahead_log(connection)
            with writing(connection):
                is_new = _is_empty(connection)
                if is_new:
                    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                _migrate(connection, path)
                if is_new:
                    seed(connection)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        raise SandboxFileError(f"{path} is not a sandbox file ({error}). Choose another, or delete it.") from error


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    # Switching requires exclusive access and does not wait for it, so two processes can collide here.
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is None


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise SandboxFileError(f"{path} is a database, but not a sandbox file. Choose another file.")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(_MIGRATIONS):
        raise SandboxFileError(f"{path} was made by a newer version ({version}). Delete it to create a new one.")
    for statements in _MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
