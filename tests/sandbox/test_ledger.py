"""The file: concurrent writes neither create nor lose money."""

import asyncio
import sqlite3
import subprocess
from pathlib import Path

import anyio
import pytest

from pysequence_api.sandbox import KYC_ID, Sandbox, SandboxFileError
from pysequence_api.sandbox.ledger import open_ledger
from tests.sandbox.caller import Caller
from tests.sandbox.conftest import FakeClock, in_process
from tests.starter import python

pytestmark = pytest.mark.anyio
WORKER = """
import sys, time
from pathlib import Path
from pysequence_api.sandbox import KYC_ID, Sandbox
from pysequence_api.sandbox.household import ORGANIZATION_BY_KYC_ID
from pysequence_api.sandbox.ledger import PaymentOrder, PaymentParty, PaymentRefusedError, open_ledger
path = Path(sys.argv[1])
sys.stdout.write("ready\\n"); sys.stdout.flush(); sys.stdin.readline()
Sandbox(path)
household = ORGANIZATION_BY_KYC_ID[KYC_ID]
pods = {pod.name: PaymentParty(pod.id, "POD") for pod in household.pods}
with open_ledger(path, time.time) as ledger:
    for _ in range(30):
        try:
            ledger.create_payment(household, PaymentOrder(pods["Rent"], pods["Empty Envelope"], 10_000))
        except PaymentRefusedError:
            print("refused")
"""


def start(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*python(), "-c", WORKER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def modes(directory: Path, pattern: str) -> set[int]:
    return {one.stat().st_mode & 0o777 for one in directory.glob(pattern)}


async def total_cents(caller: Caller) -> int:
    """Return the sum of two balances from one response."""
    balances = await caller.balances()
    return balances["Rent"] + balances["Emergency Fund"]


async def test_concurrent_payments_never_overdraw(caller: Caller, tmp_path: Path, clock: FakeClock) -> None:
    with open_ledger(tmp_path / "sandbox.db", clock) as ledger:
        before = ledger.all_balances_cents()
    async with asyncio.TaskGroup() as group:
        there = [group.create_task(caller.pay("Groceries", "Rent", amount=5_000)) for _ in range(25)]
        back = [group.create_task(caller.pay("Café ☕", "Groceries", amount=1_000)) for _ in range(10)]
    done = [task.result()["ok"] is not None for task in there]
    assert sum(done) in {17, 18}  # $876.43, and up to four times $10.00 that can arrive first
    assert sum(task.result()["ok"] is not None for task in back) == 4
    with open_ledger(tmp_path / "sandbox.db", clock) as ledger:
        after = ledger.all_balances_cents()
    assert sum(after.values()) == sum(before.values())
    assert after[caller.ids["Groceries"]] == 87_643 - 5_000 * sum(done) + 4_000 >= 0
    assert len(await caller.moved()) == sum(done) + 4


async def test_a_response_is_one_snapshot(caller: Caller) -> None:
    before = await total_cents(caller)
    async with asyncio.TaskGroup() as group:
        payments = [group.create_task(caller.pay()) for _ in range(15)]
        reads = [group.create_task(total_cents(caller)) for _ in range(15)]
    assert all(task.result()["ok"] for task in payments)
    assert {task.result() for task in reads} == {before}


async def test_several_payments_in_one_document(caller: Caller) -> None:
    payment = 'createPayment(fields: {amount: 5, source: {id: "%s", type: POD}, destination: {id: "%s", type: POD}})'
    payment %= (caller.ids["Emergency Fund"], caller.ids["Rent"])
    more = "{ ok { organization { pods { metadata { balance { cents } } } } } }"
    document = f'mutation X {{ forKYC(id: "{KYC_ID}") {{ a: {payment} {more} b: {payment} {more} }} }}'
    await caller.data("X", document)
    assert [one["amount_cents"] for one in await caller.moved()] == [5, 5]


async def test_two_processes_seed_and_pay_at_once(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    workers = [start(path) for _ in range(2)]
    for worker in workers:
        assert worker.stdout is not None
        assert await anyio.to_thread.run_sync(worker.stdout.readline) == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    outputs = [(await anyio.to_thread.run_sync(worker.communicate))[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sum(output.count("refused") for output in outputs) == 60 - 41  # Rent holds $4,125.00
    connection = sqlite3.connect(path)
    counts = connection.execute("SELECT count(*), count(DISTINCT id), sum(is_payment) FROM transfer").fetchone()
    connection.close()
    assert counts[0] == counts[1]
    assert counts[2] == 41


async def test_the_file_persists_and_is_private(tmp_path: Path, clock: FakeClock) -> None:
    path = tmp_path / "kept.db"
    first = Sandbox(path, clock=clock)
    token = first.issue_tokens().access_token
    assert modes(tmp_path, "kept.db*") == {0o600}
    again = Sandbox(path, clock=clock)
    async with in_process(again) as client:
        caller = Caller.signed_in(client, again)
        caller.access_token = token
        assert (await caller.pay())["ok"]
    assert len(await _moved(first)) == 1


async def _moved(sandbox: Sandbox) -> list[object]:
    async with in_process(sandbox) as client:
        return list((await client.get("/sandbox/transfers")).json()["transfers"])


async def test_other_files_are_not_changed(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be looked at as if it were one " * 20)
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    for path in (text, other):
        before = path.read_bytes()
        with pytest.raises(SandboxFileError, match="not a sandbox file"):
            Sandbox(path)
        if path is text:
            assert path.read_bytes() == before
