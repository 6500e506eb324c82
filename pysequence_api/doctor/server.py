"""A server on the configured address, and whether it accepts the configured API key."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

from pysequence_api.doctor.finding import Finding, ok, problem, warning
from pysequence_api.errors import GatewayError, SettingsError
from pysequence_api.local_server import connect, local_url
from pysequence_api.records import read_records
from pysequence_api.safeguards.now import MaxCents
from pysequence_api.safeguards.status import read_limits
from pysequence_api.settings import Settings, variable

NAME = "server"
TIMEOUT_SECONDS = 3.0
MAX_ANSWER_BYTES = 1024**2


def check_server(settings: Settings) -> Iterator[Finding]:
    """Read the health of a running server, and with the API key its limits."""
    address = local_url(settings).removeprefix("http://")
    try:
        status, document = _get(settings, "/api/health")
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        yield warning(NAME, f"not running on {address} ({reason})", "To start it: pysequence-api serve")
        return
    if status != 200 or not isinstance(document, dict) or document.get("status") != "ok":
        fix = f"Stop what listens there, or set {variable('server_port')}."
        yield problem(NAME, f"the server on {address} is not a healthy pysequence-api ({status})", fix, GatewayError)
        return
    yield ok(NAME, f"running on {address}")
    yield _check_key(settings)


def _check_key(settings: Settings) -> Finding:
    name, key = "server key", variable("api_key")
    if settings.api_key is None:
        return warning(name, f"{key} is not set, so it cannot be tested", f"Set {key}.")
    status, limits = _get(settings, "/api/limits", settings.api_key.get_secret_value())
    if status == 401:
        return problem(
            name,
            f"the server does not accept {key}",
            "Set the same key for both, and restart the server.",
            SettingsError,
        )
    if status != 200 or not isinstance(limits, dict):
        return problem(
            name, f"the server answered {status} to GET /api/limits", "Read the log of the server.", GatewayError
        )
    if "caller" in limits:
        return ok(name, "accepted, for what the policy grants it")
    return _compare(settings, limits, name)


def _compare(settings: Settings, limits: dict[str, Any], name: str) -> Finding:
    """Check whether the server has our limits and our data directory."""
    ours = (settings.max_transfer_cents, settings.max_daily_transfer_cents)
    if (limits.get("max_transfer_cents"), limits.get("max_daily_cents")) != ours:
        return warning(name, "accepted, but the server runs with other limits", "Restart the server.")
    if not _is_ours(settings, limits):
        where = settings.data_directory.absolute()
        fix = f"Set the same {variable('data_dir')} for both. Each data directory has a daily limit of its own."
        return warning(name, f"accepted, but the server does not record in {where}", fix)
    return ok(name, "accepted")


def _is_ours(settings: Settings, limits: dict[str, Any]) -> bool:
    """Check whether the server records in our data directory, by the newest line of its audit trail."""
    ours = read_limits(read_records(settings.data_directory), MaxCents.of(settings))
    # A transfer may have been recorded between the two reads.
    _, again = _get(settings, "/api/limits", settings.api_key.get_secret_value() if settings.api_key else None)
    heads = [one.get("audit_head") for one in (limits, again) if isinstance(one, dict)]
    return ours.audit_head in heads or "audit_head" not in limits


def _get(settings: Settings, path: str, key: str | None = None) -> tuple[int, Any]:
    connection = connect(settings, TIMEOUT_SECONDS)
    try:
        connection.request("GET", path, headers={} if key is None else {"X-API-Key": key})
        answer = connection.getresponse()
        content = answer.read(MAX_ANSWER_BYTES)
    finally:
        connection.close()
    try:
        return answer.status, json.loads(content)
    except ValueError:
        return answer.status, None
