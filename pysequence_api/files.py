"""Files that survive a crash, and that nobody else planted: locks between processes, atomic replacement.

Everything here blocks, so it is called from worker threads. A lock is taken and released inside one call, on a
descriptor of its own, so that it also holds between threads.

A file in a data directory is used only if it is a regular file of this user with one name. A link, a pipe or somebody
else's file could make this program read, change or delete something else.
"""

import errno
import fcntl
import grp
import os
import pwd
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
        SettingsError: it cannot be created, is not a directory, cannot be written, or others can change it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise SettingsError(f"The data directory {path} is a file. Set SEQUENCE_DATA_DIR to a directory.") from None
    except OSError as error:
        raise SettingsError(
            f"The data directory {path} cannot be created ({error.strerror}). Set SEQUENCE_DATA_DIR to one that can."
        ) from error
    if not os.access(path, os.W_OK):
        raise SettingsError(
            f"The data directory {path} cannot be written. Give it to this user, or set SEQUENCE_DATA_DIR."
        )
    check_directory(path)


def check_directory(path: Path) -> None:
    """Check that a data directory can be read, if it exists, and that others cannot change it.

    Raises:
        SettingsError: it is not a directory, cannot be read, or others can change it.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise SettingsError(f"The data directory {path} cannot be read ({error.strerror}).") from error
    if not stat.S_ISDIR(status.st_mode):
        raise SettingsError(f"The data directory {path} is a file. Set SEQUENCE_DATA_DIR to a directory.")
    if status.st_uid != os.geteuid():
        raise SettingsError(
            f"The data directory {path} belongs to another user, who could change what is in it."
            " Run as that user, or set SEQUENCE_DATA_DIR to a directory of this one."
        )
    if not os.access(path, os.R_OK | os.X_OK):
        raise SettingsError(f"The data directory {path} cannot be read. Give it to this user.")
    if others := who_else_can_write(status):
        raise SettingsError(
            f"{others} can change the data directory {path} (mode {stat.S_IMODE(status.st_mode):o}), and so what is"
            f" recorded there. Run `chmod {'o-w' if others == 'Everyone' else 'g-w'} {path}`."
        )


def who_else_can_write(status: os.stat_result) -> str | None:
    """Say who, besides its owner, can change a file or directory; ``None`` if only the owner can.

    The group of a user alone, which has the user's name and no other members, is not others.
    """
    return _who_else(status, stat.S_IWGRP, stat.S_IWOTH)


def who_else_can_read(status: os.stat_result) -> str | None:
    """Say who, besides its owner, can read a file; see `who_else_can_write`."""
    return _who_else(status, stat.S_IRGRP, stat.S_IROTH)


def _who_else(status: os.stat_result, group_bit: int, others_bit: int) -> str | None:
    if status.st_mode & others_bit:
        return "Everyone"
    if status.st_mode & group_bit and not _is_private_group(status.st_gid, status.st_uid):
        return "The members of its group"
    return None


def _is_private_group(group_id: int, user_id: int) -> bool:
    try:
        group, user = grp.getgrgid(group_id), pwd.getpwuid(user_id)
    except KeyError:
        return False  # a group or user without a name, as in a container: nothing is known of its members
    return group.gr_gid == user.pw_gid and set(group.gr_mem) <= {user.pw_name} and group.gr_name == user.pw_name


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
    descriptor = open_own(path, os.O_RDWR | os.O_CREAT)
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
    # The same lock as `filelock` takes, whose own care costs each transfer as much time as a sync of the disk.
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


class ForeignFileError(OSError):
    """A file is not a regular file of this user with one name."""


def require_own(path: Path) -> None:
    """Check that a path names a regular file of this user with one name, or nothing.

    Raises:
        ForeignFileError: it names something else.
    """
    try:
        _check(path.lstat(), path)
    except FileNotFoundError:
        return


def require_own_directory(path: Path) -> None:
    """Check that a path names a directory of this user, or nothing; not a link to one.

    Raises:
        ForeignFileError: it names something else.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise _foreign(path, "it is not a directory of this user")


def open_own(path: Path, flags: int) -> int:
    """Open a file, and check what was opened.

    Args:
        path: the file.
        flags: of open(2), such as ``O_RDONLY`` or ``O_RDWR | O_CREAT``; a new file is readable by its owner alone.

    Returns:
        The descriptor.

    Raises:
        ForeignFileError: it is not a regular file of this user with one name.
        OSError: it cannot be opened.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its other end.
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, OWNER_ONLY)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            raise _foreign(path, "it is a link or a pipe") from None
        raise
    try:
        _check(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def remove_own(path: Path) -> None:
    """Remove a file that this program made, if there is one.

    Raises:
        ForeignFileError: it is something else.
        OSError: it cannot be removed.
    """
    require_own(path)
    path.unlink(missing_ok=True)


def read_bytes(path: Path) -> bytes | None:
    """Read a whole file; ``None`` if there is none.

    Raises:
        ForeignFileError: it is not a regular file of this user with one name.
        OSError: it cannot be read.
    """
    try:
        descriptor = open_own(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def replace_atomically(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Put a new file in the place of an old one, so that a crash leaves either the one or the other, whole.

    The caller holds a lock under which alone this path is written.

    Args:
        path: the file; it becomes readable by its owner alone.
        content: all of it.
        sync: put it on the disk before it takes the place of the old one.

    Raises:
        OSError: it could not be written; the old file is untouched.
    """
    new = path.with_name(path.name + ".new")  # a fixed name, so that what a crash leaves is removed by the next one
    remove_own(new)
    descriptor = open_own(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        _write_all(descriptor, content)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.replace(path)
    if sync:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Put the names in a directory on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    # A regular file takes all at once unless the disk is full; the next write then says so.
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _check(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _foreign(path, "it is a link, a pipe or a directory")
    if status.st_uid != os.geteuid():
        raise _foreign(path, "it belongs to another user")
    if status.st_nlink > 1:
        raise _foreign(path, "it has a second name elsewhere")


def _foreign(path: Path, problem: str) -> ForeignFileError:
    return ForeignFileError(
        errno.EPERM, f"{problem}; remove it, or set SEQUENCE_DATA_DIR to another directory", str(path)
    )
