"""The total of all pods."""

from pysequence_api.models import Accounts, PodReference, TotalBalance


def total_of(accounts: Accounts) -> TotalBalance:
    """Add up the balances of all pods, and list the pods that the total leaves out."""
    known = [pod.balance_cents for pod in accounts.pods if pod.balance_cents is not None]
    left_out = tuple(PodReference(id=pod.id, name=pod.name) for pod in accounts.pods if pod.balance_cents is None)
    return TotalBalance(
        # Where pods may be missing, a total of nothing is unknown, not 0.
        total_balance_cents=sum(known) if known or (accounts.complete and not left_out) else None,
        pod_count=len(accounts.pods),
        left_out=left_out,
        complete=accounts.complete and not left_out,
    )
