"""Policies over the accounts of a world."""

import hashlib

from pysequence_api.records.attempts import Writer
from pysequence_api.records.audit import Event, EventType
from pysequence_api.records.database import Database
from pysequence_api.safeguards.policy import parse_policy
from tests.safeguards.policies import LIMITS
from tests.world import DESTINATION, SOURCE, World

WORDS = {"a": SOURCE, "b": DESTINATION, "c": "Groceries", "d": "Taxes 2025"}
"""The owner's words in these policies, for pods of the simulated Sequence."""
NO_BREAKER = """
[breaker]
never_hits = 0
unknown = 0
refusals = 0
equal_orders = 0
all_unknown = 0
"""


def policy_text(world: World, *tables: str) -> str:
    """Write a policy, with `WORDS` for the pods."""
    accounts = [f'{word} = "POD:{world.pod_ids[name]}"' for word, name in WORDS.items() if name in world.pod_ids]
    return "\n".join(["version = 1", "[accounts]", *accounts, *tables])


def apply_policy(world: World, *tables: str) -> None:
    """Put a policy in force."""
    apply_text(world.gateway.records, policy_text(world, *tables))


def apply_text(records: Database, text: str) -> None:
    """Put the text of a policy in force."""
    parse_policy(text, LIMITS)

    def change(writer: Writer) -> None:
        newest = writer.policy()
        event = Event(
            timestamp=writer.now,
            event_type=EventType.POLICY_APPLIED,
            policy_version=1 if newest is None else newest.version + 1,
            policy_sha256=hashlib.sha256(text.encode()).hexdigest(),
        )
        writer.change_grants(event, text)

    records.write(change)
