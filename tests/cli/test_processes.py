"""Processes: streams, signals, closed pipes, a person at the terminal, and several processes at once."""

import json
import re
import shlex
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from pysequence_api.sequence.pacing import Rank, SharedPace
from tests.api.server import free_port
from tests.processes import (
    TIMEOUT_SECONDS,
    Environment,
    SandboxProcess,
    environment,
    run_process,
    start_on_terminal,
    start_process,
    wait_until_written,
)

TRANSFER = ("transfer", "Groceries", "Rent", "$25")


def write_trail(directory: Path, count: int) -> Path:
    """Write an audit trail without a hash chain, as another program would."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / ".audit.jsonl"
    path.write_bytes(b"".join(line(number) for number in range(count)))
    return path


def line(number: int) -> bytes:
    event = {"timestamp": "2020-01-01T00:00:00+00:00", "event_type": "transfer_failed", "amount_cents": 5}
    return json.dumps(event | {"source": f"source {number}", "destination": "b", "error": "x" * 100}).encode() + b"\n"


# Readers that close the pipe.


def head(env: Environment, *arguments: str, lines: int) -> tuple[int, str]:
    """Read some lines, close the pipe, and return the exit code and standard error."""
    with start_process(env, *arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert all(process.stdout.readline() for _ in range(lines))
        process.stdout.close()
        errors = process.stderr.read()
        return process.wait(TIMEOUT_SECONDS), errors


@pytest.mark.parametrize("arguments", [["-n", "2000", "--json"], ["-n", "2000", "-f"], ["-n", "1", "-f"]])
def test_a_reader_that_closes_the_pipe_ends_the_command_silently(tmp_path: Path, arguments: list[str]) -> None:
    write_trail(tmp_path, 2000)  # more than a pipe holds
    assert head(environment(tmp_path), "audit", "tail", *arguments, lines=1) == (0, "")


@pytest.mark.parametrize("command", ["pods", "openapi", "--help"])
def test_a_reader_that_reads_nothing_ends_the_command_silently(sandbox: Environment, command: str) -> None:
    assert head(sandbox, command, lines=0) == (0, "")


def test_a_full_disk_is_1_and_one_line(tmp_path: Path) -> None:
    with (
        Path("/dev/full").open("w") as full,
        start_process(environment(tmp_path), "limits", "show", stdout=full) as process,
    ):
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 1
    assert errors.startswith("Error: ")
    assert errors.count("\n") == 1


# Following the audit trail.


def test_following_continues_after_a_replacement_until_ctrl_c(tmp_path: Path) -> None:
    path = write_trail(tmp_path, 3)
    with start_process(environment(tmp_path), "audit", "tail", "-n", "1", "-f") as process:
        assert process.stdout is not None
        assert "source 2 " in process.stdout.readline()
        with path.open("ab") as file:
            file.write(line(3))
        assert "source 3 " in process.stdout.readline()
        path.rename(tmp_path / "old")
        new = tmp_path / "new"
        new.write_bytes(line(4))
        new.rename(path)
        assert "source 4 " in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, rest, errors) == (130, "", "")


# A person at the terminal.


def test_text_typed_before_the_question_does_not_answer_it(sandbox: Environment, tmp_path: Path) -> None:
    with start_on_terminal(sandbox, *TRANSFER) as terminal:
        terminal.type("y\n")
        terminal.wait_for("[y/N]")
        terminal.type("n\n")
        assert terminal.wait_for_exit() == 1, terminal.raw
    assert (tmp_path / "sandbox" / ".audit.jsonl").read_text() == ""


def test_the_question_says_what_a_part_of_a_name_was_taken_for(sandbox: Environment) -> None:
    with start_on_terminal(sandbox, "transfer", "Grocer", "Rent", "25.00") as terminal:
        terminal.wait_for("Send $25.00 from 'Groceries'? [y/N]")
        terminal.type("y\n")
        assert terminal.wait_for_exit() == 0, terminal.raw


def test_ctrl_c_at_the_question_is_130_and_sends_nothing(sandbox: Environment, tmp_path: Path) -> None:
    with start_on_terminal(sandbox, *TRANSFER) as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("\x03")
        assert terminal.wait_for_exit() == 130, terminal.raw
        assert "Nothing was sent" in terminal.raw
        assert "Traceback" not in terminal.raw
    assert (tmp_path / "sandbox" / ".audit.jsonl").read_text() == ""


# Sequence over HTTP, and its failures.


def test_ctrl_c_during_a_transfer_waits_for_its_result_and_is_130(sequence: SandboxProcess, tmp_path: Path) -> None:
    sequence.fail({"kind": "delay", "seconds": 1.5})
    with start_process(sequence.environment(tmp_path), *TRANSFER, "--yes") as process:
        wait_until_written(tmp_path / ".audit.jsonl", "transfer_requested")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while "in progress" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        result, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130
    assert "Transferred $25.00" in result
    assert "(attempt " in errors
    assert "Traceback" not in errors
    assert "transfer_completed" in (tmp_path / ".audit.jsonl").read_text()


def test_a_terminated_transfer_is_completed(sequence: SandboxProcess, tmp_path: Path) -> None:
    sequence.fail({"kind": "delay", "seconds": 1.5})
    with start_process(sequence.environment(tmp_path), *TRANSFER, "--yes") as process:
        wait_until_written(tmp_path / ".audit.jsonl", "transfer_requested")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 128 + signal.SIGTERM
    assert "transfer_completed" in (tmp_path / ".audit.jsonl").read_text()


def test_a_transfer_whose_result_cannot_be_printed_is_1(sequence: SandboxProcess, tmp_path: Path) -> None:
    arguments = (*TRANSFER, "--yes", "--json")
    with (
        Path("/dev/full").open("w") as full,
        start_process(sequence.environment(tmp_path), *arguments, stdout=full) as process,
    ):
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 1
    assert "The transfer was made" in errors
    assert "(attempt " in errors


def test_the_sandbox_prints_the_variables_to_connect_to_it(sequence: SandboxProcess) -> None:
    shown = "\n".join(sequence.lines)
    assert "NO REAL MONEY" in shown
    assert sequence.url in sequence.lines[0]
    assert "Refresh token: " in shown
    assert f"Platform API: {sequence.url}/platform/v1 with the key sk_sandbox" in shown
    names = ["GRAPHQL_URL", "AUTH_URL", "APP_URL", "EMAIL", "PASSWORD", "TOTP"]
    names += ["ACCESS_TOKEN", "ORG_ID", "KYC_ID", "AUTH0_CLIENT_ID", "DATA_DIR"]
    assert list(sequence.variables) == [f"SEQUENCE_{name}" for name in names]


# The server.


def test_the_examples_of_the_server_work_when_pasted(tmp_path: Path) -> None:
    with start_process(environment(tmp_path), "serve", "--sandbox", "--port", str(free_port())) as process:
        screen = read_welcome(process)
        assert "NO REAL MONEY" in screen
        assert "Key: sandbox" in screen
        assert str(tmp_path / "sandbox") in screen
        assert re.search(
            r"^The owner's page: http://127\.0\.0\.1:\d+\nPassword: [\w-]+   Code: \d{6}$", screen, re.MULTILINE
        )
        pods, limits, transfer = re.findall(r"^  (curl .*)$", screen, re.MULTILINE)
        assert "Rent" in pasted(pods)
        used_cents = json.loads(pasted(limits))["used_cents"]
        assert 0 < used_cents < 10_000  # what the agents of the example moved
        for _ in range(4):  # a newcomer repeats it, which is no reason to freeze the key
            assert json.loads(pasted(transfer))["amount_cents"] == 5000
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0, log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert any(line["message"].startswith("POST /api/transfers 200 ") for line in lines), log
    assert "Traceback" not in log


def read_welcome(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    lines: list[str] = []
    while not (lines and "Ctrl-C" in lines[-1]):
        line = process.stdout.readline()
        assert line, process.communicate()
        lines.append(line)
    return "".join(lines)


def pasted(command: str) -> str:
    """Send the request of a curl command; not every machine has curl."""
    words = shlex.split(command)
    options = list(zip(words[1:-1:2], words[2:-1:2], strict=True))
    headers = [value.partition(": ")[::2] for name, value in options if name == "-H"]
    body = dict(options).get("-d")
    method = "GET" if body is None else "POST"
    return httpx.request(method, words[-1], headers=headers, content=body, trust_env=False).raise_for_status().text


def test_a_key_of_the_operator_is_not_printed(tmp_path: Path) -> None:
    env = environment(tmp_path, SEQUENCE_API_KEY="chosen-by-operator-0123")
    with start_process(env, "serve", "--sandbox", "--port", str(free_port())) as process:
        screen = read_welcome(process)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0
    assert "chosen-by-operator" not in screen + log
    assert '"X-API-Key: $SEQUENCE_API_KEY"' in screen


def test_server_and_terminal_share_one_limit_when_ten_transfers_come_at_once(
    sequence: SandboxProcess, tmp_path: Path
) -> None:
    before = len(sequence.moved())
    port = free_port()
    env = sequence.environment(
        tmp_path, SEQUENCE_API_KEY="0123456789abcdef", SEQUENCE_SERVER_PORT=str(port), SEQUENCE_SERVER_HOST="127.0.0.1"
    )
    with start_process(env, "serve") as process, ExitStack() as stack:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        client = stack.enter_context(
            httpx.Client(
                base_url=f"http://127.0.0.1:{port}",
                headers={"X-API-Key": "0123456789abcdef"},
                trust_env=False,
                timeout=TIMEOUT_SECONDS,
            )
        )
        pods = {pod["name"]: pod["id"] for pod in client.get("/api/pods").json()}
        together = threading.Barrier(10)

        def through_the_api() -> bool:
            body = {"source_id": pods["Emergency Fund"], "destination_id": pods["Rent"], "amount_cents": 1_000_000}
            together.wait(TIMEOUT_SECONDS)
            answer = client.post("/api/transfers", json=body)
            assert answer.status_code in {200, 400}, answer.text
            return answer.status_code == 200

        def through_the_terminal() -> bool:
            together.wait(TIMEOUT_SECONDS)
            result = run_process(env, "transfer", "Emergency Fund", "Rent", "$10,000", "--yes", "--json")
            assert result.returncode in {0, 3}, result.stderr
            return result.returncode == 0

        with ThreadPoolExecutor(10) as pool:
            transfers = [pool.submit(transfer) for transfer in [through_the_api, through_the_terminal] * 5]
            accepted = [transfer.result() for transfer in transfers]
        shown = json.loads(run_process(env, "limits", "show", "--json").stdout)
        assert shown == client.get("/api/limits").json()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0, log
    assert sum(accepted) == 2
    assert (shown["used_cents"], shown["remaining_cents"]) == (2_000_000, 500_000)
    assert [one["amount_cents"] for one in sequence.moved()[before:]] == [1_000_000] * 2


def test_two_terminals_share_one_limit(sandbox: Environment, tmp_path: Path) -> None:
    env = sandbox | {"SEQUENCE_MAX_DAILY_TRANSFER_CENTS": "10000"}
    arguments = ("transfer", "Emergency Fund", "Rent", "$60", "--yes")
    with start_process(env, *arguments) as first, start_process(env, *arguments) as second:
        for process in (first, second):
            process.communicate(timeout=TIMEOUT_SECONDS)
    assert sorted([first.returncode, second.returncode]) == [0, 3]
    ledger = json.loads((tmp_path / "sandbox" / ".daily_limits.json").read_text())
    assert [entry["amount_cents"] for day in ledger.values() for entry in day.get("__global__", [])] == [6000]


@pytest.mark.parametrize("arguments", [("pods",), ("activity",), ("transfer", "No such pod", "Rent", "$25", "--yes")])
def test_a_terminal_does_not_wait_for_transfers_of_the_server(
    sequence: SandboxProcess, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    env = sequence.environment(tmp_path, SEQUENCE_REQUEST_INTERVAL_SECONDS=str(TIMEOUT_SECONDS))
    of_server = SharedPace(tmp_path).flag(Rank.TRANSFER)
    assert of_server is not None
    of_server.show()
    result = run_process(env, *arguments)  # other reads would wait for longer than this allows
    assert result.returncode == 0 or "is named 'No such pod'" in result.stderr, result.stderr
    of_server.release()
