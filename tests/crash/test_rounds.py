"""Server and terminal move money on one data directory, and are killed at random moments, round after round.

A recipe, not a part of the gate: ``SEQUENCE_KILL_ROUNDS=50 pytest -m rounds -n 0``.
"""

import json
import os
import random
import signal
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.server import free_port
from tests.crash.restart import LIMIT_CENTS, Restart
from tests.processes import SandboxProcess, run_process, start_process

pytestmark = pytest.mark.rounds
ROUNDS = int(os.environ.get("SEQUENCE_KILL_ROUNDS", "5"))
SECONDS_PER_ROUND = 3.0
FIRST_CENTS = LIMIT_CENTS // 25
KEY = "a-key-for-the-rounds"


def ask(url: str, number: int, ids: list[str]) -> None:
    body = {"source_id": ids[0], "destination_id": ids[1], "amount_cents": FIRST_CENTS + number}
    with suppress(httpx.HTTPError):
        httpx.post(f"{url}/api/transfers", json=body, headers={"X-API-Key": KEY}, timeout=2, trust_env=False)


def kill_in_one_round(at: Restart, chance: random.Random, ids: list[str], first: int) -> int:
    """Run a server and terminals, kill one of them at a random moment, and all of them at the end.

    Returns:
        The number of the last transfer.
    """
    port, number = free_port(), first
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    serve = ("serve", "--host", "127.0.0.1", "--port", str(port))
    with ExitStack() as stack:
        server = stack.enter_context(start_process(at.environment() | {"SEQUENCE_API_KEY": KEY}, *serve, **quiet))
        terminal: subprocess.Popen[str] | None = None
        end = time.monotonic() + SECONDS_PER_ROUND
        kill_at = time.monotonic() + chance.uniform(1.0, SECONDS_PER_ROUND)
        while time.monotonic() < end:
            number += 1
            ask(f"http://127.0.0.1:{port}", number, ids)
            if terminal is None or terminal.poll() is not None:
                amount = ["--cents", str(2 * FIRST_CENTS + number)]
                move = ("transfer", "Emergency Fund", "Rent", *amount, "--yes")
                terminal = stack.enter_context(start_process(at.environment(), *move, **quiet))
            if time.monotonic() > kill_at:
                chance.choice([server, terminal]).send_signal(signal.SIGKILL)
                kill_at = end + 1
    return number


def test_random_kills_of_server_and_terminal_together(sequence: SandboxProcess, tmp_path: Path) -> None:
    at = Restart(sequence, tmp_path / "data")
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    pods = json.loads(run_process(at.environment(), "pods", "--json").stdout)["pods"]
    by_name = {pod["name"]: pod["id"] for pod in pods}
    ids = [by_name["Emergency Fund"], by_name["Rent"]]
    number = 0
    for turn in range(ROUNDS):
        number = kill_in_one_round(at, chance, ids, number)
        at.expect_nothing_lost(f"round {turn} of seed {seed}")
    assert at.moved()
