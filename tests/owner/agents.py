"""An agent with a rule that asks the owner."""

from pysequence_api.errors import GatewayError
from pysequence_api.gateway import Gateway
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import Caller, add
from pysequence_api.records.keys import sha256_of
from pysequence_api.records.states import State
from tests.policies import apply_policy
from tests.world import World

AGENT = "shopper"
ASKED_CENTS = 20_000
POLICY = """
[callers.shopper]
scopes = ["read:accounts", "move"]
reads = ["a", "b"]
day_cents = 50000
rules = [{ name = "weekly", from = ["a"], to = ["b"], max_cents = 30000, approve_above_cents = 10000, hour_count = 9 }]
"""


def add_agent(world: World, policy: str = POLICY) -> str:
    """Add an agent with its policy, and return its key."""
    key = add(world.gateway.records, AGENT).key
    apply_policy(world, policy)
    return key


async def ask(world: World, key: str, amount_cents: int = ASKED_CENTS, process: Gateway | None = None) -> str:
    """Have the agent request what the owner must approve, and return the attempt's id."""
    known = {one.id for one in world.attempts()}
    await request(world, key, amount_cents, process)
    (asked,) = [one for one in world.attempts() if one.id not in known]
    assert asked.state is State.AWAITING_APPROVAL
    return asked.id


async def request(world: World, key: str, amount_cents: int, process: Gateway | None = None) -> GatewayError | None:
    """Have the agent request a transfer, and return why it was refused."""
    caller = Caller(AGENT, sha256_of(key.encode()))
    transfers = (process or world.gateway).transfers
    try:
        await transfers.transfer(world.order(amount_cents), Channel.API, f"key-{amount_cents}", caller=caller)
    except GatewayError as error:
        return error
    return None
