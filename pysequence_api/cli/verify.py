"""``audit verify``: whether the audit trail can be trusted."""

import re
from typing import Annotated

import typer

from pysequence_api.cli.drawing import progress
from pysequence_api.cli.terminal import note, print_json, print_line
from pysequence_api.errors import InvalidRequestError, SafeguardError
from pysequence_api.records import read_records
from pysequence_api.records.check import check
from pysequence_api.settings import Settings


def verify(
    expect: Annotated[
        str | None, typer.Option(metavar="HASH", help="Head that you saved elsewhere; some line must still have it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Verify the hash chain of the audit trail.

    Detects edits to earlier lines, and compares the trail with the database. Somebody who can write all files could
    also build a new chain. To detect that, save the head that `limits show` prints somewhere else, and pass it with
    --expect.

    \b
    Example:
      pysequence-api audit verify

    \b
    Exit codes:
      0  the chain is intact
      3  the chain is broken
    """
    if expect is not None and not re.fullmatch("[0-9a-fA-F]{64}", expect):
        raise InvalidRequestError("--expect needs a head: the 64 digits that `audit verify` and `limits show` print.")
    records = read_records(Settings.load().data_directory)
    with progress("verifying", "bytes", records.trail.size_bytes()) as advance:
        found = records.trail.verify(expect=expect and expect.lower(), progress=advance)
    problems = check(records).problems if records.path.exists() else ()
    if as_json:
        intact = found.intact and not problems
        print_json({"intact": intact} | found.model_dump(mode="json") | {"records": problems})
    elif found.problem is not None:
        print_line(f"Line {found.line} {found.problem}.")
    else:
        since = f"unbroken since {found.unbroken_since}" if found.unbroken_since else "no hash chain yet"
        print_line(f"{found.entries} entries, {since}, head {found.head}")
    for number in found.cut_short:
        note(f"Line {number} was cut short by a crash. This is not tampering.")
    for problem in problems:
        note(problem)
    if problems or not found.intact:
        raise typer.Exit(SafeguardError.exit_code)
