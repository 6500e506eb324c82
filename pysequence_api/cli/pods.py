"""``pods``: what is where."""

from functools import partial
from typing import Annotated

import typer

from pysequence_api.account.names import find_pod
from pysequence_api.account.totals import total_of
from pysequence_api.cli.known import read_accounts
from pysequence_api.cli.moves import MOVE_COLUMNS, move_row
from pysequence_api.cli.output import UNKNOWN, Column, print_facts, print_json, print_line, print_table, warn
from pysequence_api.cli.running import Interrupts, run
from pysequence_api.cli.waiting import open_watched
from pysequence_api.models import Accounts, Liability, PodDetail, TotalBalance
from pysequence_api.money import format_cents
from pysequence_api.settings import Settings

COLUMNS = (Column("Name"), Column("Id", style="dim"), Column("Balance", right=True))

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def list_pods(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help='Print {"pods": [...], "total": {...}}.')] = False,
) -> None:
    """List the pods, their balances and the total.

    \b
    Example:
      pysequence-api pods
      pysequence-api pods --json | jq -r .total.total_balance
      pysequence-api pods show Groceries
    """
    if context.invoked_subcommand is not None:
        return
    accounts = run(partial(_read, Settings.load()))
    total = total_of(accounts)
    if as_json:
        pods = [pod.model_dump(mode="json") for pod in accounts.pods]
        print_json({"pods": pods, "total": total.model_dump(mode="json")})
    else:
        _draw(accounts, total)
    if not accounts.complete:
        warn("Sequence left out a part of the account, so that pods may be missing here.")


@app.command("show", no_args_is_help=True)
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A pod's name, a part that only it has, or its id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print what GET /api/pods/detail/{pod_id} answers.")] = False,
) -> None:
    """Show one pod: balance, goal, masked numbers, the debt behind it, and its newest transfers.

    \b
    Example:
      pysequence-api pods show Groceries
      pysequence-api pods show "Vacation / Travel" --json | jq .goal_cents
    """
    pod = run(partial(_read_one, Settings.load(), name))
    if as_json or (context.parent is not None and context.parent.params["as_json"]):
        print_json(pod.model_dump(mode="json"))
    else:
        _draw_one(pod)


async def _read(settings: Settings, _: Interrupts) -> Accounts:
    async with open_watched(settings) as gateway:
        return await read_accounts(gateway)


async def _read_one(settings: Settings, name: str, _: Interrupts) -> PodDetail:
    async with open_watched(settings) as gateway:
        pod = find_pod(name, (await read_accounts(gateway)).pods)
        return await gateway.client.pod_detail(pod.organization_id, pod.id)


def _draw(accounts: Accounts, total: TotalBalance) -> None:
    rows = [(pod.name or "", pod.id, pod.balance or UNKNOWN) for pod in accounts.pods]
    left_out = len(total.left_out)
    what = f"{total.pod_count} pods" + (f", without {left_out} of unknown balance" if left_out else "")
    print_table(COLUMNS, rows, total=("Total", what, total.total_balance or UNKNOWN))


def _draw_one(pod: PodDetail) -> None:
    print_facts(
        [
            ("Name", pod.name or UNKNOWN),
            ("Id", pod.id),
            ("Balance", pod.balance or UNKNOWN),
            ("Goal", pod.goal or "none"),
            ("Account", pod.account_number or UNKNOWN),
            ("Routing", pod.routing_number or UNKNOWN),
            ("Organization", pod.organization_id),
            *(_debt(pod.liability) if pod.liability else []),
        ]
    )
    if pod.recent_transfers:
        print_line()
        print_table(MOVE_COLUMNS, [move_row(each) for each in pod.recent_transfers])


def _debt(liability: Liability) -> list[tuple[str, str]]:
    amounts = {
        "Debt": liability.balance_cents,
        "Last statement": liability.last_statement_balance_cents,
        "Least payment": liability.next_payment_minimum_cents,
    }
    facts = [("Pays off", f"{liability.name or UNKNOWN} {liability.mask or ''}".strip())]
    facts += [(name, UNKNOWN if cents is None else format_cents(cents)) for name, cents in amounts.items()]
    if liability.next_payment_due_date is not None:
        facts.append(("Due", str(liability.next_payment_due_date)))
    if liability.error_code is not None:
        facts.append(("Not readable", f"{liability.error_code}: {liability.error_message or 'no reason given'}"))
    return facts
