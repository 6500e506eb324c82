"""The rules of the simulated household, and their executions.

Each rule moves money between two accounts, so each execution is one transfer, and their ids say so.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pysequence_api.sandbox.household import ORGANIZATIONS, Organization, Party
from pysequence_api.sandbox.ids import stable_id
from pysequence_api.sandbox.ledger import ActivityType, TransferRow
from pysequence_api.sandbox.seed import RULES as STREAMS
from pysequence_api.sandbox.seed import parties_by_name

_EXECUTION = "execution-"
MANUAL_TRIGGER = "MANUAL"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule."""

    id: str
    organization_id: str
    name: str
    source: Party
    destination: Party
    amount_cents: int
    trigger_type: str
    trigger_cron: str | None
    is_active: bool


def _rules(organization: Organization) -> Iterator[Rule]:
    parties = parties_by_name(organization)
    for stream in STREAMS[organization.id]:
        if stream.trigger is None:
            continue
        trigger_type, trigger_cron = stream.trigger
        yield Rule(
            id=stable_id("rule", f"{organization.id}/{stream.source}/{stream.destination}"),
            organization_id=organization.id,
            name=f"{stream.source} to {stream.destination}",
            source=parties[stream.source],
            destination=parties[stream.destination],
            amount_cents=stream.to_cents,
            trigger_type=trigger_type,
            trigger_cron=trigger_cron,
            is_active=stream.is_active,
        )


RULES = tuple(rule for organization in ORGANIZATIONS for rule in _rules(organization))
_BY_ACCOUNTS = {(rule.source.id, rule.destination.id): rule for rule in RULES}


def rule_of(row: TransferRow) -> Rule | None:
    """Return the rule that made a transfer; ``None`` if no rule did."""
    is_by_rule = row.activity_type == ActivityType.RULE
    return _BY_ACCOUNTS.get((row.source.id, row.destination.id)) if is_by_rule else None


def execution_id(row: TransferRow) -> str:
    """Return the id of the execution that made a transfer."""
    return _EXECUTION + row.id


def transfer_id_of(execution_id: str) -> str:
    """Return the id of the transfer that an execution made; an id of no transfer for any other text."""
    return execution_id.removeprefix(_EXECUTION) if execution_id.startswith(_EXECUTION) else ""
