"""The systemd unit and the logrotate file, for a server that was installed with pip."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shipping.files import OPERATIONS, ROOT

UNIT = ROOT / "systemd" / "pysequence-api.service"
LOGROTATE = ROOT / "systemd" / "logrotate.conf"
PROGRAM = "/opt/pysequence-api/bin/pysequence-api"


def settings_of(section: str) -> dict[str, str]:
    text = UNIT.read_text().partition(f"[{section}]\n")[2].partition("\n[")[0]
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_the_unit_is_hardened() -> None:
    service = settings_of("Service")
    assert service["ExecStart"] == f"{PROGRAM} serve"
    assert service["User"] == "sequence"
    assert service["NoNewPrivileges"] == "yes"
    assert service["CapabilityBoundingSet"] == ""
    assert service["ProtectSystem"] == "strict"
    assert service["StateDirectoryMode"] == "0700"
    assert service["LimitCORE"] == "0"
    assert service["MemorySwapMax"] == "0"
    assert service["KillMode"] == "mixed"


def test_the_unit_and_the_documentation_name_the_same_places() -> None:
    service, text = settings_of("Service"), OPERATIONS.read_text()
    assert f"SEQUENCE_DATA_DIR=/var/lib/{service['StateDirectory']}" in text
    assert service["Environment"] in text
    assert PROGRAM in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(PROGRAM, sys.executable))
    checked = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_only_the_log_is_rotated() -> None:
    lines = [line.strip() for line in LOGROTATE.read_text().splitlines()]
    assert [line for line in lines if line.startswith("/")] == ["/var/log/pysequence-api/server.log {"]
    assert "copytruncate" in lines  # the server does not open its log again
