"""``compose.api.yaml``: valid, compatible with the existing server's file, and hardened."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pysequence_api.safeguards.transfers import IDENTIFY_TIMEOUT_SECONDS
from pysequence_api.sequence.pacing import GUARD_SECONDS, MAX_WAIT_EXTRA_SECONDS, MAX_WAIT_TURNS
from pysequence_api.settings import Settings
from pysequence_api.web.connections import MAX_CONNECTIONS
from tests.shipping.files import COMPOSE, variables

KNOWN = [
    "SEQUENCE_EMAIL",
    "SEQUENCE_PASSWORD",
    "SEQUENCE_TOTP",
    "SEQUENCE_ORG_ID",
    "SEQUENCE_KYC_ID",
    "SEQUENCE_AUTH0_CLIENT_ID",
    "SEQUENCE_API_KEY",
    "SEQUENCE_DATA_DIR=/app/data",
]
"""The variables of the existing server's file, in its order."""
NOT_PASSED = {"SEQUENCE_SERVER_PORT", "SEQUENCE_SERVER_SOCKET", "SEQUENCE_CHROMIUM"}
"""Set by the image: the port behind ``ports``, instead of a socket, and the browser."""
TOKEN_LOCK_EXTRA_SECONDS = 5.0


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = YAML(typ="safe", pure=True).load(COMPOSE)
    return document


@pytest.fixture(scope="module")
def service(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]["api"]
    return found


def test_the_file_is_valid_by_the_compose_specification_which_knows_its_keys(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("cap_drop:", "cap_dropp:"))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run([*command, str(COMPOSE), str(wrong)], capture_output=True, text=True, check=False)
    assert checked.returncode == 1
    assert "cap_dropp" in checked.stdout
    assert f"{COMPOSE}::" not in checked.stdout, checked.stdout


def test_names_variables_and_volume_match_the_existing_server(compose: dict[str, Any], service: dict[str, Any]) -> None:
    assert compose["name"] == "pysequence-api"
    assert list(compose["services"]) == ["api"]
    assert compose["volumes"] == {"data": None}
    assert service["build"]["target"] == "prod"
    assert service["restart"] == "unless-stopped"
    assert service["ports"] == ["8720:8720"]
    assert service["volumes"] == ["data:/app/data"]
    assert service["environment"][: len(KNOWN)] == KNOWN


def test_every_variable_is_passed(service: dict[str, Any]) -> None:
    passed = {entry.partition("=")[0] for entry in service["environment"]}
    assert variables() - NOT_PASSED <= passed
    assert not passed & NOT_PASSED


def test_the_container_is_hardened(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    (mount,) = service["tmpfs"]
    path, _, options = mount.partition(":")
    assert path == "/tmp"
    assert {"noexec", "nosuid", "nodev", "size=256m"} <= set(options.split(","))
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    assert service["healthcheck"]["test"] == ["CMD", "pysequence-api", "health"]
    assert "privileged" not in service


def test_processes_memory_files_and_core_dumps_are_limited(service: dict[str, Any]) -> None:
    assert service["pids_limit"] == 512
    assert service["mem_limit"] == service["memswap_limit"] == "1g"  # equal means that nothing is swapped
    assert service["ulimits"]["core"] == 0
    files = service["ulimits"]["nofile"]
    assert files["soft"] == files["hard"] >= 4 * MAX_CONNECTIONS


def test_stopping_waits_longer_than_a_transfer_can_take(service: dict[str, Any]) -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    request_seconds = defaults["request_timeout_seconds"]
    turn_seconds = defaults["request_interval_seconds"] + defaults["request_jitter_seconds"] + GUARD_SECONDS
    transfer_seconds = (
        (request_seconds + TOKEN_LOCK_EXTRA_SECONDS)  # token renewal
        + (MAX_WAIT_TURNS * turn_seconds + MAX_WAIT_EXTRA_SECONDS)  # pacing
        + request_seconds
        + IDENTIFY_TIMEOUT_SECONDS
    )
    minutes = re.fullmatch(r"([0-9]+)m", service["stop_grace_period"])
    assert minutes is not None
    assert int(minutes[1]) * 60 > transfer_seconds
