"""``pods``: the pods and what they hold."""

from functools import partial
from typing import Annotated

import typer

from pysequence_api.account.names import find_pod
from pysequence_api.account.totals import total_of
from pysequence_api.cli.completion import complete_name
from pysequence_api.cli.drawing import TRANSFER_COLUMNS, Column, print_facts, print_table, transfer_row
from pysequence_api.cli.running import Interrupts, run
from pysequence_api.cli.terminal import UNKNOWN, print_json, print_line, warn
from pysequence_api.cli.upstream import Fresh, is_fresh, open_with_status, reading
from pysequence_api.models import Accounts, Liability, PodDetail, TotalBalance
from pysequence_api.money import format_cents
from pysequence_api.settings import Settings

COLUMNS = (Column("Name"), Column("Id", is_id=True), Column("Balance", right=True))


def list_pods(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help='Print {"pods": [...], "total": {...}}.')] = False,
    fresh: Fresh = False,
) -> None:
    """List pods, their balances and the total.

    \b
    Example:
      pysequence-api pods
      pysequence-api pods --json | jq -r .total.total_balance
      pysequence-api pods show Groceries
    """
    if context.invoked_subcommand is not None:
        return
    accounts = run(partial(_read, Settings.load(), fresh))
    total = total_of(accounts)
    if as_json:
        pods = [pod.model_dump(mode="json") for pod in accounts.pods]
        print_json({"pods": pods, "total": total.model_dump(mode="json")})
    else:
        _draw(accounts, total)
    if not accounts.complete:
        warn("Sequence left out a part of the account, so pods may be missing.")


def show(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Name of the pod, a part of its name that no other pod has, or its id.",
            autocompletion=complete_name,
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the response of GET /api/pods/detail/{pod_id}.")
    ] = False,
    fresh: Fresh = False,
) -> None:
    """Show one pod.

    Shows its balance and goal, masked account numbers, the debt that it pays off, and its latest transfers.

    \b
    Example:
      pysequence-api pods show Groceries
      pysequence-api pods show "Vacation / Travel" --json | jq .goal_cents
    """
    pod = run(partial(_read_one, Settings.load(), name, is_fresh(context, fresh=fresh)))
    if as_json or (context.parent is not None and context.parent.params["as_json"]):
        print_json(pod.model_dump(mode="json"))
    else:
        _draw_one(pod)
    if not pod.complete:
        warn("Sequence left out a part of this pod, or sent something that cannot be read.")


async def _read(settings: Settings, fresh: bool, _: Interrupts) -> Accounts:
    async with open_with_status(settings) as gateway:
        with reading(gateway, fresh=fresh) as reads:
            return await reads.accounts()


async def _read_one(settings: Settings, name: str, fresh: bool, _: Interrupts) -> PodDetail:
    async with open_with_status(settings) as gateway:
        with reading(gateway, fresh=fresh) as reads:
            accounts = await reads.accounts(balances=False)
            pod = find_pod(name, accounts.pods, complete=accounts.complete)
            return await reads.pod_detail(pod.organization_id, pod.id)


def _draw(accounts: Accounts, total: TotalBalance) -> None:
    rows = [(pod.name or "", pod.id, pod.balance or UNKNOWN) for pod in accounts.pods]
    left_out = len(total.left_out)
    what = f"{total.pod_count} pods" + (f", {left_out} with an unknown balance not included" if left_out else "")
    print_table(COLUMNS, rows, total=("Total", what, total.total_balance or UNKNOWN))


def _draw_one(pod: PodDetail) -> None:
    print_facts(
        [
            ("Name", pod.name or UNKNOWN),
            ("Id", pod.id),
            ("Balance", pod.balance or (f"{UNKNOWN}: {pod.balance_error}" if pod.balance_error else UNKNOWN)),
            ("Goal", pod.goal or "none"),
            ("Account", pod.account_number or UNKNOWN),
            ("Routing", pod.routing_number or UNKNOWN),
            ("Organization", pod.organization_id),
            *(_debt(pod.liability) if pod.liability else []),
        ]
    )
    if pod.recent_transfers:
        print_line()
        print_table(TRANSFER_COLUMNS, [transfer_row(transfer) for transfer in pod.recent_transfers])


def _debt(liability: Liability) -> list[tuple[str, str]]:
    amounts = {
        "Debt": liability.balance_cents,
        "Last statement": liability.last_statement_balance_cents,
        "Minimum payment": liability.next_payment_minimum_cents,
    }
    facts = [("Pays off", f"{liability.name or UNKNOWN} {liability.mask or ''}".strip())]
    facts += [(name, UNKNOWN if cents is None else format_cents(cents)) for name, cents in amounts.items()]
    if liability.next_payment_due_date is not None:
        facts.append(("Due", str(liability.next_payment_due_date)))
    if liability.error_code is not None:
        facts.append(("Error", f"{liability.error_code}: {liability.error_message or 'no reason given'}"))
    return facts
