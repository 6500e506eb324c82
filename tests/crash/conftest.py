"""The simulated Sequence that processes are killed on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import SandboxProcess, start_sandbox


@pytest.fixture
def sequence(tmp_path: Path) -> Iterator[SandboxProcess]:
    """Run a simulated Sequence over HTTP for one test."""
    directory = tmp_path / "sequence"
    directory.mkdir()
    with start_sandbox(directory) as sequence:
        yield sequence
