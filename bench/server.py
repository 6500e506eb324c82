"""A server process with the simulated Sequence."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx

KEY = "benchmark"
START_TIMEOUT_SECONDS = 30


@asynccontextmanager
async def running_server(directory: Path, *, ledger_entries: int = 0) -> AsyncIterator[httpx.AsyncClient]:
    """Start a server, and yield a client of it.

    Args:
        directory: the data directory.
        ledger_entries: number of settled transfers of today in the ledger at the start.
    """
    data = directory / "sandbox"
    data.mkdir(parents=True, mode=0o700)
    if ledger_entries:
        _write_ledger(data / ".daily_limits.json", ledger_entries)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    variables = {
        "SEQUENCE_API_KEY": KEY,
        "SEQUENCE_DATA_DIR": str(directory),
        "SEQUENCE_SERVER_PORT": str(port),
        "SEQUENCE_OWNER_PORT": "0",  # no page, and so no agents and no policy
        "SEQUENCE_MAX_DAILY_TRANSFER_CENTS": "1000000000",
        "SEQUENCE_MAX_TRANSFER_ATTEMPTS_PER_MINUTE": "10000",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SEQUENCE_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pysequence_api", "serve", "--sandbox"),
        env=inherited | variables,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_SECONDS)
        assert line.startswith(b"Listening"), "the server did not start"
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": KEY}, trust_env=False, timeout=60) as client:
            yield client
    finally:
        process.terminate()
        await process.communicate()


def _write_ledger(path: Path, entries: int) -> None:
    now = datetime.now(UTC)
    settled = [
        {"transfer_id": str(uuid4()), "amount_cents": 1, "timestamp": now.isoformat(), "state": "settled"}
        for _ in range(entries)
    ]
    path.write_text(json.dumps({now.date().isoformat(): {"__global__": settled}}))
    path.chmod(0o600)
