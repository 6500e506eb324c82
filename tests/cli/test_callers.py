"""`callers add`, `list`, `rotate`, `revoke` and `remove`."""

import json
from pathlib import Path

import pytest

from pysequence_api.records import open_records
from pysequence_api.records.callers import Callers
from tests.cli.commands import call, call_json, draw
from tests.processes import environment, run_process, start_on_terminal


def owner_of(directory: Path, key: str) -> str | None:
    """Say whose key this is."""
    records = open_records(directory)
    found = Callers(records).find(key.strip().encode())
    records.close()
    return None if found is None else found.name


def test_adding_prints_the_key_alone_on_standard_output(directory: Path) -> None:
    shown = call("callers", "add", "openclaw")
    [key] = shown.stdout.splitlines()
    assert owner_of(directory, key) == "openclaw"
    assert key not in shown.stderr
    assert "not shown again" in shown.stderr
    document = call_json("callers", "add", "other")
    assert document == {"caller": "other", "key": document["key"], "replaced": [], "old": None}
    assert owner_of(directory, document["key"]) == "other"


def test_the_list_shows_no_key(directory: Path) -> None:
    key = call("callers", "add", "openclaw").stdout.strip()
    call("callers", "rotate", "openclaw", "--keep-old")
    call("callers", "add", "gone")
    call("callers", "remove", "gone", "--yes")
    shown = call("callers", "list").stdout
    assert key not in shown
    assert "SEQUENCE_API_KEY" in shown  # the sandbox has one
    assert shown.count("openclaw") == 2
    assert f"...{key[-4:]}" in shown
    assert "old key" in shown
    assert "gone" not in shown
    assert "removed" in call("callers", "list", "--all").stdout
    [caller] = call_json("callers", "list")
    assert caller["name"] == "openclaw"
    assert (caller["keys"][0]["hint"], caller["keys"][0]["old"]) == (key[-4:], True)
    assert "psq_" not in json.dumps(caller)
    assert "openclaw" in draw("callers", "list", columns=50)


def test_an_empty_list_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEQUENCE_DATA_DIR", str(tmp_path))
    assert "callers add NAME" in call("callers", "list").stdout
    assert call_json("callers", "list") == []


def test_what_ends_a_key_asks_first(directory: Path) -> None:
    key = call("callers", "add", "openclaw").stdout
    for command in (("rotate", "openclaw"), ("revoke", "openclaw"), ("remove", "openclaw")):
        assert "--yes" in call("callers", *command, code=2).stderr
        assert owner_of(directory, key) == "openclaw"
    new = call("callers", "rotate", "openclaw", "--yes").stdout
    assert (owner_of(directory, key), owner_of(directory, new)) == (None, "openclaw")
    assert new.strip()[-4:] in call("callers", "revoke", "openclaw", "--yes").stdout
    assert owner_of(directory, new) is None
    again = call("callers", "rotate", "openclaw").stdout  # nothing ends
    assert owner_of(directory, again) == "openclaw"
    assert "openclaw" in call("callers", "remove", "openclaw", "--yes").stdout
    assert owner_of(directory, again) is None


def test_the_old_key_ends_when_it_is_revoked(directory: Path) -> None:
    old = call("callers", "add", "openclaw").stdout
    rotated = call("callers", "rotate", "openclaw", "--keep-old")
    assert "revoke openclaw --old" in rotated.stderr
    call("callers", "revoke", "openclaw", "--old", "--yes")
    assert (owner_of(directory, old), owner_of(directory, rotated.stdout)) == (None, "openclaw")


@pytest.mark.parametrize("command", ["rotate", "revoke", "remove"])
@pytest.mark.parametrize(("name", "said"), [("nobody", "no caller"), ("default", "SEQUENCE_API_KEY")])
def test_names_without_a_key_here(directory: Path, command: str, name: str, said: str) -> None:
    assert said in call("callers", command, name, "--yes", code=2).stderr


def test_a_name_is_explained(directory: Path) -> None:
    assert "lower-case" in call("callers", "add", "Open Claw", code=2).stderr
    call("callers", "add", "one")
    assert "never given out again" in call("callers", "add", "one", code=2).stderr


def test_a_question_on_a_terminal(tmp_path: Path) -> None:
    env = environment(tmp_path)
    assert run_process(env, "callers", "add", "one").returncode == 0
    with start_on_terminal(env, "callers", "remove", "one") as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("n\n")
        assert terminal.wait_for_exit() == 1
    assert "one" in run_process(env, "callers", "list").stdout
