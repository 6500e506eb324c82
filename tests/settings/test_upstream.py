"""Which API of Sequence is used, and what each command then needs and says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pysequence_api.errors import SettingsError
from pysequence_api.sandbox import PLATFORM_PATH
from pysequence_api.serving import required_settings
from pysequence_api.settings import Settings
from tests.api.server import free_port
from tests.cli.commands import call, run_here
from tests.processes import Environment, SandboxProcess, environment, run_process, start_process, start_sandbox

KEY = "sk_a-key-that-nobody-may-see"


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """Run one simulated Sequence for all tests of a worker."""
    with start_sandbox(tmp_path_factory.mktemp("sequence")) as sequence:
        yield sequence


@pytest.fixture
def with_key(sequence: SandboxProcess, tmp_path: Path) -> Environment:
    """Return an environment with a key of this test alone, the address, and nothing else of the account."""
    return keyed(sequence, tmp_path, new_key(sequence))


def keyed(sequence: SandboxProcess, directory: Path, key: str) -> Environment:
    variables = {"SEQUENCE_PLATFORM_KEY": key, "SEQUENCE_PLATFORM_URL": f"{sequence.url}{PLATFORM_PATH}"}
    return environment(directory, **variables)


def new_key(sequence: SandboxProcess, **permissions: Any) -> str:
    answer = httpx.post(f"{sequence.url}/sandbox/platform-keys", json=permissions, trust_env=False, verify=False)
    key: str = answer.raise_for_status().json()["key"]
    return key


@pytest.mark.parametrize(
    ("chosen", "key", "uses_platform"),
    [
        (None, None, False),
        (None, KEY, True),
        ("graphql", KEY, False),
        ("platform", KEY, True),
        ("graphql", None, False),
    ],
)
def test_a_key_wins_unless_the_upstream_is_set(chosen: str | None, key: str | None, uses_platform: bool) -> None:
    settings = Settings.load(upstream=chosen, platform_key=key)
    assert settings.uses_platform is uses_platform
    assert settings.default_organization_id == ("default" if uses_platform else None)
    assert Settings.load(upstream=chosen, platform_key=key, org_id="mine").default_organization_id == "mine"
    assert settings.upstream_url == (settings.platform_url if uses_platform else settings.graphql_url)


def test_the_platform_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCE_UPSTREAM", "platform")
    with pytest.raises(SettingsError, match="SEQUENCE_PLATFORM_KEY is not set, but SEQUENCE_UPSTREAM is platform"):
        Settings.load()
    shown = call("serve", code=2).output
    assert shown.count("SEQUENCE_PLATFORM_KEY") == 1
    assert "SEQUENCE_API_KEY" in shown
    assert "SEQUENCE_PASSWORD" not in shown
    assert Settings.load(sandbox=True).uses_platform


def test_with_a_key_only_an_api_key_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    assert required_settings({"platform_key": KEY}) == ("api_key",)
    assert required_settings({"upstream": "platform"}) == ("api_key",)
    assert "password" in required_settings({"platform_key": KEY, "upstream": "graphql"})
    assert "SEQUENCE_PLATFORM_KEY" in call("serve", code=2).output, "the shorter way is named"


@pytest.mark.parametrize("key", ["nonsense", "sk_with space", "sk_ü", " sk_x", "pk_1"])
def test_a_key_that_cannot_be_one_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(SettingsError, match="SEQUENCE_PLATFORM_KEY") as caught:
        Settings.load(platform_key=key)
    assert key.strip() not in str(caught.value)


@pytest.mark.parametrize("url", ["http://api.getsequence.io/platform/v1", "https://u:p@host/", "https://h/?key=1", "x"])
def test_a_key_is_not_sent_where_it_could_be_read(url: str) -> None:
    with pytest.raises(SettingsError, match="SEQUENCE_PLATFORM_URL"):
        Settings.load(platform_key=KEY, platform_url=url)


def test_a_key_is_in_no_representation() -> None:
    settings = Settings.load(platform_key=KEY)
    assert isinstance(settings.platform_key, SecretStr)
    assert KEY not in repr(settings) + str(settings) + settings.model_dump_json()


def test_a_key_can_be_a_secret_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pysequence_api.env_files.SECRETS_DIRECTORY", tmp_path)
    (tmp_path / "SEQUENCE_PLATFORM_KEY").write_text(f"{KEY}\n")
    assert Settings.load().uses_platform


# Commands


def test_commands_need_nothing_but_the_key(with_key: Environment) -> None:
    pods = run_here(with_key, "pods", "--json")
    assert pods.returncode == 0, pods.stderr
    assert len(json.loads(pods.stdout)["pods"]) == 12
    accounts = json.loads(run_here(with_key, "accounts", "--json").stdout)
    assert accounts["organization_ids"] == ["default"]
    assert {one["balance_error"] for one in accounts["accounts"]} >= {None, "DISCONNECTED_ACCOUNT"}
    activity = run_here(with_key, "activity", "--json")
    assert activity.returncode == 0, activity.stderr
    sent = run_here(with_key, "transfer", "Groceries", "Rent", "--cents", "100", "--yes", "--json")
    assert sent.returncode == 0, sent.stderr
    transfer = json.loads(sent.stdout)
    shown = run_here(with_key, "transfers", "show", transfer["id"], "--json")
    assert json.loads(shown.stdout)["upstream_activity_type"] == "USER"
    assert run_here(with_key, "activity", "summary").returncode == 0
    assert run_here(with_key, "limits", "reconcile").returncode == 0


def test_the_default_kyc_id_is_ignored_and_an_explicit_one_is_refused(with_key: Environment) -> None:
    with_key = with_key | {"SEQUENCE_KYC_ID": "left-over"}
    order = ("transfer", "Groceries", "Rent", "--cents", "100", "--yes")
    assert run_here(with_key, *order).returncode == 0
    for more, word in (
        (("--kyc-id", "mine"), "KYC"),
        (("--instant",), "instant"),
        (("--description", "longer than ten"), "description"),
    ):
        refused = run_here(with_key, *order, *more)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert word in refused.stderr


def test_the_owner_is_named_to_sequence(sequence: SandboxProcess, tmp_path: Path) -> None:
    httpx.delete(f"{sequence.url}/sandbox/requests", trust_env=False, verify=False).raise_for_status()
    env = keyed(sequence, tmp_path, new_key(sequence))
    assert run_here(env, "transfer", "Groceries", "Rent", "--cents", "100", "--yes").returncode == 0
    assert run_here(env, "doctor").returncode == 0
    entries = httpx.get(f"{sequence.url}/sandbox/requests", trust_env=False, verify=False).json()["requests"]
    reasons = [entry["headers"]["x-called-reason"] for entry in entries if "x-called-reason" in entry["headers"]]
    assert reasons
    assert all("owner" in reason for reason in reasons)


@pytest.mark.parametrize("command", [("login",), ("login", "--token"), ("status",), ("logout",)])
def test_there_is_nothing_to_sign_in_to(command: tuple[str, ...], with_key: Environment) -> None:
    result = run_here(with_key, "auth", *command)
    assert result.returncode == 2
    assert "no signing in" in result.stderr or "no access token on standard input" in result.stderr


def findings(env: Environment, code: int) -> dict[str, str]:
    """Run `doctor`, and return what it says, by subject."""
    result = run_here(env, "doctor", "--json")
    assert result.returncode == code, result.stdout
    assert env["SEQUENCE_PLATFORM_KEY"] not in result.stdout + result.stderr
    found: dict[str, str] = {}
    for each in json.loads(result.stdout)["findings"]:
        found[each["name"]] = f"{found.get(each['name'], '')}{each['level']}: {each['said']}. {each['fix']}\n"
    return found


def test_doctor_checks_the_key_and_nothing_of_signing_in(with_key: Environment) -> None:
    found = findings(with_key, 0)
    assert "SEQUENCE_PLATFORM_KEY goes to 127.0.0.1" in found["hosts"]
    assert "12 pods" in found["key"]
    assert found["reads"] == "ok: accounts, pod, activity, transfer: complete. \n"
    assert not {"token", "ids"} & found.keys()
    assert "ORG_ID" not in found["settings"]
    assert "KYC_ID" not in found["settings"]


def test_doctor_says_what_a_key_cannot_list(sequence: SandboxProcess, tmp_path: Path) -> None:
    blind = keyed(sequence, tmp_path, new_key(sequence, permissions=["READ_ACCOUNTS", "MANUAL_TRANSFER"]))
    found = findings(blind, 4)
    assert "READ_TRANSFERS" in found["key"]
    assert "dashboard" in found["key"]
    nothing = keyed(sequence, tmp_path, new_key(sequence, permissions=["MANUAL_TRANSFER"]))
    assert "READ_ACCOUNTS" in findings(nothing, 4)["key"]


def test_doctor_names_a_key_that_sequence_does_not_accept(sequence: SandboxProcess, tmp_path: Path) -> None:
    found = findings(keyed(sequence, tmp_path, "sk_made-up"), 4)
    assert "make a new key" in found["Sequence"].lower()
    assert "auth login" not in str(found)


def test_a_server_with_a_rejected_key_does_not_start(sequence: SandboxProcess, tmp_path: Path) -> None:
    env = keyed(sequence, tmp_path, "sk_made-up") | {"SEQUENCE_API_KEY": "a-key-of-32-characters-or-longer"}
    result = run_process(env, "serve", "--host", "127.0.0.1", "--port", "0")
    assert result.returncode in {2, 4}
    env["SEQUENCE_SERVER_PORT"] = "1"
    result = run_process(env, "serve", "--host", "127.0.0.1")
    assert result.returncode == 4
    assert "SEQUENCE_PLATFORM_KEY" in result.stderr
    assert "sk_made-up" not in result.stderr


def test_a_server_whose_key_cannot_list_accounts_says_so(sequence: SandboxProcess, tmp_path: Path) -> None:
    env = keyed(sequence, tmp_path, new_key(sequence, permissions=["MANUAL_TRANSFER"]))
    env |= {"SEQUENCE_API_KEY": "a-key-of-32-characters-or-longer", "SEQUENCE_SERVER_HOST": "127.0.0.1"}
    with start_process(env, "serve", "--port", str(free_port())) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        assert "upstream" in server.stdout.readline()
        server.terminate()
        _, log = server.communicate()
    assert "No transfer is possible: The API key does not allow GET /accounts" in log


def test_the_sandbox_through_the_platform_api(tmp_path: Path) -> None:
    env = environment(tmp_path, SEQUENCE_SANDBOX="1", SEQUENCE_UPSTREAM="platform")
    accounts = run_here(env, "accounts", "--json")
    assert accounts.returncode == 0, accounts.stderr
    assert json.loads(accounts.stdout)["organization_ids"] == ["default"]
    assert run_here(env, "transfer", "Groceries", "Rent", "--cents", "100", "--yes").returncode == 0
    assert run_here(env, "doctor").returncode == 0
    assert (tmp_path / "sandbox" / ".pacing-platform").exists()


def test_the_first_line_names_the_upstream(with_key: Environment) -> None:
    with_key = with_key | {"SEQUENCE_API_KEY": "a-key-of-32-characters-or-longer", "SEQUENCE_SERVER_HOST": "127.0.0.1"}
    with start_process(with_key, "serve", "--port", str(free_port())) as server:
        assert server.stdout is not None
        assert "upstream 127.0.0.1:" in server.stdout.readline()
