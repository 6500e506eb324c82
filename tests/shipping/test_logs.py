"""The format of a server's log."""

import json
import logging
import os
import pty
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pysequence_api.cli.logs import log_for_server
from pysequence_api.settings import Settings
from tests.api.server import free_port
from tests.shipping.conftest import KEY, Site
from tests.starter import python

REQUEST_FIELDS = {"request_id", "method", "route", "status", "duration_ms", "upstream_ms", "source", "caller"}
RECORD_FIELDS = {"time", "level", "logger", "message"}


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("pysequence_api")
    handlers, level = root.handlers[:], own.level
    yield
    root.handlers[:] = handlers
    own.setLevel(level)


def logged(capsys: pytest.CaptureFixture[str], **settings: Any) -> str:
    """Log a record with fields and one with an exception, in the format that the settings select."""
    log_for_server(Settings.load(**settings))
    log = logging.getLogger("pysequence_api.test")
    log.info("one\ntwo %s", "\x1b[31m", extra={"fields": {"status": 200}})
    log.error("failed", exc_info=ZeroDivisionError("an unexpected error"))
    return capsys.readouterr().err


def test_the_log_is_json_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in logged(capsys).splitlines()]
    assert len(lines) == 2
    assert set(lines[0]) == RECORD_FIELDS | {"status"}
    assert lines[0]["message"] == "one\ntwo \x1b[31m"
    assert lines[0]["time"].endswith("+00:00")
    assert "ZeroDivisionError: an unexpected error" in lines[1]["traceback"]


def test_a_name_that_is_not_utf_8_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    log_for_server(Settings.load())
    logging.getLogger("pysequence_api.test").info("found", extra={"fields": {"file": os.fsdecode(b"\xff.json")}})
    assert json.loads(capsys.readouterr().err)["file"] == "\udcff.json"


def test_the_log_is_text_if_the_setting_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    text = logged(capsys, log_format="text")
    assert "Z INFO pysequence_api.test: one" in text
    assert "\x1b[31m" not in text
    assert "ZeroDivisionError: an unexpected error" in text


def test_the_log_has_one_line_per_request(site: Site) -> None:
    site.run('curl -sS -H "X-API-Key: $KEY" -H "X-Request-ID: seen-1" "$URL/api/activity?name=canary"')
    site.run('curl -sS -H "X-API-Key: $KEY" "$URL/api/limits"')  # afterwards, the previous request is in the log
    text = (site.directory / "server.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(set(line) >= RECORD_FIELDS for line in lines)
    seen = next(line for line in lines if line.get("request_id") == "seen-1")
    assert set(seen) == RECORD_FIELDS | REQUEST_FIELDS
    assert (seen["route"], seen["status"]) == ("/api/activity", 200)
    assert "canary" not in text
    assert KEY not in text


@pytest.mark.parametrize(("log_format", "is_json"), [(None, False), ("json", True)])
def test_the_log_is_text_on_a_terminal(site: Site, tmp_path: Path, log_format: str | None, is_json: bool) -> None:
    own = {"SEQUENCE_DATA_DIR": str(tmp_path), "SEQUENCE_SERVER_PORT": str(free_port()), "TERM": "dumb"}
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*python(), "-m", "pysequence_api", "serve"],
        env=site.environment | own | ({"SEQUENCE_LOG_FORMAT": log_format} if log_format else {}),
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)
    try:
        first = ""
        while "audit trail" not in first:  # logged before the server listens
            first += os.read(leader, 4096).decode()
    finally:
        process.terminate()
        process.wait(60)
        os.close(leader)
    assert first.startswith("{") is is_json


def test_the_log_says_what_a_transfer_was_and_how_it_ended(site: Site) -> None:
    pods = json.loads(site.run('curl -sS -H "X-API-Key: $KEY" "$URL/api/pods"').stdout)
    source, destination = (pod["id"] for name in ("Groceries", "Rent") for pod in pods if pod["name"] == name)
    order = {"source_id": source, "destination_id": destination, "amount_cents": 1234}
    send = f'curl -sS -H "X-API-Key: $KEY" "$URL/api/transfers" --json {shlex.quote(json.dumps(order))}'
    done = json.loads(site.run(send).stdout)
    refused = json.loads(site.run(send.replace("1234", "1000001")).stdout)
    log = [json.loads(line) for line in (site.directory / "server.log").read_text().splitlines()]
    seen = {line["attempt_id"]: line for line in log if line["message"].startswith("transfer of ")}
    assert seen[done["attempt_id"]]["result"] == "accepted"
    assert seen[refused["attempt_id"]]["result"] == "over_max"
    assert {key: seen[done["attempt_id"]][key] for key in order} == order
    assert "$12.34" in seen[done["attempt_id"]]["message"]
