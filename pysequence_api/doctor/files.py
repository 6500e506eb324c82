"""The data directory, and the files in it."""

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from pysequence_api.account.shared import FILE_NAME
from pysequence_api.doctor.finding import Finding, ok, problem, warning
from pysequence_api.errors import SafeguardsUnavailableError, SettingsError
from pysequence_api.files import who_else_can_write
from pysequence_api.money import format_cents
from pysequence_api.records import read_records
from pysequence_api.records.check import check
from pysequence_api.safeguards.now import MaxCents
from pysequence_api.safeguards.status import read_limits
from pysequence_api.settings import Settings, variable

MIN_FREE_BYTES = 1024**2
"""With less, a transfer may not be recorded, and is then rejected."""
WARN_FREE_BYTES = 100 * 1024**2
OTHERS = 0o077
SECRET_FILES = (
    *(".records.db", ".records.db-wal", ".daily_limits.json", ".audit.jsonl"),
    *(".tokens.json", ".sign-in.json", FILE_NAME),
)
NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "afs", "fuse.sshfs", "lustre"}
MOUNTS = Path("/proc/self/mountinfo")


def check_directory(directory: Path) -> Iterator[Finding]:
    """Check who owns the data directory, and who can change it."""
    shown, name = directory.absolute(), "data directory"
    if not directory.exists():
        yield warning(name, f"{shown} is new", f"If you expected an existing one, set {variable('data_dir')}.")
        return
    status = directory.stat()
    if not directory.is_dir():
        yield problem(name, f"{shown} is a file", f"Set {variable('data_dir')} to a directory.", SettingsError)
    elif status.st_uid != os.geteuid():
        fix = f"Run as that user, or set {variable('data_dir')} to a directory of your own."
        yield problem(name, f"{shown} belongs to another user", fix, SettingsError)
    elif not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        yield problem(name, f"{shown} cannot be written", f"chmod u+rwx {shown}", SettingsError)
    elif others := who_else_can_write(status):
        said = f"{others.lower()} can change {shown} (mode {stat.S_IMODE(status.st_mode):o})"
        yield problem(name, said, f"chmod 700 {shown}", SettingsError)
    else:
        yield ok(name, f"{shown}, owned by you, mode {stat.S_IMODE(status.st_mode):o}")


def check_modes(directory: Path) -> Iterator[Finding]:
    """Check whether others can read the files."""
    paths = [path for name in SECRET_FILES if (path := directory / name).exists()]
    readable = [path for path in paths if path.stat().st_mode & OTHERS]
    foreign = [path for path in paths if path.stat().st_uid != os.geteuid()]
    for path in readable:
        yield problem("file modes", f"others can read {path.name}", f"chmod 600 {path.absolute()}", SettingsError)
    for path in foreign:
        yield problem(
            "file modes", f"{path.name} belongs to another user", f"Change its owner with chown: {path}", SettingsError
        )
    if not readable and not foreign:
        count = "1 file" if len(paths) == 1 else f"{len(paths)} files"
        yield ok("file modes", f"{count}, private to you" if paths else "no files yet")


def check_space(directory: Path) -> Iterator[Finding]:
    """Check whether there is space to record transfers."""
    free_bytes = shutil.disk_usage(_nearest(directory)).free
    said = f"{free_bytes / 1024**3:.1f} GiB free"
    fix = "Free some space. Transfers that cannot be recorded are rejected."
    if free_bytes < MIN_FREE_BYTES:
        yield problem("space", said, fix, SafeguardsUnavailableError)
    elif free_bytes < WARN_FREE_BYTES:
        yield warning("space", f"only {free_bytes // 1024**2} MiB free", fix)
    else:
        yield ok("space", said)


def check_file_system(directory: Path) -> Iterator[Finding]:
    """Check whether the files are on a local disk, because file locks over a network are not reliable."""
    if not sys.platform.startswith("linux") or not MOUNTS.exists():
        yield ok("file system", "unknown on this system; use a local disk")
        return
    kind = file_system_of(_nearest(directory).resolve(), MOUNTS.read_text())
    if kind in NETWORK_FILE_SYSTEMS:
        fix = f"Set {variable('data_dir')} to a directory on a local disk."
        yield problem(
            "file system", f"{kind} is a network file system, where file locks are not reliable", fix, SettingsError
        )
    else:
        yield ok("file system", f"{kind or 'unknown'}, local")


def file_system_of(path: Path, mounts: str) -> str | None:
    """Return the type of the file system that a path is on.

    Args:
        path: absolute, without links.
        mounts: the content of ``/proc/self/mountinfo``; see proc(5).
    """
    best, kind = -1, None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].encode().decode("unicode_escape"))
        if (path == point or point in path.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split()[0]
    return kind


def check_records(settings: Settings) -> Iterator[Finding]:
    """Check the database, the audit trail against it, and whether transfers are unsettled or frozen."""
    name = "records"
    if not settings.data_directory.exists():
        yield ok(name, "nothing recorded yet")
        return
    records = read_records(settings.data_directory)
    try:
        limits = read_limits(records, MaxCents.of(settings))
        found = check(records) if records.path.exists() else None
    except SafeguardsUnavailableError as error:
        yield problem(name, " ".join(str(error).split()), "pysequence-api records check", type(error))
        return
    for text in found.problems if found else ():
        yield problem(name, text, "pysequence-api records check", SafeguardsUnavailableError)
    if limits.frozen:
        yield warning(name, f"transfers are frozen ({limits.frozen_reason})", "pysequence-api unfreeze")
    for frozen in limits.frozen_callers:
        said = f"transfers of {frozen.caller} are frozen ({frozen.reason})"
        yield warning(name, said, f"pysequence-api unfreeze {frozen.caller}")
    waiting = [one for one in limits.unsettled if not one.running]
    if waiting:
        one = len(waiting) == 1
        said = "1 transfer is unsettled and counts" if one else f"{len(waiting)} transfers are unsettled and count"
        yield warning(name, f"{said} as used", "pysequence-api limits reconcile")
    if not waiting and not limits.frozen and not limits.frozen_callers and not (found and found.problems):
        used, left = format_cents(limits.used_cents), format_cents(limits.remaining_cents)
        yield ok(name, f"{used} used today, {left} left; {found.events if found else 0} audit events, intact")


def _nearest(directory: Path) -> Path:
    """Return the directory, or its nearest parent that exists."""
    absolute = directory.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())
