"""Filling a new database from the files of an earlier version, or of the existing PySequence server."""

import sqlite3
from pathlib import Path


def fill(connection: sqlite3.Connection, directory: Path) -> None:
    """Fill an empty database from what a data directory holds."""
