"""Whether the account has what a transfer names, told without revealing what its caller may not see."""

from collections.abc import Callable

from pysequence_api.errors import UnknownAccountError
from pysequence_api.models import Accounts, AccountType, TransferOrder
from pysequence_api.text import quoted

MayRead = Callable[[AccountType, str], bool]


def unknown_account(order: TransferOrder, accounts: Accounts, may_read: MayRead) -> UnknownAccountError | None:
    """Say what a transfer names that the account does not have.

    Args:
        order: the transfer.
        accounts: everything in the account. What is missing from an incomplete list may exist all the same.
        may_read: whether the caller may see an account. Of one that it may not see under its right type, the answer is
            the same as of one that does not exist.
    """
    types: dict[str, AccountType] = {}
    types |= {pod.id: AccountType.POD for pod in accounts.pods}
    types |= {port.id: AccountType.PORT for port in accounts.ports}
    types |= {account.id: AccountType.ACCOUNT for account in accounts.accounts}
    parties = (
        ("source", order.source_id, order.source_type),
        ("destination", order.destination_id, order.destination_type),
    )
    for name, party_id, party_type in parties:
        right = types.get(party_id)
        if right is party_type:
            continue
        if right is not None and may_read(right, party_id):
            return UnknownAccountError(f"{name}_id {party_id!r} is of type {right}. Set {name}_type to {right}.")
        if accounts.complete:
            return UnknownAccountError(
                f"The account has no {party_type.value} with the {name}_id {quoted(party_id)}. `GET /api/accounts`"
                " lists those that you may see."
            )
    if order.kyc_id is not None and accounts.kyc_ids is not None and order.kyc_id not in accounts.kyc_ids:
        return UnknownAccountError(f"The account has no KYC application {quoted(order.kyc_id)}. Correct kyc_id.")
    return None
