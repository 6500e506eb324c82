"""``accounts``: everything that can hold money."""

from functools import partial
from typing import Annotated

import typer

from pysequence_api.cli.drawing import Column, print_table
from pysequence_api.cli.running import Interrupts, run
from pysequence_api.cli.terminal import UNKNOWN, print_json, warn
from pysequence_api.cli.upstream import Fresh, open_with_status, reading
from pysequence_api.models import Accounts
from pysequence_api.settings import Settings

COLUMNS = (
    Column("Kind"),
    Column("Name"),
    Column("Id", is_id=True),
    Column("At"),
    Column("Number"),
    Column("Balance", right=True),
)


def list_accounts(
    org_id: Annotated[str | None, typer.Option(metavar="ORG_ID", help="List only this organization.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the response of GET /api/accounts.")] = False,
    fresh: Fresh = False,
) -> None:
    """List pods, ports and external accounts.

    Income arrives at ports. External accounts are bank accounts, cards and loans outside Sequence.

    \b
    Example:
      pysequence-api accounts
      pysequence-api accounts --json | jq -r '.accounts[].name'
    """
    accounts = run(partial(_read, Settings.load(), org_id, fresh))
    if as_json:
        print_json(accounts.model_dump(mode="json"))
    else:
        print_table(COLUMNS, _rows(accounts))
    if not accounts.complete:
        warn("Sequence left out a part of the account, so entries may be missing.")


async def _read(settings: Settings, org_id: str | None, fresh: bool, _: Interrupts) -> Accounts:
    async with open_with_status(settings) as gateway:
        with reading(gateway, fresh=fresh) as reads:
            return await reads.accounts(org_id)


def _rows(accounts: Accounts) -> list[tuple[str, ...]]:
    inside = [("pod", pod) for pod in accounts.pods] + [("port", port) for port in accounts.ports]
    return [
        *((kind, one.name or "", one.id, "Sequence", "", one.balance or UNKNOWN) for kind, one in inside),
        *(
            (
                (one.type or "account").lower().replace("_", " "),
                one.name or "",
                one.id,
                one.institution or "",
                one.account_number or "",
                one.balance or UNKNOWN,
            )
            for one in accounts.accounts
        ),
    ]
