"""A whole gateway over a simulated Sequence in process, with the truth of both sides at hand."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pysequence_api.clock import utc_now
from pysequence_api.errors import OutcomeUnknownError
from pysequence_api.models import TransferOrder
from pysequence_api.records.audit import Channel
from pysequence_api.safeguards.follow_up import FollowUp
from pysequence_api.safeguards.recovery import Finding, Recovery
from pysequence_api.safeguards.reservations import Attempt, CompletedTransfer, Records
from pysequence_api.safeguards.transfers import TransferService
from pysequence_api.sandbox import CLIENT_ID, KYC_ID, ORGANIZATION_ID, Sandbox
from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
from pysequence_api.settings import Settings

GRACE_SECONDS = 600.0


@dataclass(frozen=True)
class Desk:
    """One process: client, guard and recovery on a data directory."""

    directory: Path
    sandbox: Sandbox
    records: Records
    client: GraphQLSequenceClient
    guard: TransferService
    recovery: Recovery
    reconciler: FollowUp
    pod_ids: dict[str, str]

    def order(self, amount_cents: int = 5_000, *, source: str = "Emergency Fund", **more: Any) -> TransferOrder:
        return TransferOrder(
            kyc_id=KYC_ID,
            source_id=self.pod_ids[source],
            destination_id=self.pod_ids["Rent"],
            amount_cents=amount_cents,
            **more,
        )

    async def transfer(self, amount_cents: int = 5_000, *, key: str | None = None, **more: Any) -> CompletedTransfer:
        return await self.guard.transfer(self.order(amount_cents, **more), Channel.API, key)

    async def lose(self, *, moved: bool = True, **more: Any) -> str:
        """Make a transfer whose answer is lost, and give its attempt id."""
        await self.fault("close", when="after" if moved else "before")
        with pytest.raises(OutcomeUnknownError) as unknown:
            await self.transfer(**more)
        assert unknown.value.attempt_id is not None
        return unknown.value.attempt_id

    def announced(self, order: TransferOrder | None = None) -> Attempt:
        """Begin an attempt, up to where the first byte would be sent."""
        attempt = Attempt(order or self.order(), Channel.API)
        self.records.reserve(attempt)
        self.records.announce(attempt)
        return attempt

    async def find_out(self) -> list[Finding]:
        return await self.reconciler.run()

    async def fault(self, what: Any, *, operation: str = "CreatePayment", when: str = "before", count: int = 1) -> None:
        """Have the simulated Sequence do something wrong next time."""
        fault = {"operation": operation, "when": when, "what": what, "count": count}
        async with httpx.AsyncClient(transport=self.sandbox.transport(), base_url="http://127.0.0.1") as control:
            (await control.post("/sandbox/faults", json=fault)).raise_for_status()

    async def moved(self) -> list[dict[str, Any]]:
        """Give what the simulated Sequence really moved."""
        async with httpx.AsyncClient(transport=self.sandbox.transport(), base_url="http://127.0.0.1") as control:
            transfers: list[dict[str, Any]] = (await control.get("/sandbox/transfers")).json()["transfers"]
        return transfers

    def trail(self) -> list[dict[str, Any]]:
        """Read the audit trail as a person would."""
        path = self.directory / ".audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def events(self) -> list[str]:
        return [line["event_type"].removeprefix("transfer_") for line in self.trail()]

    def ledger(self) -> list[dict[str, Any]]:
        """Read what counts, as a person would."""
        path = self.directory / ".daily_limits.json"
        days = json.loads(path.read_text()) if path.exists() else {}
        return [
            entry for lists in days.values() for value in lists.values() if isinstance(value, list) for entry in value
        ]


@asynccontextmanager
async def open_desk(
    directory: Path, sandbox: Sandbox, *, token_seconds: int = 30 * 86_400, **settings: Any
) -> AsyncIterator[Desk]:
    """Open one process's desk on a data directory; several may share directory and sandbox."""
    tokens = sandbox.issue_tokens(lifetime_seconds=token_seconds)
    loaded = Settings(
        access_token=SecretStr(tokens.access_token),
        auth0_client_id=CLIENT_ID,
        **({"request_interval_seconds": 0, "request_jitter_seconds": 0} | settings),
    )
    records = Records(
        directory,
        max_transfer_cents=loaded.max_transfer_cents,
        max_daily_cents=loaded.max_daily_transfer_cents,
    )
    records.store.prepare()
    client = GraphQLSequenceClient.open(loaded, directory, sandbox.transport())
    recovery = Recovery(records, grace_seconds=GRACE_SECONDS)
    reconciler = FollowUp(client, recovery, clock=utc_now)
    guard = TransferService(
        client,
        records,
        organization_id=ORGANIZATION_ID,
        max_attempts_per_minute=loaded.max_transfer_attempts_per_minute,
        on_unsettled=reconciler.wake,
    )
    pods = await client.pods()
    try:
        pod_ids = {pod.name or "": pod.id for pod in pods}
        yield Desk(directory, sandbox, records, client, guard, recovery, reconciler, pod_ids)
    finally:
        await guard.aclose()
        await client.aclose()
