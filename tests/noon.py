"""Fixtures of a world at a fixed noon, whose clock a test can move."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import time_machine

from pysequence_api.sandbox import Sandbox
from tests.world import World, open_world


@pytest.fixture
def traveller() -> Iterator[time_machine.Traveller]:
    """Time that goes on from a fixed noon, and that a test can move, for the gateway and Sequence alike."""
    with time_machine.travel(datetime(2026, 11, 23, 12, tzinfo=UTC), tick=True) as traveller:
        yield traveller


@pytest.fixture
async def sandbox(tmp_path: Path, traveller: time_machine.Traveller) -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(tmp_path / "sequence.sqlite")
    yield sandbox
    await sandbox.aclose()


@pytest.fixture
async def world(tmp_path: Path, sandbox: Sandbox, upstream: str) -> AsyncIterator[World]:
    async with open_world(tmp_path, sandbox, upstream=upstream) as world:
        yield world
