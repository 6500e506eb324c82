"""What `serve`, `doctor` and `transfer` say about the settings before anything moves."""

import json
from pathlib import Path
from typing import Any

import pytest

from pysequence_api.doctor.account import check_ids
from pysequence_api.models import Accounts
from pysequence_api.sandbox import KYC_ID, ORGANIZATION_ID
from tests.api.server import free_port
from tests.cli.commands import call, run_here
from tests.processes import Environment, SandboxProcess, run_process, start_process, start_sandbox
from tests.settings.conftest import WriteFile

LONG_KEY = "a-key-of-32-characters-or-longer"


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run one simulated Sequence for all tests of a worker."""
    with start_sandbox(tmp_path_factory.mktemp("sequence")) as sequence:
        yield sequence


@pytest.fixture
def real(sequence: SandboxProcess, tmp_path: Path) -> Environment:
    """Return the environment of a server that takes the simulated Sequence for the real one."""
    variables = {"API_KEY": LONG_KEY, "SERVER_HOST": "127.0.0.1", "SERVER_PORT": str(free_port())}
    return sequence.environment(tmp_path, **{f"SEQUENCE_{name}": value for name, value in variables.items()})


def first_line(env: Environment, *, wait_for_error: bool = False) -> str:
    """Start a server, and return the first line it prints on standard output, or else on standard error."""
    with start_process(env, "serve") as server:
        stream = server.stderr if wait_for_error else server.stdout
        assert stream is not None
        return stream.readline()


def findings(code: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(call("doctor", "--json", code=code).stdout)["findings"]
    return found


def said(name: str, code: int = 0) -> str:
    return " ".join(f"{each['level']} {each['said']} {each['fix']}" for each in findings(code) if each["name"] == name)


def test_everything_that_is_missing_is_told_at_once() -> None:
    shown = call("serve", code=2).output
    for name in ("API_KEY", "ORG_ID", "KYC_ID", "EMAIL", "PASSWORD", "TOTP"):
        assert f"SEQUENCE_{name} " in shown
    assert "pysequence-api init" in shown


@pytest.mark.parametrize("way", ["token", "cache"])
def test_a_token_is_a_way_to_sign_in(way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEQUENCE_DATA_DIR", str(tmp_path))
    if way == "token":
        monkeypatch.setenv("SEQUENCE_ACCESS_TOKEN", "token")
    else:
        (tmp_path / ".tokens.json").touch()
    shown = call("serve", code=2).output
    assert "SEQUENCE_API_KEY" in shown
    assert "SEQUENCE_PASSWORD" not in shown


def test_a_caller_is_enough_to_start(real: Environment, tmp_path: Path) -> None:
    del real["SEQUENCE_API_KEY"]
    assert "SEQUENCE_API_KEY is not set" in run_process(real, "serve").stderr
    key = run_here(real, "callers", "add", "bookkeeper").stdout.strip()
    assert "Listening on" in first_line(real)
    refused = run_process(real | {"SEQUENCE_API_KEY": key}, "serve")
    assert refused.returncode == 2
    assert "is the key of a caller" in refused.stderr
    assert key not in refused.stderr
    run_here(real, "callers", "revoke", "bookkeeper", "--yes")
    assert "SEQUENCE_API_KEY is not set" in run_process(real, "serve").stderr


def test_the_first_line_has_limits_address_directory_and_upstream(real: Environment, tmp_path: Path) -> None:
    line = first_line(real)
    for text in ("$10,000.00", "$25,000.00", real["SEQUENCE_SERVER_PORT"], str(tmp_path), "upstream 127.0.0.1:"):
        assert text in line


@pytest.mark.parametrize(("host", "level"), [("0.0.0.0", "ERROR"), ("127.0.0.1", "WARNING")])
def test_a_short_key_is_the_first_line(host: str, level: str, real: Environment) -> None:
    Path(".env").touch()
    real |= {"SEQUENCE_API_KEY": "short", "SEQUENCE_SERVER_HOST": host}
    line = json.loads(first_line(real, wait_for_error=True))
    assert (line["level"], "SEQUENCE_API_KEY" in line["message"]) == (level, True)


@pytest.mark.parametrize("name", ["SEQUENCE_ORG_ID", "SEQUENCE_KYC_ID"])
def test_a_wrong_id_stops_the_server(name: str, real: Environment) -> None:
    right = real[name]
    result = run_process(real | {name: "made-up"}, "serve")
    assert result.returncode == 2, result.stderr
    assert name in result.stderr
    assert right in result.stderr
    doctor = run_here(real | {name: "made-up"}, "doctor", "--json")
    assert doctor.returncode == 2
    [finding] = [each for each in json.loads(doctor.stdout)["findings"] if each["name"] == "ids"]
    assert right in finding["fix"]


def test_ids_that_cannot_be_checked_are_a_warning() -> None:
    empty = Accounts(pods=(), ports=(), accounts=(), organization_ids=("o",), complete=False, kyc_ids=None)
    assert [finding.level for finding in check_ids("made-up", "made-up", empty)] == ["warning", "warning"]
    assert [finding.level for finding in check_ids("o", "made-up", empty)] == ["warning"]
    assert [finding.level for finding in check_ids(None, None, empty)] == []
    complete = empty.model_copy(update={"complete": True, "kyc_ids": ("k",)})
    assert [finding.level for finding in check_ids("made-up", "made-up", complete)] == ["problem", "problem"]
    assert [finding.level for finding in check_ids("o", "k", complete)] == ["ok"]


@pytest.mark.parametrize("name", ["SEQUENCE_ORG_ID", "SEQUENCE_KYC_ID"])
def test_doctor_checks_ids_in_the_sandbox_too(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEQUENCE_SANDBOX", "1")
    monkeypatch.setenv("SEQUENCE_DATA_DIR", str(tmp_path))
    assert said("ids").startswith("ok")
    monkeypatch.setenv(name, "made-up")
    assert (KYC_ID if "KYC" in name else ORGANIZATION_ID) in said("ids", 2)


def test_doctor_names_the_hosts_of_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEQUENCE_DATA_DIR", str(tmp_path))
    for name in ("INTERVAL", "JITTER"):
        monkeypatch.setenv(f"SEQUENCE_REQUEST_{name}_SECONDS", "0")
    monkeypatch.setenv("SEQUENCE_GRAPHQL_URL", "http://127.0.0.1:1/graphql")
    monkeypatch.setenv("SEQUENCE_APP_URL", "https://evil.invalid")
    monkeypatch.setenv("SEQUENCE_ACCESS_TOKEN", "token")
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://user:secret@proxy.invalid:3128")
    shown = said("hosts", 4)
    assert shown.startswith("warning")
    for host in ("127.0.0.1", "auth.getsequence.io", "evil.invalid", "proxy.invalid"):
        assert host in shown
    assert "secret" not in shown
    monkeypatch.delenv("SEQUENCE_APP_URL")
    monkeypatch.setenv("SEQUENCE_GRAPHQL_URL", "https://evilgetsequence.io")
    assert said("hosts", 4).startswith("warning")


@pytest.mark.parametrize(
    ("variables", "level"),
    [
        ({"API_KEY": "short"}, "problem"),
        ({"API_KEY": "short", "SERVER_HOST": "127.0.0.1"}, "warning"),
        ({"API_KEY": ""}, "warning"),
        ({"API_KEY": LONG_KEY}, "warning"),
    ],
)
def test_doctor_says_what_is_exposed(
    variables: dict[str, str], level: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values = {"DATA_DIR": str(tmp_path), "ORG_ID": "o", "KYC_ID": "k", "GRAPHQL_URL": "http://127.0.0.1:1/"}
    for name, value in (values | {"SERVER_PORT": "1"} | variables).items():
        monkeypatch.setenv(f"SEQUENCE_{name}", value)
    found = [each for each in findings(4) if each["name"] == "settings"]
    levels = {each["level"] for each in found}
    assert levels >= {level}
    assert ("problem" in levels) is (level == "problem")
    assert any("127.0.0.1" in f"{each['said']} {each['fix']}" for each in found) is ("SERVER_HOST" not in variables)


def test_a_file_that_others_can_read_is_a_warning(
    write_own: WriteFile, monkeypatch: pytest.MonkeyPatch, real: Environment
) -> None:
    path = write_own("SEQUENCE_SANDBOX=1\n")
    path.chmod(0o644)
    assert f"chmod 600 {path}" in said("settings")
    path.write_text("")
    assert f"chmod 600 {path}" in first_line(real, wait_for_error=True)


@pytest.mark.parametrize("name", [".", "data"])
def test_yes_does_not_begin_a_new_day_in_another_directory(name: str, real: Environment) -> None:
    env = real | {"SEQUENCE_DATA_DIR": name}
    transfer = ("transfer", "Groceries", "Rent", "--cents", "100", "--yes")
    result = run_here(env, *transfer)
    assert result.returncode == 2, result.stderr
    assert "SEQUENCE_DATA_DIR" in result.stderr
    assert run_here(env, *transfer[:-1], "--dry-run").returncode == 0
    assert run_here(env | {"SEQUENCE_DATA_DIR": str(Path(name).absolute())}, *transfer).returncode == 0
    assert run_here(env, *transfer[:-2], "200", "--yes").returncode == 0, "now there are records"
