"""Policies for tests."""

from datetime import UTC, datetime

from pysequence_api.models import AccountType, TransferOrder
from pysequence_api.safeguards.now import MaxCents
from pysequence_api.safeguards.policy import Policy, parse_policy

LIMITS = MaxCents(per_transfer=1_000_000, per_day=2_500_000)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
EXAMPLE = """
version = 1
[accounts]                     # words for TYPE:id; only type and id decide
checking  = "POD:1"
groceries = "POD:2"
landlord  = "ACCOUNT:3"
[never]                        # beats every rule
to = []
[callers.openclaw]
scopes = ["read:accounts", "move", "freeze"]
reads = ["checking", "groceries"]          # ["*"] is everything
day_cents = 200000
month_cents = 260000
rules = [
  { name = "groceries", from = ["checking"], to = ["groceries"], max_cents = 10000, day_cents = 20000, hour_count = 2 },
  { name = "rent", from = ["checking"], to = ["landlord"], max_cents = 180000, month_cents = 180000, approve_above_cents = 0 },
]
[callers.bookkeeper]
scopes = ["read:accounts", "read:activity"]
reads = ["*"]
expires = 2027-01-01T00:00:00Z
"""  # noqa: E501


def policy_of(text: str) -> Policy:
    """Parse a policy under the usual limits."""
    return parse_policy(text, LIMITS)


def order(
    amount_cents: int = 100, source: str = "POD:1", destination: str = "POD:2", *, instant: bool = False
) -> TransferOrder:
    """Order a transfer between two accounts, each as ``TYPE:id``."""
    (source_type, _, source_id), (destination_type, _, destination_id) = (
        account.partition(":") for account in (source, destination)
    )
    return TransferOrder(
        source_id=source_id,
        source_type=AccountType(source_type),
        destination_id=destination_id,
        destination_type=AccountType(destination_type),
        amount_cents=amount_cents,
        instant=instant,
    )
