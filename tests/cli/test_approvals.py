"""The owner at the terminal: an authenticator, and transfers that wait for a code of it."""

import re
import time
from pathlib import Path

import pyotp
import pytest

from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import Caller
from tests.approvals import BOT, apply_rules
from tests.cli.commands import call, call_json, in_world
from tests.processes import Environment, start_on_terminal
from tests.world import DataDirectory, World


def code_of(secret: str, step: int = 0) -> str:
    """Return what an authenticator shows, some steps later."""
    return pyotp.TOTP(secret).at(int(time.time()) + 30 * step)


def set_up(sandbox: Environment, *options: str, old: str | None = None) -> tuple[str, str]:
    """Set up an authenticator, and return its secret and what the terminal showed."""
    with start_on_terminal(sandbox, "owner", "setup", *options, columns=120) as terminal:
        if old is not None:
            terminal.wait_for("that you replace:")
            terminal.type(f"{code_of(old, 1)}\n")
        terminal.wait_for("Code that it shows:")
        [secret] = re.findall(r"enter the secret: ([A-Z2-7]{32})", terminal.text)
        terminal.type(f"{code_of(secret)}\n")
        assert terminal.wait_for_exit() == 0, terminal.text
    return secret, terminal.text


def ask(directory: Path, caller: Caller = BOT) -> str:
    """Have a caller ask, and return the attempt."""

    async def act(world: World) -> str:
        apply_rules(world)
        return (await world.ask(4_200, caller=caller, description="Rent", key="rent")).attempt_id

    return in_world(directory, act)


def test_the_owner_sets_up_an_authenticator_and_approves(sandbox: Environment, directory: Path) -> None:
    secret, shown = set_up(sandbox)
    assert "█" in shown
    attempt_id = ask(directory)
    [listed] = call_json("approvals", "list")
    assert (listed["attempt_id"], listed["amount_cents"], listed["caller"]) == (attempt_id, 4_200, "bot")
    assert "Emergency Fund" in call("approvals", "list").stdout
    assert call_json("approvals", "show", attempt_id) == listed
    # A pipe is no terminal, and there is no option for the code.
    assert "Not a terminal" in call("approvals", "approve", attempt_id, code=2).stderr
    call("approvals", "approve", attempt_id, "--code", code_of(secret), code=2)
    with start_on_terminal(sandbox, "approvals", "approve", attempt_id, columns=120) as terminal:
        terminal.wait_for("Code of your authenticator")
        terminal.type("\n")
        assert terminal.wait_for_exit() == 1
    with start_on_terminal(sandbox, "approvals", "approve", attempt_id, columns=120) as terminal:
        terminal.wait_for("Code of your authenticator")
        assert all(text in terminal.text for text in ("$42.00", "Emergency Fund", "Rent", "bot", attempt_id))
        terminal.type(f"{code_of(secret, 1)}\n")
        assert terminal.wait_for_exit() == 0, terminal.text
    assert "Transferred $42.00" in terminal.text
    assert call_json("transfers", "status", attempt_id)["state"] == "accepted"
    assert "No transfer waits" in call("approvals", "list").stdout
    call("approvals", "show", attempt_id, code=3)


def test_another_authenticator_needs_the_old_one_or_is_told_to_be_lost(sandbox: Environment, directory: Path) -> None:
    first, _ = set_up(sandbox)
    with start_on_terminal(sandbox, "owner", "setup") as terminal:
        terminal.wait_for("that you replace:")
        terminal.type("000000\n")
        terminal.wait_for("Code that it shows:")
        [secret] = re.findall(r"the secret:\s+([A-Z2-7]{32})", terminal.text)
        terminal.type(f"{code_of(secret)}\n")
        assert terminal.wait_for_exit() == 3
    second, _ = set_up(sandbox, old=first)
    assert second != first
    _, shown = set_up(sandbox, "--lost")
    assert "without a code" in shown
    events = [line for line in DataDirectory(directory).trail() if line["event_type"] == "owner_code_changed"]
    assert [line.get("lost") for line in events] == [None, None, True]


@pytest.mark.usefixtures("directory")
def test_nothing_of_the_owner_works_without_a_terminal() -> None:
    for command in (("owner", "setup"), ("owner", "setup", "--lost"), ("owner", "password")):
        assert "Not a terminal" in call(*command, code=2).stderr


def test_the_owner_denies(directory: Path) -> None:
    attempt_id = ask(directory)
    call("approvals", "deny", attempt_id, code=2)
    assert "Denied" in call("approvals", "deny", attempt_id, "--yes").stdout
    assert call_json("transfers", "status", attempt_id)["code"] == "denied"
    assert DataDirectory(directory).trail()[-1]["via"] == Channel.CLI


def test_the_password_needs_a_code(sandbox: Environment) -> None:
    with start_on_terminal(sandbox, "owner", "password") as terminal:
        assert terminal.wait_for_exit() == 2
    secret, _ = set_up(sandbox)
    for typed, code in ((code_of(secret, 1), 0), (code_of(secret, 1), 3)):
        with start_on_terminal(sandbox, "owner", "password") as terminal:
            for question in ("New password (hidden):", "The same again (hidden):"):
                terminal.wait_for(question)
                terminal.type("correct horse battery\n")
            terminal.wait_for("Code of your authenticator:")
            assert "horse" not in terminal.text
            terminal.type(f"{typed}\n")
            assert terminal.wait_for_exit() == code, terminal.text
