"""`policy check`, `apply`, `show`, `history`, `explain` and `replay`, and the policy file of `serve`."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from pysequence_api.cli import app
from pysequence_api.records import open_records
from pysequence_api.records.attempts import Attempt, Writer
from pysequence_api.records.callers import add, remove
from pysequence_api.records.control import freeze, unfreeze
from pysequence_api.records.states import State
from pysequence_api.records.upkeep import restore
from pysequence_api.safeguards.applying import apply_policy_file
from pysequence_api.safeguards.now import MaxCents
from tests.api.server import free_port
from tests.cli.commands import call, call_json, draw, run_here
from tests.processes import Environment, environment, run_process, start_on_terminal, start_process

pytestmark = pytest.mark.usefixtures("no_server")
LIMITS = MaxCents(1_000_000, 2_500_000)


def policy_for(groceries: str, rent: str, *, max_cents: int = 10_000, more: str = "") -> str:
    """Write a policy for the pods of the sandbox."""
    return f"""version = 1
[accounts]
groceries = "POD:{groceries}"
rent = "POD:{rent}"
[callers.openclaw]
scopes = ["read:accounts", "move"]
reads = ["groceries"]
day_cents = 20000
rules = [{{ name = "rent", from = ["groceries"], to = ["rent"], max_cents = {max_cents}, day_cents = 15000 }}]
{more}
"""


@pytest.fixture(scope="module")
def read_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return the data directory of a sandbox whose pods were read, and their ids by name. Tests work on copies."""
    directory = tmp_path_factory.mktemp("read-once")
    pods = run_here({"SEQUENCE_SANDBOX": "1", "SEQUENCE_DATA_DIR": str(directory)}, "pods", "--json")
    return directory / "sandbox", {pod["name"]: pod["id"] for pod in json.loads(pods.stdout)["pods"]}


@pytest.fixture
def pods(directory: Path, read_once: tuple[Path, dict[str, str]]) -> dict[str, str]:
    """Return the pods of the sandbox, with their ids by name."""
    shutil.copytree(read_once[0], directory)
    return read_once[1]


@pytest.fixture
def file(directory: Path, pods: dict[str, str], tmp_path: Path) -> Path:
    """Write a policy that can be applied to a file, and add its caller."""
    path = tmp_path / "policy.toml"
    path.write_text(policy_for(pods["Groceries"], pods["Rent"]))
    path.chmod(0o600)
    records = open_records(directory)
    add(records, "openclaw")
    records.close()
    return path


def rows_of(directory: Path) -> list[tuple[int, bool]]:
    """Return the versions of the policy, and whether each came from the file of `serve`."""
    records = open_records(directory)
    try:
        return [(row.version, row.from_file) for row in records.read(lambda reader: reader.policies())]
    finally:
        records.close()


def move(directory: Path, pods: dict[str, str], *amounts_cents: int) -> None:
    """Record transfers of the caller `openclaw` from Groceries to Rent that Sequence took."""

    def record(writer: Writer) -> None:
        for cents in amounts_cents:
            attempt = Attempt(
                id=str(uuid4()),
                caller="openclaw",
                channel="api",
                state=State.RESERVED,
                amount_cents=cents,
                created_at=writer.now,
                announced_at=writer.now,
                source_type="POD",
                source_id=pods["Groceries"],
                destination_type="POD",
                destination_id=pods["Rent"],
            )
            writer.add_attempt(attempt)
            writer.move(writer.move(attempt, State.SENDING), State.ACCEPTED, ended_at=writer.now)

    records = open_records(directory)
    records.write(record)
    records.close()


# Check and apply.


def test_every_error_is_reported_with_its_path(directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(policy_for("1", "2", max_cents=2_000_000).replace("read:accounts", "read:account"))
    for command in ("check", "apply", "replay"):
        shown = call("policy", command, str(path), code=2).stderr
        assert "callers.openclaw.rules[0].max_cents is $20,000.00" in shown
        assert "callers.openclaw.scopes[0]" in shown
        assert "Did you mean 'read:accounts'?" in shown
    document = json.loads(call("policy", "check", str(path), "--json", code=2).stdout)
    assert document["valid"] is False
    assert {one["path"] for one in document["problems"]} == {
        "callers.openclaw.rules[0].max_cents",
        "callers.openclaw.scopes[0]",
    }
    assert rows_of(directory) == []


def test_a_policy_that_can_be_applied(directory: Path, file: Path) -> None:
    assert "can be applied" in call("policy", "check", str(file)).stdout
    assert call_json("policy", "check", str(file))["valid"] is True
    assert rows_of(directory) == []


@pytest.mark.parametrize("content", [b"\xff\xfe", b"version = 1\nversion = 1\n", b""])
def test_what_is_not_a_policy(directory: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(content)
    assert "policy" in call("policy", "apply", str(path), "--yes", code=2).stderr
    assert "cannot be read" in call("policy", "apply", str(tmp_path), "--yes", code=2).stderr
    assert "cannot be read" in call("policy", "apply", str(tmp_path / "none"), "--yes", code=2).stderr
    assert rows_of(directory) == []


def test_applying_shows_what_changes_and_asks(directory: Path, file: Path) -> None:
    shown = call("policy", "apply", str(file), code=2).stderr
    assert "--yes" in shown
    assert "+ callers.openclaw.rules.rent.max_cents = $100.00" in shown
    assert rows_of(directory) == []
    applied = call("policy", "apply", str(file), "--yes")
    assert "version 1" in applied.stdout
    file.write_text(file.read_text().replace("max_cents = 10000", "max_cents = 9000"))
    shown = call("policy", "apply", str(file), "--yes").stderr
    assert "~ callers.openclaw.rules.rent.max_cents: $100.00 → $90.00" in shown
    assert rows_of(directory) == [(1, False), (2, False)]
    events = [json.loads(line) for line in (directory / ".audit.jsonl").read_text().splitlines()]
    [_, event] = [event for event in events if event["event_type"] == "policy_applied"]
    assert event["policy_version"] == 2
    assert event["policy_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert call_json("records", "check")["intact"] is True


def test_the_policy_in_force_is_not_stored_again(directory: Path, file: Path) -> None:
    call("policy", "apply", str(file), "--yes")
    assert "in force. Nothing was stored" in call("policy", "apply", str(file)).stdout
    assert call_json("policy", "apply", str(file), "--yes")["applied"] is False
    assert rows_of(directory) == [(1, False)]
    file.write_text(file.read_text() + "# a comment\n")
    assert "Only the text changes." in call("policy", "apply", str(file), "--yes").stderr
    assert rows_of(directory) == [(1, False), (2, False)]


def test_an_earlier_text_can_come_back(directory: Path, file: Path) -> None:
    text = file.read_text()
    for each in (text, text.replace("9000", "10000").replace("max_cents = 10000", "max_cents = 1"), text):
        file.write_text(each)
        call("policy", "apply", str(file), "--yes")
    assert len(rows_of(directory)) == 3
    assert call("policy", "show").stdout == text


def test_standard_input_demands_yes(directory: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--yes" in call("policy", "apply", "-", code=2).stderr
    result = CliRunner().invoke(app, ["policy", "apply", "-", "--yes"], input=file.read_bytes())
    assert result.exit_code == 0, result.output
    assert rows_of(directory) == [(1, False)]


def test_the_answer_no_stores_nothing(file: Path, tmp_path: Path, directory: Path) -> None:
    env = environment(tmp_path, SEQUENCE_SANDBOX="1")
    for answer, code, versions in (("n\n", 1, 0), ("y\n", 0, 1)):
        with start_on_terminal(env, "policy", "apply", str(file)) as terminal:
            terminal.wait_for("[y/N]")
            terminal.type(answer)
            assert terminal.wait_for_exit() == code
        assert len(rows_of(directory)) == versions


def test_another_policy_that_was_applied_meanwhile_is_noticed(
    directory: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = file.with_name("other.toml")
    other.write_text("version = 1\n")

    def confirm_late(question: str, *, yes: bool) -> None:
        monkeypatch.undo()
        monkeypatch.setenv("SEQUENCE_SANDBOX", "1")
        monkeypatch.setenv("SEQUENCE_DATA_DIR", str(directory.parent))
        call("policy", "apply", str(other), "--yes")

    monkeypatch.setattr("pysequence_api.cli.policy.confirm_or_exit", confirm_late)
    assert "meanwhile" in call("policy", "apply", str(file), code=2).stderr
    assert rows_of(directory) == [(1, False)]


def test_tables_and_callers_without_each_other(
    directory: Path, file: Path, pods: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQUENCE_API_KEY", "a-key-for-the-caller-default")
    call("callers", "add", "gone")
    call("callers", "remove", "gone", "--yes")
    call("callers", "add", "other")
    more = "[callers.nobody]\n[callers.gone]\n[callers.late]\nexpires = 2020-01-01T00:00:00Z\n"
    file.write_text(policy_for(pods["Groceries"], pods["Rent"], more=more))
    call("callers", "add", "late")
    shown = call("policy", "check", str(file)).stderr
    assert "callers add nobody" in shown
    assert "gone was removed" in shown
    assert "late has expired" in shown
    assert "no [callers.other]" in shown
    assert "no [callers.default]" in shown
    assert "openclaw" not in shown
    assert len(call_json("policy", "check", str(file))["warnings"]) == 5


# Versions.


def test_versions_are_listed_and_shown(directory: Path, file: Path) -> None:
    assert "There is no policy" in call("policy", "history").stdout
    assert call_json("policy", "history") == []
    call("policy", "show", code=2)
    first = file.read_text()
    call("policy", "apply", str(file), "--yes")
    file.write_text(first.replace("rules = [", "rules = [\t# a tab and \u202e\n"))
    call("policy", "apply", str(file), "--yes")
    assert call("policy", "show").stdout == file.read_text()
    assert call("policy", "show", "--version", "1").stdout == first
    call("policy", "show", "--version", "3", code=2)
    assert "\u202e" not in draw("policy", "show")
    document = call_json("policy", "show", "--version", "1")
    assert (document["version"], document["text"]) == (1, first)
    history = call_json("policy", "history")
    assert [one["version"] for one in history] == [1, 2]
    assert history[0]["sha256"] == hashlib.sha256(first.encode()).hexdigest()
    assert history[1]["sha256"] in call("policy", "history").stdout
    assert "policy apply" in draw("policy", "history", columns=50)


def test_a_restore_without_the_text(directory: Path, file: Path) -> None:
    call("policy", "apply", str(file), "--yes")
    restore(directory, None)
    assert "is unknown" in call("policy", "show", code=2).stderr
    assert call_json("policy", "show")["text"] is None
    assert "text unknown" in call("policy", "history").stdout
    [found] = [
        one for one in json.loads(call("doctor", "--json", code=3).stdout)["findings"] if one["name"] == "policy"
    ]
    assert (found["level"], found["fix"]) == ("problem", "pysequence-api policy apply FILE")
    call("policy", "apply", str(file), "--yes")  # the same text, which is known from now on
    assert call("policy", "show").stdout == file.read_text()


# Explain.


def test_explaining_prints_every_check(directory: Path, file: Path, pods: dict[str, str]) -> None:
    call("policy", "apply", str(file), "--yes")
    move(directory, pods, 5_000)
    document = call_json("policy", "explain", "openclaw", "groceries", "rent", "100.00")
    assert (document["allowed"], document["code"], document["rule"]) == (True, None, "rent")
    assert [check["name"] for check in document["checks"]] == [
        *("expiry", "frozen", "scope", "never", "pair", "maximum", "instant", "approval"),
        *("rule day_cents", "caller day_cents", "global maximum", "global day_cents"),
    ]
    assert [check["left"] for check in document["checks"][-4:]] == [10_000, 15_000, 1_000_000, 2_495_000]
    shown = call("policy", "explain", "openclaw", "groceries", "rent", "100.01").stdout
    assert "$100.01 is over the $100.00 that the rule rent allows" in shown
    assert "Refused with the code over_max. Decided by version 1 of the policy." in shown
    assert "$24,950.00 left of $25,000.00" in shown


def test_accounts_by_word_type_and_name(file: Path, pods: dict[str, str]) -> None:
    call("policy", "apply", str(file), "--yes")
    for source, destination in (
        ("groceries", "Rent"),
        (f"POD:{pods['Groceries']}", "rent"),
        (f"pod:{pods['Groceries']}", "rent"),
        ("Groceries", "rent"),
    ):
        document = call_json("policy", "explain", "openclaw", source, destination, "1.00")
        assert document["allowed"] is True
        assert document["source"] == f"POD:{pods['Groceries']}"
    assert "is taken for" in call("policy", "explain", "openclaw", "Grocer", "rent", "1.00").stderr
    assert "No pod" in call("policy", "explain", "openclaw", "zzz", "rent", "1.00", code=2).stderr
    assert "the same" in call("policy", "explain", "openclaw", "rent", "Rent", "1.00", code=2).stderr
    call("policy", "explain", "openclaw", "groceries", "rent", "1", code=2)


def test_words_and_types_need_no_upstream_call(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call("policy", "apply", str(file), "--yes")
    monkeypatch.setattr("pysequence_api.cli.explain.open_gateway", None)
    call("policy", "explain", "openclaw", "groceries", "ACCOUNT:9", "1.00")


def test_explaining_knows_freezes_and_callers(directory: Path, file: Path) -> None:
    call("policy", "apply", str(file), "--yes")
    records = open_records(directory)
    freeze(records, "lost", "openclaw")
    transfer = ("groceries", "rent", "1.00")
    assert call_json("policy", "explain", "openclaw", *transfer)["code"] == "frozen"
    assert call_json("policy", "explain", "openclaw", *transfer, "--at", "1h")["code"] is None
    unfreeze(records, "openclaw")
    assert call_json("policy", "explain", "owner", *transfer)["allowed"] is True
    assert call_json("policy", "explain", "default", *transfer)["code"] == "scope_missing"
    assert "There is no caller" in call("policy", "explain", "nobody", *transfer).stderr
    call("callers", "revoke", "openclaw", "--yes")
    assert "no key that works" in call("policy", "explain", "openclaw", *transfer).stderr
    assert call_json("policy", "explain", "openclaw", *transfer, "--instant")["code"] == "instant_not_allowed"
    records.close()


def test_explaining_without_a_policy(pods: dict[str, str]) -> None:
    shown = call("policy", "explain", "default", "Groceries", "Rent", "1.00").stdout
    assert "Only the global limits hold for default." in shown
    document = call_json("policy", "explain", "openclaw", "Groceries", "Rent", "1.00")
    assert (document["code"], document["policy_version"]) == ("scope_missing", None)


def test_explaining_an_earlier_time_counts_what_counted_then(directory: Path, file: Path, pods: dict[str, str]) -> None:
    call("policy", "apply", str(file), "--yes")
    move(directory, pods, 9_000)
    words = ("policy", "explain", "openclaw", "groceries", "rent", "100.00")
    assert call_json(*words)["code"] == "over_day"
    assert call_json(*words, "--at", "60d")["code"] is None


# Replay.


def test_a_replay_tells_what_becomes_different(directory: Path, file: Path, pods: dict[str, str]) -> None:
    call("policy", "apply", str(file), "--yes")
    move(directory, pods, 4_000, 6_000, 3_000)
    unchanged = call_json("policy", "replay", str(file), "--fail-on-change")
    assert unchanged["totals"]["same"] == {"count": 3, "amount_cents": 13_000}
    assert unchanged["changed"] == []
    # The limit counts what this policy lets through: 4,000 and 3,000, and not 6,000.
    text = file.read_text()
    file.write_text(text.replace("max_cents = 10000, day_cents = 15000", "max_cents = 5000, day_cents = 7000"))
    document = call_json("policy", "replay", str(file))
    assert document["by_code"] == [{"change": "now_refused", "code": "over_max", "count": 1, "amount_cents": 6_000}]
    shown = call("policy", "replay", str(file), "--fail-on-change", code=1).stdout
    assert "now refused" in shown
    assert re.search(r"openclaw +\$60.00 +Groceries +Rent +now refused +over_max", shown)
    assert "now refused (over_max): 1, $60.00" in call("policy", "apply", str(file), code=2).stderr
    file.write_text(text.replace("day_cents = 15000", "approve_above_cents = 5000"))
    assert call_json("policy", "replay", str(file))["totals"]["now_asks"]["count"] == 1
    assert len(rows_of(directory)) == 1


def test_earlier_transfers_fill_the_budgets_of_a_replay(directory: Path, file: Path, pods: dict[str, str]) -> None:
    call("policy", "apply", str(file), "--yes")
    move(directory, pods, 4_000)
    since = datetime.now(UTC).isoformat()
    move(directory, pods, 4_001)
    file.write_text(file.read_text().replace("day_cents = 15000", "day_cents = 8000"))
    document = call_json("policy", "replay", str(file), "--since", since)
    assert [one["amount_cents"] for one in document["changed"]] == [4_001]
    assert document["totals"]["same"]["count"] == 0


# The file of `serve`.


@contextmanager
def served(env: Environment) -> Iterator[str]:
    """Start a server, and yield its log up to the moment at which it listens."""
    with start_process(env, "serve") as server:
        assert server.stdout is not None
        assert server.stderr is not None
        assert "Listening" in server.stdout.readline()
        server.terminate()
        _, log = server.communicate(timeout=60)
        yield log


@pytest.fixture
def serving(file: Path, tmp_path: Path) -> Environment:
    """Return the environment of a server with a policy file."""
    variables = {"SEQUENCE_SANDBOX": "1", "SEQUENCE_SERVER_PORT": str(free_port()), "SEQUENCE_POLICY_FILE": str(file)}
    return environment(tmp_path, **variables)


def test_a_start_applies_the_file_once(serving: Environment, directory: Path, file: Path) -> None:
    with served(serving) as log:
        assert "version 1 of the policy" in log
        assert "callers: openclaw; default is granted nothing" in log
    with served(serving) as log:
        assert "was changed" not in log
    assert rows_of(directory) == [(1, True)]
    # A restart does not undo a tighter policy.
    tighter = file.with_name("tighter.toml")
    tighter.write_text("version = 1\n")
    call("policy", "apply", str(tighter), "--yes")
    with served(serving):
        assert rows_of(directory) == [(1, True), (2, False)]
    file.write_text(file.read_text() + "# changed\n")
    with served(serving):
        assert rows_of(directory) == [(1, True), (2, False), (3, True)]


def test_a_start_stops_at_every_error_of_the_file(serving: Environment, directory: Path, file: Path) -> None:
    file.write_text(policy_for("1", "2", max_cents=2_000_000).replace("read:accounts", "read:account"))
    stopped = run_process(serving, "serve")
    assert stopped.returncode == 2
    assert f"SEQUENCE_POLICY_FILE is {file}" in stopped.stderr
    assert "callers.openclaw.rules[0].max_cents" in stopped.stderr
    assert "callers.openclaw.scopes[0]" in stopped.stderr
    assert rows_of(directory) == []


@pytest.mark.parametrize("how", ["writable", "link", "missing", "directory"])
def test_a_start_reads_only_a_file_that_can_be_trusted(serving: Environment, file: Path, how: str) -> None:
    if how == "writable":
        file.chmod(0o666)
    else:
        kept = file.rename(file.with_name("kept.toml"))
        if how == "link":
            file.symlink_to(kept)
        elif how == "directory":
            file.mkdir()
    stopped = run_process(serving, "serve")
    assert stopped.returncode == 2
    assert f"{file} cannot be used" in stopped.stderr


def test_a_file_that_was_applied_by_hand_is_not_applied_later(directory: Path, file: Path) -> None:
    """The start that finds the text in force takes note of it, or the next one would undo a tighter policy."""
    call("policy", "apply", str(file), "--yes")
    records = open_records(directory)
    assert apply_policy_file(records, file.read_text(), LIMITS) == 2
    records.close()
    tighter = file.with_name("tighter.toml")
    tighter.write_text("version = 1\n")
    call("policy", "apply", str(tighter), "--yes")
    records = open_records(directory)
    assert apply_policy_file(records, file.read_text(), LIMITS) is None
    records.close()


def test_the_file_brings_back_a_text_that_a_restore_lost(directory: Path, file: Path) -> None:
    records = open_records(directory)
    assert apply_policy_file(records, file.read_text(), LIMITS) == 1
    records.close()
    restore(directory, None)
    records = open_records(directory)
    assert apply_policy_file(records, file.read_text(), LIMITS) == 2
    assert apply_policy_file(records, file.read_text(), LIMITS) is None
    records.close()


# What `doctor` and the start say, and what HTTP cannot do.


def said(name: str = "policy") -> list[str]:
    return [each["said"] for each in call_json("doctor")["findings"] if each["name"] == name]


def test_doctor_says_what_is_granted(directory: Path, file: Path, pods: dict[str, str]) -> None:
    [line] = said()
    assert line.startswith("none; default (SEQUENCE_API_KEY) may read everything, and move up to $10,000.00")
    assert "$25,000.00 per day" in line
    more = """[callers.default]
scopes = ["read:accounts", "move"]
reads = ["*"]
day_cents = 5000
rules = [{ name = "r", from = ["groceries"], to = ["rent"], max_cents = 1000 }]
[callers.late]
expires = 2020-01-01T00:00:00Z
"""
    file.write_text(policy_for(pods["Groceries"], pods["Rent"], more=more))
    records = open_records(directory)
    add(records, "late")
    freeze(records, "lost", "openclaw")
    add(records, "extra")
    add(records, "gone")
    remove(records, "gone")
    records.close()
    call("policy", "apply", str(file), "--yes")
    first, *warnings = said()
    assert first.startswith("version 1; callers: openclaw (frozen), default, late (expired); default is granted")
    assert "all accounts to read, 1 rule with at most $10.00 per transfer, $50.00 per day" in first
    assert len(warnings) == 2


def test_doctor_looks_at_the_policy_file(directory: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said("policy file") == []
    monkeypatch.setenv("SEQUENCE_POLICY_FILE", str(file))
    assert "was changed since a start last applied it" in said("policy file")[0]
    records = open_records(directory)
    apply_policy_file(records, file.read_text(), LIMITS)
    records.close()
    assert "as a start last applied it" in said("policy file")[0]
    file.chmod(0o666)
    assert "others can write it" in call("doctor", code=2).stdout


def test_a_start_says_what_default_may_do(tmp_path: Path, directory: Path) -> None:
    env = environment(tmp_path, SEQUENCE_SANDBOX="1", SEQUENCE_SERVER_PORT=str(free_port()))
    with served(env) as log:
        assert "default (SEQUENCE_API_KEY) may read everything, and move up to $10,000.00 per transfer" in log


def test_no_route_changes_the_policy() -> None:
    paths = json.loads(call("openapi").stdout)["paths"]
    changing = {path for path, methods in paths.items() if set(methods) - {"get"}}
    transfers = {"/api/transfers", "/api/transfers/preview", "/api/attempts/{attempt_id}"}
    assert changing == {*transfers, "/api/freeze"}
    assert not [path for path in paths if "policy" in path]
