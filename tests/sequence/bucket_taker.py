"""Takes turns of the bucket of a data directory as a process of its own, and prints when it got them."""

import json
import sys
import time
from pathlib import Path

import anyio

from pysequence_api.sequence.pacing import Pacer, Priority


async def take(directory: str, interval_seconds: float, bucket_requests: int, count: int) -> None:
    """Take turns, and print the time of each, in Unix seconds."""
    pacer = Pacer(
        Path(directory), interval_seconds=interval_seconds, bucket_requests=bucket_requests, name=".pacing-platform"
    )
    for _ in range(count):
        turn = await pacer.take(Priority.READ)
        await turn.begin()
        print(time.time(), flush=True)  # noqa: T201


anyio.run(lambda: take(**json.loads(sys.argv[1])))
