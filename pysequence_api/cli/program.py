"""How a command ends: each failure as one line on standard error, and as an exit code."""

import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from signal import SIGINT
from typing import Any

import typer
from typer.core import TyperGroup

from pysequence_api.cli.output import ReaderGoneError, fail, note
from pysequence_api.errors import GatewayError, OutcomeUnknownError, SettingsError

UNEXPECTED, USAGE = 1, 2
SIGNALLED = 128
"""A command that a signal ended ends with this plus the signal's number: 130 after Ctrl-C."""
LEAST_HELP_COLUMNS = 52
"""In a narrower window, click would still write help this wide."""

log = logging.getLogger(__name__)


class InterruptedBySignalError(Exception):
    """A signal ended the command. Its text says how things were left.

    Attributes:
        exit_code: what it ends with.
    """

    def __init__(self, number: int, left: str = "") -> None:
        super().__init__(f"Interrupted. {left}".strip())
        self.exit_code = SIGNALLED + number


class Program(TyperGroup):
    """The tree of commands, with every end in one form."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command, and end the process with its exit code."""
        columns = shutil.get_terminal_size().columns
        if columns < LEAST_HELP_COLUMNS:
            extra.setdefault("terminal_width", columns)
        run = partial(super().main, args, prog_name, complete_var, False, windows_expand_args, **extra)
        if not standalone_mode:
            return run()
        _never_fail_to_encode()
        sys.exit(_ended(run))

    def invoke(self, ctx: Any) -> Any:
        """Run a command, whose Ctrl-C is one of its ends, not Typer's."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptedBySignalError(SIGINT) from None


def _ended(run: Callable[[], Any]) -> int:
    try:
        result = run()
    except ReaderGoneError:
        return 0  # what was asked for was done
    except SystemExit:
        if type(sys.stdout).__name__ == "PacifyFlushWrapper":
            return 0  # so click ends when the reader of the help has gone
        raise
    except Exception as error:  # noqa: BLE001 - no failure may end in a traceback
        return _reported(_alone(error))
    return result if isinstance(result, int) else 0  # an exit code, if a command raised `typer.Exit`


def _reported(error: Exception) -> int:
    if isinstance(error, GatewayError):
        # Only the settings are reported in several lines; line breaks in anything else came from elsewhere.
        fail(error.detail if isinstance(error, SettingsError) else " ".join(error.detail.splitlines()))
        if isinstance(error, OutcomeUnknownError):
            _warn_of_unknown_outcome(error)
        return error.exit_code
    if isinstance(error, InterruptedBySignalError):
        note(str(error))
        return error.exit_code
    if isinstance(error, typer.TyperException):
        return _reported_usage(error)
    log.debug("unexpected", exc_info=error)
    fail(f"unexpected {type(error).__name__}. This is a fault of the program; --debug right after its name shows more.")
    return UNEXPECTED


def _reported_usage(error: typer.TyperException) -> int:
    context, message = getattr(error, "ctx", None), error.format_message()
    if context is not None and message == context.get_help():
        note(message)  # nothing was given: the help is the answer
    else:
        ending = "" if message.endswith((".", "?", ")")) else "."
        hint = f" See {context.command_path} --help." if context else ""
        fail(" ".join(message.splitlines()) + ending + hint)
    return USAGE


def _warn_of_unknown_outcome(error: OutcomeUnknownError) -> None:
    note("DO NOT REPEAT THIS TRANSFER: the money may have moved.", "bold red")
    note(f"Attempt {error.attempt_id or 'unknown'} counts against the daily limit until its outcome is known.")
    note("What is known of it by now: pysequence-api transfers status " + (error.attempt_id or "ATTEMPT_ID"))
    note("Find out in the account's activity: pysequence-api limits reconcile")
    note("See how it stands: pysequence-api limits show")


def _alone(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _never_fail_to_encode() -> None:
    # A name that the terminal's character set lacks must not end a command, after a transfer least of all.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
