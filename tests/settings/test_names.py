"""Variables that begin as ours do and are not: a misspelled limit would be no limit."""

import pytest

from pysequence_api.errors import SettingsError
from pysequence_api.settings import Settings, unknown_variables
from tests.cli.commands import call
from tests.settings.conftest import WriteFile


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MAX_DAILY_CENTS", "MAX_DAILY_TRANSFER_CENTS"),
        ("MAX_TRANSFER_CNTS", "MAX_TRANSFER_CENTS"),
        ("DAILY_LIMIT", "MAX_DAILY_TRANSFER_CENTS"),
        ("DAYLY_LIMIT", "MAX_DAILY_TRANSFER_CENTS"),
        ("LIMIT_PER_TRANSFER", "MAX_TRANSFER_CENTS"),
        ("MAX_TRANSFER_PER_DAY_CENTS", "MAX_DAILY_TRANSFER_CENTS"),
        ("PASSWORD_FILE", "PASSWORD"),
        ("TOTP_SECRET", "TOTP"),
        ("DATADIR", "DATA_DIR"),
        ("HOST", "SERVER_HOST"),
    ],
)
def test_a_name_that_resembles_one_of_ours(name: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SEQUENCE_{name}", "5000")
    assert unknown_variables() == {f"SEQUENCE_{name}": f"SEQUENCE_{meant}"}
    assert Settings.load() == Settings()
    with pytest.raises(SettingsError, match=f"SEQUENCE_{name}.*SEQUENCE_{meant}"):
        Settings.load_strictly()


@pytest.mark.parametrize("name", ["NUMBER", "LENGTH", "HOME", "LOG_LEVEL", "ID", "DEBUG", "USERNAME"])
def test_an_unrelated_name_resembles_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SEQUENCE_{name}", "1")
    assert unknown_variables() == {f"SEQUENCE_{name}": None}
    assert Settings.load_strictly() == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVICE_PORT", "80"),
        ("API_SERVICE_HOST", "10.0.0.1"),
        ("PORT", "tcp://10.0.0.1:80"),
        ("PORT_80_TCP_ADDR", "10.0.0.1"),
        ("API_URL", "http://127.0.0.1:8720"),
        ("ENV_FILE", ""),
        ("MAX_DAILY_CENTS", ""),
    ],
)
def test_names_of_other_programs_are_known(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service named `sequence` in Kubernetes sets such variables in every container."""
    monkeypatch.setenv(f"SEQUENCE_{name}", value)
    assert unknown_variables() == {}


def test_names_in_files_count(write_own: WriteFile) -> None:
    write_own("SEQUENCE_MAX_DAILY_CENTS=5000\nOTHER_MAX=1\n")
    assert unknown_variables() == {"SEQUENCE_MAX_DAILY_CENTS": "SEQUENCE_MAX_DAILY_TRANSFER_CENTS"}


@pytest.mark.parametrize("command", ["serve", "transfer Groceries Rent $1 --yes"])
def test_what_moves_money_does_not_start(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCE_SANDBOX", "1")
    monkeypatch.setenv("SEQUENCE_MAX_DAILY_CENTS", "5000")
    assert "SEQUENCE_MAX_DAILY_TRANSFER_CENTS" in call(*command.split(), code=2).output
    call("pods")
