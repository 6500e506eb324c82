"""A server on the sandbox, with the ids and variables that the documented commands use."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from pysequence_api.errors import OutcomeUnknownError
from pysequence_api.records.callers import add
from tests.api.server import free_port
from tests.shipping.documented import Block, blocks_of
from tests.shipping.files import CALLERS, ROOT
from tests.starter import python
from tests.world import open_world

KEY = "a-key-of-the-documentation"
COMMAND_TIMEOUT_SECONDS = 120
CURL_SETTINGS = "fail-with-body\nmax-time = 60\n"


@dataclass(frozen=True)
class Site:
    """A running server, and a shell next to it."""

    directory: Path
    environment: dict[str, str]
    port: int

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script as a reader would who pastes it."""
        if "curl " in script and shutil.which("curl") is None:
            pytest.skip("this machine has no curl")
        script = script.replace("127.0.0.1:8720", f"127.0.0.1:{self.port}")
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            capture_output=True,
            text=True,
            check=False,
            env=self.environment,
            cwd=self.directory,
            timeout=COMMAND_TIMEOUT_SECONDS,
        )

    def run_block(self, block: Block) -> str:
        """Run the commands of a block; each must succeed."""
        script = "\n".join(block.runnable)
        done = self.run(f"set -x\n{script}")
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout


@contextmanager
def listening(command: list[str], environment: dict[str, str], directory: Path) -> Iterator[str]:
    """Start a server and yield its first line, which has the address it listens on."""
    with (directory / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=directory, stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert process.stdout is not None
        yield process.stdout.readline()
    finally:
        process.terminate()
        process.communicate(timeout=60)


async def _prepare(directory: Path) -> dict[str, str]:
    """Make a caller, an accepted transfer and one of unknown outcome, and return the documentation's variables."""
    async with open_world(directory) as world:
        add(world.gateway.records, "bookkeeper")
        completed = await world.transfer(1_000)
        world.fail({"kind": "status", "status": 504}, "hide_new_transfer")
        with pytest.raises(OutcomeUnknownError) as unknown:
            await world.transfer(2_000)
        limits = world.gateway.limits()
        order = world.order()
        return {
            "SOURCE_ID": order.source_id,
            "DESTINATION_ID": order.destination_id,
            "ATTEMPT_ID": completed.attempt_id,
            "UNKNOWN_ATTEMPT_ID": unknown.value.attempt_id or "",
            "NOTED_HEAD": limits.audit_head or "",
        }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server on the sandbox, with one accepted transfer and one of unknown outcome."""
    directory = tmp_path_factory.mktemp("site")
    programs = directory / "bin"
    programs.mkdir()
    wrapper = programs / "pysequence-api"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(python())} -m pysequence_api "$@"\n')
    wrapper.chmod(0o755)
    (directory / ".curlrc").write_text(CURL_SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SEQUENCE_")]:
            patch.delenv(name)
        patch.chdir(directory)
        data = directory / "data" / "sandbox"
        data.mkdir(parents=True)
        variables = anyio.run(_prepare, data)
        [policy, *_] = [block.text for block in blocks_of(CALLERS) if block.language == "toml"]
        (directory / "policy.toml").write_text(policy)
        port = free_port()
        environment = dict(os.environ) | {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "CURL_HOME": str(directory),
            "SEQUENCE_SANDBOX": "1",
            "SEQUENCE_DATA_DIR": str(directory / "data"),
            "SEQUENCE_API_KEY": KEY,
            "SEQUENCE_SERVER_PORT": str(port),
            "SEQUENCE_API_URL": f"http://127.0.0.1:{port}",
            "KEY": KEY,
            "URL": f"http://127.0.0.1:{port}",
            "TRANSFER_KEY": "rent-2026-11",
        }
        with listening([str(wrapper), "serve"], environment, directory) as line:
            assert line.startswith("Listening"), (directory / "server.log").read_text()
            yield Site(directory, environment | variables, port)
