"""The files with settings: which ones are read, and whether they can be trusted.

Only named files are read: the one of ``--env-file`` or ``SEQUENCE_ENV_FILE``, the user's own configuration file, and
``/run/secrets``. Whoever can write a file with settings can send credentials anywhere, so a file that another user
owns or can write is rejected.
"""

import errno
import io
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from dotenv.parser import parse_stream

from pysequence_api.errors import SettingsError
from pysequence_api.files import who_else_can_read, who_else_can_write

ENV_FILE = "SEQUENCE_ENV_FILE"
"""The variable that names a file. The option ``--env-file`` sets it for this process."""
PREFIX = "SEQUENCE_"
SECRETS_DIRECTORY = Path("/run/secrets")
PROGRAM_NAME = "pysequence-api"
MAX_FILE_BYTES = 1024**2
HOW_TO_QUOTE = r"Write NAME='value', and inside single quotes \' for ' and \\ for \."
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class EnvFile(NamedTuple):
    """A file of lines ``NAME=value`` that was read.

    Attributes:
        path: the file.
        values: the values by name; the names as they are written.
        is_private: whether only its owner can read it.
    """

    path: Path
    values: dict[str, str]
    is_private: bool


def user_file() -> Path | None:
    """Return the path of the user's own configuration file; ``None`` if the user has no home directory."""
    directory = _user_directory("XDG_CONFIG_HOME", ".config")
    return None if directory is None else directory / "env"


def user_data_directory() -> Path | None:
    """Return the data directory that `init` proposes; ``None`` if the user has no home directory."""
    return _user_directory("XDG_DATA_HOME", ".local/share")


def files_read() -> list[EnvFile]:
    """Read the named file and the user's own, which need not exist. The one that takes precedence is first.

    Raises:
        SettingsError: a file cannot be read, or not be trusted.
    """
    named, own = named_file(), user_file()
    # A home directory that cannot be entered has no file either. It is another user's, as in a container with --user.
    paths = [path for path in (named, own) if path is not None and (path == named or os.path.lexists(path))]
    return [_read(path) for path in dict.fromkeys(paths)]


def named_file() -> Path | None:
    """Return the path of the file of ``--env-file`` or ``SEQUENCE_ENV_FILE``."""
    name = os.environ.get(ENV_FILE, "")
    return expanded(Path(name)) if name.strip() else None


def ignored_file() -> Path | None:
    """Return the path of a ``.env`` in the current directory that is not read."""
    name = ".env"
    read = [os.path.realpath(path) for path in (named_file(), user_file()) if path is not None]
    return Path(name).absolute() if os.path.lexists(name) and os.path.realpath(name) not in read else None


def read_secrets(names: Iterable[str]) -> dict[str, str]:
    """Read the files in ``/run/secrets`` that are named like variables. The directory need not be listable.

    Only root can create that directory. So its files may be links, as in Kubernetes, and belong to anyone, as the bind
    mounts of Docker Compose do.

    Raises:
        SettingsError: a file cannot be read.
    """
    if not os.access(SECRETS_DIRECTORY, os.X_OK):
        return {}
    values: dict[str, str] = {}
    for name in names:
        for path in (SECRETS_DIRECTORY / name, SECRETS_DIRECTORY / name.lower()):
            if os.path.lexists(path):
                content, _ = _content(path, _OPEN_FLAGS)
                values[name] = _text(path, content).strip()
    return values


def quoted_value(text: str) -> str:
    """Write a value so that it is read back unchanged."""
    escaped = text.replace("\\", r"\\").replace("'", r"\'")
    return f"'{escaped}'"


def expanded(path: Path) -> Path:
    """Replace a leading ``~``.

    Raises:
        SettingsError: there is no such user, or no home directory.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise SettingsError(f"The home directory in {path} is unknown. Write the path without ~.") from None


def _user_directory(variable: str, below_home: str) -> Path | None:
    base = Path(os.environ.get(variable, ""))
    if not base.is_absolute():  # unset, or to be ignored by the XDG Base Directory Specification
        try:
            base = Path.home() / below_home
        except RuntimeError:
            return None
    return base / PROGRAM_NAME


def read_trusted(path: Path) -> str:
    """Read a file that decides what programs may do. It must be ours or root's, and nobody else may write it.

    Raises:
        SettingsError: it cannot be read, or not be trusted.
    """
    content, _ = _trusted(path)
    return _text(path, content)


def _read(path: Path) -> EnvFile:
    content, status = _trusted(path)
    return EnvFile(path, _parse(path, _text(path, content)), is_private=who_else_can_read(status) is None)


def _trusted(path: Path) -> tuple[bytes, os.stat_result]:
    content, status = _content(path, _OPEN_FLAGS | os.O_NOFOLLOW)
    if status.st_uid not in {0, os.geteuid()}:
        raise _unusable(path, "it belongs to another user. Copy it, or name another file")
    if who_else_can_write(status):
        raise _unusable(path, f"others can write it (mode {stat.S_IMODE(status.st_mode):o}). Run: chmod 600 {path}")
    return content, status


def _content(path: Path, flags: int) -> tuple[bytes, os.stat_result]:
    """Read a regular file, and return the status of what was opened."""
    try:
        descriptor = os.open(path, flags)
        try:
            status = os.fstat(descriptor)
            content = os.read(descriptor, MAX_FILE_BYTES + 1) if stat.S_ISREG(status.st_mode) else b""
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _unusable(path, "it is a symbolic link. Name the file that it leads to") from None
        raise _unusable(path, error.strerror or "it cannot be read") from error
    if not stat.S_ISREG(status.st_mode):
        raise _unusable(path, "it is not a regular file")
    if len(content) > MAX_FILE_BYTES:
        raise _unusable(path, f"it is larger than {MAX_FILE_BYTES // 1024} KiB")
    return content, status


def _text(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _unusable(path, "it is not UTF-8 text") from None


def _parse(path: Path, text: str) -> dict[str, str]:
    """Return the values by name. Nothing in a value is expanded."""
    values: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        # Lines of other programs need not be understood, as long as they do not swallow one of ours.
        is_ours = PREFIX in binding.original.string.upper()
        is_one_line = "\n" not in (binding.value or "")
        if is_ours and (binding.error or not is_one_line):
            raise _unusable(path, f"line {binding.original.line} cannot be read. {HOW_TO_QUOTE.removesuffix('.')}")
        if binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
    return values


def _unusable(path: Path, why: str) -> SettingsError:
    return SettingsError(f"The file {path} cannot be used: {why}.")
