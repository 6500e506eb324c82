"""The recipes: all exist, each has a line of help, and each passes a dry run."""

import os
import shutil
import subprocess
import sysconfig

import pytest

from bench.__main__ import main as run_benchmark
from tests.shipping.files import ROOT

RECIPES = {
    "api-up",
    "api-down",
    "api-logs",
    "build",
    "image",
    "sandbox",
    "test",
    "kill-rounds",
    "kill-steps",
    "lint",
    "fmt",
    "check",
    "audit",
    "bench",
    "examples",
    "openapi-check",
    "pictures",
    "lock",
}


def just(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("just", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    assert program is not None, "rust-just is a dependency for development"
    command = [program, "--justfile", str(ROOT / "justfile"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def listed() -> dict[str, str]:
    """Return each recipe with its line of help."""
    lines = just("--list").stdout.splitlines()[1:]
    return {line.split()[0]: line.partition("#")[2].strip() for line in lines}


def test_every_recipe_is_listed_with_help() -> None:
    recipes = listed()
    assert set(recipes) == RECIPES
    assert all(recipes.values()), recipes
    shown = just()
    assert shown.returncode == 0
    assert "api-up" in shown.stdout


def test_every_recipe_passes_a_dry_run() -> None:
    for recipe in sorted(RECIPES):
        run = just("--dry-run", recipe)
        assert run.returncode == 0, run.stderr
        assert run.stderr.strip(), recipe


def test_the_justfile_is_formatted() -> None:
    assert just("--fmt", "--check", "--unstable").returncode == 0


@pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--seconds", "3600"], ["--entries", "0"], ["--lines", "0"]])
def test_the_benchmark_is_bounded(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_benchmark()
    assert ended.value.code == 2


@pytest.mark.parametrize("has_trail", [False, pytest.param(True, marks=pytest.mark.crash)])
def test_the_benchmark_runs(
    has_trail: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--rounds", "1", "--entries", "100", "--lines", "1000", "--parts", "local"]
    monkeypatch.setattr("sys.argv", ["bench", *small])
    monkeypatch.setattr("bench.local.ROUNDS", 1)
    if not has_trail:  # whose measurement starts processes
        monkeypatch.setattr("bench.local.trail.measure", lambda *_: ())
    monkeypatch.chdir(ROOT)
    run_benchmark()
    results = [line for line in capsys.readouterr().out.splitlines() if " | at most " in line]
    assert len(results) == (6 if has_trail else 3)
