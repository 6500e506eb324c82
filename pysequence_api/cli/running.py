"""The way into asynchronous code and out again, also when somebody presses Ctrl-C."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio

from pysequence_api.cli.output import note
from pysequence_api.cli.program import InterruptedBySignalError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
T = TypeVar("T")


class Interrupts:
    """Signals that ask a command to end: the first one cancels it, but not in the middle of what must be finished.

    Attributes:
        number: the first signal that has come, if any.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._task = asyncio.current_task()
        self._finishing: str | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals, until this is left; those that the process was started to ignore stay ignored."""
        loop = asyncio.get_running_loop()
        numbers = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in numbers:
            loop.add_signal_handler(number, self._arrived, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
                if self._finishing is not None:
                    signal.signal(number, signal.SIG_IGN)  # how it ended must still be said

    def finish(self, why: str) -> None:
        """From now on, nothing ends the command before it has finished.

        Args:
            why: what whoever sends a signal is told, every time.
        """
        self._finishing = why

    def _arrived(self, number: int) -> None:
        first, self.number = self.number is None, self.number or number
        if self._finishing is not None:
            note(self._finishing)
        elif first and self._task is not None:
            self._task.cancel()
        else:
            note("Ending already.")


def run(function: Callable[[Interrupts], Awaitable[T]], *, left: str = "Nothing was changed.") -> T:
    """Run asynchronous code.

    Args:
        function: what to run.
        left: how things are left if a signal ends it.

    Raises:
        InterruptedBySignalError: a signal did.
    """

    async def listen() -> T:
        interrupts = Interrupts()
        with interrupts.listening():
            try:
                return await function(interrupts)
            except asyncio.CancelledError:
                if interrupts.number is None:
                    raise
                raise InterruptedBySignalError(interrupts.number, left) from None

    return anyio.run(listen)


def run_server(serve: Callable[[], Awaitable[None]]) -> None:
    """Run a server, which takes the signals itself once it listens, and then ends as it should.

    Raises:
        InterruptedBySignalError: Ctrl-C before that.
    """

    async def forever() -> None:
        await serve()

    try:
        anyio.run(forever)
    except KeyboardInterrupt:
        raise InterruptedBySignalError(signal.SIGINT, "The server had not started yet.") from None
