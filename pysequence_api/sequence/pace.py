"""The pace that all processes on a data directory share. Everything here blocks for moments, in worker threads.

The stamp of the last start is the *modification time* of a file, because that can be set on a full disk. The lock on
it is held for one look and one change, never across a wait.
"""

import fcntl
import logging
import os
import threading
import time
from pathlib import Path

from pysequence_api.errors import LockTimeoutError
from pysequence_api.files import OWNER_ONLY, locked

log = logging.getLogger(__name__)

STAMP_FILE_NAME = ".pacing"
LOCK_FILE_NAME = ".pacing.lock"
TRANSFER_FILE_NAME = ".pacing-transfer.lock"
LOCK_TRY_SECONDS = 0.25
"""One try for the lock; whoever wants a turn tries again until its wait runs out."""
TRANSFER_POLL_SECONDS = 0.05
"""How often a read looks whether the transfer of another process has gone."""
NANOSECONDS = 1_000_000_000


class TransferFlag:
    """Shown while a transfer waits, so that no read of another process goes before it.

    It is a shared lock on a file, which the system takes back if the process dies.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._descriptor: int | None = None
        self._released = False

    def show(self) -> None:
        """Show it, under the lock on the pace, under which alone reads look.

        Raises:
            OSError: it cannot be shown.
        """
        with self._mutex:
            # The one who waited may have gone while this thread was on its way.
            if self._released or self._descriptor is not None:
                return
            descriptor = _open(self._path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                raise
            self._descriptor = descriptor

    def release(self) -> None:
        """Take it away, for good. This does not block."""
        with self._mutex:
            self._released = True
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


class SharedPace:
    """The files. Where they cannot be used, a warning says so once, and this process keeps its own pace alone."""

    def __init__(self, directory: Path) -> None:
        self._stamp_path = directory / STAMP_FILE_NAME
        self._lock_path = directory / LOCK_FILE_NAME
        self._transfer_path = directory / TRANSFER_FILE_NAME
        self._own_stamp_ns: int | None = None
        self._warned = False

    def transfer_flag(self) -> TransferFlag:
        """Make the flag of one transfer."""
        return TransferFlag(self._transfer_path)

    def show(self, flag: TransferFlag) -> None:
        """Show a transfer's flag to the other processes."""
        try:
            with locked(self._lock_path, LOCK_TRY_SECONDS):
                flag.show()
        except LockTimeoutError:
            log.warning(
                "The lock on the pace is held by a process that hangs; reads of others may go before a transfer."
            )
        except OSError as error:
            self._warn(error)

    def start(self, gap_seconds: float, *, yields: bool, mine: bool) -> float | None:
        """Start a request if it is due, and stamp it.

        Args:
            gap_seconds: the distance to keep from the last start.
            yields: do not start while a transfer waits in any process.
            mine: this request made the last start of this process already. If that is still the last of all, it starts.

        Returns:
            ``None`` if it has started, else how many seconds to wait before asking again.
        """
        try:
            with locked(self._lock_path, LOCK_TRY_SECONDS):
                if yields and self._transfer_waits():
                    return TRANSFER_POLL_SECONDS
                now_ns = time.time_ns()
                stamp_ns = self._read()
                if stamp_ns is not None and not (mine and stamp_ns == self._own_stamp_ns):
                    if stamp_ns > now_ns:  # a clock was set back: as if the last start were now
                        self._write(now_ns)
                        return gap_seconds
                    wait_seconds = gap_seconds - (now_ns - stamp_ns) / NANOSECONDS
                    if wait_seconds > 0:
                        return wait_seconds
                self._own_stamp_ns = self._write(now_ns)
        except LockTimeoutError:
            return 0.0  # the try has waited already
        except OSError as error:
            self._warn(error)
        return None

    def renew(self) -> None:
        """Stamp once more what this process started last, because only now it is out."""
        try:
            with locked(self._lock_path, LOCK_TRY_SECONDS):
                self._own_stamp_ns = self._write(time.time_ns())
        except LockTimeoutError:
            log.debug("The lock on the pace was not free; the stamp stays as it was before sending.")
        except OSError as error:
            self._warn(error)

    def _transfer_waits(self) -> bool:
        descriptor = _open(self._transfer_path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _read(self) -> int | None:
        try:
            return self._stamp_path.stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def _write(self, now_ns: int) -> int:
        try:
            os.utime(self._stamp_path, ns=(now_ns, now_ns))
        except FileNotFoundError:
            os.close(_open(self._stamp_path))
            os.utime(self._stamp_path, ns=(now_ns, now_ns))
        return self._stamp_path.stat().st_mtime_ns  # as the file system keeps it, which may be coarser

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "The pace cannot be shared with other processes (%s at %s). This process keeps its own; do not run"
                " another on the same account.",
                error.strerror or type(error).__name__,
                self._stamp_path,
            )


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, OWNER_ONLY)
