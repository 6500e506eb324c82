"""``records``: back up, restore and check the records. Reads and writes the data directory; makes no upstream call."""

from pathlib import Path
from typing import Annotated

import typer

from pysequence_api.cli.drawing import print_facts, progress
from pysequence_api.cli.running import confirm_or_exit
from pysequence_api.cli.terminal import note, print_json, print_line, warn
from pysequence_api.clock import utc_now
from pysequence_api.errors import SafeguardError
from pysequence_api.records import read_records
from pysequence_api.records.check import check as check_records
from pysequence_api.records.database import Database
from pysequence_api.records.takeover import fill
from pysequence_api.records.trail import FILE_NAME as TRAIL_NAME
from pysequence_api.records.upkeep import back_up
from pysequence_api.records.upkeep import restore as restore_records
from pysequence_api.settings import Settings


def backup(
    file: Annotated[Path, typer.Argument(help="The new file. An existing one is never overwritten.")],
) -> None:
    """Back up the records into one file.

    Copies the database as it is at one moment. The server can keep running. Only you can read the file.

    \b
    Example:
      pysequence-api records backup /backups/records-$(date +%F).db
    """
    back_up(read_records(Settings.load().data_directory), file)
    print_line(f"{file}: {file.stat().st_size:,} bytes")


def restore(
    file: Annotated[
        Path | None, typer.Argument(help="The backup. Without it, the records are rebuilt from the audit trail.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation. Required in scripts.")] = False,
) -> None:
    """Restore the records.

    Stop the server first. What the audit trail knows beyond the backup is taken over, so that it counts. The database
    before is kept under another name. Afterwards transfers are frozen: look at `limits show`, then run `unfreeze`.
    Before the first transfer, the transfers of this month that the records lack are read from Sequence and counted.

    \b
    Example:
      pysequence-api records restore /backups/records-2026-11-23.db
      pysequence-api records restore
    """
    directory = Settings.load().data_directory
    source = "from the audit trail alone" if file is None else f"from {file}"
    note(f"The records in {directory.absolute()} are restored {source}. Transfers are frozen afterwards.")
    if not (directory / TRAIL_NAME).exists():
        warn(f"There is no {TRAIL_NAME}. What happened after the backup is unknown, except what Sequence shows.")
    confirm_or_exit("Restore them?", yes=yes)
    restored = restore_records(directory, file)
    print_facts(
        [
            ("Restored", f"from {restored.source}"),
            ("Taken over", f"{restored.events} events of the audit trail; they changed {restored.attempts} attempts"),
            ("Unknown", f"{len(restored.unknown)} attempts whose outcome is unknown since"),
            ("Expired", f"{len(restored.expired)} approvals"),
            ("Kept", restored.replaced or "there was no database before"),
        ]
    )
    note("Transfers are frozen. Check `pysequence-api limits show`, then run `pysequence-api unfreeze`.")


def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Check the records.

    Checks the pages of the database, the hash chain of the audit events, the attempts against their events, and the
    audit trail against the database. The server can keep running. Also works on a read-only copy.

    \b
    Example:
      pysequence-api records check
      pysequence-api records check --json | jq -r '.problems[]'

    \b
    Exit codes:
      0  nothing is wrong
      3  something is wrong; transfers may be stopped
    """
    records = Database(Settings.load().data_directory, utc_now, fill)  # which may be read-only
    with progress("checking", "bytes", records.trail.size_bytes()) as advance:
        found = check_records(records, advance)
    if as_json:
        print_json({"intact": found.intact} | found.model_dump(mode="json"))
    else:
        print_facts(
            [
                ("Attempts", f"{found.attempts}, {found.open_attempts} of them open"),
                ("Events", f"{found.events}, {found.events_not_in_trail} of them not in {TRAIL_NAME} yet"),
                ("Keys", str(found.idempotency_keys)),
                ("Problems", str(len(found.problems))),
            ]
        )
        for problem in found.problems:
            print_line(problem)
    if not found.intact:
        raise typer.Exit(SafeguardError.exit_code)
