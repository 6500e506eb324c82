"""Which process a reservation belongs to, and whether that process lives.

That is never guessed from a number: every process that reserves holds, for as long as it lives, a lock on a file of its
own. Who can take that lock knows that the process is gone.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from pysequence_api.files import OWNER_ONLY, remove_own, require_own, require_own_directory

if TYPE_CHECKING:
    from filelock import FileLock

DIRECTORY_NAME = ".owners"

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


class Owners:
    """The owner files of a data directory. Every method is called under the data lock, in a worker thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / DIRECTORY_NAME
        self.running: set[str] = set()
        """The attempts that this process works on."""
        self._id = uuid4().hex
        self._held: FileLock | None = None

    def own_id(self) -> str:
        """Return this process's id, with its lock held from the first call on.

        Raises:
            OSError: the file cannot be made.
        """
        if self._held is None:
            require_own_directory(self._directory)
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._remove_dead()
            # Not local to the thread: it is held until the process ends, whichever thread took it.
            held = _lock_on(self._path(self._id), thread_local=False)
            held.acquire()
            self._held = held
        return self._id

    def is_running(self, owner_id: str | None, attempt_id: str | None) -> bool:
        """Say whether the process of a reservation still works on it, as far as can be known from here."""
        return attempt_id in self.running if owner_id == self._id else self._is_alive(owner_id)

    def any_alive(self) -> bool:
        """Say whether another process works in this data directory."""
        return bool(self.others())

    def others(self) -> list[Path]:
        """List the lock files of other processes that work in this data directory."""
        require_own_directory(self._directory)
        paths = self._directory.glob("*.lock") if self._directory.is_dir() else ()
        return [path for path in paths if path.stem != self._id and self._is_alive(path.stem)]

    def _is_alive(self, owner_id: str | None) -> bool:
        if owner_id is None or not _ID.fullmatch(owner_id):
            return False
        path = self._path(owner_id)
        if not path.exists():
            return False
        require_own_directory(self._directory)
        require_own(path)
        lock = _lock_on(path, preserve_lock_file=True)
        try:
            lock.acquire()
        except TimeoutError:
            return True
        lock.release()
        return False

    def abandon(self) -> None:
        """Release the lock and leave the file, as the end of the process does."""
        if self._held is not None:
            self._held.release()
            self._held = None

    def close(self) -> None:
        """Release this process's lock, and remove its file."""
        if self._held is not None:
            self._path(self._id).unlink(missing_ok=True)
            self._held.release()
            self._held = None

    def _remove_dead(self) -> None:
        for path in self._directory.glob("*.lock"):
            # Only what this program can have made: nothing else in there is touched.
            if _ID.fullmatch(path.stem) and not self._is_alive(path.stem):
                remove_own(path)

    def _path(self, owner_id: str) -> Path:
        return self._directory / f"{owner_id}.lock"


def _lock_on(path: Path, *, thread_local: bool = True, preserve_lock_file: bool = False) -> "FileLock":
    """Make a lock that is taken at once or not at all.

    It never falls back to a lock file that would outlive its process; on a file system without ``flock`` it fails.
    """
    from filelock import FileLock  # noqa: PLC0415 - loads asyncio, which commands that only read do without

    return FileLock(
        path,
        timeout=0,
        mode=OWNER_ONLY,
        thread_local=thread_local,
        fallback_to_soft=False,
        preserve_lock_file=preserve_lock_file,
    )
