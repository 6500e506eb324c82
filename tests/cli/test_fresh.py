"""Commands use an answer again that another command, or the server, got a few seconds ago."""

import json
import re
from pathlib import Path

import httpx
import pytest

from pysequence_api.account.shared import FILE_NAME
from pysequence_api.gateway import SANDBOX_DATABASE_NAME
from pysequence_api.sandbox import PLATFORM_PATH
from tests.cli.commands import call, call_json, draw
from tests.processes import Environment, SandboxProcess, run_process, without_escapes

READS = ["pods", "pods show Groceries", "accounts", "activity", "activity --all", "activity summary"]
NOTE = re.compile(r"^From \d+ seconds? ago\. --fresh asks Sequence again\.$", re.MULTILINE)
MAX_AGE = {"SEQUENCE_READ_MAX_AGE_SECONDS": "600"}  # a busy machine takes its time between two commands


@pytest.fixture
def graphql(sequence: SandboxProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    """Let the commands of this process talk to Sequence over HTTP, and return the environment for other processes."""
    return applied(monkeypatch, sequence.environment(tmp_path, **MAX_AGE))


@pytest.fixture
def platform(sequence: SandboxProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    """Do the same with the Platform API."""
    monkeypatch.setattr("pysequence_api.sequence.platform.client.REQUESTS_PER_MINUTE", 1_000_000)
    permissions = {"requests_per_minute": 1_000_000}
    answer = httpx.post(f"{sequence.url}/sandbox/platform-keys", json=permissions, trust_env=False, verify=False)
    ours = {"SEQUENCE_PLATFORM_URL": f"{sequence.url}{PLATFORM_PATH}", "SEQUENCE_PLATFORM_KEY": answer.json()["key"]}
    return applied(monkeypatch, sequence.environment(tmp_path, **MAX_AGE, **ours))


def applied(monkeypatch: pytest.MonkeyPatch, environment: Environment) -> Environment:
    for name, value in environment.items():
        if name.startswith("SEQUENCE_"):
            monkeypatch.setenv(name, value)
    return environment


def asked(sequence: SandboxProcess, *arguments: str) -> tuple[str, int]:
    """Run a command, and return its output, and how many requests for the account Sequence received."""

    def count() -> int:
        found = httpx.get(f"{sequence.url}/sandbox/requests", trust_env=False, verify=False).json()["requests"]
        return sum(one["operation"] is not None for one in found)

    before = count()
    output = call(*arguments).stdout
    return output, count() - before


@pytest.mark.parametrize(
    ("environment", "command"), [("platform", "pods"), *(("graphql", command) for command in READS)]
)
def test_a_second_command_asks_nothing_and_fresh_asks(
    request: pytest.FixtureRequest, sequence: SandboxProcess, environment: str, command: str
) -> None:
    request.getfixturevalue(environment)
    first, requests = asked(sequence, *command.split(), "--json")
    assert requests > 0
    assert asked(sequence, *command.split(), "--json") == (first, 0)
    _, requests = asked(sequence, *command.split(), "--fresh")
    assert requests > 0


def test_one_transfer_is_shown_again(graphql: Environment, sequence: SandboxProcess) -> None:
    transfer_id = call_json("activity", "--first", "1")["transfers"][0]["id"]
    first, requests = asked(sequence, "transfers", "show", transfer_id)
    assert requests > 0
    assert asked(sequence, "transfers", "show", transfer_id) == (first, 0)
    assert asked(sequence, "transfers", "show", transfer_id, "--fresh")[1] > 0


def test_fresh_may_stand_before_the_command_of_a_group(graphql: Environment, sequence: SandboxProcess) -> None:
    for command in (("pods", "show", "Rent"), ("activity", "summary")):
        call(*command)
        assert asked(sequence, command[0], "--fresh", *command[1:])[1] > 0


def test_a_process_of_its_own_shares_answers(graphql: Environment, sequence: SandboxProcess) -> None:
    first = run_process(graphql, "pods", "--json")
    assert first.returncode == 0, first.stderr
    assert asked(sequence, "pods", "--json") == (first.stdout, 0)


def test_a_person_is_told_how_old_an_answer_is(graphql: Environment) -> None:
    assert not NOTE.search(without_escapes(draw("pods")))
    assert NOTE.search(without_escapes(draw("pods")))
    assert NOTE.search(without_escapes(draw("pods", "show", "Rent")))
    assert not NOTE.search(without_escapes(draw("pods", "--fresh")))
    assert not NOTE.search(draw("pods", is_terminal=False))
    json.loads(call("pods", "--json").stdout)


def test_a_name_that_was_not_found_says_how_old_the_list_is(
    graphql: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("pods")
    monkeypatch.setattr("pysequence_api.cli.upstream.is_terminal", lambda _: True)
    assert NOTE.search(call("pods", "show", "Nothing", code=2).stderr)


def test_a_transfer_asks_sequence_and_sets_answers_aside(graphql: Environment, sequence: SandboxProcess) -> None:
    before = call_json("pods")
    transfer = ("transfer", "Groceries", "Rent", "1.00", "--yes")
    _, names_only = asked(sequence, *transfer[:-1], "--dry-run")
    assert names_only > 0
    asked(sequence, *transfer)
    after, requests = asked(sequence, "pods", "--json")
    assert requests > 0
    assert json.loads(after)["pods"] != before["pods"]


def test_what_checks_asks_sequence(graphql: Environment, sequence: SandboxProcess, no_server: None) -> None:
    call("accounts")
    assert asked(sequence, "policy", "explain", "owner", "Groceries", "Rent", "1.00")[1] > 0
    assert asked(sequence, "limits", "reconcile")[1] == 0  # nothing to look up
    assert asked(sequence, "doctor")[1] > 0


def test_zero_asks_every_time(graphql: Environment, sequence: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCE_READ_MAX_AGE_SECONDS", "0")
    for _ in range(2):
        assert asked(sequence, "pods")[1] > 0
    assert not (Path(graphql["SEQUENCE_DATA_DIR"]) / FILE_NAME).exists()


def test_records_that_cannot_be_read_do_not_hide_the_account(graphql: Environment, sequence: SandboxProcess) -> None:
    call("pods")
    (Path(graphql["SEQUENCE_DATA_DIR"]) / ".records.db").write_bytes(b"damaged" * 1000)
    assert asked(sequence, "pods")[1] > 0


def test_a_kept_answer_does_not_open_the_simulated_sequence(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCE_READ_MAX_AGE_SECONDS", "600")
    first = call("pods").stdout
    (directory / SANDBOX_DATABASE_NAME).unlink()
    assert call("pods").stdout == first
    assert not (directory / SANDBOX_DATABASE_NAME).exists()


def test_signing_out_removes_the_answers(graphql: Environment) -> None:
    call("pods")
    path = Path(graphql["SEQUENCE_DATA_DIR"]) / FILE_NAME
    assert path.exists()
    call("auth", "logout")
    assert not path.exists()
