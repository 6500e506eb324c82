"""``doctor``: whether all is well, and what to do where it is not."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from pysequence_api.cli.output import COLUMN_GAP, note, print_json, print_line, safe

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}
LEVEL_WIDTH, NAME_WIDTH = 7, 14


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print every finding as one JSON document.")] = False,
) -> None:
    """Check settings, data directory, ledger, audit chain, token, Sequence, clock and a running server.

    One line each, with what to do. It sends one read to Sequence, and moves and repairs nothing.

    Exit codes: 0 no problem (there may be warnings), else the highest that a problem has: 1 unexpected, or the server
    is not well, 2 settings or data directory, 3 the safeguards would refuse transfers, 4 sign-in or Sequence.

    \b
    Example:
      pysequence-api doctor
      pysequence-api doctor --json | jq '.findings[] | select(.level != "ok")'
    """
    from pysequence_api.doctor import check_everything, exit_code_of  # noqa: PLC0415 - much, for this command only

    findings = []
    for finding in check_everything():
        findings.append(finding)
        if not as_json:
            level = (f"{finding.level:{LEVEL_WIDTH}}", STYLES[finding.level])
            text = f"{COLUMN_GAP}{finding.name:{NAME_WIDTH}}{COLUMN_GAP}{safe(finding.said)}"
            fix = f". {safe(finding.fix)}" if finding.fix else ""
            print_line(Text.assemble(level, text.removesuffix(".") if fix else text, (fix, "bold")))
    exit_code = exit_code_of(findings)
    if as_json:
        print_json({"ok": exit_code == 0, "exit_code": exit_code, "findings": [asdict(each) for each in findings]})
    elif exit_code:
        note("Something is wrong. Begin with the first problem: others may come from it.", "bold red")
    if exit_code:
        raise typer.Exit(exit_code)
