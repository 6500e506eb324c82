"""``transfers status``: what became of one. Reads files only."""

from typing import Annotated

import typer

from pysequence_api.cli.output import UNKNOWN, print_facts, print_json, shown_time
from pysequence_api.gateway import open_records, open_recovery
from pysequence_api.money import format_cents
from pysequence_api.settings import Settings

app = typer.Typer(no_args_is_help=True, help="What became of a transfer.")


@app.callback()
def _transfers() -> None:
    """Keep `status` a command of its own, also while it is the only one."""


@app.command("status", no_args_is_help=True)
def status(
    attempt_id: Annotated[str, typer.Argument(help="The id of the attempt, as errors and `limits show` name it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as one JSON document.")] = False,
) -> None:
    """Say what is known by now of an attempt. Needs neither Sequence nor a network.

    \b
    Example:
      pysequence-api transfers status 1dc004ac-bd0f-41da-b780-b4d026138697
    """
    settings = Settings.load()
    known = open_recovery(settings, open_records(settings)).status(attempt_id)
    if as_json:
        print_json(known.model_dump(mode="json"))
        return
    print_facts(
        [
            ("Attempt", known.attempt_id),
            ("Status", known.status),
            ("Amount", format_cents(known.amount_cents)),
            ("From", known.source_id or UNKNOWN),
            ("To", known.destination_id or UNKNOWN),
            ("Transfer", known.transfer_id or "none known"),
            ("Asked for", shown_time(known.requested_at) if known.requested_at else UNKNOWN),
            ("Ended", shown_time(known.ended_at) if known.ended_at else "not yet known"),
            ("Error", known.error or "none"),
        ]
    )
