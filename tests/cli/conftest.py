"""A sandbox for the commands, in this process and in others, and a Sequence over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
