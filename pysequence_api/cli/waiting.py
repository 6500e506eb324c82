"""A line that moves while Sequence is waited for, and says for what."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import cycle

import anyio

from pysequence_api.cli.output import end_status, is_watched, show_status
from pysequence_api.gateway import Gateway, open_gateway
from pysequence_api.sequence.telemetry import Phase, observed
from pysequence_api.settings import Settings

FRAMES = "|/-\\"
FRAME_SECONDS = 0.1
QUIET_SECONDS = 0.3
"""What takes no longer needs no words."""


@asynccontextmanager
async def open_watched(settings: Settings) -> AsyncIterator[Gateway]:
    """Open the gateway for reading, and show what is waited for."""
    async with open_gateway(settings) as gateway:
        with waiting_shown():
            yield gateway


@contextmanager
def waiting_shown() -> Iterator[None]:
    """Show on standard error, if somebody looks, what the requests in here wait for."""
    if not is_watched(sys.stderr):
        yield
        return
    screen = _Screen()
    task = asyncio.get_running_loop().create_task(screen.draw_for_ever())
    try:
        with observed(screen.note):
            yield
    finally:
        task.cancel()
        end_status()


class _Screen:
    def __init__(self) -> None:
        self._phase: Phase | None = None
        self._began_at = time.monotonic()

    def note(self, phase: Phase) -> None:
        self._phase, self._began_at = phase, time.monotonic()

    async def draw_for_ever(self) -> None:
        await anyio.sleep(QUIET_SECONDS)
        for frame in cycle(FRAMES):
            if self._phase is not None:
                show_status(f"{frame} {self._phase}, {time.monotonic() - self._began_at:.0f} s")
            await anyio.sleep(FRAME_SECONDS)
