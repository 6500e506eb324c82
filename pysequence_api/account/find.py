"""Finding pods, ports and accounts by a name, a part of one, or an id."""

from pysequence_api.account.names import ranked, the_only
from pysequence_api.models import (
    Accounts,
    AccountType,
    ExternalAccount,
    FoundAccount,
    FoundAccounts,
    Match,
    Pod,
    Port,
)

_Party = Pod | Port | ExternalAccount


def find_accounts(wanted: str, accounts: Accounts) -> FoundAccounts:
    """Find everything that a text can mean, and the one exact match if there is one.

    Args:
        wanted: an id, a name, or a part of a name.
        accounts: where to look.
    """
    parties: list[_Party] = [*accounts.pods, *accounts.ports, *accounts.accounts]
    found = ranked(wanted, parties)
    match = the_only(found)
    return FoundAccounts(
        match=None if match is None else match.id,
        candidates=tuple(_found(party, matched) for party, matched in found),
        complete=accounts.complete,
    )


def _found(party: _Party, matched: Match) -> FoundAccount:
    kinds = {Pod: AccountType.POD, Port: AccountType.PORT, ExternalAccount: AccountType.ACCOUNT}
    return FoundAccount(
        id=party.id,
        type=kinds[type(party)],
        name=party.name,
        organization_id=party.organization_id,
        can_be_source=party.can_be_source if isinstance(party, ExternalAccount) else None,
        matched=matched,
        balance_cents=party.balance_cents,
        balance_error=party.balance_error,
        balance_updated_at=party.balance_updated_at,
    )
