"""A disk that is full or read-only, on a real small file system."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pysequence_api.errors import SafeguardsUnavailableError, SettingsError
from pysequence_api.files import prepare_directory
from pysequence_api.sandbox import Sandbox
from tests.world import World, open_world

pytestmark = pytest.mark.anyio
DISK_KIB = 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small file system of memory, where that is allowed."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_KIB}k,mode=700", "tmpfs", str(path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path) -> None:
    with (disk / "ballast").open("ab", buffering=0) as ballast:
        try:
            while True:
                ballast.write(b"x" * 4096)
        except OSError:
            return


def empty(disk: Path) -> None:
    (disk / "ballast").unlink()


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


async def expect_reads_only(world: World) -> None:
    moved = len(await world.moved())
    with pytest.raises(SafeguardsUnavailableError, match="No transfer is possible"):
        await world.transfer(2_000)
    assert len(await world.moved()) == moved
    assert len(await world.gateway.client.pods()) > 1


async def test_a_full_disk_stops_transfers_and_nothing_else(disk: Path, sandbox: Sandbox) -> None:
    async with open_world(disk, sandbox, request_interval_seconds=0.01, request_jitter_seconds=0) as world:
        await world.transfer(1_000)
        fill(disk)
        await expect_reads_only(world)
        empty(disk)
        await world.transfer(2_000)
        assert world.used_cents() == 3_000
        assert world.gateway.records.trail.verify().intact


async def test_a_disk_that_can_only_be_read_stops_transfers_and_nothing_else(disk: Path, sandbox: Sandbox) -> None:
    async with open_world(disk, sandbox, request_interval_seconds=0.01, request_jitter_seconds=0) as world:
        remount(disk, "ro")
        await expect_reads_only(world)
        with pytest.raises(SettingsError, match="cannot be written"):
            prepare_directory(disk)
        remount(disk, "rw")
        await world.transfer(2_000)
        assert world.used_cents() == 2_000


async def test_a_disk_that_fills_up_while_a_transfer_is_in_flight(
    disk: Path, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(disk, sandbox) as world:
        world.fail({"kind": "delay", "seconds": 0.5}, when="after")
        transfer = asyncio.create_task(world.transfer(1_000))
        while not await world.moved():  # noqa: ASYNC110 - what it waits for is on Sequence's side
            await asyncio.sleep(0.01)
        fill(disk)
        completed = await transfer
        empty(disk)
        limits = world.gateway.limits()
        assert [one.attempt_id for one in limits.unsettled] == [completed.attempt_id]
        assert limits.used_cents == 1_000
        assert "cannot be recorded" in caplog.text
    # After a restart, it is found.
    async with open_world(disk, sandbox) as world:
        await world.follow_up()
        assert world.states() == ["accepted"]
        assert world.files.events().count("completed") == 1
        assert world.gateway.records.trail.verify().intact
