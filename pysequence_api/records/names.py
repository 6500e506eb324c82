"""What people call the parties of transfers, remembered for screens that ask nobody: `.names.json`.

The file is for the eye alone. Nothing is ever decided by it, so that it may be old, wrong or missing.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from pysequence_api.errors import LockTimeoutError
from pysequence_api.files import locked, read_bytes, replace_atomically

FILE_NAME = ".names.json"
LOCK_FILE_NAME = ".names.lock"
LOCK_TIMEOUT_SECONDS = 1.0
"""Short, because a screen without names is better than one that waits."""
MAX_NAMES = 10_000
MAX_NAME_CHARACTERS = 200

log = logging.getLogger(__name__)


class Names:
    """The names of a data directory, by id. Every method blocks for a moment, and none ever fails.

    Args:
        directory: the data directory, which exists.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._lock_path = directory / LOCK_FILE_NAME

    def read(self) -> dict[str, str]:
        """Give what is remembered; nothing, if the file is missing or damaged."""
        try:
            document = json.loads(read_bytes(self._path) or b"{}")
        except (OSError, ValueError, RecursionError) as error:
            log.debug("%s cannot be read (%s)", self._path, type(error).__name__)
            return {}
        return {key: name for key, name in document.items() if _is_name(name)} if isinstance(document, dict) else {}

    def remember(self, names: Mapping[str, str]) -> None:
        """Add names to those that are remembered, and write them down if that changes anything."""
        try:
            with locked(self._lock_path, LOCK_TIMEOUT_SECONDS):
                known = self.read()
                newest = known | {key: name for key, name in names.items() if _is_name(name)}
                if newest != known:
                    bounded = dict(list(newest.items())[-MAX_NAMES:])
                    replace_atomically(self._path, json.dumps(bounded).encode() + b"\n")
        except (OSError, LockTimeoutError) as error:
            log.debug("%s cannot be written (%s)", self._path, error)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARACTERS
