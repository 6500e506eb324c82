"""The program as a process of its own: through pipes, on a pseudo-terminal, and with a Sequence to talk to.

`tests.world` runs it in this process.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

import pysequence_api
from tests.starter import python

TIMEOUT_SECONDS = 30
COMMAND = (sys.executable, "-m", "pysequence_api")
"""Starts Python itself; `starter.python` is faster."""
ON_ITS_OWN_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C and resizing reach it
sys.argv[0] = "pysequence-api"
from pysequence_api.cli import main
main()
"""
ROOT = Path(pysequence_api.__file__).parent.parent
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
Environment = dict[str, str]


def environment(directory: Path, **variables: str) -> Environment:
    """Return the environment of a process: a data directory, and no settings but these."""
    dropped = ("SEQUENCE_", "COLUMNS", "LINES", "NO_COLOR")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    ours = {"SEQUENCE_DATA_DIR": str(directory), "PYTHONPATH": str(ROOT)}
    return inherited | {"TERM": "xterm-256color", "TZ": "Europe/Berlin", "LC_ALL": "C.UTF-8"} | ours | variables


def run_process(
    env: Environment, *arguments: str, command: tuple[str, ...] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, with pipes and without input."""
    return subprocess.run(
        [*(command or (*python(), "-m", "pysequence_api")), *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


@contextmanager
def start_process(
    env: Environment, *arguments: str, command: tuple[str, ...] | None = None, **more: Any
) -> Iterator["subprocess.Popen[str]"]:
    """Run a command in the background, and kill it at the end if it still runs."""
    streams: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    command = command or (*python(), "-m", "pysequence_api")
    with subprocess.Popen([*command, *arguments], env=env, **streams | more) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


class PseudoTerminal:
    """A terminal with a command on it, as a person uses it."""

    def __init__(self, process: "subprocess.Popen[str]", descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._output = b""
        self._seen = 0

    @property
    def raw(self) -> str:
        """Everything written so far."""
        return self._output.decode("utf-8", "replace")

    @property
    def text(self) -> str:
        """Everything written so far, without colors."""
        return without_escapes(self.raw).replace("\r\n", "\n")

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._descriptor, text.encode())

    def resize(self, columns: int, lines: int = 24) -> None:
        """Change the size of the window."""
        _resize(self._descriptor, columns, lines)

    def wait_for(self, text: str) -> None:
        """Wait until a text was written."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while text not in self.text:
            assert self._read(deadline), f"{text!r} was never written: {self.text}"
        self._seen = self.text.rindex(text) + len(text)

    def wait_for_again(self, text: str) -> None:
        """Wait until a text was written once more since the last text that was waited for."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while text not in self.text[self._seen :]:
            assert self._read(deadline), f"{text!r} was not written again: {self.text}"
        self._seen = self.text.rindex(text) + len(text)

    def wait_for_exit(self) -> int:
        """Wait until the command exits, and return its exit code."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self._read(deadline):
            pass
        return self.process.wait(TIMEOUT_SECONDS)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"nothing more was written: {self.text}"
        try:
            block = os.read(self._descriptor, 65536)
        except OSError:
            return False  # the other end is closed
        self._output += block
        return bool(block)


def without_escapes(text: str) -> str:
    """Return a text without escape sequences."""
    return ESCAPES.sub("", text)


@contextmanager
def start_on_terminal(
    env: Environment, *arguments: str, columns: int = 100, lines: int = 24
) -> Iterator[PseudoTerminal]:
    """Run a command in the foreground of a pseudo-terminal."""
    ours, theirs = pty.openpty()
    _resize(theirs, columns, lines)
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    command = (*python(), "-c", ON_ITS_OWN_TERMINAL)
    try:
        with start_process(env, *arguments, command=command, start_new_session=True, **streams) as process:
            os.close(theirs)
            yield PseudoTerminal(process, ours)
    finally:
        os.close(ours)


def _resize(descriptor: int, columns: int, lines: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def wait_until_written(path: Path, text: str) -> None:
    """Wait until a file contains a text."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"{text!r} was never written to {path}"
        time.sleep(0.01)


@dataclass
class SandboxProcess:
    """The simulated Sequence over HTTP, in a process of its own."""

    url: str
    variables: dict[str, str]
    lines: list[str]

    def environment(self, directory: Path, **variables: str) -> Environment:
        """Return the environment of a process that talks to it."""
        no_pacing = {"SEQUENCE_REQUEST_INTERVAL_SECONDS": "0", "SEQUENCE_REQUEST_JITTER_SECONDS": "0"}
        return environment(directory, **self.variables | no_pacing | {"SEQUENCE_DATA_DIR": str(directory)} | variables)

    def fail(self, what: Any, when: str = "before") -> None:
        """Make the next transfer fail."""
        fault = {"operation": "CreatePayment", "when": when, "what": what}
        httpx.post(f"{self.url}/sandbox/faults", json=fault, trust_env=False, verify=False).raise_for_status()

    def moved(self) -> list[dict[str, Any]]:
        """List what really moved."""
        answer = httpx.get(f"{self.url}/sandbox/transfers", trust_env=False, verify=False)
        transfers: list[dict[str, Any]] = answer.json()["transfers"]
        return transfers


@contextmanager
def start_sandbox(directory: Path) -> Iterator[SandboxProcess]:
    """Run ``sandbox serve``."""
    with start_process(environment(directory), "sandbox", "serve", "--port", "0") as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not (lines and lines[-1].startswith("SEQUENCE_DATA_DIR=")):
            line = process.stdout.readline()
            assert line, f"it exited: {process.communicate()}"
            lines.append(line.rstrip("\n"))
        variables = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
        yield SandboxProcess(variables["SEQUENCE_AUTH_URL"], variables, lines)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0, log
