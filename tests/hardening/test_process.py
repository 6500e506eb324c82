"""The server's own process: what it leaves behind if it crashes."""

import re
import sys
from pathlib import Path

import anyio
import pytest

from tests.api.server import start_server


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_server_writes_no_core_dumps(tmp_path: Path) -> None:
    async with start_server(tmp_path, SANDBOX="1") as server:
        limits = await anyio.Path(f"/proc/{server.id}/limits").read_text()
    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
