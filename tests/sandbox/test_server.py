"""The server process: where it listens, and how it stops."""

import signal
import subprocess
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import pytest

from pysequence_api.sandbox import Sandbox
from pysequence_api.sandbox.server import serve
from tests.sandbox.conftest import over_tcp, served
from tests.starter import python

pytestmark = pytest.mark.anyio
PROGRAM = """
import sys
from functools import partial
from pathlib import Path
import anyio
from pysequence_api.sandbox import Sandbox
from pysequence_api.sandbox.server import serve
async def main() -> None:
    await serve(Sandbox(Path(sys.argv[1])), port=0, on_ready=partial(print, flush=True))
    print("ended", flush=True)
anyio.run(main)
"""


def start(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*python(), "-c", PROGRAM, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_the_server_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path / "served.db")
    assert process.stdout is not None
    url = (await anyio.to_thread.run_sync(process.stdout.readline)).strip()
    async with over_tcp(url) as client:
        if number is signal.SIGTERM:  # even while a request is running
            fault = {"operation": "oauth/token", "what": {"kind": "delay", "seconds": 60}}
            await client.post("/sandbox/faults", json=fault)
            with pytest.raises(httpx.ReadTimeout):
                await client.post("/oauth/token", json={}, timeout=0.1)
        process.send_signal(number)
        output, errors = await anyio.to_thread.run_sync(process.communicate)
    assert (process.returncode, output) == (0, "ended\n")
    assert "Traceback" not in errors


async def test_the_server_listens_on_loopback_only(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "sandbox.db")
    for host in ("0.0.0.0", "192.0.2.1", "example.com", "::"):
        with pytest.raises(ValueError, match=r"loopback|IP address"):
            await serve(sandbox, host=host, port=0, on_ready=print)


async def test_a_port_in_use_is_an_error(sandbox: Sandbox, tmp_path: Path) -> None:
    async with served(sandbox) as url:
        with pytest.raises(OSError, match="in use"):
            await serve(sandbox, port=httpx.URL(url).port or 0, on_ready=print)
