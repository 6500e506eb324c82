"""The database `.records.db`: opened, locked, written in transactions, and read.

One lock file is held around every write, its checkpoint, and bringing the audit trail up to date. Nothing in a process
opens the database file but SQLite: closing another descriptor of it would drop SQLite's own locks.
"""

import logging
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, cast

from pysequence_api.clock import Clock, to_micros
from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.files import (
    LOCK_TIMEOUT_SECONDS,
    OWNER_ONLY,
    holder_of,
    locked,
    open_own,
    remove_own,
    require_own,
    sync_directory,
)
from pysequence_api.records.attempts import Reader, Writer
from pysequence_api.records.copies import LIMITS_FILE_NAME, TrailCopy, limits_begin, write_limits
from pysequence_api.records.owners import Owners
from pysequence_api.records.retiring import any_old_file, keep_copies, retire
from pysequence_api.records.trail import Trail

FILE_NAME = ".records.db"
NEW_FILE_NAME = ".records.db.new"
LOCK_FILE_NAME = ".lock"
APPLICATION_ID = 0x50534751
VERSION = 3
MIGRATIONS = {1: "to_version_2.sql", 2: "to_version_3.sql"}
"""The file with the SQL that brings a version to the next one, by the version that it begins from."""
BUSY_TIMEOUT_SECONDS = 10.0
MAX_KEPT_ANSWERS = 256

T = TypeVar("T")
Fill = Callable[[sqlite3.Connection, Path], None]
"""Fills an empty database from what a data directory holds."""

log = logging.getLogger(__name__)


class Database:
    """The database of one data directory. `write` and `close` block; call them from worker threads.

    Args:
        directory: the data directory, which exists.
        clock: returns the time in UTC.
        fill: fills a new database; raises `SafeguardsUnavailableError` if there must not be a new one.
    """

    def __init__(self, directory: Path, clock: Clock, fill: Fill) -> None:
        self.directory = directory
        self.path = directory / FILE_NAME
        self._log_path = _log_path(self.path)
        self.trail = Trail(directory)
        self.owners = Owners(directory)
        self.attempts_changed = threading.Event()
        """Set by each write that changes attempts, for the copies that follow."""
        self._clock = clock
        self._fill = fill
        self._lock_path = directory / LOCK_FILE_NAME
        self._mutex = threading.Lock()
        self._reading_mutex = threading.RLock()
        """Closing a connection that another thread reads would crash the process."""
        self._writing: sqlite3.Connection | None = None
        self._reading: sqlite3.Connection | None = None
        self._reads_stand_in = False
        """Reading reads what stands for a database of this version, as long as there is none."""
        self._kept: dict[Hashable, Any] = {}
        """Answers of `read_kept`."""
        self._kept_version: int | None = None
        self._closed = False
        self._is_just_built = False
        self._private = ExitStack()
        """The private copy that is read where SQLite cannot read the file itself."""
        self._opened_files: dict[Path, tuple[int, int]] = {}
        self._trail_copy = TrailCopy(self.trail)

    def write(
        self,
        decide: Callable[[Writer], T],
        timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
        *,
        needs_trail: bool = False,
    ) -> T:
        """Run a function in one transaction, under the lock of the data directory.

        When it returns, all that it changed is on the disk, and its events are in the audit trail, unless that cannot
        be written: `Writer.distrust` of the next transaction says so then.

        Args:
            decide: gets a `Writer`. What it raises takes back all its changes.
            timeout_seconds: how long to wait for the lock.
            needs_trail: fail if the events cannot be written to the audit trail. The changes stay.

        Raises:
            SafeguardsUnavailableError: the database cannot be opened, trusted or written; nothing was changed, unless
                only the audit trail failed.
        """
        with self.held(timeout_seconds):
            if self._closed:
                raise unavailable("the records are closed, because the program ends")
            connection = self._open_for_writing()
            distrust = self._trail_copy.bring_up_to_date(connection)
            try:
                connection.execute("BEGIN IMMEDIATE")
                writer = Writer(connection, self._clock(), distrust)
                result = decide(writer)
                connection.execute("COMMIT")
            except sqlite3.IntegrityError:
                raise  # the fault of one request, not of the database
            except sqlite3.Error as error:
                raise unusable("written", error) from error
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            self._note_log_file()
            if writer.changed_attempts:
                self.attempts_changed.set()
            if distrust is None:
                self._trail_copy.append(writer.lines)
            if needs_trail and not self._trail_copy.is_complete:
                raise unavailable(f"{self.trail.path.name} cannot be written")
            return result

    def now(self) -> datetime:
        """Return the time by which it decides, in UTC."""
        return self._clock()

    def read(self, ask: Callable[[Reader], T]) -> T:
        """Ask the database, without a lock. Short questions may run on the event loop.

        Where there is no database yet, what the data directory holds is read as it would be taken over.

        Raises:
            SafeguardsUnavailableError: it cannot be read.
        """
        return self._ask(lambda connection: ask(Reader(connection, self._clock())))

    def read_kept(
        self, what: Hashable, ask: Callable[[Reader], T], is_lasting: Callable[[T], bool] = lambda _: True
    ) -> T:
        """Ask as `read` does, and use the answer again until the database changes, whichever process changes it.

        Args:
            what: names the question.
            ask: depends on nothing but the database and ``what``.
            is_lasting: whether that holds for an answer; if not, it is not used again.

        Raises:
            SafeguardsUnavailableError: it cannot be read.
        """

        def look(connection: sqlite3.Connection) -> T:
            version = _data_version(connection)
            if version != self._kept_version or len(self._kept) >= MAX_KEPT_ANSWERS:
                self._kept_version = version
                self._kept.clear()
            if what in self._kept:
                return cast(T, self._kept[what])
            answer = ask(Reader(connection, self._clock()))
            if is_lasting(answer):
                self._kept[what] = answer
            return answer

        return self._ask(look)

    def _ask(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        with self._reading_mutex:
            if self._reads_stand_in and self.path.exists():
                self.close_reading()
            try:
                if self._reading is None:
                    self._reading = self._open_for_reading()
                return ask(self._reading)
            except sqlite3.Error as error:
                self.close_reading()
                raise unusable("read", error) from error

    @contextmanager
    def read_apart(self) -> Iterator[sqlite3.Connection]:
        """Open one more connection for what takes long. It sees one moment of the database.

        Raises:
            SafeguardsUnavailableError: it cannot be read.
        """
        with ExitStack() as stack:
            try:
                opened = open_for_reading(self.path, stack)
                connection = stack.enter_context(closing(newest_version(opened, stack)))
                connection.execute("BEGIN")
                connection.execute("SELECT one FROM store").fetchone()
            except sqlite3.Error as error:
                raise unusable("read", error) from error
            yield connection

    @contextmanager
    def held(self, timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
        """Hold the lock of the data directory, between threads and processes.

        Raises:
            SafeguardsUnavailableError: it is not free in time, or cannot be locked.
        """
        with ExitStack() as stack:
            stack.enter_context(self._mutex)
            try:
                stack.enter_context(locked(self._lock_path, timeout_seconds))
            except OSError as error:
                raise unavailable(f"{self._lock_path} cannot be locked ({error.strerror})") from error
            yield

    @property
    def is_new(self) -> bool:
        """Whether the data directory has no records yet, in a database or in the files of an earlier version."""
        return not self.path.exists() and not any_old_file(self.directory)

    @property
    def is_open(self) -> bool:
        """Whether this process has opened the database for writing."""
        return self._writing is not None

    def write_limits(self) -> None:
        """Bring `.daily_limits.json` up to date. Failures are logged."""
        self.attempts_changed.clear()
        try:
            with self.held():
                now = self._clock()
                attempts = self.read(lambda reader: reader.attempts_counted_since(limits_begin(now)))
                write_limits(self.directory, attempts, now, is_first=self._is_just_built)
                self._is_just_built = False
        except (OSError, SafeguardsUnavailableError) as error:
            log.error("%s cannot be written (%s)", LIMITS_FILE_NAME, error)

    def sync_trail(self) -> None:
        """Put the audit trail on the disk, and note in the database how far it is there. Failures are logged."""
        with self.held():
            if self._writing is None or self._trail_copy.bring_up_to_date(self._writing) is not None:
                return
            try:
                self._trail_copy.sync(self._writing)
            except (OSError, sqlite3.Error) as error:
                log.warning("%s cannot be put on the disk (%s)", self.trail.path.name, error)

    def close(self) -> None:
        """Close the connections, and release this process's place among the owners."""
        self._closed = True
        self.close_reading()
        if self._writing is not None:
            with self.held():
                self._writing.close()  # the last one to close checkpoints, so that this needs the lock
                self._writing = None
                self.owners.close()

    def abandon(self) -> None:
        """Leave everything as the sudden end of the process would."""
        self._closed = True
        self._writing = self._reading = None
        self.owners.abandon()

    def close_reading(self) -> None:
        """Close the connection for reading; the next question opens another one."""
        with self._reading_mutex:
            if self._reading is not None:
                self._reading.close()
                self._reading = None
            self._kept_version = None  # versions are of one connection
            self._private.close()

    def _open_for_writing(self) -> sqlite3.Connection:
        if self._writing is not None:
            for path, identity in self._opened_files.items():
                if _identity(path) != identity:
                    raise unavailable(f"{path.name} was replaced while this program was running. Restart it")
            return self._writing
        try:
            if not self.path.exists():
                build(self.directory, self._clock, self._take_over)
                self._is_just_built = True
            retire(self.directory, FILE_NAME)
            unclean = bool(self._log_path.exists() and self._log_path.stat().st_size) and not self.owners.any_alive()
            self.path.chmod(OWNER_ONLY)
            connection = self._connect_for_writing(unclean=unclean)
            self.owners.own_id()
        except sqlite3.Error as error:
            raise unusable("opened", error) from error
        except OSError as error:
            raise unavailable(f"{error.filename} cannot be written ({error.strerror})") from error
        self._writing = connection
        self.attempts_changed.set()
        self._opened_files = {self.path: _identity(self.path)}
        self.close_reading()  # it may have read what was there before the database
        return connection

    def _connect_for_writing(self, *, unclean: bool) -> sqlite3.Connection:
        connection = connect(self.path)
        try:
            check_version(connection)
            if unclean:
                check_pages(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            migrate(connection, self.directory, self.owners)
        except BaseException:
            connection.close()
            raise
        return connection

    def _take_over(self, connection: sqlite3.Connection, directory: Path) -> None:
        self._fill(connection, directory)
        keep_copies(directory)

    def _note_log_file(self) -> None:
        if self._log_path not in self._opened_files:
            self._opened_files[self._log_path] = _identity(self._log_path)

    def _open_for_reading(self) -> sqlite3.Connection:
        self._reads_stand_in = not self.path.exists()
        if self._reads_stand_in:
            connection = connect(Path(":memory:"))
            create_tables(connection, self._clock)
            connection.execute("BEGIN")
            try:
                self._fill(connection, self.directory)
            except SafeguardsUnavailableError:
                if not self.path.exists():
                    raise
                self._reads_stand_in = False  # another process has just built it
                return open_for_reading(self.path, self._private)
            connection.execute("COMMIT")
            return connection
        opened = open_for_reading(self.path, self._private)
        connection = newest_version(opened, self._private)
        self._reads_stand_in = connection is not opened
        return connection


def open_for_reading(path: Path, private: ExitStack) -> sqlite3.Connection:
    """Open a database to read it.

    Args:
        path: the database.
        private: removes the private copy that is read on a read-only disk, where SQLite cannot make the files it needs.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    try:
        return connect(path, read_only=True)
    except sqlite3.OperationalError:
        copy = Path(private.enter_context(tempfile.TemporaryDirectory(prefix="pysequence-api-"))) / FILE_NAME
        shutil.copyfile(path, copy)
        if _log_path(path).exists():
            shutil.copyfile(_log_path(path), _log_path(copy))
        return connect(copy)


def newest_version(connection: sqlite3.Connection, private: ExitStack) -> sqlite3.Connection:
    """Return a connection that reads the same in the newest version: this one, or one to a copy.

    Args:
        connection: to a database, which is closed if there is a copy.
        private: removes the copy.

    Raises:
        SafeguardsUnavailableError: it is not one of ours, or of a version that is not known.
        sqlite3.Error: it cannot be read.
    """
    check_version(connection)
    version = _version(connection)
    if version == VERSION:
        return connection
    copy = Path(private.enter_context(tempfile.TemporaryDirectory(prefix="pysequence-api-"))) / FILE_NAME
    with closing(connection):
        back_up(connection, copy)
    migrated = connect(copy)
    while version < VERSION:
        version = migrate_once(migrated, version)
    return migrated


def build(directory: Path, clock: Clock, fill: Fill) -> None:
    """Build the database of a data directory, and put it in place, under the lock.

    It is built aside, closed, and put on the disk; if the program is killed before it is in place, the next one builds
    it again.

    Raises:
        SafeguardsUnavailableError: there must not be a new one.
        OSError: it cannot be written.
    """
    new = directory / NEW_FILE_NAME
    remove(new)
    create_file(new)
    connection = connect(new)
    try:
        create_tables(connection, clock)
        connection.execute("BEGIN")
        fill(connection, directory)
        connection.execute("COMMIT")
    finally:
        connection.close()
    put_in_place(new, directory / FILE_NAME)


def put_in_place(closed: Path, path: Path) -> None:
    """Put a closed database file in the place of another one, under the lock.

    What SQLite keeps beside the old one goes first: a database renamed beside the log of another one would open as that
    other one, and a journal of another one would be rolled back into it.

    Raises:
        OSError: that failed.
    """
    descriptor = open_own(closed, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    for beside in files_beside(path):
        remove_own(beside)
    sync_directory(path.parent)
    closed.replace(path)
    sync_directory(path.parent)


def files_beside(path: Path) -> list[Path]:
    """Return the paths of the files that SQLite keeps beside a database."""
    return [Path(f"{path}{suffix}") for suffix in ("-wal", "-shm", "-journal")]


def create_file(path: Path) -> None:
    """Create an empty file for a database, readable by its owner alone, before SQLite opens it.

    Raises:
        FileExistsError: there is such a file already.
        OSError: it cannot be created.
    """
    os.close(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))


def remove(path: Path) -> None:
    """Remove a database that was not completed, with what SQLite keeps beside it."""
    for file in (path, *files_beside(path)):
        remove_own(file)


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Connect to a database file.

    Raises:
        ForeignFileError: it, or a file beside it, is not this user's.
        sqlite3.Error: it cannot be opened.
    """
    for file in (path, *files_beside(path)):
        require_own(file)  # SQLite would follow a link
    name = str(path) if str(path) == ":memory:" else f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
    connection = sqlite3.connect(
        name, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_SECONDS
    )
    try:
        for pragma in ("recursive_triggers", "cell_size_check", "foreign_keys", "fullfsync"):
            connection.execute(f"PRAGMA {pragma} = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except UnicodeDecodeError as error:  # the message quotes what is damaged
        connection.close()
        damaged = sqlite3.DatabaseError("the schema is damaged")
        damaged.sqlite_errorname = "SQLITE_CORRUPT"
        raise damaged from error
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def create_tables(connection: sqlite3.Connection, clock: Clock) -> None:
    """Create the tables of an empty database."""
    _empty_database().backup(connection)
    connection.execute("INSERT INTO store(one, created_at) VALUES(1, ?)", (to_micros(clock()),))


def check_version(connection: sqlite3.Connection) -> None:
    """Check that a database is one of ours, of a version that is known.

    Raises:
        SafeguardsUnavailableError: it is not.
        sqlite3.Error: it cannot be read.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = _version(connection)
    if application != APPLICATION_ID or version < 1:
        raise unavailable(f"{FILE_NAME} is not a database of pysequence-api. {RESTORE}")
    if version > VERSION:
        raise unavailable(
            f"{FILE_NAME} has version {version}, and this program knows versions up to {VERSION}. Install the newer"
            " pysequence-api again"
        )


def check_pages(connection: sqlite3.Connection) -> None:
    """Check the pages of a database, as after a crash.

    Raises:
        SafeguardsUnavailableError: one is damaged.
    """
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise unavailable(f"{FILE_NAME} is damaged ({found}). {RESTORE}")


def migrate(connection: sqlite3.Connection, directory: Path, owners: Owners) -> None:
    """Bring a database to the newest version, one version at a time, each after a backup, under the lock.

    If the program is killed, the next one begins again from the version that it finds.

    Raises:
        SafeguardsUnavailableError: a process of an earlier version works with it, and would go on with its own rules.
        sqlite3.Error: that failed; the version before stays.
        OSError: the backup cannot be written.
    """
    version = _version(connection)
    if version < VERSION and (running := owners.others()):
        raise unavailable(f"{holder_of(running[0])} works in {directory} with an earlier version. Stop it")
    while version < VERSION:
        kept = directory / f"{FILE_NAME}.version-{version}"
        draft = kept.with_name(f"{kept.name}.new")
        remove(draft)
        back_up(connection, draft)
        put_in_place(draft, kept)
        version = migrate_once(connection, version)
        log.warning("%s was brought to version %d", FILE_NAME, version)


def migrate_once(connection: sqlite3.Connection, version: int) -> int:
    """Bring a database from one version to the next one, and return that.

    Raises:
        sqlite3.Error: that failed; the version before stays.
    """
    script = _script(MIGRATIONS[version])
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {version + 1}; COMMIT;")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return version + 1


def back_up(connection: sqlite3.Connection, path: Path) -> None:
    """Copy a database as it is at one moment into one new file, readable by its owner alone.

    Raises:
        FileExistsError: there is such a file already.
        OSError: it cannot be written.
        sqlite3.Error: the copy failed.
    """
    create_file(path)
    try:
        with closing(sqlite3.connect(path)) as copy:
            connection.backup(copy)  # in one step: in several, a busy writer would have it begin again and again
            copy.execute("PRAGMA journal_mode = DELETE")
    except BaseException:
        remove(path)
        raise
    sync_directory(path.parent)


RESTORE = "`pysequence-api records restore` puts a backup in its place"


def unavailable(why: str) -> SafeguardsUnavailableError:
    """Make the error of records that cannot be trusted or written."""
    return SafeguardsUnavailableError(f"No transfer is possible: {why}. Reads go on.")


def unusable(what: str, error: sqlite3.Error) -> SafeguardsUnavailableError:
    """Make the error of a database that cannot be used.

    Args:
        what: what cannot be done with it.
        error: what SQLite says.
    """
    name = getattr(error, "sqlite_errorname", "")
    damaged = name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
    advice = RESTORE if damaged else "Check the disk: `pysequence-api doctor`"
    return unavailable(f"{FILE_NAME} cannot be {what} ({error}). {advice}")


@cache
def _empty_database() -> sqlite3.Connection:
    """Return an empty database in memory. Copying its pages takes a fifth of running the script, often twice."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.executescript(_script("schema.sql"))
    return connection


def _script(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text()


def _data_version(connection: sqlite3.Connection) -> int:
    """Return a number that is another one after each commit of another connection, of this process or not."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _log_path(path: Path) -> Path:
    return Path(f"{path}-wal")


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return status.st_dev, status.st_ino
