"""The total of all pods."""

from pysequence_api.account.totals import total_of
from pysequence_api.models import Accounts, Pod


def account(*balances_cents: int | None) -> Accounts:
    pods = tuple(
        Pod(id=f"p-{number}", name=None, organization_id="o", balance_cents=cents)
        for number, cents in enumerate(balances_cents)
    )
    return Accounts(pods=pods, ports=(), accounts=(), organization_ids=("o",), complete=True)


def test_the_total_lists_the_pods_that_it_leaves_out() -> None:
    total = total_of(account(5, None))
    assert (total.total_balance_cents, [pod.id for pod in total.left_out], total.complete) == (5, ["p-1"], False)


def test_the_total_is_unknown_if_no_balance_is_known() -> None:
    assert total_of(account(None)).total_balance_cents is None
    assert total_of(account()).total_balance_cents == 0
