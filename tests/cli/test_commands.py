"""Commands as a script runs them: results, exit codes, and errors of one line."""

import json
import re
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pysequence_api.cli import app
from tests.cli.commands import RUNNER, call, call_json
from tests.processes import SandboxProcess

pytestmark = pytest.mark.usefixtures("directory")


def balances() -> dict[str, int]:
    return {pod["name"]: pod["balance_cents"] for pod in call_json("pods")["pods"]}


@pytest.mark.parametrize("arguments", ["", "transfer", "audit", "limits", "sandbox"])
def test_without_arguments_the_help_is_shown(arguments: str) -> None:
    result = call(*arguments.split(), code=2)
    assert result.stderr.startswith("Usage:")
    assert result.stdout == ""


INVALID = (
    *("nonsense", "pods --nonsense", "audit tail -n -1", "serve --port 0"),
    *("transfer Rent", "transfer Rent Groceries", "transfer Rent Groceries 5000", "transfer a b 5.00 6.00"),
    *(f"transfer Rent Groceries --cents {cents}" for cents in ("x", "0", "-5", "2147483648", "5.00")),
    *("transfer Rent Groceries -5.00", "transfer Rent Groceries 5.00 --cents 500"),
    "transfer Rent Groceries 5.00 --source-type BANK",
    *("pods show nothing", "transfers show nothing", "activity --first 0"),
)


def test_invalid_usage_is_2_and_one_line() -> None:
    for arguments in INVALID:
        result = call(*arguments.split(), *(["--yes"] if arguments.startswith("transfer ") else []), code=2)
        assert result.stdout == ""
        assert re.fullmatch(r"Error: .+[.?)]( .+)?\n", result.stderr), result.stderr


def test_version() -> None:
    assert call("--version").stdout.count(".") == 2


def test_pods_lists_balances_and_a_total() -> None:
    result = call("pods")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["NAME", "ID", "BALANCE"]
    assert any(line.startswith("Café ☕  ") and line.endswith("$42.15") for line in lines)
    assert lines[-1].startswith("Total")
    assert lines[-1].endswith("$516,751.57")
    assert result.stderr == ""


def test_pods_as_json_have_the_fields_of_the_api() -> None:
    document = call_json("pods")
    assert list(document) == ["pods", "total"]
    rent = next(pod for pod in document["pods"] if pod["name"] == "Rent")
    assert {"id", "name", "organization_id", "balance_cents", "balance"} <= set(rent)
    assert document["total"]["total_balance_cents"] == sum(pod["balance_cents"] for pod in document["pods"])
    assert (document["total"]["pod_count"], document["total"]["left_out"]) == (15, [])


def test_a_transfer_moves_money_and_is_recorded() -> None:
    before = balances()
    document = call_json("transfer", "groceries", "RENT", "$25", "--yes", "--description", "Grün")
    assert document["amount_cents"] == 2500
    assert document["source"]["name"] == "Groceries"
    assert document["daily_remaining_cents"] == 2_497_500
    after = balances()
    assert before["Groceries"] - after["Groceries"] == after["Rent"] - before["Rent"] == 2500
    lines = [json.loads(line) for line in call("audit", "tail", "--json").stdout.splitlines()]
    assert [line["event_type"] for line in lines] == ["transfer_requested", "transfer_completed"]
    assert {line["attempt_id"] for line in lines} == {document["attempt_id"]}
    assert lines[-1]["transfer_id"] == document["id"]
    assert lines[-1]["via"] == "cli"
    limits = call_json("limits", "show")
    assert (limits["used_cents"], limits["remaining_cents"]) == (2500, 2_497_500)
    assert call_json("transfers", "status", document["attempt_id"])["state"] == "accepted"
    assert "accepted" in call("transfers", "status", document["attempt_id"]).stdout


def test_a_transfer_prints_its_plan_on_standard_error(directory: Path) -> None:
    result = call("transfer", "Groceries", "Rent", "--cents", "2500", "--yes")
    assert "Transfer $25.00" in result.stderr
    assert "$876.43" in result.stderr
    assert f"{directory} (new" in result.stderr
    assert "SANDBOX" in result.stderr
    assert "$24,975.00" in result.stderr
    assert result.stdout.splitlines()[0] == "Transferred $25.00 from Groceries to Rent."
    assert "(new" not in call("transfer", "Groceries", "Rent", "$1", "--yes").stderr


def test_names_can_contain_anything() -> None:
    pairs = (("Vacation / Travel", "50% Rule"), ("50% rule", "CAFÉ ☕"), ("Salary", "Rent"), ("Rent", "Landlord"))
    for source, destination in pairs:
        assert call_json("transfer", source, destination, "$1.50", "--yes")["amount_cents"] == 150


def test_a_name_outside_of_the_character_set_is_escaped() -> None:
    ascii_only = CliRunner(charset="ascii")
    assert "Caf\\xe9" in call("transfer", "Café ☕", "Rent", "$1", "--yes", runner=ascii_only).stdout


def test_an_unclear_name_is_2_and_moves_nothing() -> None:
    for source, destination, says in (
        ("taxes", "Rent", "Taxes 2025"),
        ("nowhere", "Rent", "'nowhere'"),
        ("Rent", "nowhere", "--destination-type"),
        ("Rent", "rent", "'Rent'"),
        ("[red]x[/red]\x1b[2J", "Rent", "[red]x[/red]"),
    ):
        result = call("transfer", source, destination, "$1", "--yes", code=2)
        assert says in result.stderr
        assert "\x1b" not in result.stderr
        assert result.stderr.startswith("Error: ")
        assert call("audit", "tail").stdout == ""


def test_without_a_terminal_a_transfer_needs_yes() -> None:
    result = call("transfer", "Groceries", "Rent", "$1", code=2)
    assert "--yes" in result.stderr
    assert call("audit", "tail").stdout == ""


def test_an_invalid_description_is_2() -> None:
    for description in ("x" * 256, "a\0b", "\udcff"):
        call("transfer", "Groceries", "Rent", "$1", "--yes", "--description", description, code=2)


def test_an_exceeded_limit_is_3_and_recorded() -> None:
    result = call("transfer", "Emergency Fund", "Rent", "$15,000", "--yes", code=3)
    assert "Error: Amount 1500000 cents exceeds per-transfer limit of 1000000 cents" in result.stderr
    assert "transfer_rejected" in call("audit", "tail").stdout
    assert result.stdout == ""


def test_errors_3_4_and_5_are_documents_with_json(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = call("transfer", "Emergency Fund", "Rent", "$15,000", "--yes", "--json", code=3)
    error = json.loads(over.stdout)
    assert (error["code"], error["outcome"], error["retry"]) == ("over_max", "nothing_moved", "same_key")
    assert call_json("transfers", "status", error["attempt_id"])["state"] == "rejected"
    assert error["detail"] in over.stderr
    call("freeze")
    frozen = json.loads(call("transfer", "Groceries", "Rent", "$1", "--yes", "--json", code=3).stdout)
    assert (frozen["code"], frozen["outcome"], frozen["retry"]) == ("frozen", "nothing_moved", "later")
    assert call("transfer", "nowhere", "Rent", "$1", "--yes", "--json", code=2).stdout == ""
    (directory / ".records.db").write_bytes(b"x" * 8192)
    damaged = json.loads(call("limits", "show", "--json", code=3).stdout)
    assert damaged["code"] == "records_unavailable"
    monkeypatch.delenv("SEQUENCE_SANDBOX")
    assert json.loads(call("pods", "--json", code=4).stdout)["code"] == "sign_in_failed"


def test_an_unknown_kyc_id_is_2_and_is_not_recorded() -> None:
    result = call("transfer", "Groceries", "Rent", "$25", "--yes", "--kyc-id", "nobody", code=2)
    assert "'nobody'" in result.stderr
    limits = call_json("limits", "show")
    assert (limits["used_cents"], limits["audit_head"]) == (0, None)


def test_a_damaged_database_is_3_but_reads_work(directory: Path) -> None:
    call("transfer", "Groceries", "Rent", "$1", "--yes")
    (directory / ".records.db").write_bytes(b"x" * 8192)
    call("transfer", "Groceries", "Rent", "$1", "--yes", code=3)
    call("limits", "show", code=3)
    assert call("pods").stdout


def test_insufficient_funds_are_4_after_a_warning() -> None:
    result = call("transfer", "Empty Envelope", "Rent", "$5", "--yes", code=4)
    assert "Warning: " in result.stderr
    assert "(attempt " in result.stderr
    assert call_json("limits", "show")["used_cents"] == 0


def test_invalid_settings_are_2_and_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCE_MAX_TRANSFER_CENTS", "many")
    monkeypatch.setenv("SEQUENCE_SERVER_PORT", "0")
    result = call("limits", "show", code=2)
    assert "SEQUENCE_MAX_TRANSFER_CENTS" in result.stderr
    assert "SEQUENCE_SERVER_PORT" in result.stderr


def test_a_file_that_is_not_a_simulated_sequence_is_2_and_one_line(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    (directory / "sequence.sqlite").write_text("not a database")
    for arguments in (("pods",), ("transfer", "Groceries", "Rent", "5.00", "--yes")):
        result = call(*arguments, code=2)
        assert "sequence.sqlite is not a sandbox file" in result.stderr
        assert result.stderr.count("\n") == 1
    assert call_json("limits", "show")["used_cents"] == 0


def test_an_unexpected_error_is_1_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("pysequence_api.cli.limits.read_records", fail)
    result = call("limits", "show", code=1)
    assert "ZeroDivisionError" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stderr
    debugged = RUNNER.invoke(app, ["--debug", "limits", "show"])
    assert "Traceback" in debugged.stderr
    assert debugged.exit_code == 1


def test_limits_in_a_pipe_are_plain_text() -> None:
    call("transfer", "Groceries", "Rent", "$25", "--yes")
    shown = call("limits", "show").stdout
    assert "Used today      $25.00" in shown
    assert "T00:00:00+00:00" in shown
    assert "\x1b" not in shown


DAMAGED = [
    b'{"timestamp": "2026-11-23T10:00:00+00:00", "event_type": "transfer_requested", "amount_cents": 5,'
    b' "source": "[red]a[/red]\\u001b[2J", "destination": "b", "more": NaN}',
    b'{"timestamp": "2026-11-23T10:00:00',
    b"\xff\xfe\x1b[2J not JSON",
    b"[]",
    b'{"amount_cents": "5"}',
    b'{"more": ' + b"[" * 600 + b"]" * 600 + b"}",
    b'{"source": "\\ud800", "timestamp": "yesterday"}',
    b'{"amount_cents": 1' + b"0" * 300 + b"}",
]


@pytest.fixture
def damaged(directory: Path) -> Path:
    directory.mkdir()
    path = directory / ".audit.jsonl"
    path.write_bytes(b"\n".join(DAMAGED))
    return path


def test_a_damaged_trail_is_shown_as_far_as_possible(damaged: Path) -> None:
    shown = call("audit", "tail", "-n", "100").stdout
    assert len(shown.splitlines()) == len(DAMAGED)
    assert "\x1b" not in shown
    assert "[red]a[/red]\\x1b[2J -> b" in shown
    assert shown.count("unreadable line: ") == 4


def test_a_damaged_trail_is_still_valid_json_lines(damaged: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    lines = call("audit", "tail", "-n", "100", "--json").stdout.splitlines()
    documents = [json.loads(line, parse_constant=refuse) for line in lines]
    assert len(documents) == len(DAMAGED)
    assert documents[0]["source"] == "[red]a[/red]\x1b[2J"
    assert documents[0]["more"] is None


def test_an_empty_trail_prints_only_a_note() -> None:
    result = call("audit", "tail")
    assert result.stdout == ""
    assert result.stderr


# Sequence over HTTP, and its failures.


@pytest.fixture
def http(sequence: SandboxProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SandboxProcess:
    """Let the commands talk to Sequence over HTTP."""
    monkeypatch.delenv("SEQUENCE_SANDBOX")
    for name, value in sequence.environment(tmp_path).items():
        if name.startswith("SEQUENCE_"):
            monkeypatch.setenv(name, value)
    return sequence


@pytest.mark.parametrize("what", ["close", "graphql_error"])
def test_an_unknown_outcome_is_5_and_counts(http: SandboxProcess, what: str) -> None:
    http.fail(what, "after")
    result = call("transfer", "Groceries", "Rent", "$25", "--yes", "--json", code=5)
    error = json.loads(result.stdout)
    assert (error["code"], error["outcome"], error["retry"]) == ("outcome_unknown", "unknown", "never")
    assert "DO NOT REPEAT" in result.stderr
    for command in ("limits show", "limits reconcile", "transfers status "):
        assert f"pysequence-api {command}" in result.stderr
    limits = call_json("limits", "show")
    [unsettled] = limits["unsettled"]
    assert error["attempt_id"] == unsettled["attempt_id"]
    [*_, last] = call("audit", "tail", "--json").stdout.splitlines()
    assert json.loads(last)["attempt_id"] == unsettled["attempt_id"]
    assert f"transfers status {unsettled['attempt_id']}" in result.stderr
    assert limits["used_cents"] == 2500
    assert unsettled["attempt_id"] in call("limits", "show").stdout


@pytest.mark.parametrize(
    ("what", "code", "says"),
    [
        ({"kind": "refuse", "message": "Not [red]today[/red]"}, "refused", "Not [red]today[/red]"),
        ({"kind": "status", "status": 429}, "sequence_rate_limited", "429"),
    ],
)
def test_a_certain_failure_is_4_and_does_not_count(http: SandboxProcess, what: object, code: str, says: str) -> None:
    http.fail(what)
    result = call("transfer", "Groceries", "Rent", "$25", "--yes", "--json", code=4)
    assert says in result.stderr
    error = json.loads(result.stdout)
    assert (error["code"], error["outcome"]) == (code, "nothing_moved")
    assert call_json("transfers", "status", error["attempt_id"])["code"] == code
    assert call_json("limits", "show")["used_cents"] == 0


def test_no_token_is_4(http: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_TOKEN", "PASSWORD"):
        monkeypatch.delenv(f"SEQUENCE_{name}")
    result = call("pods", code=4)
    assert result.stderr.startswith("Error: ")
    assert "SEQUENCE_ACCESS_TOKEN" in result.stderr


def test_no_connection_is_4(http: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but not listening
        monkeypatch.setenv("SEQUENCE_GRAPHQL_URL", f"http://127.0.0.1:{unused.getsockname()[1]}/api/graphql")
        result = call("pods", code=4)
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--host", "0.0.0.0"], ["--port", "70000"], ["--port", "{taken}"]])
def test_a_sandbox_that_cannot_listen_is_2(sequence: SandboxProcess, arguments: list[str]) -> None:
    taken = sequence.url.rpartition(":")[2]
    result = call("sandbox", "serve", *(word.format(taken=taken) for word in arguments), code=2)
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("variables", "code", "says"),
    [
        ({"SANDBOX": ""}, 2, ["SEQUENCE_API_KEY", "SEQUENCE_ORG_ID", "SEQUENCE_KYC_ID"]),
        ({"SERVER_HOST": "192.0.2.1"}, 2, ["192.0.2.1"]),
        ({"DATA_DIR": "/dev/null"}, 2, ["/dev/null"]),
        ({"SANDBOX": "", "API_KEY": "k" * 20, "ORG_ID": "o", "KYC_ID": "k"}, 2, ["SEQUENCE_ACCESS_TOKEN"]),
    ],
)
def test_a_server_that_cannot_start_says_why(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], code: int, says: list[str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"SEQUENCE_{name}", value)
    result = call("serve", code=code)
    assert result.stdout == ""
    assert all(word in result.stderr for word in says)
    assert "Error: " in result.stderr
