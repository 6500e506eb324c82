"""A task that several callers wait for. It does not end when one of them is cancelled."""

import asyncio
import copy
from collections.abc import Coroutine
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
