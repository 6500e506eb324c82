"""What a transfer is told that names what the account does not have."""

import pytest

from pysequence_api.models import Accounts, AccountType, ExternalAccount, Pod
from pysequence_api.safeguards.parties import unknown_account
from tests.safeguards.policies import order


def account(*, complete: bool = True) -> Accounts:
    return Accounts(
        pods=(Pod(id="1", name="Checking", organization_id="o", balance_cents=0),),
        ports=(),
        accounts=(ExternalAccount(id="3", name="Landlord", organization_id="o", balance_cents=0),),
        organization_ids=("o",),
        complete=complete,
    )


def sees_pods(kind: AccountType, _: str) -> bool:
    return kind is AccountType.POD


def told(source: str, destination: str, *, complete: bool = True) -> str | None:
    error = unknown_account(order(100, source, destination), account(complete=complete), sees_pods)
    return None if error is None else str(error)


def test_a_wrong_type_is_told_of_what_the_caller_may_see() -> None:
    assert told("PORT:1", "ACCOUNT:3") == "source_id '1' is of type POD. Set source_type to POD."


@pytest.mark.parametrize("complete", [True, False])
def test_a_wrong_type_of_what_it_may_not_see_is_as_if_it_did_not_exist(complete: bool) -> None:
    existing = told("POD:1", "POD:3", complete=complete)
    missing = told("POD:1", "POD:4", complete=complete)
    assert (existing and existing.replace("'3'", "'4'")) == missing
    assert (missing is None) is not complete


def test_what_it_may_not_see_can_be_paid() -> None:
    assert told("POD:1", "ACCOUNT:3") is None
