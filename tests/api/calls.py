"""Calls that many tests make."""

from typing import Any

import httpx

from tests.world import DESTINATION, SOURCE


async def transfer_body(client: httpx.AsyncClient, amount_cents: int = 5000, **more: Any) -> dict[str, Any]:
    """Return the body of a transfer from one pod to another."""
    ids = {pod["name"]: pod["id"] for pod in (await client.get("/api/pods")).json()}
    return {"source_id": ids[SOURCE], "destination_id": ids[DESTINATION], "amount_cents": amount_cents} | more


async def post_transfer(
    client: httpx.AsyncClient, amount_cents: int = 5000, *, headers: Any = None, **more: Any
) -> httpx.Response:
    """Request a transfer from one pod to another."""
    return await client.post("/api/transfers", json=await transfer_body(client, amount_cents, **more), headers=headers)
