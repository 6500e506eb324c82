"""What becomes of the files of earlier versions once their records are in a database: copied, marked, or removed.

What they hold is read in `old_files`, which only a new database needs.
"""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from pysequence_api.files import (
    OWNER_ONLY,
    open_own,
    read_bytes,
    remove_own,
    replace_atomically,
    require_own,
    sync_directory,
)
from pysequence_api.records.copies import LIMITS_FILE_NAME
from pysequence_api.records.trail import FILE_NAME as TRAIL_FILE_NAME

HEAD_FILE_NAME = ".audit.head.json"
RECORD_FILE_NAMES = (LIMITS_FILE_NAME, TRAIL_FILE_NAME, HEAD_FILE_NAME)
NAMES_FILE_NAME = ".names.json"
NAMES_LOCK_FILE_NAME = ".names.lock"
KEPT_SUFFIX = ".before-records-db"
"""The copy of an old file is called as the file with this at the end."""

_MOVED_TO = "moved_to"


def any_old_file(directory: Path) -> bool:
    """Say whether the data directory holds a file of records."""
    return any((directory / name).exists() for name in RECORD_FILE_NAMES)


def keep_copies(directory: Path) -> None:
    """Copy the old files, before anything of them changes, and put the trail on the disk.

    Raises:
        OSError: that failed.
    """
    for name in RECORD_FILE_NAMES:
        if (directory / name).exists():
            _copy(directory / name, directory / f"{name}{KEPT_SUFFIX}")
    sync_directory(directory)


def retire(directory: Path, database_name: str) -> None:
    """Note that the records moved into a database, so that an earlier version refuses, and remove what nobody reads.

    Raises:
        OSError: that failed.
    """
    head = directory / HEAD_FILE_NAME
    if is_moved(read_bytes(head) or b""):
        return
    for name in (NAMES_FILE_NAME, NAMES_LOCK_FILE_NAME):
        remove_own(directory / name)
    for name in (LIMITS_FILE_NAME, TRAIL_FILE_NAME):
        require_own(directory / name)
        with suppress(FileNotFoundError):
            (directory / name).chmod(OWNER_ONLY)
    replace_atomically(head, json.dumps({_MOVED_TO: database_name}).encode() + b"\n")


def _copy(path: Path, copy: Path) -> None:
    new = copy.with_name(copy.name + ".new")
    remove_own(new)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(open_own(path, os.O_RDONLY), "rb") as source, os.fdopen(open_own(new, flags), "wb") as target:
        os.fsync(source.fileno())
        shutil.copyfileobj(source, target, 1024 * 1024)
        target.flush()
        os.fsync(target.fileno())
    new.replace(copy)


def is_moved(content: bytes) -> bool:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and _MOVED_TO in document
