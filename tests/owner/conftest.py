"""The owner's page over the simulated Sequence, at a fixed noon."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import time_machine

from pysequence_api.sandbox import Sandbox
from tests.noon import sandbox, traveller
from tests.owner.person import ORIGIN, Person, browsing, set_up_owner
from tests.world import World, open_world

__all__ = ["sandbox", "traveller"]


@pytest.fixture
async def world(tmp_path: Path, sandbox: Sandbox, anyio_backend: str) -> AsyncIterator[World]:
    """A world whose page a proxy offers."""
    async with open_world(tmp_path, sandbox, owner_port=8721, owner_proxy=ORIGIN) as world:
        set_up_owner(world.gateway)
        yield world


@pytest.fixture
async def stranger(world: World, traveller: time_machine.Traveller) -> AsyncIterator[Person]:
    """Somebody with a browser who is not signed in."""
    async with browsing(world.gateway, traveller) as person:
        yield person


@pytest.fixture
async def owner(stranger: Person) -> Person:
    """The owner, signed in."""
    assert (await stranger.sign_in()).status_code == 303
    return stranger
