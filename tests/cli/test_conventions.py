"""What holds for every command: help with an example, optional colors, and a quick start."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pysequence_api.cli import app
from pysequence_api.cli.commands import COMMANDS
from tests.cli.commands import UNUSED_PORT, call, draw
from tests.processes import Environment, environment, run_process, start_on_terminal, without_escapes

HEAVY = {"httpx", "h11", "fastapi", "starlette", "uvicorn", "ariadne", "graphql", "playwright", "prometheus_client"}
LOOKING = HEAVY | {
    *("anyio", "filelock", "jwt", "cryptography", "tomllib"),
    *(f"pysequence_api.{name}" for name in ("gateway", "sequence", "sandbox", "account")),
    *(f"pysequence_api.safeguards.{name}" for name in ("policy", "decide", "transfers")),
    *(f"pysequence_api.records.{name}" for name in ("takeover", "old_files", "check", "callers")),
}
"""What commands do without that only look at the records."""
READING = {
    *("fastapi", "uvicorn", "h11", "httpcore", "jwt", "cryptography", "playwright"),
    *("pysequence_api.sequence.platform.client", "pysequence_api.sequence.sign_in.service"),
    *("pysequence_api.sandbox.server", "pysequence_api.sandbox.platform.api", "pysequence_api.records.takeover"),
}
"""What commands do without that read the simulated Sequence of their own process, through GraphQL."""
READING_AGAIN = READING | {"ariadne", "graphql", "starlette", "pysequence_api.sandbox.application"}
"""What they do without, too, if the answer of an earlier command is used again."""
LIGHT = {
    "--help": 0,
    "audit tail": 0,
    "limits show": 0,
    "key new": 0,
    "transfers status none": 2,
    f"health --url http://127.0.0.1:{UNUSED_PORT}": 1,
}
"""Commands that make no upstream call, with their exit codes."""
FRAME = ("--help", "limits --help", "audit", "nonsense", "--version")
"""What needs no command."""
REPORT_LOADED_MODULES = """
import json, os, sys
from pysequence_api.cli import app
after = []
for command in sys.argv[1:]:
    name, _, value = command.partition("=")
    if value:
        os.environ[name] = value
        continue
    try:
        app(command.split())
    except SystemExit as ended:
        loaded = {name.partition(".")[0] for name in sys.modules}
        loaded |= {name for name in sys.modules if name.startswith("pysequence_api.")}
        after.append([command, ended.code, sorted(loaded)])
print(json.dumps(after), file=sys.stderr)
"""
Path_ = tuple[str, ...]
pytestmark = pytest.mark.usefixtures("directory")


def commands(command: Any = None, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Walk the tree, and load every command."""
    command = command or typer.main.get_command(app)
    yield path, command.load() if path else command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, (*path, name))


def is_group(command: Any) -> bool:
    """Check whether a command does nothing without one of its subcommands."""
    return bool(getattr(command, "commands", None)) and not command.invoke_without_command


TREE = dict(commands())
GROUPS = [path for path, command in TREE.items() if is_group(command) and path]
RUNNABLE = [path for path in TREE if path and path not in GROUPS]


def test_the_tree_has_the_expected_commands() -> None:
    paths = {" ".join(path) for path in TREE}
    assert {"pods show", "accounts", "activity summary", "transfers show", "transfers status", "doctor"} <= paths
    assert {"key new", "openapi", "transfer", "limits show", "audit tail", "serve", "sandbox serve", "pods"} <= paths


def test_the_table_has_the_help_of_every_command() -> None:
    assert [tuple(command.path.split()) for command in COMMANDS] == [path for path in TREE if path]
    for command in COMMANDS:
        loaded = TREE[tuple(command.path.split())]
        assert loaded.help.splitlines()[0] == command.help


def test_the_list_of_commands_has_complete_sentences() -> None:
    for group in [(), *GROUPS]:
        assert "..." not in call(*group, "--help").stdout.partition("Commands:")[2], group


def test_every_command_has_help_with_an_example() -> None:
    for path in [(), *RUNNABLE]:
        shown = call(*path, "--help").stdout
        assert "Example:\n    pysequence-api " in shown.replace("SEQUENCE_API_KEY=... ", ""), path
        assert f"pysequence-api {' '.join(path)}".strip() in shown.partition("Example:")[2]
        assert any(line.startswith("  -") for line in shown.splitlines()), path
        for parameter in TREE[path].params:
            assert getattr(parameter, "help", None), (path, parameter.name)


def test_every_group_has_help() -> None:
    assert all(TREE[path].help for path in GROUPS)


@pytest.mark.parametrize("columns", [40, 100])
def test_help_fits_the_window(sandbox: Environment, columns: int) -> None:
    with start_on_terminal(sandbox, "transfer", "--help", columns=columns) as terminal:
        assert terminal.wait_for_exit() == 0
    prose = terminal.text.partition("Example:")[0].splitlines()
    assert max(map(len, prose[1:])) <= columns


def test_commands_load_only_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCE_READ_MAX_AGE_SECONDS", "3600")
    call("pods")
    with monkeypatch.context() as without_sandbox:
        without_sandbox.delenv("SEQUENCE_SANDBOX")
        call("freeze", "--reason", "test")  # makes the database
    # In one process, one after the other: a module that one of them loads stays loaded.
    reads = ("pods", "pods --fresh")
    words = (*FRAME, *LIGHT, "SEQUENCE_SANDBOX=1", *LIGHT, "SEQUENCE_READ_MAX_AGE_SECONDS=3600", *reads)
    command = (sys.executable, "-c", REPORT_LOADED_MODULES)
    result = run_process(environment(tmp_path), *words, command=command)
    after = json.loads(result.stderr.splitlines()[-1])
    frame, light, (again, fresh) = after[: len(FRAME)], after[len(FRAME) : -len(reads)], after[-len(reads) :]
    for command, _, loaded in frame:
        assert {"rich", "pydantic", "pydantic_settings", "anyio", *HEAVY}.isdisjoint(loaded), command
    assert [(command, code) for command, code, _ in light] == [*LIGHT.items()] * 2, result.stderr
    for command, _, loaded in light:
        assert "typer" in loaded
        assert LOOKING & {*loaded} == set(), command
    assert (again[1], fresh[1]) == (0, 0), result.stderr
    assert READING_AGAIN & {*again[2]} == set()
    assert READING & {*fresh[2]} == set()
    assert {"ariadne", "pysequence_api.sandbox.application"} <= {*fresh[2]}


@pytest.fixture
def failed(directory: Path) -> None:
    """Record a transfer with an unknown outcome."""
    directory.mkdir()
    event = {"timestamp": "2026-07-01T22:30:00+00:00", "event_type": "transfer_failed", "outcome": "unknown"}
    (directory / ".audit.jsonl").write_text(json.dumps(event) + "\n")


COLORED = {
    "limits show": ("Left today", "Left today"),
    "audit tail": ("unknown", "transfer_failed"),
    "transfer Groceries Rent $5 --dry-run": ("Would transfer", "Would transfer"),
}
"""Commands with colors, and what they show: on a terminal, and on a dumb one."""


@pytest.mark.parametrize("command", COLORED)
def test_colors_can_be_turned_off(failed: None, command: str) -> None:
    shown, shown_plainly = COLORED[command]
    ways: tuple[tuple[list[str], dict[str, str]], ...] = (([], {}), ([], {"NO_COLOR": "1"}), (["--no-color"], {}))
    for options, variables in ways:
        drawn = draw(*options, *command.split(), variables=variables)
        assert shown in without_escapes(drawn)
        assert bool(re.search(r"\x1b\[[0-9;]*[34][0-9]", drawn)) is not bool(options or variables)
    drawn = draw(*command.split(), variables={"TERM": "dumb"})
    assert shown_plainly in drawn
    assert "\x1b" not in drawn


@pytest.mark.parametrize("arguments", ["limits show", "transfer Groceries Rent $5 --dry-run"])
def test_nothing_is_cut_off_in_a_narrow_window(arguments: str) -> None:
    drawn = draw(*arguments.split(), columns=40)
    assert "…" not in drawn
    assert "Traceback" not in drawn


def test_a_new_key_has_256_bits() -> None:
    first, second = call("key", "new"), call("key", "new")
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}\n", first.stdout)
    assert first.stdout != second.stdout
    assert "SEQUENCE_API_KEY" in first.stderr
    assert first.stdout.strip() not in first.stderr


def test_the_openapi_schema_needs_no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SEQUENCE_SANDBOX")
    monkeypatch.setenv("SEQUENCE_DATA_DIR", str(tmp_path / "none"))
    document = json.loads(call("openapi").stdout)
    assert "/api/transfers" in document["paths"]
    assert document["openapi"].startswith("3.")
    assert not (tmp_path / "none").exists(), "it creates no data directory"


COMPLETIONS = [
    ("tran", ["transfer", "transfers"]),
    ("limits re", ["reconcile", "resolve"]),
    ("pods sh", ["show"]),
    ("limits show --js", ["--json"]),
    ("transfer --dry", ["--dry-run"]),
    ("activity --status C", ["COMPLETE", "CANCELLED"]),
    ("activity --direction IN", ["INTERNAL", "INCOMING"]),
    ("activity --type on", ["one_time_transfer"]),
    ("audit tail --event transfer_re", ["transfer_requested", "transfer_rejected"]),
    ("audit tail --event fa", ["failed"]),
]


@pytest.mark.parametrize("path", ["transfer", "audit tail"])
def test_help_is_also_a_word(path: str) -> None:
    assert call("help", *path.split()).stdout == call(*path.split(), "--help").stdout
    assert call("help").stdout == call("--help").stdout
    call("help", "nothing", code=2)


def test_program_options_may_stand_anywhere() -> None:
    plain = call("pods", "show", "Rent", "--json").stdout
    for options in (("--json", "pods", "show", "Rent"), ("pods", "show", "--no-color", "--json", "Rent")):
        assert call(*options).stdout == plain
    assert "DEBUG" in call("pods", "--debug").stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_names_that_were_read(monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    call("pods")
    for words in ("transfer Groc", "transfer Rent Groc", "pods show Groc"):
        assert "Groceries" in completed(monkeypatch, shell, words), words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    for words, expected in COMPLETIONS:
        shown = completed(monkeypatch, shell, words)
        assert all(each in shown for each in expected), words
        assert "pods" not in shown


def completed(monkeypatch: pytest.MonkeyPatch, shell: str, words: str) -> str:
    """Return what a shell gets when somebody presses the tab key."""
    line = f"pysequence-api {words}"
    variables = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }
    for name, value in ({"_PYSEQUENCE_API_COMPLETE": f"complete_{shell}"} | variables[shell]).items():
        monkeypatch.setenv(name, value)
    return call().stdout
