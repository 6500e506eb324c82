"""``freeze`` and ``unfreeze``: stop transfers at once. Writes the data directory; makes no upstream call."""

from typing import Annotated

import typer

from pysequence_api.cli.drawing import shown_time
from pysequence_api.cli.running import confirm_or_exit
from pysequence_api.cli.terminal import print_line
from pysequence_api.records import open_records
from pysequence_api.records.attempts import Freeze
from pysequence_api.records.control import freeze as freeze_records
from pysequence_api.records.control import freeze_of
from pysequence_api.records.control import unfreeze as unfreeze_records
from pysequence_api.settings import Settings

Caller = Annotated[str | None, typer.Argument(metavar="CALLER", help="Only the transfers of this caller.")]


def freeze(
    caller: Caller = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why. It is shown wherever it matters.")] = None,
) -> None:
    """Freeze all transfers, or those of one caller.

    Takes effect at once in every process, without a restart. A transfer that waits is released; one that was sent runs
    to its end. Reads go on.

    \b
    Example:
      pysequence-api freeze --reason "laptop lost"
      pysequence-api freeze openclaw
    """
    frozen = freeze_records(open_records(Settings.load().data_directory), reason, caller)
    print_line(f"{describe(frozen)}.")


def unfreeze(
    caller: Caller = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation. Required in scripts.")] = False,
) -> None:
    """Unfreeze transfers, or those of one caller.

    Without a caller, this ends the freeze of all transfers. Callers that are frozen themselves stay so.

    \b
    Example:
      pysequence-api unfreeze
      pysequence-api unfreeze openclaw
    """
    records = open_records(Settings.load().data_directory)
    whose = "Transfers" if caller is None else f"Transfers of {caller}"
    frozen = records.read(lambda reader: freeze_of(reader, caller))
    if frozen is None:
        print_line(f"{whose} are not frozen.")
        return
    confirm_or_exit(f"{describe(frozen)}. Unfreeze them?", yes=yes)
    unfreeze_records(records, caller)
    print_line(f"{whose} are possible again.")


def describe(frozen: Freeze) -> str:
    """Say whose transfers are frozen, since when, and why."""
    whose = "Transfers" if frozen.caller is None else f"Transfers of {frozen.caller}"
    return f"{whose} are frozen since {shown_time(frozen.since)} ({frozen.reason})"
