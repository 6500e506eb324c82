"""The process in which the owner approves is killed at each write, sync and send between the code and the end."""

import sys
from pathlib import Path
from uuid import uuid4

import anyio
import pyotp
import pytest

from pysequence_api.errors import ApprovalOverError
from pysequence_api.gateway import Gateway, open_gateway
from pysequence_api.models import TransferOrder
from pysequence_api.records.audit import Channel
from pysequence_api.records.states import State
from pysequence_api.safeguards.status import read_attempt
from pysequence_api.safeguards.transfers import PendingTransfer
from pysequence_api.sandbox import KYC_ID
from pysequence_api.settings import Settings
from tests.approvals import BOT, TOTP_SECRET
from tests.crash.restart import Restart
from tests.crash.test_kill import FIRST_CENTS, KILLED, LOG, PAIRS, TRAIL, kill_at, pytestmark
from tests.policies import NO_BREAKER, apply_text
from tests.processes import SandboxProcess, run_process

__all__ = ["pytestmark"]
PROGRAM = """
import anyio, pyotp
from pysequence_api.gateway import open_gateway
from pysequence_api.records.audit import Channel
from pysequence_api.settings import Settings

async def approve():
    settings = Settings.load()
    async with open_gateway(settings) as gateway:
        [one] = await gateway.transfers.pending()
        code = pyotp.TOTP(settings.owner_totp.get_secret_value()).now()
        await gateway.transfers.approve(one.attempt_id, one.bound_sha256, code, Channel.CLI)

anyio.run(approve)
"""
POLICY = """
version = 1
[accounts]
a = "POD:{source}"
b = "POD:{destination}"
[callers.bot]
scopes = ["move"]
rules = [{{ name = "one", from = ["a"], to = ["b"], max_cents = 50000, approve_above_cents = 0 }}]
"""


def settings_of(at: Restart) -> Settings:
    """Return the settings of a process on a data directory."""
    values = {
        name.removeprefix("SEQUENCE_").lower(): value
        for name, value in at.environment().items()
        if name.startswith("SEQUENCE_")
    }
    return Settings.load(**values, owner_totp=TOTP_SECRET)


def ask(at: Restart, number: int) -> str:
    """Have a caller ask, and return the attempt."""

    async def asked() -> str:
        async with open_gateway(settings_of(at)) as gateway:
            pods = {pod.name: pod.id for pod in await gateway.client.pods()}
            source, destination = (pods[name] for name in PAIRS[number])
            apply_text(gateway.records, POLICY.format(source=source, destination=destination) + NO_BREAKER)
            order = TransferOrder(
                kyc_id=KYC_ID, source_id=source, destination_id=destination, amount_cents=FIRST_CENTS + number
            )
            found = await gateway.transfers.transfer(order, Channel.API, str(uuid4()), caller=BOT)
            assert isinstance(found, PendingTransfer)
            return found.attempt_id

    return anyio.run(asked)


async def approve_again(gateway: Gateway, attempt_id: str) -> bool:
    """Approve what still waits, with the code after the one that was used."""
    try:
        one = await gateway.transfers.pending_one(attempt_id)
    except ApprovalOverError:
        return False
    soon = int(gateway.records.now().timestamp()) + 30  # the next code
    await gateway.transfers.approve(attempt_id, one.bound_sha256, pyotp.TOTP(TOTP_SECRET).at(soon), Channel.CLI)
    return True


def expect_one_end(at: Restart, attempt_id: str, what: str) -> None:
    """Check that what waits can be approved, that anything else cannot, and that at most one transfer moved."""
    moved = len(at.moved())

    async def check() -> None:
        async with open_gateway(settings_of(at)) as gateway:
            state = read_attempt(gateway.records, attempt_id).state
            was_waiting = await approve_again(gateway, attempt_id)
            assert was_waiting == (state is State.AWAITING_APPROVAL), what
            assert len(at.moved()) == moved + was_waiting <= 1, what
            assert (state is State.ACCEPTED or state is State.ARRIVED) == (moved == 1), what

    anyio.run(check)


@pytest.mark.parametrize(("call", "name"), [("fdatasync", LOG), ("pwrite64", TRAIL), ("sendto", None)])
def test_a_kill_between_code_and_end_loses_nothing_and_approves_nothing_twice(
    sequence: SandboxProcess, tmp_path: Path, call: str, name: str | None
) -> None:
    for number in range(1, len(PAIRS)):
        at = Restart(sequence, tmp_path / f"data-{number}")
        at.directory.mkdir(mode=0o700)
        attempt_id = ask(at, number)
        environment = at.environment() | {"SEQUENCE_OWNER_TOTP": TOTP_SECRET}
        before = kill_at(call, at.directory / name if name else None, number)
        ended = run_process(environment, command=(*before, sys.executable, "-c", PROGRAM))
        if ended.returncode == 0:
            assert number > 1, "there was no such call"
            return
        assert ended.returncode in KILLED, ended.stderr
        what = f"killed at {call} {name} number {number}"
        at.expect_nothing_lost(what)
        expect_one_end(at, attempt_id, what)
    pytest.fail("there is no end of calls")
