"""What `serve --sandbox` shows a newcomer: two agents with a policy, some history, and a transfer that waits.

There is no real money, so everybody may know the password and the secret of the owner's page.
"""

import logging
from collections.abc import Mapping
from functools import partial
from uuid import uuid4

import anyio.to_thread
import pyotp

from pysequence_api.errors import GatewayError, SafeguardsUnavailableError
from pysequence_api.gateway import Gateway
from pysequence_api.models import Accounts, AccountType, Pod, TransferOrder
from pysequence_api.money import MAX_AMOUNT_CENTS
from pysequence_api.owner import Showcase
from pysequence_api.records.approvals import TOTP_STEP_SECONDS
from pysequence_api.records.attempts import Reader
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import Caller, add
from pysequence_api.safeguards.applying import apply_policy
from pysequence_api.safeguards.now import MaxCents
from pysequence_api.safeguards.owner import hash_password
from pysequence_api.safeguards.policy import account_of
from pysequence_api.settings import SANDBOX_DEFAULTS, Settings

PASSWORD = "owner-of-the-sandbox"
NO_LIMITS = MaxCents(per_transfer=MAX_AMOUNT_CENTS, per_day=MAX_AMOUNT_CENTS)
"""A cap for the policy, so that the global limits decide, with their own messages."""
SECRET = "ONQW4ZDCN54CA33XNZSXEJ3TEBYGCZ3F"
AGENT, HOME = "openclaw", "home-assistant"
_POLICY = """\
version = 1

[breaker]  # off: whoever tries out a sandbox repeats transfers, and asks for what is refused
never_hits = 0
unknown = 0
refusals = 0
equal_orders = 0
all_unknown = 0

[accounts]
{accounts}

[callers.openclaw]
scopes = ["read:accounts", "read:activity", "move", "freeze"]
reads = ["vacation", "groceries", "rent"]
day_cents = 60000

[[callers.openclaw.rules]]
name = "groceries"
from = ["vacation"]
to = ["groceries"]
max_cents = 20000
approve_above_cents = 10000
hour_count = 6
day_cents = 40000
month_cents = 120000

[callers.home-assistant]
scopes = ["read:accounts", "move"]
reads = ["emergency", "rent"]

[[callers.home-assistant.rules]]
name = "rent"
from = ["emergency"]
to = ["rent"]
max_cents = 50000
day_count = 4
month_cents = 150000

[callers.default]  # the key in the examples that the server prints
scopes = ["read:accounts", "read:activity", "read:metrics", "move", "freeze"]
reads = ["*"]

[[callers.default.rules]]
name = "everything"
from = [{all}]
to = [{all}]
max_cents = {max_cents}
instant = true
"""

log = logging.getLogger(__name__)


async def prepare(gateway: Gateway) -> None:
    """Give the sandbox a password, a secret and, if nothing ever happened in it, agents with a history."""
    try:
        await anyio.to_thread.run_sync(_set_secrets, gateway)
        if _is_usual(gateway.settings) and gateway.records.read(_is_untouched):
            await _add_agents(gateway)
    except GatewayError as error:
        log.warning("the sandbox has no examples: %s", error)


def showcase_of(gateway: Gateway) -> Showcase | None:
    """Return the credentials of the sandbox's page; ``None`` if its owner set others."""
    try:
        secrets = gateway.records.read(lambda reader: reader.owner_secrets())
    except SafeguardsUnavailableError:
        return None
    is_known = gateway.settings.sandbox and secrets.totp_secret == SECRET and not gateway.owner.is_set_by_settings
    return Showcase(PASSWORD, partial(_next_code, gateway)) if is_known else None


def _set_secrets(gateway: Gateway) -> None:
    if gateway.owner.has_code():
        return
    hashed = hash_password(PASSWORD)
    gateway.records.write(
        lambda writer: writer.set_owner_secrets(
            totp_secret=SECRET, totp_set_at=writer.now, password_hash=hashed, password_set_at=writer.now
        )
    )


def _next_code(gateway: Gateway) -> str | None:
    """Return a valid code; ``None`` if all valid ones were used."""
    used = gateway.records.read(lambda reader: reader.owner_secrets().totp_step)
    step = int(gateway.records.now().timestamp()) // TOTP_STEP_SECONDS
    good = next((one for one in (step, step + 1) if one > used), None)
    return None if good is None else pyotp.TOTP(SECRET).at(good * TOTP_STEP_SECONDS)


def _is_usual(settings: Settings) -> bool:
    """Return whether no setting that decides about transfers was changed. If one was, the user tries something else."""
    given = {
        name: getattr(settings, name) for name in ("max_transfer_cents", "max_daily_transfer_cents", "policy_file")
    }
    key = settings.api_key
    has_key_of_sandbox = key is not None and key.get_secret_value() == SANDBOX_DEFAULTS["api_key"]
    return has_key_of_sandbox and all(value == Settings.model_fields[name].default for name, value in given.items())


def _is_untouched(reader: Reader) -> bool:
    return not (reader.callers() or reader.policy() or reader.newest_attempts(1))


async def _add_agents(gateway: Gateway) -> None:
    pods = {pod.name or "": pod for pod in await gateway.client.pods()}
    vacation, groceries = pods["Vacation / Travel"], pods["Groceries"]
    emergency, rent = pods["Emergency Fund"], pods["Rent"]
    agent = await _add(gateway, AGENT)
    home = await _add(gateway, HOME)
    words = {vacation.id: "vacation", groceries.id: "groceries", emergency.id: "emergency", rent.id: "rent"}
    text = _policy(await gateway.client.accounts(balances=False), words)
    await anyio.to_thread.run_sync(partial(apply_policy, gateway.records, text, NO_LIMITS, after=None))
    for caller, source, destination, amount_cents, reason in (
        (agent, vacation, groceries, 1240, "Milk, eggs and bread for the week"),
        (home, emergency, rent, 2500, "Round up for the rent"),
        (agent, vacation, groceries, 860, "Groceries for the weekend"),
        (agent, vacation, groceries, 35_000, "A new coffee machine"),  # more than its rule allows
        (agent, vacation, groceries, 16_500, "Birthday dinner for eight on Saturday"),  # asks the owner
    ):
        await _move(gateway, caller, source=source, destination=destination, amount_cents=amount_cents, reason=reason)


async def _add(gateway: Gateway, name: str) -> Caller:
    new = await anyio.to_thread.run_sync(add, gateway.records, name)
    caller = gateway.callers.find(new.key.encode())  # this also notes that the key was used
    assert caller is not None
    return caller


def _policy(accounts: Accounts, words: Mapping[str, str]) -> str:
    """Write the policy, with all accounts, and these words for some of them."""
    all_ids = {pod.id: account_of(AccountType.POD, pod.id) for pod in accounts.pods}
    all_ids |= {port.id: account_of(AccountType.PORT, port.id) for port in accounts.ports}
    all_ids |= {one.id: account_of(AccountType.ACCOUNT, one.id) for one in accounts.accounts}
    named = {account_id: words.get(account_id, f"account-{number}") for number, account_id in enumerate(all_ids, 1)}
    return _POLICY.format(
        accounts="\n".join(f'{word} = "{all_ids[account_id]}"' for account_id, word in named.items()),
        all=", ".join(f'"{word}"' for word in named.values()),
        max_cents=MAX_AMOUNT_CENTS,
    )


async def _move(
    gateway: Gateway, caller: Caller, *, source: Pod, destination: Pod, amount_cents: int, reason: str
) -> None:
    order = TransferOrder(
        kyc_id=gateway.kyc_id,
        source_id=source.id,
        source_type=AccountType.POD,
        destination_id=destination.id,
        destination_type=AccountType.POD,
        amount_cents=amount_cents,
    )
    try:
        await gateway.transfers.transfer(order, Channel.API, str(uuid4()), caller=caller, reason=reason)
    except GatewayError as error:
        log.debug("an example of the sandbox ended with %s", error.code)
