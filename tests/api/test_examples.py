"""The examples of the OpenAPI document are answers of the sandbox, as it gives them today.

After an intended change: `just examples` (`REWRITE_SNAPSHOTS=1 pytest tests/api/test_examples.py -n0`), and review the
difference.
"""

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import time_machine

from pysequence_api.api.document import EXAMPLES_PATH
from pysequence_api.api.schema import openapi_schema
from tests.policies import apply_policy
from tests.world import World, open_world

pytestmark = pytest.mark.upstream("graphql")

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MAX_LISTED = 2
"""So many entries of a list are shown."""
METRICS = re.compile(r"(?:# \w+ )?pysequence_(?:safeguards_available|used_today_cents|left_today_cents)\b")
ASKS = """
[callers.default]
scopes = ["move", "freeze"]
reads = ["*"]
rules = [{ name = "rent", from = ["c"], to = ["b"], max_cents = 50000, approve_above_cents = 2000 }]
"""
"""A policy under which the caller has to ask."""
RANDOM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
"""Other ids of the sandbox are the same in every run, so that readers can use them there."""
HASH = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
FRAMING = {"content-type", "content-length", "cache-control", "date", "server"}
"""Headers that HTTP itself describes."""


class Recorder:
    """Calls routes by the names of their operations, and keeps what was sent and answered as examples."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.examples: dict[str, dict[str, Any]] = {}
        self._client = client
        self._routes = {
            operation["operationId"]: (method, path, operation)
            for path, methods in openapi_schema()["paths"].items()
            for method, operation in methods.items()
        }

    async def call(self, name: str, status: int = 200, /, *, body: Any = None, **parameters: Any) -> Any:
        """Call a route, whose answer must have this status, and return the answer.

        The first request of a route is its example, and so is the first answer of each status.
        """
        method, path, operation = self._routes[name]
        places = {one["name"]: one["in"] for one in operation.get("parameters", ())}
        given: dict[str, dict[str, Any]] = {place: {} for place in ("path", "query", "header")}
        for argument, value in parameters.items():
            parameter = argument if argument in places else argument.replace("_", "-")
            given[places[parameter]][parameter] = value
        answer = await self._client.request(
            method, path.format(**given["path"]), params=given["query"], headers=given["header"], json=body
        )
        assert answer.status_code == status, answer.text
        described = operation["responses"][str(status)]
        assert set(answer.headers) - FRAMING <= {header.lower() for header in described["headers"]}
        is_json = answer.headers["content-type"] == "application/json"
        content = answer.json() if is_json else _metrics(answer.text)
        example = self.examples.setdefault(name, _request(body, given))
        example["answers"].setdefault(str(status), _shortened(content))
        return content


def _request(body: Any, given: dict[str, dict[str, Any]]) -> dict[str, Any]:
    parameters = given["path"] | given["query"] | given["header"]
    return ({"parameters": parameters} if parameters else {}) | ({"body": body} if body else {}) | {"answers": {}}


def _metrics(text: str) -> str:
    """Leave out numbers that differ from run to run."""
    return "".join(line for line in text.splitlines(keepends=True) if METRICS.match(line))


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in value.items()}
    return [_shortened(inner) for inner in value[:MAX_LISTED]] if isinstance(value, list) else value


def _steady(examples: dict[str, Any]) -> str:
    """Write the examples as text, with ids that are the same in every run."""
    text = json.dumps(examples, indent=2, ensure_ascii=False) + "\n"
    found = enumerate(dict.fromkeys(RANDOM.findall(text)), 1)
    ids = {random: f"{number:08}-0000-4000-8000-000000000000" for number, random in found}
    return HASH.sub("0" * 64, RANDOM.sub(lambda match: ids[match.group()], text))


async def _record(record: Recorder, world: World) -> None:
    await record.call("check_health")
    pods = {pod["name"]: pod for pod in await record.call("list_pods")}
    source, destination = pods["Groceries"], pods["Rent"]
    organization = {"org_id": source["organization_id"]}
    await record.call("get_total_balance")
    await record.call("get_pod_balance", pod_name="groceries")
    await record.call("get_pod_balance", 404, pod_name="yacht")
    await record.call("get_pod_detail", pod_id=source["id"])
    await record.call("get_pod_detail_of_organization", pod_id=source["id"], **organization)
    await record.call("list_accounts")
    await record.call("find_account", name="groceries")
    await record.call("get_activity_summary")
    await record.call("get_activity_totals", **{"from": "2026-11-01", "to": "2026-11-23"})
    await record.call("list_activity", first=2, directions=["INCOMING"])
    await record.call("list_activity", 422, after="nothing like it")
    order = {
        "source_id": source["id"],
        "destination_id": destination["id"],
        "amount_cents": 2500,
        "reason": "rent for November",
    }
    await record.call("preview_transfer", body=order)
    made = await record.call("make_transfer", body=order, idempotency_key="rent-2026-11")
    await record.call("make_transfer", 400, body=order | {"amount_cents": 1_500_000})
    await record.call("make_transfer", 422, body=order | {"amount_cents": "25.00"})
    await record.call("list_own_attempts", key="rent-2026-11")
    await record.call("get_attempt", attempt_id=made["attempt_id"])
    await record.call("get_transfer", transfer_id=made["id"])
    await record.call("get_transfer_of_organization", transfer_id=made["id"], **organization)
    await record.call("get_limits")
    await record.call("read_metrics")
    apply_policy(world, ASKS)
    pending = await record.call("make_transfer", 202, body=order, idempotency_key="rent-2026-12")
    await record.call("cancel_attempt", attempt_id=pending["attempt_id"])
    await record.call("cancel_attempt", 409, attempt_id=made["attempt_id"])
    await record.call("freeze_transfers", body={"reason": "an unexpected transfer"})
    await record.call("make_transfer", 403, body=order)


@pytest.mark.anyio
async def test_examples_are_what_the_sandbox_answers(tmp_path: Path) -> None:
    with time_machine.travel(NOON, tick=False):
        (tmp_path / "sequence.sqlite").touch(0o600)  # a new file would be the copy of one from a little later
        async with open_world(tmp_path) as world, world.http() as client:
            recorder = Recorder(client)
            await _record(recorder, world)
    text = _steady(recorder.examples)
    if os.environ.get("REWRITE_SNAPSHOTS"):
        EXAMPLES_PATH.write_text(text)
    assert text == EXAMPLES_PATH.read_text()
    assert all(re.fullmatch(r"[0-9:]{8}\.[0-9]{3}Z", time) for time in re.findall(r'"[0-9-]{10}T(.*?)"', text))
