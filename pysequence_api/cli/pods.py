"""``pods``: what is where."""

from functools import partial
from typing import Annotated

import typer

from pysequence_api.cli.output import UNKNOWN, Column, print_json, print_table, warn
from pysequence_api.cli.running import Interrupts, run
from pysequence_api.gateway import open_gateway
from pysequence_api.sequence.client import total_of
from pysequence_api.sequence.models import Accounts, TotalBalance
from pysequence_api.settings import Settings

COLUMNS = (Column("Name"), Column("Id", style="dim"), Column("Balance", right=True))


def list_pods(
    as_json: Annotated[bool, typer.Option("--json", help='Print {"pods": [...], "total": {...}}.')] = False,
) -> None:
    """List the pods, their balances and the total.

    \b
    Example:
      pysequence-api pods
      pysequence-api pods --json | jq -r .total.total_balance
    """
    accounts = run(partial(_read, Settings.load()))
    total = total_of(accounts)
    if as_json:
        pods = [pod.model_dump(mode="json") for pod in accounts.pods]
        print_json({"pods": pods, "total": total.model_dump(mode="json")})
    else:
        _draw(accounts, total)
    if not accounts.complete:
        warn("Sequence left out a part of the account, so that pods may be missing here.")


async def _read(settings: Settings, _: Interrupts) -> Accounts:
    async with open_gateway(settings) as gateway:
        return await gateway.client.accounts()


def _draw(accounts: Accounts, total: TotalBalance) -> None:
    rows = [(pod.name or "", pod.id, pod.balance or UNKNOWN) for pod in accounts.pods]
    left_out = len(total.left_out)
    what = f"{total.pod_count} pods" + (f", without {left_out} of unknown balance" if left_out else "")
    print_table(COLUMNS, rows, total=("Total", what, total.total_balance or UNKNOWN))
