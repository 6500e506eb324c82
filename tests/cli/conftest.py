"""Sandboxes for commands, in this process and in others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import UNUSED_PORT
from tests.processes import Environment, SandboxProcess, environment, start_sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Environment:
    """Return the environment of a process in the sandbox."""
    return environment(tmp_path, SEQUENCE_SANDBOX="1")


@pytest.fixture(scope="session")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """Run one simulated Sequence for all tests of a worker. Each test has a data directory of its own."""
    with start_sandbox(tmp_path_factory.mktemp("sequence")) as sequence:
        yield sequence


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Run the commands of this process in the sandbox, and return its data directory."""
    monkeypatch.setenv("SEQUENCE_SANDBOX", "1")
    monkeypatch.setenv("SEQUENCE_READ_MAX_AGE_SECONDS", "0")  # tests change the account, and count requests
    monkeypatch.setenv("SEQUENCE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm-256color")
    return tmp_path / "sandbox"


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands of this process find no server."""
    monkeypatch.setenv("SEQUENCE_SERVER_PORT", UNUSED_PORT)
