"""``freeze`` and ``unfreeze``: stop all transfers at once. Writes the data directory; makes no upstream call."""

from typing import Annotated

import typer

from pysequence_api.cli.drawing import shown_time
from pysequence_api.cli.running import confirm_or_exit
from pysequence_api.cli.terminal import print_line
from pysequence_api.records import open_records
from pysequence_api.records.control import freeze as freeze_records
from pysequence_api.records.control import unfreeze as unfreeze_records
from pysequence_api.settings import Settings


def freeze(
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why. It is shown wherever it matters.")] = None,
) -> None:
    """Freeze all transfers.

    Takes effect at once in every process, without a restart. A transfer that waits is released; one that was sent runs
    to its end. Reads go on.

    \b
    Example:
      pysequence-api freeze --reason "laptop lost"
    """
    frozen = freeze_records(open_records(Settings.load().data_directory), reason)
    print_line(f"Transfers are frozen since {shown_time(frozen.since)} ({frozen.reason}).")


def unfreeze(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation. Required in scripts.")] = False,
) -> None:
    """Unfreeze transfers.

    \b
    Example:
      pysequence-api unfreeze
    """
    records = open_records(Settings.load().data_directory)
    frozen = records.read(lambda reader: reader.freeze())
    if frozen is None:
        print_line("Transfers are not frozen.")
        return
    confirm_or_exit(f"Transfers are frozen since {shown_time(frozen.since)} ({frozen.reason}). Unfreeze them?", yes=yes)
    unfreeze_records(records)
    print_line("Transfers are possible again.")
