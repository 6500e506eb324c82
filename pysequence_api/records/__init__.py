"""What is kept on the disk: one database, and the files that follow it."""

import sqlite3
from pathlib import Path

from pysequence_api.clock import Clock, utc_now
from pysequence_api.files import check_directory, prepare_directory
from pysequence_api.records.database import Database


def open_records(directory: Path, clock: Clock = utc_now) -> Database:
    """Open the records of a data directory. This reads and writes nothing yet.

    Args:
        directory: the data directory, created if missing.
        clock: returns the time in UTC.

    Raises:
        SettingsError: the data directory cannot be used.
    """
    prepare_directory(directory)
    return Database(directory, clock, fill_new)


def read_records(directory: Path) -> Database:
    """Open the records of a data directory for reading. This creates nothing, and the directory may be read-only.

    Args:
        directory: the data directory; one that does not exist has no records yet.

    Raises:
        SettingsError: the data directory cannot be used.
    """
    check_directory(directory)
    return Database(directory, utc_now, fill_new)


def fill_new(connection: sqlite3.Connection, directory: Path) -> None:
    """Fill a new database from the files of earlier versions; see `takeover.fill`."""
    from pysequence_api.records.takeover import fill  # noqa: PLC0415 - most databases exist

    fill(connection, directory)
