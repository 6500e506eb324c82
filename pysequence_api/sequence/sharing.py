"""Tasks that several callers wait for. They do not end when one of the callers is cancelled."""

import asyncio
import copy
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, Self, TypeVar

from pysequence_api.errors import GatewayError, NotSentError

T = TypeVar("T")


class SharedTask(Generic[T]):
    """Runs work once and gives its result to every caller.

    Args:
        work: the coroutine to run.
        running: the set of running tasks; the task is in it until it has ended.
        cancel_when_unused: cancel the work when its last caller is cancelled. Otherwise it always runs to its end.
    """

    def __init__(self, work: Coroutine[Any, Any, T], *, running: set[Self], cancel_when_unused: bool) -> None:
        self._task = asyncio.create_task(work)
        self._cancel_when_unused = cancel_when_unused
        self._callers = 0
        self._running = running
        running.add(self)
        self._task.add_done_callback(self._ended)

    @property
    def joinable(self) -> bool:
        """Whether another caller may still wait for it: it has neither ended nor been cancelled."""
        return not self._task.done() and not self._task.cancelling()

    async def result(self) -> T:
        """Wait for the result.

        Raises:
            GatewayError: the work failed. Each caller gets a copy of the error.
        """
        self._callers += 1
        try:
            return await asyncio.shield(self._task)
        except GatewayError as error:
            raise copy.copy(error) from error
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if self._task.cancelled() and caller is not None and not caller.cancelling():
                raise NotSentError("The client was closed. The request was not sent.") from None
            raise
        finally:
            self._callers -= 1
            if self._cancel_when_unused and not self._callers:
                self._task.cancel()

    async def aclose(self) -> None:
        """Wait until the task has ended; cancel it first if that is allowed."""
        if self._cancel_when_unused:
            self._task.cancel()
        await asyncio.wait([self._task])

    def _ended(self, task: asyncio.Task[T]) -> None:
        self._running.discard(self)
        if not task.cancelled():
            task.exception()  # mark the exception as retrieved, because every caller may be gone


class SharedReads(Generic[T]):
    """Equal reads that several callers ask for at the same time, each made once."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, SharedTask[T]] = {}
        self._running: set[SharedTask[T]] = set()

    async def result(self, key: Hashable, read: Callable[[Callable[[], None]], Coroutine[Any, Any, T]]) -> T:
        """Wait for the result of a read, together with those who asked for it before.

        Args:
            key: equal for equal reads.
            read: makes the read. It is given a function to call once a later caller would need newer data; the end of
                the read does so in any case.

        Raises:
            GatewayError: the read failed. Each caller gets a copy of the error.
        """
        task = self._waiting.get(key)
        if task is None or not task.joinable:

            def stop_sharing() -> None:
                if self._waiting.get(key) is task:
                    del self._waiting[key]

            async def make() -> T:
                try:
                    return await read(stop_sharing)
                finally:
                    stop_sharing()

            task = SharedTask(make(), running=self._running, cancel_when_unused=True)
            self._waiting[key] = task
        return await task.result()

    async def aclose(self) -> None:
        """Cancel all reads."""
        for task in tuple(self._running):
            await task.aclose()
