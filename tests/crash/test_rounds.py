"""Server and terminal move money on one data directory, and are killed at random moments, round after round.

A recipe, not a part of the gate: ``SEQUENCE_KILL_ROUNDS=50 pytest -m rounds -n 0``.
"""

import os
import random
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.crash.test_kill import AMOUNT_CENTS, LIMIT_CENTS, PROGRAM, House

pytestmark = pytest.mark.rounds
ROUNDS = int(os.environ.get("SEQUENCE_KILL_ROUNDS", "5"))
SECONDS_PER_ROUND = 3.0
KEY = "a-key-for-the-rounds"


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def ask(url: str, number: int, ids: list[str]) -> None:
    body = {"source_id": ids[0], "destination_id": ids[1], "amount_cents": AMOUNT_CENTS // 10 + number}
    with suppress(httpx.HTTPError):
        httpx.post(f"{url}/api/transfers", json=body, headers={"X-API-Key": KEY}, timeout=2, trust_env=False)


def test_random_kills_of_server_and_terminal_together(sequence: dict[str, str], tmp_path: Path) -> None:
    house = House(tmp_path / "data", sequence)
    house.forget()
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    pods = {pod["name"]: pod["id"] for pod in house.pods()}
    ids = [pods["Emergency Fund"], pods["Rent"]]
    number = 0
    for turn in range(ROUNDS):
        port = free_port()
        environment = house.environment() | {"SEQUENCE_API_KEY": KEY}
        server = subprocess.Popen([*PROGRAM, "serve", "--host", "127.0.0.1", "--port", str(port)], env=environment)
        terminal: subprocess.Popen[bytes] | None = None
        end = time.monotonic() + SECONDS_PER_ROUND
        kill_at = time.monotonic() + chance.uniform(1.0, SECONDS_PER_ROUND)
        while time.monotonic() < end:
            number += 1
            ask(f"http://127.0.0.1:{port}", number, ids)
            if terminal is None or terminal.poll() is not None:
                amount = ["--cents", str(AMOUNT_CENTS // 10 + 50_000 + number)]
                command = [*PROGRAM, "transfer", "Emergency Fund", "Rent", *amount, "--yes"]
                terminal = subprocess.Popen(command, env=house.environment(), stderr=subprocess.DEVNULL)
            if time.monotonic() > kill_at:
                chance.choice([server, terminal]).send_signal(signal.SIGKILL)
                kill_at = end + 1
        for process in (server, terminal):
            if process is not None:
                process.kill()
                process.wait()
        house.expect_nothing_lost(f"round {turn} of seed {seed}")
        assert house.moved_cents() <= LIMIT_CENTS
