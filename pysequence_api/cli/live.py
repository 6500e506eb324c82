"""Output that goes on until Ctrl-C: lines as they come, drawn again when the window is resized."""

import os
import signal
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from select import POLLERR, POLLHUP, poll
from typing import Any, TextIO

import typer
from rich.text import Text

from pysequence_api.cli.drawing import clear_screen, print_text, window_size
from pysequence_api.cli.program import SIGNALED
from pysequence_api.cli.terminal import ReaderGoneError
from pysequence_api.records.audit import Line

MAX_LINES_REDRAWN = 500
"""More than any window shows."""


@contextmanager
def until_interrupted() -> Iterator[None]:
    """End the program without a message on Ctrl-C, the usual way to end what goes on for ever."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(SIGNALED + signal.SIGINT) from None


class LiveScreen:
    """Draws events as they come, and draws them again when the window is resized.

    Args:
        draw: returns the text of an event for the window.
    """

    def __init__(self, draw: Callable[[Line], Text]) -> None:
        self._draw = draw
        self._lines: deque[Line] = deque(maxlen=MAX_LINES_REDRAWN)
        self._resized = False

    def show(self, line: Line) -> None:
        """Draw an event, and keep it."""
        self._lines.append(line)
        print_text(self._draw(line))

    def wait(self, seconds: float) -> None:
        """Wait, and draw again if the window was resized."""
        wait_for_reader(seconds)
        if self._resized and self._lines:
            self._resized = False
            clear_screen()
            print_text(Text("\n").join(reversed(list(self._newest()))))

    @contextmanager
    def watching_size(self) -> Iterator[None]:
        """Notice when the window is resized."""

        def resized(*_: Any) -> None:
            self._resized = True

        before = signal.signal(signal.SIGWINCH, resized)
        try:
            yield
        finally:
            signal.signal(signal.SIGWINCH, before)

    def _newest(self) -> Iterator[Text]:
        # As many as the window shows, but at least one.
        left = window_size().height - 1
        for number, line in enumerate(reversed(self._lines)):
            text = self._draw(line)
            left -= text.plain.count("\n") + 1
            if number and left < 0:
                return
            yield text


def wait_for_reader(seconds: float) -> None:
    """Sleep, but stop if the reader of standard output closes it."""
    poller = poll()
    if sys.stdout is not None and _is_pipe(sys.stdout):
        poller.register(sys.stdout, 0)
    if any(event & (POLLERR | POLLHUP) for _, event in poller.poll(seconds * 1000)):
        raise ReaderGoneError


def _is_pipe(stream: TextIO) -> bool:
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except OSError:
        return False  # not a file
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
