"""Calls that many tests make."""

from typing import Any

import httpx

from pysequence_api.sandbox.household import ORGANIZATIONS
from tests.world import DESTINATION, SOURCE

IDS = {holder.name: holder.id for organization in ORGANIZATIONS for holder in organization.holders}
"""The ids of the simulated accounts. Reading them from the API would cost more than most requests of a test."""


def transfer_body(amount_cents: int = 5000, **more: Any) -> dict[str, Any]:
    """Return the body of a transfer from one pod to another."""
    return {"source_id": IDS[SOURCE], "destination_id": IDS[DESTINATION], "amount_cents": amount_cents} | more


async def post_transfer(
    client: httpx.AsyncClient, amount_cents: int = 5000, *, headers: Any = None, **more: Any
) -> httpx.Response:
    """Request a transfer from one pod to another."""
    return await client.post("/api/transfers", json=transfer_body(amount_cents, **more), headers=headers)
