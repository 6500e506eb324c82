"""Which files settings are read from, whether they are trusted, and what their lines mean."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysequence_api import env_files, files
from pysequence_api.env_files import quoted_value
from pysequence_api.errors import SettingsError
from pysequence_api.settings import Settings
from tests.cli.commands import call, run_here
from tests.processes import environment
from tests.settings.conftest import WriteFile

WriteSecret = Callable[[str, str], Path]
ANOTHER_USER = 12345


def password() -> str | None:
    value = Settings.load().password
    return None if value is None else value.get_secret_value()


def test_the_order_of_precedence(
    monkeypatch: pytest.MonkeyPatch, write_named: WriteFile, write_own: WriteFile, write_secret: WriteSecret
) -> None:
    write_named("")
    write_secret("sequence_email", "secret")
    assert Settings.load().email == "secret"
    write_own("SEQUENCE_EMAIL=own")
    assert Settings.load().email == "own"
    write_named("SEQUENCE_EMAIL=named")
    assert Settings.load().email == "named"
    monkeypatch.setenv("SEQUENCE_EMAIL", "environment")
    assert Settings.load().email == "environment"
    assert Settings.load(email="argument").email == "argument"


def test_a_blank_value_hides_nothing(monkeypatch: pytest.MonkeyPatch, write_own: WriteFile) -> None:
    write_own("SEQUENCE_EMAIL=own\nSEQUENCE_KYC_ID=\n")
    monkeypatch.setenv("SEQUENCE_EMAIL", " ")
    settings = Settings.load()
    assert (settings.email, settings.kyc_id) == ("own", None)


def test_the_current_directory_decides_nothing(tmp_path: Path) -> None:
    """A cloned repository had a password typed into a page of its own."""
    Path(".env").write_text("SEQUENCE_APP_URL=https://evil.invalid\nSEQUENCE_MAX_TRANSFER_CENTS=many\n")
    result = run_here(environment(tmp_path), "limits", "show", "--json")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count(".env is not read") == 1
    assert ".env" not in result.stdout
    Path(".env").chmod(0o600)
    named = run_here(environment(tmp_path), "limits", "show", "--env-file", ".env")
    assert named.returncode == 2
    assert "SEQUENCE_MAX_TRANSFER_CENTS" in named.stderr
    assert "is not read" not in named.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--env-file", "FILE", "limits", "show"),
        ("limits", "--env-file", "FILE", "show"),
        ("limits", "show", "--env-file", "FILE"),
        ("limits", "show", "--env-file=FILE", "--json"),
    ],
)
def test_the_option_can_stand_anywhere(arguments: tuple[str, ...], tmp_path: Path, write_named: WriteFile) -> None:
    """The option takes precedence over the variable."""
    write_named("SEQUENCE_MAX_TRANSFER_CENTS=many")
    path = tmp_path / "mine"
    path.write_text(f"SEQUENCE_MAX_TRANSFER_CENTS=4242\nSEQUENCE_DATA_DIR={tmp_path / 'data'}\n")
    path.chmod(0o600)
    shown = call(*(argument.replace("FILE", str(path)) for argument in arguments)).stdout
    assert "42.42" in shown or '"max_transfer_cents": 4242' in shown


@pytest.mark.parametrize("arguments", [("--env-file", "/no/such", "limits", "show"), ("pods", "--env-file", "")])
def test_a_named_file_must_be_there(arguments: tuple[str, ...]) -> None:
    call(*arguments, code=2)


@pytest.mark.parametrize("mode", [0o602, 0o622, 0o666])
def test_a_file_that_others_can_write_is_rejected(mode: int, write_own: WriteFile) -> None:
    write_own("SEQUENCE_EMAIL=own").chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        Settings.load()


def test_the_private_group_of_the_user_is_not_others(monkeypatch: pytest.MonkeyPatch, write_own: WriteFile) -> None:
    write_own("SEQUENCE_EMAIL=own").chmod(0o664)
    monkeypatch.setattr(files, "_is_private_group", lambda *_: True)
    assert Settings.load().email == "own"
    monkeypatch.setattr(files, "_is_private_group", lambda *_: False)
    with pytest.raises(SettingsError):
        Settings.load()


def test_a_file_of_another_user_is_rejected(monkeypatch: pytest.MonkeyPatch, write_named: WriteFile) -> None:
    path = write_named("SEQUENCE_EMAIL=named")
    if os.geteuid() == 0:
        os.chown(path, ANOTHER_USER, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: ANOTHER_USER)
    with pytest.raises(SettingsError, match="another user"):
        Settings.load()


def _make_link(path: Path) -> None:
    path.with_name("target").write_text("SEQUENCE_EMAIL=linked")
    path.symlink_to(path.with_name("target"))


@pytest.mark.parametrize(
    "make",
    [
        _make_link,
        os.mkfifo,
        Path.mkdir,
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.write_text("x" * 2**21),
    ],
    ids=["link", "FIFO", "directory", "not text", "huge"],
)
def test_what_is_not_a_file_of_text_is_rejected_at_once(
    make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "odd"
    make(path)
    if path.is_file() and not path.is_symlink():
        path.chmod(0o600)
    monkeypatch.setenv("SEQUENCE_ENV_FILE", str(path))
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("SEQUENCE_PASSWORD='ab${cd}ef'", "ab${cd}ef"),
        ('SEQUENCE_PASSWORD="ab${HOME}$HOME"', "ab${HOME}$HOME"),
        ("SEQUENCE_PASSWORD=ab${HOME}ef", "ab${HOME}ef"),
        ("SEQUENCE_PASSWORD=otpauth://totp/x?secret=A&issuer=B", "otpauth://totp/x?secret=A&issuer=B"),
        ("export SEQUENCE_PASSWORD='a b' # note\r", "a b"),
        ("SEQUENCE_PASSWORD=a#b # note", "a#b"),
        (r"SEQUENCE_PASSWORD='it\'s \\ x'", r"it's \ x"),
        ("\ufeffSEQUENCE_PASSWORD=a", "a"),
        ("sequence_password=a", "a"),
        ("source other.sh && x\nSEQUENCE_PASSWORD=a", "a"),
    ],
)
def test_values_are_taken_as_they_are_written(line: str, value: str, write_named: WriteFile) -> None:
    write_named(f"{line}\n")
    assert password() == value


@pytest.mark.parametrize(
    "text",
    [
        "SEQUENCE_PASSWORD='ab'\"'\"'cd'\n",
        "SEQUENCE_PASSWORD='abc\nSEQUENCE_TOTP='\n",
        "SEQUENCE_PASSWORD='abc\n",
        "OTHER='abc\nSEQUENCE_PASSWORD='x'\n",
        "SEQUENCE_PASSWORD='a' b\n",
    ],
)
def test_a_line_that_would_be_misread_is_rejected(text: str, write_named: WriteFile) -> None:
    write_named(text)
    with pytest.raises(SettingsError, match="line 1"):
        Settings.load()


@given(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs", "Zl", "Zp", "Cc"])))
def test_a_quoted_value_is_read_back(text: str) -> None:
    assert env_files._parse(Path("x"), f"A={quoted_value(text)}\n") == {"A": text}


def test_secrets_in_a_directory_that_cannot_be_listed(
    monkeypatch: pytest.MonkeyPatch, write_secret: WriteSecret, tmp_path: Path
) -> None:
    write_secret("sequence_email", "lower\n")
    write_secret("SEQUENCE_KYC_ID", "upper")
    (tmp_path / "secrets" / "unrelated").mkdir()

    def fail(*_: object) -> None:
        raise PermissionError

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, fail)
    settings = Settings.load()
    assert (settings.email, settings.kyc_id) == ("lower", "upper")


def test_secrets_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, write_secret: WriteSecret, tmp_path: Path
) -> None:
    (tmp_path / "secrets" / "sequence_password").mkdir()
    with pytest.raises(SettingsError, match="sequence_password"):
        Settings.load()
    monkeypatch.setattr(env_files, "SECRETS_DIRECTORY", tmp_path / "none")
    assert Settings.load().password is None


def test_home_directories_are_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SEQUENCE_DATA_DIR", "~/data")
    monkeypatch.setenv("SEQUENCE_ENV_FILE", "~/env")
    (tmp_path / "env").write_text("SEQUENCE_CHROMIUM=~/chromium\n")
    (tmp_path / "env").chmod(0o600)
    settings = Settings.load()
    assert (settings.data_dir, settings.chromium) == (tmp_path / "data", tmp_path / "chromium")
    monkeypatch.setenv("SEQUENCE_DATA_DIR", "~no-such-user/data")
    with pytest.raises(SettingsError, match="SEQUENCE_DATA_DIR"):
        Settings.load()


def test_the_default_directory_is_the_seeds() -> None:
    assert Settings.load().data_dir == Path()


def test_the_sandbox_takes_no_ids_from_files(monkeypatch: pytest.MonkeyPatch, write_own: WriteFile) -> None:
    write_own("SEQUENCE_ORG_ID=real\nSEQUENCE_KYC_ID=real\n")
    assert Settings.load(sandbox=True).org_id is None
    monkeypatch.setenv("SEQUENCE_ORG_ID", "another")
    assert Settings.load(sandbox=True).org_id == "another"
    assert Settings.load().kyc_id == "real"
