"""Work that several callers wait for, and that outlives any one of them."""

import asyncio
import copy
from collections.abc import Coroutine
from typing import Any, Generic, Self, TypeVar

from pysequence_api.errors import GatewayError, NotSentError

T = TypeVar("T")


class Shared(Generic[T]):
    """A task of its own, whose result each caller gets. A caller that is cancelled does not cancel the others.

    Args:
        work: what to do.
        owner: holds it until it has ended.
        withdraw: cancel the work when its last caller has gone. Without it, it is brought to its end.
    """

    def __init__(self, work: Coroutine[Any, Any, T], *, owner: set[Self], withdraw: bool) -> None:
        self._task = asyncio.create_task(work)
        self._withdraw = withdraw
        self._callers = 0
        self._owner = owner
        owner.add(self)
        self._task.add_done_callback(self._ended)

    @property
    def ending(self) -> bool:
        """Whether it has ended or been withdrawn, so that nobody may join it any more."""
        return self._task.done() or self._task.cancelling() > 0

    async def result(self) -> T:
        """Wait for the end.

        Raises:
            GatewayError: what the work ended with; each caller gets an error of its own.
        """
        self._callers += 1
        try:
            return await asyncio.shield(self._task)
        except GatewayError as error:
            raise copy.copy(error) from error
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if self._task.cancelled() and caller is not None and not caller.cancelling():
                raise NotSentError("The client has been closed; the request was withdrawn.") from None
            raise
        finally:
            self._callers -= 1
            if self._withdraw and not self._callers:
                self._task.cancel()

    async def aclose(self) -> None:
        """Wait until the task has ended; what may be withdrawn is."""
        if self._withdraw:
            self._task.cancel()
        await asyncio.wait([self._task])

    def _ended(self, task: asyncio.Task[T]) -> None:
        self._owner.discard(self)
        if not task.cancelled():
            task.exception()  # taken note of here too: its callers may all have gone
