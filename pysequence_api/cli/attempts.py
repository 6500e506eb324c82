"""``transfers status``: one attempt, read from the data directory."""

from typing import Annotated

import typer

from pysequence_api.cli.drawing import print_facts, shown_time
from pysequence_api.cli.terminal import UNKNOWN, print_json
from pysequence_api.money import format_cents
from pysequence_api.records import read_records
from pysequence_api.safeguards.status import AttemptStatus, read_attempt
from pysequence_api.settings import Settings


def status(
    attempt_id: Annotated[str, typer.Argument(metavar="ATTEMPT_ID", help="Attempt id, from the result or the error.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the response of GET /api/attempts/{attempt_id}.")
    ] = False,
) -> None:
    """Show the status of a transfer attempt.

    Reads the data directory; makes no upstream call.

    \b
    Example:
      pysequence-api transfers status 1dc004ac-bd0f-41da-b780-b4d026138697
    """
    print_status(read_attempt(read_records(Settings.load().data_directory), attempt_id), as_json=as_json)


def print_status(attempt: AttemptStatus, *, as_json: bool) -> None:
    """Print the status of an attempt."""
    if as_json:
        print_json(attempt.model_dump(mode="json"))
        return
    print_facts(
        [
            ("Attempt", attempt.attempt_id),
            ("State", attempt.state),
            ("Amount", format_cents(attempt.amount_cents)),
            ("Source", attempt.source_id or UNKNOWN),
            ("Destination", attempt.destination_id or UNKNOWN),
            ("Transfer", attempt.transfer_id or "not known"),
            ("Status at Sequence", attempt.transfer_status or UNKNOWN),
            ("Requested", shown_time(attempt.created_at)),
            ("Sent", shown_time(attempt.announced_at) if attempt.announced_at else "never"),
            ("Ended", shown_time(attempt.ended_at) if attempt.ended_at else "not yet"),
            ("Followed until", shown_time(attempt.followed_until) if attempt.followed_until else "not followed"),
            *([("Code", attempt.code)] if attempt.code else []),
            *([("Error", attempt.error)] if attempt.error else []),
            *([("The caller says", attempt.reason)] if attempt.reason else []),
        ]
    )
