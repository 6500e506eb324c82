"""Files that somebody planted in a data directory: nothing outside is read, changed or removed, and nothing hangs."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from pysequence_api.errors import GatewayError, SettingsError
from pysequence_api.files import open_own, prepare_directory, read_bytes, remove_own, replace_atomically
from pysequence_api.sandbox import Sandbox
from pysequence_api.sequence.pacing import FLAG_FILE_NAMES
from tests.world import open_world

TOKENS = ".tokens.json"
NAMES = [
    ".records.db",
    ".records.db-wal",
    ".records.db-shm",
    ".records.db.new",
    ".audit.jsonl",
    ".audit.head.json",
    ".audit.head.json.new",
    ".daily_limits.json",
    ".daily_limits.json.new",
    ".lock",
    ".owners",
    TOKENS,
    ".tokens.json.new",
    ".sign-in.lock",
    ".pacing",
    ".pacing.lock",
    *FLAG_FILE_NAMES,
]
CONTENT = b"the only copy of something precious\n"


def link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def second_name(path: Path, outside: Path) -> None:
    path.hardlink_to(outside)


def pipe(path: Path, _outside: Path) -> None:
    os.mkfifo(path)


def link_to_directory(path: Path, outside: Path) -> None:
    path.symlink_to(outside.parent, target_is_directory=True)


DIRECTORIES = {".owners"}
PLANTS = (link, second_name, pipe)


def precious_file(directory: Path) -> Path:
    """Make a directory with a file that must stay as it is."""
    directory.mkdir()
    file = directory / ("a" * 32 + ".lock")  # named like the lock of a process that has ended
    file.write_bytes(CONTENT)
    return file


def state_of(file: Path) -> tuple[object, ...]:
    status = file.stat()
    names = sorted(path.name for path in file.parent.iterdir())
    return file.read_bytes(), status.st_mode, status.st_size, status.st_mtime_ns, names


async def try_a_transfer(directory: Path, sandbox: Sandbox, *, signed_in: bool) -> str:
    """Try to make a transfer, and return the error."""
    with anyio.fail_after(20):
        try:
            async with open_world(
                directory, sandbox, access_token=None, request_interval_seconds=0.001, request_jitter_seconds=0
            ) as world:
                if signed_in:
                    world.cache_tokens()
                await world.transfer()
        except (GatewayError, OSError) as error:
            return str(error)
    return ""


@pytest.mark.anyio
@pytest.mark.parametrize("name", NAMES)
async def test_a_planted_file_is_not_used(tmp_path: Path, name: str) -> None:
    sandbox = Sandbox(tmp_path / "sequence.sqlite")
    for plant in (*PLANTS, link_to_directory) if name in DIRECTORIES else PLANTS:
        outside = precious_file(tmp_path / f"documents-{plant.__name__}")
        directory = tmp_path / plant.__name__
        directory.mkdir(mode=0o700)
        plant(directory / name, outside)
        before = state_of(outside)
        error = await try_a_transfer(directory, sandbox, signed_in=name != TOKENS)
        assert "\n" not in error, plant
        assert state_of(outside) == before, plant
    await sandbox.aclose()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_a_file_of_another_user_is_not_used(tmp_path: Path) -> None:
    theirs = tmp_path / "file.new"
    theirs.write_bytes(b"")
    os.chown(theirs, 12_345, 12_345)
    uses: tuple[Callable[[], object], ...] = (
        lambda: replace_atomically(tmp_path / "file", b"secret"),
        lambda: read_bytes(theirs),
        lambda: remove_own(theirs),
        lambda: os.close(open_own(theirs, os.O_RDWR)),
    )
    for use in uses:
        with pytest.raises(OSError, match="another user"):
            use()
    assert theirs.read_bytes() == b""


@pytest.mark.parametrize("mode", [0o702, 0o722, 0o777, 0o720])
def test_a_directory_that_others_can_change_is_refused(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    if os.geteuid() == 0:
        os.chown(directory, 0, 12_345)  # a group that is not this user's own
    directory.chmod(mode)
    with pytest.raises(SettingsError, match="chmod") as caught:
        prepare_directory(directory)
    assert str(directory) in str(caught.value)
    directory.chmod(stat.S_IRWXU)
    prepare_directory(directory)


def test_the_private_group_of_a_user_is_not_others(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    directory.chmod(0o770)
    if directory.stat().st_gid != 0 or os.geteuid() != 0:
        pytest.skip("which groups this user has is not known")
    prepare_directory(directory)  # the group root has no other members here
