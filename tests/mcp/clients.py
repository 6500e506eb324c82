"""MCP clients of the SDK."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2

from pysequence_api.api import create_app
from pysequence_api.mcp.route import add_mcp
from pysequence_api.records.callers import add
from tests.policies import apply_policy
from tests.world import API_KEY, DESTINATION, SOURCE, World

if TYPE_CHECKING:
    # Importing the SDK takes a second, and each process that runs tests collects all of them.
    from mcp import Client
    from mcp.client.client import ConnectMode
    from mcp_types import CallToolResult

MODERN, LEGACY = "2026-07-28", "legacy"


@asynccontextmanager
async def connected(
    world: World, *, headers: dict[str, str] | None = None, mode: "ConnectMode" = MODERN
) -> AsyncIterator["Client"]:
    """Connect a client to a server in this process."""
    from mcp import Client  # noqa: PLC0415
    from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415

    app = create_app(world.gateway)
    add_mcp(app)
    transport = httpx2.ASGITransport(app)
    async with (
        httpx2.AsyncClient(transport=transport, headers=headers or {"X-API-Key": API_KEY}) as http,
        Client(streamable_http_client("http://localhost/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


@asynccontextmanager
async def caller(world: World, *tables: str) -> AsyncIterator["Client"]:
    """Connect as the caller `one` of a policy."""
    apply_policy(world, *tables)
    async with connected(world, headers={"X-API-Key": add(world.gateway.records, "one").key}) as client:
        yield client


def order(world: World, amount_cents: object = 2500, **more: Any) -> dict[str, Any]:
    """Make the arguments of a transfer."""
    ids = {"source_id": world.pod_ids[SOURCE], "destination_id": world.pod_ids[DESTINATION]}
    return ids | {"amount_cents": amount_cents, "idempotency_key": "one"} | more


def answer(result: "CallToolResult", *, is_error: bool = False) -> Any:
    """Return what a call told, which is the same as text and as data."""
    assert result.is_error is is_error, result
    [text] = result.content
    assert text.type == "text"
    assert json.loads(text.text) == result.structured_content
    return result.structured_content


def refusal(result: "CallToolResult") -> Any:
    """Return what an error told, in one line."""
    told = answer(result, is_error=True)
    assert "\n" not in told["detail"]
    return told
