"""``limits resolve``: a person's decision about transfers whose outcome is unknown."""

from typing import Annotated

import typer

from pysequence_api.cli.attempts import print_status
from pysequence_api.cli.running import confirm_or_exit
from pysequence_api.cli.terminal import note, print_json, print_line
from pysequence_api.errors import InvalidRequestError
from pysequence_api.money import format_cents
from pysequence_api.records import open_records
from pysequence_api.safeguards.resolve import resolve_all
from pysequence_api.safeguards.status import read_attempt
from pysequence_api.settings import Settings


def resolve(
    attempt_ids: Annotated[
        list[str], typer.Argument(metavar="ATTEMPT...", help="Attempt ids, from `pysequence-api limits show`.")
    ],
    completed: Annotated[
        str | None,
        typer.Option(metavar="TRANSFER_ID", help="Record that it was executed, as this transfer. For one attempt."),
    ] = None,
    not_executed: Annotated[
        bool, typer.Option("--not-executed", help="Record that they were not executed. They then no longer count.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation. Required in scripts.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the attempts as one JSON list.")] = False,
) -> None:
    """Record the outcome of transfers yourself.

    First check in Sequence's application whether each transfer was executed. Your decision is recorded in the audit
    trail and cannot be changed: for all of the attempts, or for none if one of them cannot be resolved. Reads the data
    directory; makes no upstream call.

    \b
    Example:
      pysequence-api limits resolve 1dc004ac-bd0f-41da-b780-b4d026138697 --not-executed
    """
    if (completed is not None) == not_executed or completed == "":
        raise InvalidRequestError("Pass either --completed TRANSFER_ID or --not-executed.")
    attempt_ids = list(dict.fromkeys(attempt_ids))
    if completed is not None and len(attempt_ids) > 1:
        raise InvalidRequestError(
            "--completed TRANSFER_ID is the transfer of one attempt. Pass one attempt id with it."
        )
    records = open_records(Settings.load().data_directory)
    outcome = "was not executed" if completed is None else f"was executed as transfer {completed!r}"
    for attempt_id in attempt_ids:
        status = read_attempt(records, attempt_id)
        parties = f"from {status.source_id} to {status.destination_id}"
        note(f"The transfer of {format_cents(status.amount_cents)} {parties} {outcome} (attempt {attempt_id}).")
    confirm_or_exit("Record this? It cannot be changed later.", yes=yes)
    try:
        resolved = resolve_all(records, attempt_ids, completed)
        records.write_limits()
    finally:
        records.close()
    if as_json:
        print_json([one.model_dump(mode="json") for one in resolved])
        return
    for number, one in enumerate(resolved):
        if number:
            print_line()
        print_status(one, as_json=False)
