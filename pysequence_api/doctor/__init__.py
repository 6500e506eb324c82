"""The checks of `doctor`. Each returns findings, and says how to fix what is wrong.

The checks repair nothing. Like every command, they create the data directory if it is missing. Each kind of read is
sent to Sequence once.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pysequence_api.doctor.account import check_account
from pysequence_api.doctor.files import (
    check_directory,
    check_file_system,
    check_modes,
    check_records,
    check_space,
)
from pysequence_api.doctor.finding import Finding, Level, problem_of
from pysequence_api.doctor.page import check_page
from pysequence_api.doctor.policy import check_policy
from pysequence_api.doctor.reads import check_reads
from pysequence_api.doctor.server import check_server
from pysequence_api.doctor.settings import check_hosts, check_notifications, check_settings
from pysequence_api.settings import Settings

__all__ = ["Finding", "Level", "check_everything", "exit_code_of"]

Checks = Sequence[tuple[str, Callable[[], Iterator[Finding]]]]


def check_everything() -> Iterator[Finding]:
    """Run all checks. An unexpected error is a finding too, never an exception."""
    try:
        settings = Settings.load()
    except Exception as error:  # noqa: BLE001 - every error becomes a finding
        yield problem_of("settings", error, "Correct this, and run `pysequence-api doctor` again.")
        return
    directory: Path = settings.data_directory
    checks: Checks = (
        ("settings", lambda: check_settings(settings)),
        ("hosts", lambda: check_hosts(settings)),
        ("notifications", lambda: check_notifications(settings)),
        ("data directory", lambda: check_directory(directory)),
        ("file modes", lambda: check_modes(directory)),
        ("space", lambda: check_space(directory)),
        ("file system", lambda: check_file_system(directory)),
        ("records", lambda: check_records(settings)),
        ("policy", lambda: check_policy(settings)),
        ("owner's page", lambda: check_page(settings)),
        ("Sequence", lambda: check_account(settings)),
        ("reads", lambda: check_reads(settings)),
        ("server", lambda: check_server(settings)),
    )
    for name, check in checks:
        try:
            yield from check()
        except Exception as error:  # noqa: BLE001 - every error becomes a finding
            yield problem_of(name, error, "Fix this, and run `pysequence-api doctor` again.")


def exit_code_of(findings: Sequence[Finding]) -> int:
    """Return 0 without problems, else the highest exit code of the problems."""
    return max((finding.exit_code for finding in findings if finding.level is Level.PROBLEM), default=0)
