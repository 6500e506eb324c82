"""`init` asks for the settings, tries them, and writes the user's own file."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pysequence_api.sandbox import EMAIL, PASSWORD, PLATFORM_KEY, PLATFORM_PATH, TOTP_SECRET
from pysequence_api.settings import Settings
from tests.cli.commands import run_here
from tests.processes import Environment, SandboxProcess, start_on_terminal, start_sandbox
from tests.sign_in.conftest import LIGHT_CHROMIUM, needs_chromium

SECRETS = ("SEQUENCE_EMAIL", "SEQUENCE_PASSWORD", "SEQUENCE_TOTP", "SEQUENCE_ACCESS_TOKEN")
ASKED = (*SECRETS, "SEQUENCE_ORG_ID", "SEQUENCE_KYC_ID", "SEQUENCE_AUTH0_CLIENT_ID", "SEQUENCE_DATA_DIR")


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """Run one simulated Sequence for all tests of a worker."""
    with start_sandbox(tmp_path_factory.mktemp("sequence")) as sequence:
        yield sequence


@pytest.fixture
def new_user(sequence: SandboxProcess, tmp_path: Path) -> Environment:
    """Return the environment of a user who has set nothing but where the simulated Sequence is."""
    env = sequence.environment(tmp_path)
    if LIGHT_CHROMIUM:
        env["SEQUENCE_CHROMIUM"] = LIGHT_CHROMIUM
    return {name: value for name, value in env.items() if name not in ASKED}


def own_file() -> Path:
    return Path(os.environ["XDG_CONFIG_HOME"]) / "pysequence-api" / "env"


def test_a_new_user_with_an_access_token(new_user: Environment, sequence: SandboxProcess) -> None:
    with start_on_terminal(new_user, "init") as terminal:
        terminal.wait_for("Reach it with [1]")
        terminal.type("4\n")
        terminal.wait_for("one of")
        terminal.type("3\n")
        terminal.wait_for("Data directory")
        terminal.type("\n")
        terminal.wait_for("Access token")
        terminal.type("nonsense\n")
        terminal.wait_for("again? [y/N]")
        terminal.type("y\n")
        terminal.wait_for_again("Access token")
        terminal.type(f"{sequence.variables['SEQUENCE_ACCESS_TOKEN']}\n")
        terminal.wait_for("Organization id [")
        assert "Payroll Reserve" in terminal.text
        terminal.type("made-up\n")
        terminal.wait_for_again("Organization id")
        terminal.type("1\n")
        terminal.wait_for("KYC id")
        terminal.type("\n")
        terminal.wait_for("Per-transfer limit")
        terminal.type("5000\n")
        terminal.wait_for_again("Per-transfer limit")
        terminal.type("$125\n")
        terminal.wait_for("Daily limit")
        terminal.type("500.00\n")
        assert terminal.wait_for_exit() == 0, terminal.text
    assert "pysequence-api serve" in terminal.text
    assert sequence.variables["SEQUENCE_ACCESS_TOKEN"] not in terminal.text
    assert own_file().stat().st_mode & 0o777 == 0o600
    settings = Settings.load()
    assert settings.org_id == sequence.variables["SEQUENCE_ORG_ID"]
    assert settings.kyc_id == sequence.variables["SEQUENCE_KYC_ID"]
    assert (settings.max_transfer_cents, settings.max_daily_transfer_cents) == (12_500, 50_000)
    assert settings.data_dir == Path(os.environ["XDG_DATA_HOME"]) / "pysequence-api"
    assert settings.api_key is not None
    assert len(settings.api_key.get_secret_value()) == 43
    assert settings.api_key.get_secret_value() not in terminal.text
    bare = {name: value for name, value in new_user.items() if not name.startswith("SEQUENCE_")}
    assert run_here(bare, "pods").returncode == 0
    assert run_here(bare, "transfer", "Groceries", "Rent", "--cents", "100", "--yes").returncode == 0


def test_a_new_user_with_a_key(new_user: Environment, sequence: SandboxProcess) -> None:
    new_user = new_user | {"SEQUENCE_PLATFORM_URL": f"{sequence.url}{PLATFORM_PATH}", "SEQUENCE_KYC_ID": "mine"}
    with start_on_terminal(new_user, "init", "--max-transfer", "1.00", "--max-daily", "2.00") as terminal:
        terminal.wait_for("recommended")
        terminal.wait_for("Reach it with [1]")
        terminal.type("\n")
        terminal.wait_for("Data directory")
        terminal.type("\n")
        terminal.wait_for("Key (sk_...)")
        terminal.type("nonsense\n")
        terminal.wait_for("SEQUENCE_PLATFORM_KEY")
        terminal.wait_for("again? [y/N]")
        terminal.type("y\n")
        terminal.wait_for_again("Key (sk_...)")
        terminal.type(f"{PLATFORM_KEY}\n")
        assert terminal.wait_for_exit() == 0, terminal.text
    assert "It works: 12 pods" in terminal.text
    assert PLATFORM_KEY not in terminal.text
    written = {line.partition("=")[0] for line in own_file().read_text().splitlines() if not line.startswith("#")}
    assert written == {
        "SEQUENCE_API_KEY",
        "SEQUENCE_SERVER_HOST",
        "SEQUENCE_MAX_TRANSFER_CENTS",
        "SEQUENCE_MAX_DAILY_TRANSFER_CENTS",
        "SEQUENCE_DATA_DIR",
        "SEQUENCE_PLATFORM_KEY",
        "SEQUENCE_PLATFORM_URL",
    }
    bare = {name: value for name, value in new_user.items() if not name.startswith("SEQUENCE_")}
    assert run_here(bare, "pods").returncode == 0
    result = run_here(bare, "transfer", "Groceries", "Rent", "--cents", "100", "--yes")
    assert result.returncode == 0, result.stderr


def test_a_key_that_is_set_is_used(new_user: Environment, sequence: SandboxProcess) -> None:
    new_user = new_user | {
        "SEQUENCE_PLATFORM_URL": f"{sequence.url}{PLATFORM_PATH}",
        "SEQUENCE_PLATFORM_KEY": PLATFORM_KEY,
        "SEQUENCE_EMAIL": EMAIL,
    }
    result = run_here(new_user, "init", "--yes")
    assert result.returncode == 0, result.stderr
    assert "SEQUENCE_EMAIL" not in own_file().read_text()
    assert Settings.load().uses_platform
    token = {name: sequence.variables[f"SEQUENCE_{name}"] for name in ("ACCESS_TOKEN", "ORG_ID", "KYC_ID")}
    other = {f"SEQUENCE_{name}": value for name, value in (token | {"UPSTREAM": "graphql"}).items()}
    assert run_here(new_user | other, "init", "--yes", "--overwrite").returncode == 0
    assert not Settings.load().uses_platform
    assert PLATFORM_KEY not in own_file().read_text()


@needs_chromium
@pytest.mark.browser
def test_a_new_user_with_a_password(new_user: Environment) -> None:
    with start_on_terminal(new_user, "init", "--max-transfer", "1.00", "--max-daily", "2.00") as terminal:
        terminal.wait_for("Reach it with")
        terminal.type("2\n")
        terminal.wait_for("Data directory")
        terminal.type("~/elsewhere\n")
        terminal.wait_for("Email")
        terminal.type(f"{EMAIL}\n")
        terminal.wait_for("Password")
        terminal.type(f"{PASSWORD}\n")
        terminal.wait_for("Authenticator secret")
        terminal.type("123456\n")
        terminal.wait_for_again("Authenticator secret")
        terminal.type(f"{TOTP_SECRET}\n")
        terminal.wait_for("Auth0 client id")
        terminal.type("\n")
        terminal.wait_for("Organization id")
        terminal.type("\n")
        terminal.wait_for("KYC id")
        terminal.type("\n")
        assert terminal.wait_for_exit() == 0, terminal.text
    settings = Settings.load()
    assert settings.password is not None
    assert settings.password.get_secret_value() == PASSWORD
    assert settings.data_dir == Path("~/elsewhere").expanduser()
    assert PASSWORD not in terminal.text


def test_nobody_to_ask(new_user: Environment, sequence: SandboxProcess) -> None:
    assert run_here(new_user, "init").returncode == 2
    result = run_here(new_user, "init", "--yes")
    assert result.returncode == 2
    assert "SEQUENCE_PASSWORD" in result.stderr
    assert "SEQUENCE_PLATFORM_KEY" in result.stderr
    assert not own_file().exists()
    token = {name: sequence.variables[name] for name in ("SEQUENCE_ACCESS_TOKEN", "SEQUENCE_KYC_ID")}
    assert run_here(new_user | token, "init", "--yes").returncode == 2, "there are two organizations"
    token["SEQUENCE_ORG_ID"] = sequence.variables["SEQUENCE_ORG_ID"]
    assert run_here(new_user | token, "init", "--yes", "--org-id", "made-up").returncode == 2
    assert run_here(new_user | token, "init", "--yes", "--max-daily", "5000").returncode == 2
    assert run_here(new_user | {"SEQUENCE_ACCESS_TOKEN": "no"}, "init", "--yes").returncode == 4
    assert not own_file().exists()
    notify = {"SEQUENCE_NOTIFY_URLS": "json://user:pw@localhost ntfy://topic", "SEQUENCE_NOTIFY_EVENTS": "none"}
    result = run_here(new_user | token | notify, "init", "--yes", "--max-daily", "500.00")
    assert result.returncode == 0, result.stderr
    first = Settings.load()
    assert first.max_daily_transfer_cents == 50_000
    assert [url.get_secret_value() for url in first.notify_urls] == ["json://user:pw@localhost", "ntfy://topic"]
    assert first.notify_events == ()
    assert run_here(new_user | token, "init", "--yes").returncode == 2
    assert run_here(new_user | token, "init", "--yes", "--overwrite").returncode == 0
    assert Settings.load() == first, "what is set is kept, the key too"


def test_an_existing_file_is_only_replaced_after_a_question(new_user: Environment) -> None:
    own_file().parent.mkdir(parents=True)
    own_file().write_text("SEQUENCE_EMAIL=mine\n")
    own_file().chmod(0o600)
    with start_on_terminal(new_user, "init") as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("\n")
        assert terminal.wait_for_exit() == 1
    assert own_file().read_text() == "SEQUENCE_EMAIL=mine\n"


@pytest.mark.parametrize("keys", ["\x03", "\x04"])
def test_leaving_writes_nothing(keys: str, new_user: Environment) -> None:
    with start_on_terminal(new_user, "init") as terminal:
        terminal.wait_for("Reach it with")
        terminal.type(keys)
        assert terminal.wait_for_exit() == (130 if keys == "\x03" else 2)
    assert "Traceback" not in terminal.text
    assert not own_file().exists()
