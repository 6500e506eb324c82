"""Running a command: asynchronous code, signals, the status line while it waits, and questions to the person."""

import asyncio
import os
import signal
import sys
import termios
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import TypeVar

import anyio
import typer

from pysequence_api.cli.program import DECLINED, InterruptedBySignalError
from pysequence_api.cli.terminal import ask, end_status, is_interactive, is_terminal, note, show_status
from pysequence_api.errors import InvalidRequestError
from pysequence_api.records.attempts import OWNER
from pysequence_api.sequence.telemetry import Phase, called_by, observed

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FRAMES = "|/-\\"
FRAME_SECONDS = 0.1
STATUS_DELAY_SECONDS = 0.3
"""Nothing is shown for shorter waits."""
MAX_ANSWER_BYTES = 1024
YES = {"y", "yes"}
T = TypeVar("T")


class Interrupts:
    """Signals that end a command. The first one cancels it, except while it does what must be completed.

    Attributes:
        number: the first signal received, if any.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._task = asyncio.current_task()
        self._reason_to_wait: str | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals; those that the process was started to ignore stay ignored."""
        loop = asyncio.get_running_loop()
        numbers = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in numbers:
            loop.add_signal_handler(number, self._received, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
                if self._reason_to_wait is not None:
                    signal.signal(number, signal.SIG_IGN)  # the result must still be printed

    def defer(self, reason: str) -> None:
        """From now on, let the command run to its end, and answer each signal with the reason."""
        self._reason_to_wait = reason

    def _received(self, number: int) -> None:
        first, self.number = self.number is None, self.number or number
        if self._reason_to_wait is not None:
            note(self._reason_to_wait)
        elif first and self._task is not None:
            self._task.cancel()
        else:
            note("Already stopping.")


def run(function: Callable[[Interrupts], Awaitable[T]], *, if_interrupted: str = "Nothing was changed.") -> T:
    """Run asynchronous code.

    Args:
        function: what to run.
        if_interrupted: what to report if a signal ends it.

    Raises:
        InterruptedBySignalError: a signal ended it.
    """

    async def listen() -> T:
        interrupts = Interrupts()
        with interrupts.listening():
            try:
                with called_by(OWNER):
                    return await function(interrupts)
            except asyncio.CancelledError:
                if interrupts.number is None:
                    raise
                raise InterruptedBySignalError(interrupts.number, if_interrupted) from None

    return anyio.run(listen)


def run_server(serve: Callable[[], Awaitable[None]]) -> None:
    """Run a server, which handles signals itself once it listens.

    Raises:
        InterruptedBySignalError: Ctrl-C before it listened.
    """

    async def forever() -> None:
        await serve()

    try:
        anyio.run(forever)
    except KeyboardInterrupt:
        raise InterruptedBySignalError(signal.SIGINT, "The server had not started yet.") from None


@contextmanager
def status_shown() -> Iterator[None]:
    """Show a status line on standard error, if it is a terminal, while requests wait."""
    if not is_interactive(sys.stderr):
        yield
        return
    line = _StatusLine()
    task = asyncio.get_running_loop().create_task(line.draw_forever())
    try:
        with observed(line.begin):
            yield
    finally:
        task.cancel()
        end_status()


class _StatusLine:
    def __init__(self) -> None:
        self._phase: Phase | None = None
        self._started_at = time.monotonic()

    def begin(self, phase: Phase) -> None:
        self._phase, self._started_at = phase, time.monotonic()

    async def draw_forever(self) -> None:
        from pysequence_api.cli.drawing import window_size  # noqa: PLC0415 - Rich, which a server does not need

        await anyio.sleep(STATUS_DELAY_SECONDS)
        for frame in cycle(FRAMES):
            if self._phase is not None:
                elapsed_seconds = time.monotonic() - self._started_at
                show_status(f"{frame} {self._phase}, {elapsed_seconds:.0f} s", window_size(sys.stderr).width)
            await anyio.sleep(FRAME_SECONDS)


def can_ask() -> bool:
    """Check whether a person can see a question and answer it."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


async def confirm(question: str) -> bool:
    """Ask a question that only ``y`` or ``yes`` confirms."""
    return (await read_answer(f"{question} [y/N]")).lower() in YES


async def read_answer(question: str) -> str:
    """Ask for a line of text, without spaces around it. Unlike with ``input``, waiting can be canceled."""
    descriptor = sys.stdin.fileno()
    termios.tcflush(descriptor, termios.TCIFLUSH)  # what was typed before the question does not answer it
    ask(question)
    try:
        await anyio.wait_readable(descriptor)
    except BaseException:
        note("")  # end the line of the question
        raise
    answer = os.read(descriptor, MAX_ANSWER_BYTES)
    if not answer.endswith(b"\n"):
        note("")
    return answer.decode("utf-8", "replace").strip()


def confirm_or_exit(question: str, *, yes: bool) -> None:
    """Ask before something is written, unless ``--yes`` was passed.

    Raises:
        InvalidRequestError: standard input is not a terminal.
        typer.Exit: the answer was no.
    """
    if not yes and not can_ask():
        raise InvalidRequestError("Not a terminal; pass --yes to confirm. Nothing was written.")
    if not yes and not anyio.run(confirm, question):
        note("Nothing was written.")
        raise typer.Exit(DECLINED)
