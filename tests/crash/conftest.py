"""The simulated Sequence that processes are killed on."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.crash.test_kill import PROGRAM


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run the simulated Sequence over HTTP, and give the variables that it prints."""
    directory = tmp_path_factory.mktemp("sequence")
    command = [*PROGRAM, "sandbox", "serve", "--port", "0", "--data-dir", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        variables: dict[str, str] = {}
        while "SEQUENCE_DATA_DIR" not in variables:
            name, equals, value = server.stdout.readline().strip().partition("=")
            if equals and name.startswith("SEQUENCE_"):
                variables[name] = value
        yield variables
        server.terminate()
