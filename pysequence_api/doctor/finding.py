"""What one check found."""

from dataclasses import dataclass
from enum import StrEnum

from pysequence_api.errors import GatewayError

UNEXPECTED = 1


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        name: what was looked at.
        level: how bad it is.
        said: what was found, in one line.
        fix: what to do; empty if nothing.
        exit_code: what a command would end with that meets this problem; see `pysequence_api.errors`.
    """

    name: str
    level: Level
    said: str
    fix: str = ""
    exit_code: int = 0


def ok(name: str, said: str) -> Finding:
    """Say that something is well."""
    return Finding(name, Level.OK, said)


def warning(name: str, said: str, fix: str) -> Finding:
    """Say that something works, and should be seen to."""
    return Finding(name, Level.WARNING, said, fix)


def problem(name: str, said: str, fix: str, kind: type[GatewayError]) -> Finding:
    """Say that something does not work."""
    return Finding(name, Level.PROBLEM, said, fix, kind.exit_code)


def problem_of(name: str, error: Exception, fix: str) -> Finding:
    """Say that something failed, in the words of the error if it is one of ours."""
    if isinstance(error, GatewayError):
        return Finding(name, Level.PROBLEM, " ".join(error.detail.split()), fix, error.exit_code)
    reason = getattr(error, "strerror", None)
    said = f"{type(error).__name__}{f' ({reason})' if reason else ''}"
    return Finding(name, Level.PROBLEM, said, fix, UNEXPECTED)
