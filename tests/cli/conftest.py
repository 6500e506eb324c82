"""A sandbox for the commands, in this process and in others, and a Sequence over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.in_process import NOBODYS_PORT
from tests.cli.processes import Environment, Sequence, environment, serve_sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Environment:
    """The environment of a process in the sandbox."""
    return environment(tmp_path, SEQUENCE_SANDBOX="1")


@pytest.fixture(scope="session")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence]:
    """A simulated Sequence for all tests of one worker; each has its own data directory."""
    with serve_sandbox(tmp_path_factory.mktemp("sequence")) as sequence:
        yield sequence


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A sandbox for the commands in this process, with a data directory of its own."""
    monkeypatch.setenv("SEQUENCE_SANDBOX", "1")
    monkeypatch.setenv("SEQUENCE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm-256color")
    return tmp_path / "sandbox"


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the commands in this process find no server of ours."""
    monkeypatch.setenv("SEQUENCE_SERVER_PORT", NOBODYS_PORT)
