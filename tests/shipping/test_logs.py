"""The form of a server's log."""

import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pysequence_api.cli.logs import log_for_server
from pysequence_api.settings import Settings
from tests.api.server import free_port
from tests.shipping.conftest import KEY, Site

REQUEST_FIELDS = {"request_id", "method", "route", "status", "duration_ms", "upstream_ms", "source"}
RECORD_FIELDS = {"time", "level", "logger", "message"}


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("pysequence_api")
    handlers, level = root.handlers[:], ours.level
    yield
    root.handlers[:] = handlers
    ours.setLevel(level)


def logged(capsys: pytest.CaptureFixture[str], **settings: Any) -> str:
    """Log a record with fields and one with an exception, in the form that settings ask for."""
    log_for_server(Settings.load(**settings))
    log = logging.getLogger("pysequence_api.test")
    log.info("one\ntwo %s", "\x1b[31m", extra={"fields": {"status": 200}})
    log.error("failed", exc_info=ZeroDivisionError("nobody foresaw it"))
    return capsys.readouterr().err


def test_json_is_what_no_person_watches(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in logged(capsys).splitlines()]
    assert len(lines) == 2
    assert set(lines[0]) == RECORD_FIELDS | {"status"}
    assert lines[0]["message"] == "one\ntwo \x1b[31m"
    assert lines[0]["time"].endswith("+00:00")
    assert "ZeroDivisionError: nobody foresaw it" in lines[1]["traceback"]


def test_text_if_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    text = logged(capsys, log_format="text")
    assert "Z INFO pysequence_api.test: one" in text
    assert "\x1b[31m" not in text
    assert "ZeroDivisionError: nobody foresaw it" in text


def test_the_log_of_a_server(site: Site) -> None:
    site.run('curl -sS -H "X-API-Key: $KEY" -H "X-Request-ID: seen-1" "$URL/api/pods/rent/balance?canary=1"')
    site.run('curl -sS -H "X-API-Key: $KEY" "$URL/api/limits"')  # the line before it is written by now
    text = (site.directory / "server.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(set(line) >= RECORD_FIELDS for line in lines)
    seen = next(line for line in lines if line.get("request_id") == "seen-1")
    assert set(seen) == RECORD_FIELDS | REQUEST_FIELDS
    assert (seen["route"], seen["status"]) == ("/api/pods/{pod_name}/balance", 200)
    assert "canary" not in text
    assert KEY not in text


@pytest.mark.parametrize(("form", "is_json"), [(None, False), ("json", True)])
def test_a_person_at_a_terminal_reads_text(site: Site, tmp_path: Path, form: str | None, is_json: bool) -> None:
    ours = {"SEQUENCE_DATA_DIR": str(tmp_path), "SEQUENCE_SERVER_PORT": str(free_port()), "TERM": "dumb"}
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pysequence_api", "serve"],
        env=site.environment | ours | ({"SEQUENCE_LOG_FORMAT": form} if form else {}),
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)
    try:
        first = os.read(leader, 4096).decode()  # the head of the audit trail, before it listens
    finally:
        process.terminate()
        process.wait(60)
        os.close(leader)
    assert "audit trail: 0 entries" in first
    assert first.startswith("{") is is_json
