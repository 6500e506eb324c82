"""Starts processes of the program fast: by a fork of one that has imported everything already.

Importing takes most of the time of a short process. A test that starts `python()` in the place of Python gets a real
process, with its own streams, signals, memory, working directory and environment. What depends on how Python itself
starts, or on what a command imports, starts ``sys.executable``.
"""

import atexit
import gc
import io
import marshal
import os
import pkgutil
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from filelock import FileLock

import pysequence_api
from tests.starter_client import NUMBER_BYTES, STREAMS

ROOT = Path(__file__).parent.parent
ALSO_IMPORTED = (
    "anyio._backends._asyncio",
    "encodings.idna",
    "importlib.resources.readers",
    "playwright.async_api",
    "typer._adapters",
)


@cache
def python() -> tuple[str, ...]:
    """Return what to run in the place of Python, with ``-m`` or ``-c``.

    The first call starts a starter, for all workers of this run of the tests. It ends with the run.
    """
    if not hasattr(os, "pidfd_open"):
        return (sys.executable,)
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")  # set in a worker, whose parent controls the run
    directory = Path(tempfile.gettempdir(), f"starter-{run or uuid4().hex}")
    directory.mkdir(mode=0o700, exist_ok=True)
    address = directory / "socket"
    with FileLock(directory / "lock"):
        if not address.exists():
            _start(address, os.getppid() if run else os.getpid())
    return (sys.executable, "-I", "-S", str(Path(__file__).with_name("starter_client.py")), str(address))


def _start(address: Path, owner_id: int) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEQUENCE_")}
    starter = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", __name__, str(address), str(owner_id)],
        env=environment | {"LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert starter.stdout is not None
    with starter.stdout as output:
        assert output.readline() == b"ready\n"
    starter.returncode = 0  # this process need not wait for it


class Starter:
    """Forks a process for each connection, tells it when that has ended, and kills it if the connection ends first.

    Args:
        address: the path of the socket.
        owner_id: the process with which it ends.
    """

    def __init__(self, address: str, owner_id: int) -> None:
        self._owner = os.pidfd_open(owner_id)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address)
        self._listener.listen()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._owner, selectors.EVENT_READ)
        self._processes: dict[socket.socket, tuple[int, int]] = {}

    def run(self) -> list[str] | None:
        """Work until the owner ends. In a process that was forked, return its arguments."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == self._owner:
                    for process_id, _ in self._processes.values():
                        os.kill(process_id, signal.SIGKILL)
                    return None
                if key.fileobj is self._listener:
                    arguments = self._fork()
                    if arguments is not None:
                        return arguments
                elif key.data in self._processes:
                    self._end(key.data, killed=key.fileobj is key.data)

    def _fork(self) -> list[str] | None:
        connection, _ = self._listener.accept()
        size, streams, _, _ = socket.recv_fds(connection, NUMBER_BYTES, len(STREAMS), socket.MSG_WAITALL)
        request = connection.recv(int.from_bytes(size, "little"), socket.MSG_WAITALL)
        if len(streams) < len(STREAMS):
            connection.close()  # killed before it could ask
            return None
        process_id = os.fork()
        if process_id == 0:
            self._close()
            connection.close()
            return _become(streams, *marshal.loads(request))
        for stream in streams:
            os.close(stream)
        descriptor = os.pidfd_open(process_id)
        self._processes[connection] = (process_id, descriptor)
        self._selector.register(descriptor, selectors.EVENT_READ, connection)
        self._selector.register(connection, selectors.EVENT_READ, connection)
        self._send(connection, process_id)
        return None

    def _end(self, connection: socket.socket, *, killed: bool) -> None:
        process_id, descriptor = self._processes.pop(connection)
        if killed:
            os.kill(process_id, signal.SIGKILL)
        _, status = os.waitpid(process_id, 0)
        self._selector.unregister(descriptor)
        self._selector.unregister(connection)
        os.close(descriptor)
        self._send(connection, status)
        connection.close()

    def _send(self, connection: socket.socket, number: int) -> None:
        with suppress(ConnectionError):  # it was killed; the selector tells so too
            connection.sendall(number.to_bytes(NUMBER_BYTES, "little"))

    def _close(self) -> None:
        self._selector.close()
        self._listener.close()
        os.close(self._owner)
        for connection, (_, descriptor) in self._processes.items():
            connection.close()
            os.close(descriptor)


def _become(streams: list[int], arguments: list[str], environment: dict[str, str], directory: str) -> list[str]:
    """Make this process what the one that asked for it is."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.setsid()  # a process on a terminal of its own makes that the terminal of its session
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.stdin = _text(0, "r", sys.stdin)
    sys.stdout = _text(1, "w", sys.stdout)
    sys.stderr = _text(2, "w", sys.stderr)
    return arguments


def _text(descriptor: int, mode: str, like: Any) -> IO[str]:
    """Open a standard stream as Python does at its start."""
    binary = os.fdopen(descriptor, f"{mode}b", closefd=False)
    lines = descriptor == 2 or os.isatty(descriptor)
    return io.TextIOWrapper(binary, like.encoding, like.errors, line_buffering=lines)


def main(address: str, owner_id: int) -> None:
    """Import everything, fork, and run what a process was asked for."""
    for module in pkgutil.walk_packages(pysequence_api.__path__, f"{pysequence_api.__name__}."):
        if not module.name.endswith("__main__"):
            with suppress(ModuleNotFoundError):  # of an extra that is not installed
                import_module(module.name)
    for name in ALSO_IMPORTED:
        import_module(name)
    starter = Starter(address, owner_id)
    gc.collect()
    gc.freeze()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    arguments = starter.run()
    if arguments is None:
        shutil.rmtree(Path(address).parent)
        return
    code = _run(*arguments)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)  # freeing all that is imported would copy all of its memory first


def _run(how: str, what: str, *arguments: str) -> int:
    """Run a module or code as ``python -m`` or ``python -c`` does, and return the exit code."""
    sys.argv = [what if how == "-m" else how, *arguments]
    try:
        if how == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - it ends the process, as Python does
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
