"""What `doctor` looks at, each with what it found and what to do about it.

Nothing here changes anything that matters: the data directory is made, as by every command, and one read is sent.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pysequence_api.doctor.account import check_account
from pysequence_api.doctor.files import (
    check_directory,
    check_ledger,
    check_modes,
    check_place,
    check_space,
    check_trail,
)
from pysequence_api.doctor.finding import Finding, Level, problem_of
from pysequence_api.doctor.server import check_server
from pysequence_api.doctor.setup import check_settings
from pysequence_api.settings import Settings

__all__ = ["Finding", "Level", "check_everything", "exit_code_of"]

Checks = Sequence[tuple[str, Callable[[], Iterator[Finding]]]]


def check_everything() -> Iterator[Finding]:
    """Check one thing after the other. What fails unexpectedly is a finding too, never an exception."""
    try:
        settings = Settings.load()
    except Exception as error:  # noqa: BLE001 - a finding is the point
        yield problem_of("settings", error, "Set what is named, in the environment or in .env, and run it again.")
        return
    directory: Path = settings.data_directory
    checks: Checks = (
        ("settings", lambda: check_settings(settings)),
        ("data directory", lambda: check_directory(directory)),
        ("file modes", lambda: check_modes(directory)),
        ("space", lambda: check_space(directory)),
        ("file system", lambda: check_place(directory)),
        ("ledger", lambda: check_ledger(settings)),
        ("audit chain", lambda: check_trail(settings)),
        ("Sequence", lambda: check_account(settings)),
        ("server", lambda: check_server(settings)),
    )
    for name, check in checks:
        try:
            yield from check()
        except Exception as error:  # noqa: BLE001 - a finding is the point
            yield problem_of(name, error, "Act on what it says, and run `pysequence-api doctor` again.")


def exit_code_of(findings: Sequence[Finding]) -> int:
    """Give the exit code that says it all: 0 without a problem, else the highest of the problems' own."""
    return max((finding.exit_code for finding in findings if finding.level is Level.PROBLEM), default=0)
