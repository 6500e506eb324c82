"""A world, and MCP clients of the SDK on its server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.world import World, open_world


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run on asyncio."""
    return "asyncio"


@pytest.fixture
async def world(tmp_path: Path, anyio_backend: str, upstream: str) -> AsyncIterator[World]:
    """A world for one test."""
    async with open_world(tmp_path, upstream=upstream) as world:
        yield world
