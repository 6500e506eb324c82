"""A data directory on which processes are killed, and the restart that finds out what became of their transfers."""

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import anyio
import httpx

from pysequence_api.gateway import Gateway, open_gateway
from pysequence_api.records.check import check
from pysequence_api.safeguards.status import Limits
from pysequence_api.sandbox import PLATFORM_PATH
from pysequence_api.settings import Settings
from tests.processes import Environment, SandboxProcess
from tests.world import DataDirectory

LIMIT_CENTS = 1_000_000
GRACE_SECONDS = 2
"""The simulated Sequence shows a transfer at once."""
MAX_SECONDS = 60
VARIABLES = {
    "SEQUENCE_MAX_DAILY_TRANSFER_CENTS": str(LIMIT_CENTS),
    "SEQUENCE_REQUEST_TIMEOUT_SECONDS": "1",
    "SEQUENCE_RECONCILE_GRACE_SECONDS": str(GRACE_SECONDS),
    "SEQUENCE_MAX_TRANSFER_ATTEMPTS_PER_MINUTE": "1000",
}


@dataclass
class Restart:
    """A data directory on a simulated Sequence. What had moved before this was made does not count."""

    sequence: SandboxProcess
    directory: Path
    upstream: str = "graphql"
    moved_before: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.moved_before = {one["id"] for one in self.sequence.moved()}

    def environment(self) -> Environment:
        """Return the environment of a process on this data directory."""
        return self.sequence.environment(self.directory, **VARIABLES, **self._upstream_variables)

    @cached_property
    def _upstream_variables(self) -> dict[str, str]:
        if self.upstream == "graphql":
            return {}
        key = httpx.post(
            f"{self.sequence.url}/sandbox/platform-keys", json={"requests_per_minute": 1_000_000}, trust_env=False
        ).json()["key"]
        return {"SEQUENCE_PLATFORM_URL": f"{self.sequence.url}{PLATFORM_PATH}", "SEQUENCE_PLATFORM_KEY": key}

    def moved(self) -> list[dict[str, Any]]:
        """List what really moved."""
        return [one for one in self.sequence.moved() if one["id"] not in self.moved_before]

    def trail(self) -> list[dict[str, Any]]:
        """Read the complete lines of the audit trail."""
        path = self.directory / ".audit.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith(b"}")]

    def expect_nothing_lost(self, what: str) -> None:
        """Check what the dead processes left, have a restart find out, and check everything against what moved."""
        requested = [line["amount_cents"] for line in self.trail() if line["event_type"] == "transfer_requested"]
        moved = Counter(one["amount_cents"] for one in self.moved())
        assert not moved - Counter(requested), f"{what}: sent before it was in the audit trail"
        limits = anyio.run(self._find_out, what)
        moved_cents = sum(one["amount_cents"] for one in self.moved())
        assert limits.used_cents == moved_cents <= LIMIT_CENTS, what
        counted = DataDirectory(self.directory).counted()
        assert sum(entry["amount_cents"] for entry in counted) == moved_cents, what
        begun = {line["attempt_id"] for line in self.trail() if line["event_type"] == "transfer_requested"}
        ended = [
            line["attempt_id"]
            for line in self.trail()
            if line["event_type"] == "transfer_completed"
            or (line["event_type"] == "transfer_failed" and line["outcome"] != "unknown")
        ]
        assert begun <= set(ended), what
        assert len(ended) == len(set(ended)), what

    async def _find_out(self, what: str) -> Limits:
        values = {
            name.removeprefix("SEQUENCE_").lower(): value
            for name, value in self.environment().items()
            if name.startswith("SEQUENCE_")
        }
        async with open_gateway(Settings.load(**values)) as gateway:
            moved_cents = sum(one["amount_cents"] for one in self.moved())
            assert gateway.limits().used_cents >= moved_cents, f"{what}: something that moved does not count"
            await self._settle(gateway, what)
            assert check(gateway.records).problems == (), what
            return gateway.limits()

    async def _settle(self, gateway: Gateway, what: str) -> None:
        with anyio.move_on_after(MAX_SECONDS):
            while True:
                await gateway.transfers.resending.adopt(MAX_SECONDS)
                await gateway.follow_up.run()
                if not gateway.limits().unsettled:
                    return
                await anyio.sleep(GRACE_SECONDS / 4)
        raise AssertionError(f"{what}: {gateway.limits().unsettled}")
