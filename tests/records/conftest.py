"""A world at a fixed noon, whose clock a test can move, and its records at rest."""

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from pysequence_api.errors import LimitExceededError, RefusedError
from pysequence_api.records.control import unfreeze
from pysequence_api.records.upkeep import Restored, restore
from tests.noon import sandbox, traveller, world
from tests.world import World

__all__ = ["sandbox", "traveller", "world"]


async def mixed_day(world: World) -> None:
    """Make transfers that end in every way there is. 4,000 cents count: 1,000 are accepted, 3,000 unknown."""
    await world.transfer(1_000, key="accepted")
    with pytest.raises(RefusedError):
        await world.transfer(2_000, source="Empty Envelope", key="refused")
    for _ in range(2):
        with pytest.raises(LimitExceededError):
            await world.transfer(world.settings.max_transfer_cents + 1)
    await world.lose(amount_cents=3_000, key="unknown")


async def come_to_rest(world: World) -> None:
    """Close every process."""
    for gateway in tuple(world.processes):
        await world.close(gateway)


async def restored(world: World, backup: Path | None) -> Restored:
    """Restore, between two processes, and let transfers go on."""
    await come_to_rest(world)
    done = restore(world.files.path, backup)
    gateway = await world.open_process()
    unfreeze(gateway.records)
    return done


def content(directory: Path) -> dict[str, bytes]:
    """Read all files of the records, but those of SQLite beside the database, and locks."""
    paths = [
        path
        for path in directory.iterdir()
        if path.is_file() and path.name.startswith((".records", ".audit", ".daily"))
    ]
    return {path.name: path.read_bytes() for path in paths if not path.name.endswith(("-wal", "-shm"))}


async def until(is_true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    with anyio.fail_after(10):
        while True:
            if is_true():
                return
            await anyio.sleep(0.01)
