"""A process that reads, and can transfer. Its argument is one JSON object."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import anyio

from pysequence_api.sandbox import CLIENT_ID, ORGANIZATION_ID
from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
from pysequence_api.sequence.telemetry import observed
from pysequence_api.settings import Settings
from tests.sequence.conftest import order_of, transfer


async def run(task: dict[str, Any]) -> None:
    settings = Settings.load(
        access_token=task.get("access_token"),
        graphql_url=f"{task['base_url']}/api/graphql",
        auth_url=task["base_url"],
        auth0_client_id=CLIENT_ID,
        request_interval_seconds=task["interval"],
        request_jitter_seconds=0,
    )
    client = GraphQLSequenceClient.open(settings, Path(task["directory"]), is_owner="owner_amount_cents" in task)
    async with anyio.create_task_group() as tasks:
        for number in range(task["count"]):
            if task.get("distinct"):
                tasks.start_soon(client.transfer_detail, ORGANIZATION_ID, task["distinct"][number])
            else:
                tasks.start_soon(client.activity_summary)
        if task.get("transfer"):
            await transfer(client, order_of())
    if "owner_amount_cents" in task:
        with observed(lambda phase: print(phase.name, flush=True)):  # noqa: T201 - the test reads it
            await client.activity_summary()
            await transfer(client, order_of(task["owner_amount_cents"]))
    await client.aclose()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    anyio.run(run, json.loads(sys.argv[1]))
