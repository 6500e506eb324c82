"""An owner with an authenticator, and a caller that must ask."""

from datetime import datetime, timedelta
from typing import Any

import pyotp

from pysequence_api.gateway import Gateway
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import Caller
from pysequence_api.safeguards.transfers import CompletedTransfer
from tests.policies import NO_BREAKER, apply_policy
from tests.world import World

BOT = Caller("bot", None)
TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
RULES = """
[callers.bot]
scopes = ["move"]
reads = ["*"]
rules = [
  { name = "rent", from = ["a"], to = ["b"], max_cents = 50000, day_cents = 60000, approve_above_cents = 1000 },
]
"""


def apply_rules(world: World, text: str = RULES, **replaced: str) -> None:
    """Put a policy in force under which the caller ``bot`` must ask, with some numbers replaced."""
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    apply_policy(world, NO_BREAKER, text)


def code_at(now: datetime, step: int = 0) -> str:
    """Return what the owner's authenticator shows, some steps of 30 seconds later."""
    return pyotp.TOTP(TOTP_SECRET).at(now + timedelta(seconds=30 * step))


def code_now(world: World, step: int = 0) -> str:
    """Return what the owner's authenticator shows now."""
    return code_at(world.gateway.records.now(), step)


async def approve(world: World, attempt_id: str, process: Gateway | None = None, **changed: Any) -> CompletedTransfer:
    """Look at what waits, and approve it with the code of now."""
    process = process or world.gateway
    shown = await process.transfers.pending_one(attempt_id)
    arguments = {"bound_sha256": shown.bound_sha256, "code": code_now(world), "channel": Channel.CLI} | changed
    return await process.transfers.approve(attempt_id, **arguments)
