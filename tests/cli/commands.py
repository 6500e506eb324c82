"""Commands in this process: through pipes, as a script runs them, and on a terminal, as a person sees them."""

import io
import json
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
from typer.testing import CliRunner, Result

from pysequence_api.cli import app, terminal
from tests.processes import Environment
from tests.world import World, open_world

T = TypeVar("T")
RUNNER = CliRunner()
UNUSED_PORT = "1"
"""No server listens here."""
WINDOW = {"TERM": "xterm-256color", "LINES": "50", "TZ": "Europe/Berlin"}


def call(*arguments: str, code: int = 0, runner: CliRunner = RUNNER) -> Result:
    """Run a command through pipes, and check its exit code."""
    result = runner.invoke(app, arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def call_json(*arguments: str) -> Any:
    """Run a command through pipes, and return its JSON document."""
    return json.loads(call(*arguments, "--json").stdout)


def run_here(env: Environment, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command as `tests.processes.run_process` does, with the settings of an environment, but in this process."""
    settings = {name: value for name, value in env.items() if name.startswith("SEQUENCE_")}
    with pytest.MonkeyPatch.context() as patched:
        for name in [name for name in os.environ if name.startswith("SEQUENCE_")]:
            patched.delenv(name)
        result = RUNNER.invoke(app, arguments, env=settings)
        assert "Traceback" not in result.output
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


class Screen(io.StringIO):
    """A stream that is a terminal, or not."""

    def __init__(self, *, is_terminal: bool = True) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def draw(
    *arguments: str,
    is_terminal: bool = True,
    columns: int = 100,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Run a command with both its streams on one screen, and return everything written there.

    Args:
        *arguments: the command.
        is_terminal: whether the screen is a terminal.
        columns: the width of the window.
        variables: more environment variables.
    """
    screen = Screen(is_terminal=is_terminal)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("sys.stdout", screen)
            patched.setattr("sys.stderr", screen)
            patched.setitem(terminal._state, "color", True)
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


def in_world(directory: Path, act: Callable[[World], Awaitable[T]]) -> T:
    """Do something in a world on the data directory of the sandbox."""

    async def run() -> T:
        async with open_world(directory) as world:
            return await act(world)

    directory.mkdir(exist_ok=True)
    return anyio.run(run)


def lose_transfers(directory: Path, *amounts_cents: int, moved: bool = False) -> list[str]:
    """Make transfers whose outcome is unknown, in the sandbox of a data directory, and return their attempt ids."""

    async def lose(world: World) -> list[str]:
        return [await world.lose(moved=moved, amount_cents=amount_cents) for amount_cents in amounts_cents]

    return in_world(directory, lose)
