"""Files that survive a crash: one lock between processes, atomic replacement, synced append.

Everything here blocks, so it is called from worker threads. A lock is taken and released inside one call, on a
descriptor of its own, so that it also holds between threads.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from pysequence_api.errors import LockTimeoutError, SettingsError

LOCK_TIMEOUT_SECONDS = 10.0
"""How long a lock is waited for; every hold is short, so that a longer wait means that something hangs."""
LOCK_POLL_SECONDS = 0.01
OWNER_ONLY = 0o600


def prepare_directory(path: Path) -> None:
    """Create a data directory, readable by its owner alone, or check that one can be used.

    Args:
        path: the directory; missing parents are created as well.

    Raises:
        SettingsError: it cannot be created, is no directory, or cannot be written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise SettingsError(f"The data directory {path} is a file. Set SEQUENCE_DATA_DIR to a directory.") from None
    except OSError as error:
        raise SettingsError(
            f"The data directory {path} cannot be created ({error.strerror}). Set SEQUENCE_DATA_DIR to one that can."
        ) from error
    if path.stat().st_uid != os.geteuid():
        raise SettingsError(
            f"The data directory {path} belongs to another user, who could change what is in it."
            " Run as that user, or set SEQUENCE_DATA_DIR to a directory of this one."
        )
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise SettingsError(
            f"The data directory {path} cannot be written. Give it to this user, or set SEQUENCE_DATA_DIR."
        )


def new_lock(path: Path, timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> FileLock:
    """Make a lock object on a file, for one hold.

    It never falls back to a lock file that would outlive its process; on a file system without ``flock`` it fails.
    """
    return FileLock(
        path,
        timeout=timeout_seconds,
        mode=OWNER_ONLY,
        poll_interval=LOCK_POLL_SECONDS,
        fallback_to_soft=False,
        preserve_lock_file=True,
    )


@contextmanager
def locked(path: Path, timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
    """Hold the lock on a file, between processes and threads.

    Args:
        path: the lock file, created if missing.
        timeout_seconds: how long to wait for it.

    Raises:
        LockTimeoutError: another process held it all that time.
        OSError: the lock file cannot be made.
    """
    # The same lock (flock) as `filelock` takes, whose own care costs each transfer as much time as a sync of the disk.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, OWNER_ONLY)
    try:
        give_up_at = time.monotonic() + timeout_seconds
        while not _try_to_lock(descriptor):
            if time.monotonic() >= give_up_at:
                raise LockTimeoutError(
                    f"{holder_of(path)} has held {path} for {timeout_seconds:g} seconds. End it if it hangs."
                )
            time.sleep(LOCK_POLL_SECONDS)
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _try_to_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def holder_of(path: Path) -> str:
    """Name the process that holds a lock, where the system says so (Linux, proc(5), ``/proc/locks``)."""
    try:
        status = path.stat()
        place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if "->" not in fields and fields[1] == "FLOCK" and fields[5] == place and int(fields[4]) > 0:
                return f"Process {fields[4]}"
    except (OSError, ValueError, IndexError):
        return "Another process"
    return "Another process, perhaps in another container,"


def read_bytes(path: Path) -> bytes | None:
    """Read a whole file; ``None`` if there is none.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def replace_atomically(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Put a new file in the place of an old one, so that a crash leaves either the one or the other, whole.

    The caller holds a lock under which alone this path is written.

    Args:
        path: the file; it becomes readable by its owner alone.
        content: all of it.

    Raises:
        OSError: it could not be written; the old file is untouched.
    """
    new = path.with_name(path.name + ".new")  # a fixed name: what a crash leaves is overwritten by the next one
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, OWNER_ONLY)
    try:
        os.fchmod(descriptor, OWNER_ONLY)
        _write_all(descriptor, content)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.replace(path)
    if sync:
        sync_directory(path.parent)


def append_lines(path: Path, content: bytes) -> None:
    """Append to a file in one write, and sync it.

    If a crash has cut the last line short, it is closed off first, so that it spoils no other line.
    The caller holds a lock under which alone this path is written.

    Args:
        path: the file, created if missing, readable by its owner alone.
        content: one or more whole lines.

    Raises:
        OSError: not all of it could be written; what is there of it has no closing line break.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, OWNER_ONLY)
    try:
        status = os.fstat(descriptor)
        if status.st_mode & 0o077:
            os.fchmod(descriptor, OWNER_ONLY)
        size = status.st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            content = b"\n" + content
        _write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if not size:
        sync_directory(path.parent)


def _write_all(descriptor: int, content: bytes) -> None:
    # A regular file takes all at once unless the disk is full; the next write then says so.
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
