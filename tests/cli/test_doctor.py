"""`doctor` finds problems and says how to fix them."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
from pydantic import SecretStr

from pysequence_api import doctor
from pysequence_api.doctor.account import _check_clock, check_token
from pysequence_api.doctor.files import file_system_of
from pysequence_api.sequence.sign_in.record import Waiting
from pysequence_api.sequence.sign_in.service import SignInStatus
from pysequence_api.settings import Settings
from tests.api.server import free_port
from tests.cli.commands import UNUSED_PORT, call, lose_transfers

pytestmark = pytest.mark.usefixtures("directory", "no_server")
NAMES = ["settings", "hosts", "data directory", "file modes", "space", "file system", "records", "policy", "token"]
MOUNTS = """\
22 1 0:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:2 / /srv/my\\040money rw - nfs4 server:/money rw
"""


def findings(code: int = 0) -> dict[str, dict[str, Any]]:
    document = json.loads(call("doctor", "--json", code=code).stdout)
    assert document["exit_code"] == code
    assert document["ok"] is (code == 0)
    assert all(each["fix"] or each["level"] == "ok" or each["name"] == "Sequence" for each in document["findings"])
    return {each["name"]: each for each in document["findings"]}


def test_a_used_sandbox_has_no_problems() -> None:
    call("transfer", "Groceries", "Rent", "$1", "--yes")
    found = findings()
    assert [*NAMES, "Sequence", "ids", "clock", "reads", "server"] == list(found)
    assert {each["level"] for name, each in found.items() if name != "server"} == {"ok"}
    assert found["server"]["level"] == "warning"
    lines = call("doctor").stdout.splitlines()
    assert len(lines) == len(found)
    assert all(line.split()[0] in {"ok", "warning", "problem"} for line in lines)


def test_a_page_that_nobody_can_sign_in_to(monkeypatch: pytest.MonkeyPatch) -> None:
    call("freeze", "--reason", "so that there are records")
    call("unfreeze", "--yes")
    monkeypatch.setenv("SEQUENCE_OWNER_PORT", str(free_port()))
    found = findings()["owner's page"]
    assert found["level"] == "warning"
    assert found["fix"] == "Run pysequence-api owner setup, then pysequence-api owner password."


def test_invalid_settings_are_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCE_MAX_TRANSFER_CENTS", "many")
    assert "SEQUENCE_MAX_TRANSFER_CENTS" in findings(2)["settings"]["said"]


def test_a_misspelled_variable_is_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCE_MAX_TRANSFER_CNTS", "500")
    found = findings(2)["settings"]
    assert "SEQUENCE_MAX_TRANSFER_CNTS" in found["said"]
    assert "SEQUENCE_MAX_TRANSFER_CENTS" in found["fix"]


def test_missing_and_damaged_files_of_the_records_are_3(directory: Path) -> None:
    call("transfer", "Groceries", "Rent", "$1", "--yes")
    trail, database = (directory / name for name in (".audit.jsonl", ".records.db"))
    good = trail.read_bytes()
    trail.write_bytes(good.replace(b'"amount_cents": 100', b'"amount_cents": 200', 1))
    assert findings(3)["records"]["level"] == "problem"
    trail.unlink()
    assert findings(3)["records"]["fix"] == "pysequence-api records check"
    trail.write_bytes(good)
    trail.chmod(0o600)
    content = database.read_bytes()
    database.unlink()
    assert findings(3)["records"]["fix"] == "pysequence-api records check"
    database.write_bytes(b"x" * len(content))
    database.chmod(0o600)
    assert findings(3)["records"]["level"] == "problem"


def test_frozen_transfers_are_a_warning() -> None:
    call("freeze", "--reason", "laptop lost")
    found = findings()["records"]
    assert (found["level"], found["fix"]) == ("warning", "pysequence-api unfreeze")
    assert "laptop lost" in found["said"]


def test_files_that_others_can_read_are_2(directory: Path) -> None:
    call("transfer", "Groceries", "Rent", "$1", "--yes")
    (directory / ".records.db").chmod(0o644)
    assert "chmod 600" in findings(2)["file modes"]["fix"]


def test_a_directory_that_others_can_change_is_2(directory: Path) -> None:
    call("pods")
    directory.chmod(0o777)
    assert "chmod 700" in findings(2)["data directory"]["fix"]


def test_a_directory_that_is_a_file_is_2(directory: Path) -> None:
    directory.write_text("")
    assert findings(2)["data directory"]["level"] == "problem"


def test_a_disk_that_is_almost_full(monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    for free_bytes, level, code in ((10, "problem", 3), (5_000_000, "warning", 0)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free_bytes: Usage(free))
        assert findings(code)["space"]["level"] == level


def test_a_network_file_system_is_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert file_system_of(Path("/srv/my money/data"), MOUNTS) == "nfs4"
    assert file_system_of(Path("/srv/mine"), MOUNTS) == "ext4"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.replace("ext4", "cifs"))
    monkeypatch.setattr(doctor.files, "MOUNTS", mounts)
    assert findings(2)["file system"]["level"] == "problem"


def test_an_unsettled_transfer_is_a_warning(directory: Path) -> None:
    lose_transfers(directory, 500)
    found = findings()["records"]
    assert (found["level"], found["fix"]) == ("warning", "pysequence-api limits reconcile")


def test_no_token_or_no_network_is_4(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SEQUENCE_SANDBOX")
    for name in ("INTERVAL", "JITTER"):
        monkeypatch.setenv(f"SEQUENCE_REQUEST_{name}_SECONDS", "0")
    monkeypatch.setenv("SEQUENCE_AUTH_URL", f"http://127.0.0.1:{UNUSED_PORT}")
    found = findings(4)
    assert "SEQUENCE_ACCESS_TOKEN" in found["token"]["fix"]
    assert found["Sequence"]["level"] == "problem"
    token = jwt.encode({"exp": time.time() + 7200}, "k" * 32, algorithm="HS256")
    cache = {"access_token": token, "refresh_token": None, "expires_at": time.time() + 9999}
    (tmp_path / ".tokens.json").write_text(json.dumps(cache))
    (tmp_path / ".tokens.json").chmod(0o600)
    monkeypatch.setenv("SEQUENCE_GRAPHQL_URL", f"http://127.0.0.1:{UNUSED_PORT}/")
    found = findings(4)
    assert found["token"]["level"] == "ok"
    assert found["Sequence"]["level"] == "problem"
    (tmp_path / ".tokens.json").write_text("{")
    assert findings(4)["token"]["level"] == "problem"
    monkeypatch.setenv("SEQUENCE_ACCESS_TOKEN", jwt.encode({"exp": 5}, "k" * 32, algorithm="HS256"))
    assert findings(4)["token"]["level"] == "problem"


STATUS = SignInStatus(
    signed_in=True, who=None, expires_at=None, got_by="login", renews_by=None, missing=(), waiting=None, trouble=None
)
MISSING = replace(STATUS, signed_in=False, got_by=None)
NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("status", "level", "said"),
    [
        (STATUS, "ok", "login"),
        (replace(STATUS, expires_at=NOW + timedelta(hours=25)), "ok", "login"),
        (replace(STATUS, expires_at=NOW + timedelta(minutes=1)), "warning", "soon"),
        (replace(STATUS, expires_at=NOW + timedelta(minutes=1), renews_by="refresh token"), "ok", "refresh token"),
        (MISSING, "problem", "none"),
        (replace(MISSING, got_by="login"), "problem", "expired"),
        (replace(MISSING, renews_by="login"), "ok", "none"),
        (replace(MISSING, renews_by="login", waiting=Waiting(NOW, 2, NOW, "no")), "problem", "2 times"),
        (replace(STATUS, trouble=".sign-in.json is damaged"), "problem", ".sign-in.json"),
    ],
)
def test_the_token(status: SignInStatus, level: str, said: str) -> None:
    found = check_token(status)
    assert (found.level, bool(found.fix)) == (level, level != "ok")
    assert said in found.said


@pytest.mark.parametrize(("offset", "level"), [(None, "warning"), (1, "ok"), (-60, "warning"), (200, "problem")])
def test_the_clock_is_compared_with_sequences(offset: float | None, level: str) -> None:
    assert _check_clock(Settings(), offset).level == level


def test_without_signing_in_a_clock_needs_no_codes() -> None:
    settings = Settings(platform_key=SecretStr("sk_key"))
    for offset in (-60, 200):
        assert "one-time" in _check_clock(Settings(), offset).fix
        assert "one-time" not in _check_clock(settings, offset).fix


@contextmanager
def answering(health: bytes, status: int, limits: dict[str, Any]) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_health = self.path == "/api/health"
            content = health if is_health else json.dumps(limits).encode()
            self.send_response(200 if is_health else status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


LIMITS = {"max_transfer_cents": 1_000_000, "max_daily_cents": 2_500_000}


OK = b'{"status": "ok"}'
ANSWERS: tuple[tuple[tuple[bytes, int, dict[str, Any]], str, str, int], ...] = (
    ((OK, 200, LIMITS), "server key", "ok", 0),
    ((OK, 200, LIMITS | {"max_daily_cents": 1}), "server key", "warning", 0),
    ((OK, 200, LIMITS | {"audit_head": "0" * 64}), "server key", "warning", 0),
    ((OK, 200, {"caller": "default"}), "server key", "ok", 0),
    ((OK, 401, {}), "server key", "problem", 2),
    ((OK, 500, {}), "server key", "problem", 1),
    ((b"hello", 200, {}), "server", "problem", 1),
)


def test_a_running_server_and_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for answers, name, level, code in ANSWERS:
        with answering(*answers) as port:
            monkeypatch.setenv("SEQUENCE_SERVER_PORT", str(port))
            assert findings(code)[name]["level"] == level, answers


def test_an_unexpected_error_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(doctor, "check_space", fail)
    found = findings(1)
    assert found["space"]["said"] == "ZeroDivisionError"
    assert found["records"]["level"] == "ok", "the other checks still run"
