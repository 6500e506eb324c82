"""``doctor``: what is wrong with the installation, and how to fix it."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from pysequence_api.cli.drawing import print_text
from pysequence_api.cli.terminal import COLUMN_GAP, note, print_json, safe
from pysequence_api.doctor import Finding, check_everything, exit_code_of
from pysequence_api.records.attempts import OWNER
from pysequence_api.sequence.telemetry import called_by

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}
LEVEL_WIDTH, NAME_WIDTH = 7, 14


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print all findings as one JSON document.")] = False,
) -> None:
    """Find problems and say how to fix them.

    Checks settings, data directory, records, token or key, Sequence, clock and a running server. Sends each kind of
    read to Sequence once. Changes nothing.

    \b
    Example:
      pysequence-api doctor
      pysequence-api doctor --json | jq '.findings[] | select(.level != "ok")'

    \b
    Exit codes, the highest of all problems:
      0  no problems; there may be warnings
      1  unexpected error, or an unhealthy server
      2  settings or data directory
      3  the safeguards would reject transfers
      4  sign-in or Sequence
    """
    findings = []
    with called_by(OWNER):
        for finding in check_everything():
            findings.append(finding)
            if not as_json:
                _print(finding)
    exit_code = exit_code_of(findings)
    if as_json:
        print_json({"ok": exit_code == 0, "exit_code": exit_code, "findings": [asdict(each) for each in findings]})
    elif exit_code:
        note("There are problems. Fix the first one first: it may cause the others.", color="red", bold=True)
    if exit_code:
        raise typer.Exit(exit_code)


def _print(finding: Finding) -> None:
    level = (f"{finding.level:{LEVEL_WIDTH}}", STYLES[finding.level])
    text = f"{COLUMN_GAP}{finding.name:{NAME_WIDTH}}{COLUMN_GAP}{safe(finding.said)}"
    fix = f". {safe(finding.fix)}" if finding.fix else ""
    print_text(Text.assemble(level, text.removesuffix(".") if fix else text, (fix, "bold")))
