"""The command in processes of its own: through pipes, on a pseudo-terminal, and a Sequence to talk to."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

TIMEOUT_SECONDS = 30
COMMAND = (sys.executable, "-m", "pysequence_api")
Environment = dict[str, str]


def environment(directory: Path, **variables: str) -> Environment:
    """The environment of a process: a data directory, and no settings but these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SEQUENCE_")}
    ours = {f"SEQUENCE_{name}": value for name, value in ({"DATA_DIR": str(directory)} | variables).items()}
    return inherited | {"TERM": "xterm-256color", "COLUMNS": "200", "TZ": "Europe/Berlin"} | ours


def run(env: Environment, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, with nothing to read."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


@contextmanager
def started(env: Environment, *arguments: str, **more: Any) -> Iterator["subprocess.Popen[str]"]:
    """Run a command meanwhile; what is left of it is killed."""
    streams: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    with subprocess.Popen([*COMMAND, *arguments], env=env, **streams | more) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@dataclass
class Terminal:
    """A pseudo-terminal, with a command on it."""

    process: "subprocess.Popen[bytes]"
    descriptor: int
    shown: str = ""
    _read: bytes = field(default=b"", repr=False)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.descriptor, text.encode())

    def wait_for(self, text: str) -> None:
        """Wait until something is on the screen."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while text not in self.shown:
            assert self._more(deadline), f"{text!r} never came: {self.shown}"

    def end(self) -> int:
        """Wait for the end, and give the exit code."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self._more(deadline):
            pass
        return self.process.wait(TIMEOUT_SECONDS)

    @property
    def text(self) -> str:
        """What is on the screen, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.shown)

    def _more(self, deadline: float) -> bool:
        ready, _, _ = select.select([self.descriptor], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"nothing more came: {self.shown}"
        try:
            block = os.read(self.descriptor, 65536)
        except OSError:
            return False  # nobody has the other end open any more
        self._read += block
        self.shown = self._read.decode("utf-8", "replace")
        return bool(block)


@contextmanager
def on_terminal(env: Environment, *arguments: str) -> Iterator[Terminal]:
    """Run a command on a pseudo-terminal."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [*COMMAND, *arguments], env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        ) as process:
            os.close(theirs)
            try:
                yield Terminal(process, ours)
            finally:
                if process.poll() is None:
                    process.kill()
    finally:
        os.close(ours)


def wait_until_written(path: Path, text: str) -> None:
    """Wait until a file holds something."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"{text!r} never came into {path}"
        time.sleep(0.01)


@dataclass
class Sequence:
    """A simulated Sequence over HTTP, in a process of its own."""

    url: str
    variables: dict[str, str]
    screen: list[str]

    def environment(self, directory: Path, **variables: str) -> Environment:
        """The environment of a process that talks to it."""
        paceless = {"REQUEST_INTERVAL_SECONDS": "0", "REQUEST_JITTER_SECONDS": "0"}
        theirs = {name.removeprefix("SEQUENCE_"): value for name, value in self.variables.items()}
        return environment(directory, **theirs | paceless | {"DATA_DIR": str(directory)} | variables)

    def arm(self, what: Any, when: str = "before") -> None:
        """Have the next transfer go wrong."""
        fault = {"operation": "CreatePayment", "when": when, "what": what}
        httpx.post(f"{self.url}/sandbox/faults", json=fault, trust_env=False).raise_for_status()

    def moved(self) -> list[dict[str, Any]]:
        """What really moved."""
        transfers: list[dict[str, Any]] = httpx.get(f"{self.url}/sandbox/transfers", trust_env=False).json()[
            "transfers"
        ]
        return transfers


@contextmanager
def serve_sandbox(directory: Path) -> Iterator[Sequence]:
    """Run ``sandbox serve``."""
    with started(environment(directory), "sandbox", "serve", "--port", "0") as process:
        assert process.stdout is not None
        screen: list[str] = []
        while not (screen and screen[-1].startswith("SEQUENCE_DATA_DIR=")):
            line = process.stdout.readline()
            assert line, f"it ended: {process.communicate()}"
            screen.append(line.rstrip("\n"))
        variables = dict(line.split("=", 1) for line in screen if not line.startswith("#"))
        yield Sequence(variables["SEQUENCE_AUTH_URL"], variables, screen)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0, log


@pytest.fixture(scope="session")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence]:
    """A simulated Sequence for all tests of one worker; each has its own data directory."""
    with serve_sandbox(tmp_path_factory.mktemp("sequence")) as sequence:
        yield sequence
