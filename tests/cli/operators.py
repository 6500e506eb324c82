"""An operator's seat: the command on a pseudo-terminal of a given size, as a person meets it."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pysequence_api

TIMEOUT_SECONDS = 30
COMMAND = (sys.executable, "-m", "pysequence_api")
ON_ITS_OWN_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C and resizing reach it
sys.argv[0] = "pysequence-api"
from pysequence_api.cli import main
main()
"""
ROOT = Path(pysequence_api.__file__).parent.parent
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def environment(directory: Path, **variables: str) -> dict[str, str]:
    """The environment of a process in the sandbox, with a data directory and no settings but these."""
    dropped = ("SEQUENCE_", "COLUMNS", "LINES", "NO_COLOR")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    ours = {"SEQUENCE_SANDBOX": "1", "SEQUENCE_DATA_DIR": str(directory), "PYTHONPATH": str(ROOT)}
    return inherited | {"TERM": "xterm-256color", "TZ": "Europe/Berlin", "LC_ALL": "C.UTF-8"} | ours | variables


def call(env: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end through pipes."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


class Seat:
    """A pseudo-terminal with a command on it."""

    def __init__(self, process: "subprocess.Popen[bytes]", descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._read = b""

    @property
    def raw(self) -> str:
        """All that was written to the screen so far."""
        return self._read.decode("utf-8", "replace")

    @property
    def text(self) -> str:
        """The same without colours."""
        return ESCAPES.sub("", self.raw).replace("\r\n", "\n")

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._descriptor, text.encode())

    def resize(self, columns: int, lines: int = 24) -> None:
        """Change the size of the window."""
        _resize(self._descriptor, columns, lines)

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Wait until something was shown."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self.text.count(text) < times:
            assert self._more(deadline), f"{text!r} never came: {self.text}"

    def end(self) -> int:
        """Wait for the end, and give the exit code."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self._more(deadline):
            pass
        return self.process.wait(TIMEOUT_SECONDS)

    def _more(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"nothing more came: {self.text}"
        try:
            block = os.read(self._descriptor, 65536)
        except OSError:
            return False  # nobody has the other end open any more
        self._read += block
        return bool(block)


@contextmanager
def seated(env: dict[str, str], *arguments: str, columns: int = 100, lines: int = 24) -> Iterator[Seat]:
    """Run a command on a pseudo-terminal, as its foreground."""
    ours, theirs = pty.openpty()
    _resize(theirs, columns, lines)
    try:
        with subprocess.Popen(
            [sys.executable, "-c", ON_ITS_OWN_TERMINAL, *arguments],
            env=env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            try:
                yield Seat(process, ours)
            finally:
                if process.poll() is None:
                    process.kill()
    finally:
        os.close(ours)


def _resize(descriptor: int, columns: int, lines: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
