"""``limits reconcile``: what became of transfers whose outcome is unknown, looked up at Sequence."""

from functools import partial
from typing import Annotated

import typer

from pysequence_api.cli.drawing import NOTHING, Column, print_table
from pysequence_api.cli.running import Interrupts, run
from pysequence_api.cli.terminal import print_json, print_line
from pysequence_api.gateway import open_gateway
from pysequence_api.money import format_cents
from pysequence_api.safeguards.resend import TERMINAL_WAIT_SECONDS
from pysequence_api.settings import Settings

FINDING_COLUMNS = (
    Column("Attempt", is_id=True),
    Column("Amount", right=True),
    Column("Result"),
    Column("Transfer or reason", whole=True),
)


def reconcile(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON list.")] = False,
) -> None:
    """Look up transfers with an unknown outcome.

    Searches the account's activity. A transfer that was made is settled. A transfer that was not made no longer counts
    as used. Until it is certain which, the transfer stays unsettled and counts; the exit code is 0 then too. With the
    Platform API, where that moves money once, a transfer of the last ten minutes is sent again.

    \b
    Example:
      pysequence-api limits reconcile
    """
    run(partial(_reconcile, Settings.load(), as_json))


async def _reconcile(settings: Settings, as_json: bool, _: Interrupts) -> None:
    async with open_gateway(settings, is_owner=True) as gateway:
        await gateway.transfers.resending.adopt(TERMINAL_WAIT_SECONDS)
        findings = await gateway.follow_up.run()
    if as_json:
        print_json([finding.model_dump(mode="json") for finding in findings])
    elif not findings:
        print_line("Nothing is unsettled.")
    else:
        rows = [
            (one.attempt_id, format_cents(one.amount_cents), one.result.value, one.transfer_id or one.reason or NOTHING)
            for one in findings
        ]
        print_table(FINDING_COLUMNS, rows)
