"""Commands that read the account."""

import json
import stat
from pathlib import Path

import pytest

from pysequence_api.cli import activity
from pysequence_api.records import open_records
from pysequence_api.records.names import MAX_NAME_CHARACTERS, Names, known_names
from tests.cli.commands import call, call_json

pytestmark = pytest.mark.usefixtures("directory")


def test_pods_show_finds_a_pod_by_name_or_id() -> None:
    shown = call("pods", "show", "grocer").stdout
    assert "Groceries" in shown
    assert "$876.43" in shown
    assert "CREATED" in shown
    document = call_json("pods", "show", "Groceries")
    assert {"goal_cents", "liability", "recent_transfers", "account_number"} <= set(document)
    assert json.loads(call("pods", "--json", "show", document["id"]).stdout)["name"] == "Groceries"


def test_an_unknown_pod_is_2_and_similar_names_are_suggested() -> None:
    result = call("pods", "show", "Grozeries", code=2)
    assert "'Groceries'" in result.stderr
    assert "'Taxes 2025'" in call("pods", "show", "taxes", code=2).stderr
    assert "Groceries" not in call("pods", "show", "qqqqq", code=2).stderr


def test_accounts_are_those_of_the_api() -> None:
    document = call_json("accounts")
    assert set(document) == {"pods", "ports", "accounts", "organization_ids", "complete"}
    lines = call("accounts").stdout.splitlines()
    assert lines[0].split() == ["KIND", "NAME", "ID", "AT", "NUMBER", "BALANCE"]
    assert len(lines) == 1 + len(document["pods"]) + len(document["ports"]) + len(document["accounts"])
    organization_id = document["organization_ids"][0]
    assert call_json("accounts", "--org-id", organization_id)["organization_ids"] == [organization_id]
    call("accounts", "--org-id", "nobody", code=2)


def test_activity_continues_after_a_cursor() -> None:
    first = call_json("activity", "--first", "2")
    assert len(first["transfers"]) == 2
    second = call_json("activity", "--first", "2", "--after", first["page_info"]["end_cursor"])
    assert {each["id"] for each in first["transfers"]}.isdisjoint(each["id"] for each in second["transfers"])
    result = call("activity")
    assert len(result.stdout.splitlines()) == 11
    assert "--after " in result.stderr


def test_activity_filters_like_the_api() -> None:
    failed = call_json("activity", "--status", "FAILED,PENDING", "--status", "CANCELLED", "--first", "50")["transfers"]
    assert {each["status"] for each in failed} <= {"FAILED", "PENDING", "CANCELLED"}
    assert failed
    incoming = call_json("activity", "--direction", "INCOMING", "--type", "ACH", "--type", "DIRECT_DEPOSIT")
    assert {each["activity_type"] for each in incoming["transfers"]} <= {"ACH", "DIRECT_DEPOSIT"}
    assert {each["direction"] for each in incoming["transfers"]} == {"INCOMING"}
    outside = call_json("activity", "--hide-internal", "--first", "50")["transfers"]
    assert "INTERNAL" not in {each["direction"] for each in outside}
    named = call_json("activity", "--name", "Groceries")["transfers"]
    assert all("Groceries" in json.dumps(each) for each in named)
    day = failed[0]["created_at"][:10]
    assert {each["created_at"][:10] for each in call_json("activity", "--from", day, "--to", day)["transfers"]} == {day}


@pytest.mark.parametrize("wrong", [["--from", "2026-02-30"], ["--from", "2026-02-02", "--to", "2026-02-01"]])
def test_invalid_days_are_2(wrong: list[str]) -> None:
    call("activity", *wrong, code=2)


def test_all_reads_every_page() -> None:
    document = call_json("activity", "--all")
    assert document["page_info"]["has_next_page"] is False
    ids = [each["id"] for each in document["transfers"]]
    assert len(ids) == len(set(ids)) > 300


def test_all_is_bounded_and_prints_the_next_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "MAX_PAGES", 2)
    result = call("activity", "--all", "--first", "3", "--json")
    document = json.loads(result.stdout)
    assert len(document["transfers"]) == 6
    assert document["page_info"]["end_cursor"] in result.stderr


def test_the_summary_has_the_totals_of_this_month() -> None:
    document = call_json("activity", "summary")
    assert set(document) == {
        "transfer_count",
        "rule_executions",
        "total_incoming_cents",
        "total_incoming",
        "complete",
    }
    assert document["total_incoming"] in call("activity", "summary").stdout


def test_transfers_show_one_transfer() -> None:
    transfer = call_json("activity", "--first", "1")["transfers"][0]
    document = call_json("transfers", "show", transfer["id"])
    assert document["id"] == transfer["id"]
    assert {"details", "rule"} <= set(document)
    shown = call("transfers", "show", transfer["id"]).stdout
    assert transfer["amount"] in shown
    call("transfers", "show", "nobody", code=2)
    call("transfers", "show", transfer["id"], "--org-id", "nobody", code=2)


@pytest.mark.parametrize("command", ["pods", "accounts", "pods show Groceries"])
def test_names_are_remembered_for_commands_that_make_no_upstream_call(command: str, directory: Path) -> None:
    call(*command.split())
    names = known_names(open_records(directory))
    assert "Groceries" in names.values()
    assert stat.S_IMODE((directory / ".records.db").stat().st_mode) == 0o600


def test_a_read_takes_over_no_files_of_an_earlier_version(directory: Path) -> None:
    directory.mkdir()
    (directory / ".daily_limits.json").write_text("{}")
    call("pods")
    assert not (directory / ".records.db").exists()
    assert (directory / ".daily_limits.json").read_text() == "{}"


def test_a_database_that_cannot_be_read_or_written_only_loses_names(directory: Path) -> None:
    directory.mkdir()
    (directory / ".records.db").write_bytes(b"x" * 8192)
    assert "Groceries" in call("pods").stdout
    assert known_names(open_records(directory)) == {}
    assert (directory / ".records.db").read_bytes() == b"x" * 8192


def test_names_are_bounded_and_the_newest_counts(directory: Path) -> None:
    records = open_records(directory)
    names = Names(records)
    names.learn("p-1", "x" * 1000)
    names.learn("p-2", "Food")
    names.learn(None, "nobody")
    names.learn("p-3", None)
    names.save()
    names.learn("p-2", "Groceries")
    assert names.all()["p-2"] == "Groceries"
    names.save()
    records.close()
    assert known_names(open_records(directory)) == {"p-1": "x" * MAX_NAME_CHARACTERS, "p-2": "Groceries"}
