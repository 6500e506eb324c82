"""What holds for every command: help with an example, colours only where wanted, and a quick start."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pysequence_api.cli import app
from tests.cli.in_process import call, draw
from tests.cli.processes import Environment, environment, run, seated, without_escapes

HEAVY = {"httpx", "h11", "fastapi", "starlette", "uvicorn", "ariadne", "graphql", "playwright"}
LIGHT = {"--help": 0, "audit tail": 0, "limits show": 0, "key new": 0, "transfers status none": 2}
"""Commands that need no Sequence, and how they end."""
SAYING_WHAT_IS_LOADED = """
import json, sys
from pysequence_api.cli import app
after = {}
for command in sys.argv[1:]:
    try:
        app(command.split())
    except SystemExit as ended:
        after[command] = [ended.code, sorted({name.partition(".")[0] for name in sys.modules})]
print(json.dumps(after), file=sys.stderr)
"""
Path_ = tuple[str, ...]
pytestmark = pytest.mark.usefixtures("directory")


def commands(command: Any = None, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Walk the whole tree."""
    command = command or typer.main.get_command(app)
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, (*path, name))


def is_group(command: Any) -> bool:
    """Say whether a command does nothing without one of its own."""
    return bool(getattr(command, "commands", None)) and not command.invoke_without_command


TREE = dict(commands())
GROUPS = [path for path, command in TREE.items() if is_group(command)]
ALONE = [path for path in TREE if path not in GROUPS]
"""What does something without a word more."""


def test_the_tree_has_what_an_operator_looks_for() -> None:
    paths = {" ".join(path) for path in TREE}
    assert {"pods show", "accounts", "activity summary", "transfers show", "transfers status", "doctor"} <= paths
    assert {"key new", "openapi", "transfer", "limits show", "audit tail", "serve", "sandbox serve", "pods"} <= paths


@pytest.mark.parametrize("path", [(), *ALONE], ids=" ".join)
def test_every_command_has_help_with_an_example(path: Path_) -> None:
    shown = call(*path, "--help").stdout
    assert "Example:\n    pysequence-api " in shown.replace("SEQUENCE_API_KEY=... ", "")
    assert f"pysequence-api {' '.join(path)}".strip() in shown.partition("Example:")[2]
    assert any(line.startswith("  -") for line in shown.splitlines()), "and options"
    for parameter in TREE[path].params:
        assert getattr(parameter, "help", None), parameter.name


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_every_group_says_what_it_is_about(path: Path_) -> None:
    assert TREE[path].help


@pytest.mark.parametrize("columns", [40, 100])
def test_help_fits_the_window(sandbox: Environment, columns: int) -> None:
    with seated(sandbox, "transfer", "--help", columns=columns) as seat:
        assert seat.end() == 0
    prose = seat.text.partition("Example:")[0].splitlines()
    assert max(map(len, prose[1:])) <= columns


@pytest.mark.parametrize("variables", [{}, {"SEQUENCE_SANDBOX": "1"}], ids=["live", "sandbox"])
def test_what_needs_no_sequence_loads_next_to_nothing(tmp_path: Path, variables: Environment) -> None:
    # One after the other in one process: what one of them loads would stay loaded.
    command = (sys.executable, "-c", SAYING_WHAT_IS_LOADED)
    result = run(environment(tmp_path, **variables), *LIGHT, command=command)
    after = json.loads(result.stderr.splitlines()[-1])
    assert {command: code for command, (code, _) in after.items()} == LIGHT, result.stderr
    for command, (_, loaded) in after.items():
        assert "typer" in loaded
        assert HEAVY.isdisjoint(loaded), command


@pytest.fixture
def failed(directory: Path) -> None:
    """A transfer that has failed, nobody knows how."""
    directory.mkdir()
    event = {"timestamp": "2026-07-01T22:30:00+00:00", "event_type": "transfer_failed", "outcome": "unknown"}
    (directory / ".audit.jsonl").write_text(json.dumps(event) + "\n")


@pytest.mark.parametrize(
    ("options", "variables"),
    [([], {}), ([], {"NO_COLOR": "1"}), (["--no-color"], {})],
    ids=["colours", "NO_COLOR", "--no-color"],
)
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("limits show", "Left today"),
        ("audit tail", r"unknown"),
        ("transfer Groceries Rent $5 --dry-run", "Would transfer"),
    ],
)
def test_colours_only_for_who_wants_them(
    failed: None, command: str, says: str, options: list[str], variables: dict[str, str]
) -> None:
    drawn = draw(*options, *command.split(), variables=variables)
    assert re.search(says, without_escapes(drawn))
    assert bool(re.search(r"\x1b\[[0-9;]*[34][0-9]", drawn)) is not bool(options or variables)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("limits show", "Left today"),
        ("audit tail", "transfer_failed"),
        ("transfer Groceries Rent $5 --dry-run", "Would transfer"),
    ],
)
def test_a_terminal_that_only_prints_gets_only_text(failed: None, command: str, says: str) -> None:
    drawn = draw(*command.split(), variables={"TERM": "dumb"})
    assert says in drawn
    assert "\x1b" not in drawn


@pytest.mark.parametrize("arguments", ["limits show", "transfer Groceries Rent $5 --dry-run"])
def test_a_narrow_window_loses_nothing(arguments: str) -> None:
    drawn = draw(*arguments.split(), columns=40)
    assert "…" not in drawn
    assert "Traceback" not in drawn


def test_a_key_has_256_bits_and_is_new_every_time() -> None:
    first, second = call("key", "new"), call("key", "new")
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}\n", first.stdout)
    assert first.stdout != second.stdout
    assert "SEQUENCE_API_KEY" in first.stderr
    assert first.stdout.strip() not in first.stderr


def test_the_schema_is_the_servers_own_and_needs_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SEQUENCE_SANDBOX")
    monkeypatch.setenv("SEQUENCE_DATA_DIR", str(tmp_path / "none"))
    document = json.loads(call("openapi").stdout)
    assert "/api/transfers" in document["paths"]
    assert document["openapi"].startswith("3.")
    assert not (tmp_path / "none").exists(), "and touches nothing"


@pytest.mark.parametrize(
    ("shell", "variables"),
    [
        ("bash", {"COMP_WORDS": "pysequence-api tran", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "pysequence-api tran"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "pysequence-api tran", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_a_shell_completes_the_name_of_a_command(
    monkeypatch: pytest.MonkeyPatch, shell: str, variables: dict[str, str]
) -> None:
    for name, value in ({"_PYSEQUENCE_API_COMPLETE": f"complete_{shell}"} | variables).items():
        monkeypatch.setenv(name, value)
    shown = call().stdout
    assert "transfer" in shown
    assert "transfers" in shown
    assert "pods" not in shown
