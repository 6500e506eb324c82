"""Exchanges that run on when their client has gone, as they do in a real server."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class RunningExchanges:
    """Keeps hold of the tasks of exchanges, so that none is lost, and ends them when the sandbox closes."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, exchange: Coroutine[Any, Any, None]) -> None:
        """Run an exchange in a task of its own, which outlives whoever asked for it."""
        task = asyncio.get_running_loop().create_task(exchange)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, timeout_seconds: float) -> None:
        """Wait for the exchanges of this event loop; cancel what has not ended in time.

        Args:
            timeout_seconds: how long they may take.
        """
        loop = asyncio.get_running_loop()
        mine = [task for task in self._tasks if task.get_loop() is loop]
        if not mine:
            return
        _, late = await asyncio.wait(mine, timeout=timeout_seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
