"""Files with settings, and a directory that stands for /run/secrets."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pysequence_api import env_files

WriteFile = Callable[[str], Path]


@pytest.fixture
def write_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WriteFile:
    """Return a function that writes the file that SEQUENCE_ENV_FILE names."""
    path = tmp_path / "named.env"
    monkeypatch.setenv("SEQUENCE_ENV_FILE", str(path))
    return lambda text: _write(path, text)


@pytest.fixture
def write_own() -> WriteFile:
    """Return a function that writes the user's own configuration file."""
    path = Path(os.environ["XDG_CONFIG_HOME"]) / "pysequence-api" / "env"
    return lambda text: _write(path, text)


@pytest.fixture
def write_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], Path]:
    """Return a function that writes a secret."""
    directory = tmp_path / "secrets"
    directory.mkdir()
    monkeypatch.setattr(env_files, "SECRETS_DIRECTORY", directory)
    return lambda name, text: _write(directory / name, text)


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path
