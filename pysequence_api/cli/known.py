"""Reading the account, and remembering what its parts are called, for screens that ask nobody."""

from collections.abc import Mapping

import anyio.to_thread

from pysequence_api.gateway import Gateway, open_names
from pysequence_api.models import Accounts, ExternalAccount, Pod, Port
from pysequence_api.settings import Settings


async def read_accounts(gateway: Gateway, organization_id: str | None = None) -> Accounts:
    """List pods, ports and external accounts, and remember their names."""
    accounts = await gateway.client.accounts(organization_id)
    parties: tuple[Pod | Port | ExternalAccount, ...] = (*accounts.pods, *accounts.ports, *accounts.accounts)
    names = {party.id: party.name for party in parties if party.name is not None}
    await anyio.to_thread.run_sync(open_names(gateway.settings).remember, names)
    return accounts


def known_names(settings: Settings) -> Mapping[str, str]:
    """Give the names that were remembered, by id."""
    return open_names(settings).read()
