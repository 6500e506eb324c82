"""The command in this process: as a script uses it, and on a screen that somebody looks at."""

import io
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pysequence_api.cli import app, output

RUNNER = CliRunner()
NOBODYS_PORT = "1"
"""Where nobody listens."""
WINDOW = {"TERM": "xterm-256color", "LINES": "50", "TZ": "Europe/Berlin"}


def call(*arguments: str, code: int = 0, runner: CliRunner = RUNNER) -> Result:
    """Run a command through pipes."""
    result = runner.invoke(app, arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def call_json(*arguments: str) -> Any:
    """Run a command through pipes, and read its result."""
    return json.loads(call(*arguments, "--json").stdout)


class Screen(io.StringIO):
    """A stream that says whether it is a terminal."""

    def __init__(self, *, watched: bool = True) -> None:
        super().__init__()
        self._watched = watched

    def isatty(self) -> bool:
        return self._watched


def draw(
    *arguments: str,
    watched: bool = True,
    columns: int = 100,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Run a command with both its streams on one screen, and give all that was written there.

    Args:
        *arguments: the command.
        watched: whether the screen is a terminal.
        columns: the width of the window.
        variables: more of the environment.
    """
    screen = Screen(watched=watched)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("sys.stdout", screen)
            patched.setattr("sys.stderr", screen)
            patched.setitem(output._choices, "color", True)
            patched.delenv("NO_COLOR", raising=False)
            for name, value in (WINDOW | {"COLUMNS": str(columns)} | dict(variables or {})).items():
                patched.setenv(name, value)
            time.tzset()
            with pytest.raises(SystemExit) as ended:
                app(arguments)
    finally:
        time.tzset()
    assert ended.value.code == 0, screen.getvalue()
    return screen.getvalue()
