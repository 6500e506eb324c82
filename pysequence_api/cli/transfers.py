"""``transfers status``: what became of one. Reads files only."""

from typing import Annotated

import typer

from pysequence_api.cli.output import UNKNOWN, print_facts, print_json, shown_time
from pysequence_api.gateway import open_records, open_recovery
from pysequence_api.money import format_cents
from pysequence_api.safeguards.recovery import AttemptStatus
from pysequence_api.settings import Settings

app = typer.Typer(no_args_is_help=True, help="What became of a transfer.")


@app.callback()
def _transfers() -> None:
    """Keep `status` a command of its own, also while it is the only one."""


@app.command("status")
def status(
    attempt_id: Annotated[str, typer.Argument(metavar="ATTEMPT_ID", help="From the answer, or the error.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print what GET /api/attempts/{attempt_id} answers.")] = False,
) -> None:
    """Say what is known by now of an attempt to transfer. Needs neither Sequence nor a network.

    \b
    Example:
      pysequence-api transfers status 1dc004ac-bd0f-41da-b780-b4d026138697
    """
    settings = Settings.load()
    print_status(open_recovery(settings, open_records(settings)).status(attempt_id), as_json=as_json)


def print_status(known: AttemptStatus, *, as_json: bool) -> None:
    """Write what is known of an attempt."""
    if as_json:
        print_json(known.model_dump(mode="json"))
        return
    print_facts(
        [
            ("Attempt", known.attempt_id),
            ("Status", known.status),
            ("Amount", format_cents(known.amount_cents)),
            ("Source", known.source_id or UNKNOWN),
            ("Destination", known.destination_id or UNKNOWN),
            ("Transfer", known.transfer_id or "none that is known"),
            ("Requested", shown_time(known.requested_at) if known.requested_at else UNKNOWN),
            ("Ended", shown_time(known.ended_at) if known.ended_at else "not yet"),
            *([("Error", known.error)] if known.error else []),
        ]
    )
