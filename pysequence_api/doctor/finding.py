"""The result of one check."""

from dataclasses import dataclass
from enum import StrEnum

from pysequence_api.errors import GatewayError

UNEXPECTED = 1


class Level(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: what was checked.
        level: how serious it is.
        said: what was found, in one line.
        fix: what to do; empty if nothing.
        exit_code: the exit code of a command that runs into this problem; see `pysequence_api.errors`.
    """

    name: str
    level: Level
    said: str
    fix: str = ""
    exit_code: int = 0


def ok(name: str, said: str) -> Finding:
    """Report that something is in order."""
    return Finding(name, Level.OK, said)


def warning(name: str, said: str, fix: str) -> Finding:
    """Report something that works, but needs attention."""
    return Finding(name, Level.WARNING, said, fix)


def problem(name: str, said: str, fix: str, kind: type[GatewayError]) -> Finding:
    """Report something that does not work."""
    return Finding(name, Level.PROBLEM, said, fix, kind.exit_code)


def problem_of(name: str, error: Exception, fix: str) -> Finding:
    """Report an error: its message if it is one of ours, else only its type."""
    if isinstance(error, GatewayError):
        return Finding(name, Level.PROBLEM, " ".join(error.detail.split()), fix, error.exit_code)
    reason = getattr(error, "strerror", None)
    said = f"{type(error).__name__}{f' ({reason})' if reason else ''}"
    return Finding(name, Level.PROBLEM, said, fix, UNEXPECTED)
