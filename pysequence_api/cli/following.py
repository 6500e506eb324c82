"""A screen of the newest lines that follows the window: when that is resized, what is shown is drawn anew."""

import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pysequence_api.cli.output import clear_screen, wait_for_reader, window_lines
from pysequence_api.records.audit import Line

MAX_LINES_KEPT = 500
"""More than any window shows."""


class LiveScreen:
    """Draws lines as they come, and again in a window of another size.

    Args:
        draw: writes one line.
    """

    def __init__(self, draw: Callable[[Line], None]) -> None:
        self._draw = draw
        self._lines: deque[Line] = deque(maxlen=MAX_LINES_KEPT)
        self._resized = False

    def show(self, line: Line) -> None:
        """Write a line, and keep it."""
        self._lines.append(line)
        self._draw(line)

    def wait(self, seconds: float) -> None:
        """Wait, and draw anew if the window has got another size."""
        wait_for_reader(seconds)
        if self._resized:
            self._resized = False
            clear_screen()
            for line in list(self._lines)[-max(1, window_lines() - 1) :]:
                self._draw(line)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Notice, in here, when the window is resized."""

        def resized(*_: Any) -> None:
            self._resized = True

        before = signal.signal(signal.SIGWINCH, resized)
        try:
            yield
        finally:
            signal.signal(signal.SIGWINCH, before)
