"""What all tests share."""

import asyncio
import gc
import itertools
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from pysequence_api.sandbox.application import Sandbox
from pysequence_api.sandbox.database import connected
from pysequence_api.sandbox.seed import JWT_SECRET

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has this ignored in what it runs in the background, and every process that a test starts would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
gc.disable()  # until all tests are collected: nothing is garbage before, and looking for it takes half of that time
# Every process that a test starts would compile the whole program anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
MEMORY = Path("/dev/shm")
MEMORY_NEEDED_BYTES = 2**31


def _has_memory() -> bool:
    """Whether files can be in memory, where nothing waits for a disk. Some tests write programs and run them."""
    if not os.access(MEMORY, os.W_OK):
        return False
    status = os.statvfs(MEMORY)
    return status.f_bavail * status.f_frsize >= MEMORY_NEEDED_BYTES and not status.f_flag & os.ST_NOEXEC


if _has_memory():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
for _name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
    os.environ[_name] = "/nonexistent"  # for fixtures that outlive a test
# A slow machine is not a failure.
settings.register_profile("suite", max_examples=40, deadline=None)  # others each time
settings.load_profile("suite")
settings.register_profile("thorough", max_examples=200, deadline=None)  # before a change is merged
settings.register_profile("long", max_examples=100_000, deadline=None)  # for hours, with --hypothesis-profile=long


@pytest.hookimpl(wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Run two more than there are cores: often, a test waits for a process that it has started."""
    return (yield) + 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that wait for seconds, so that the run does not end with a worker that waits."""
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)


def pytest_collection_finish() -> None:
    """Collect garbage from here on, but not what all tests share."""
    gc.freeze()
    gc.enable()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what uses the fixture ``upstream`` once for each API of Sequence, or only for those that a marker names.

    The records do not depend on it, and the safeguards know only the abstract client, to which a contract of imports
    holds them. So their tests run with one, where no marker says otherwise.
    """
    if "upstream" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("upstream")
        needs_one = {"records", "safeguards"} & {*metafunc.definition.path.parts}
        usual = ("graphql",) if needs_one else ("graphql", "platform")
        metafunc.parametrize("upstream", marker.args if marker else usual, scope="session")


class _Hurried:
    """The module ``asyncio``, with shorter sleeps."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 20)


@pytest.fixture(scope="session", autouse=True)
def _servers_stop_soon() -> Iterator[None]:
    """Have uvicorn, in this process, look more often than ten times a second whether it has to stop, or can."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uvicorn.server.asyncio", _Hurried())
        yield


@pytest.fixture(scope="session", autouse=True)
def _seeded_files() -> Iterator[None]:
    """Seed the file of one simulated Sequence for each minute of its clock, and copy it for the others."""
    seeded: dict[int, bytes] = {}
    open_sandbox = Sandbox.__init__

    def open_copy(self: Sandbox, path: Path, *, clock: Callable[[], float] = time.time, **more: Any) -> None:
        minute = int(clock() // 60)
        is_new = not (path.exists() or path.is_symlink())
        if is_new and minute in seeded:
            path.touch(0o600)
            path.write_bytes(seeded[minute])
            with connected(path) as connection:  # none knows the tokens of another
                connection.execute("UPDATE setting SET value = ? WHERE name = ?", (secrets.token_hex(32), JWT_SECRET))
        open_sandbox(self, path, clock=clock, **more)
        if is_new and minute not in seeded:
            seeded[minute] = path.read_bytes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sandbox, "__init__", open_copy)
        yield


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, which is what the program runs on."""
    return "asyncio"


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Name a home for each test. ``mktemp`` would read the names of all that there are to find the next one."""
    directory = tmp_path_factory.mktemp("homes")
    return (directory / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _no_settings_of_ours(monkeypatch: pytest.MonkeyPatch, _homes: Iterator[Path]) -> None:
    """Keep the developer's own ``SEQUENCE_*`` variables and files out of the tests."""
    for name in [name for name in os.environ if name.startswith("SEQUENCE_")]:
        monkeypatch.delenv(name)
    home = next(_homes)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    (home / "cwd").mkdir(parents=True)
    monkeypatch.chdir(home / "cwd")


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Undo that a transfer has its process ignore what comes too late to end it: what a test starts inherits it."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
