"""The frame of the program: the tree of commands, and how each error becomes a line and an exit code."""

import gc
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from signal import SIGINT
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from pysequence_api.cli.commands import COMMANDS, Command
from pysequence_api.cli.terminal import ReaderGoneError, fail, note, print_json
from pysequence_api.collector import collect_from_now
from pysequence_api.errors import GatewayError, OutcomeUnknownError, SettingsError

UNEXPECTED, DECLINED, USAGE = 1, 1, 2
DOCUMENTED = {3, 4, 5}
"""With ``--json``, errors with these exit codes are printed as a document on standard output too."""
SIGNALED = 128
"""A command that a signal ended exits with this plus the signal's number: 130 after Ctrl-C."""
PROGRAM_OPTIONS = ("--no-color", "--debug")
MIN_HELP_COLUMNS = 52
"""In a narrower window, Typer would still write help this wide."""

ENV_FILE = "SEQUENCE_ENV_FILE"
"""The variable that names a file with settings; see `pysequence_api.env_files`, which loads more than help needs."""
_HAS_ENV_FILE = typer.Typer(add_completion=False, rich_markup_mode=None)


@_HAS_ENV_FILE.command()
def _has_env_file(env_file: Annotated[str | None, typer.Option()] = None) -> None:
    """Declare the option, for its type."""


log = logging.getLogger(__name__)


class InterruptedBySignalError(Exception):
    """A signal ended the command.

    Args:
        number: the signal.
        result: what was done by then, in one sentence.
    """

    def __init__(self, number: int, result: str = "") -> None:
        super().__init__(f"Interrupted. {result}".strip())
        self.exit_code = SIGNALED + number


class EnvFileOption(TyperOption):
    """``--env-file FILE``, which can stand before a command or after it; only the help of the program lists it.

    It converts no values: for that, Typer would load pydantic, and help and completion would be slower.
    """

    def __init__(self, *, hidden: bool) -> None:
        super().__init__(
            param_decls=["--env-file"],
            type_descriptor=_type_of_env_file(),
            metavar="FILE",
            help="Read settings from this file, too. Can also follow the command. (SEQUENCE_ENV_FILE)",
            hidden=hidden,
            expose_value=False,
        )

    def process_value(self, ctx: Any, value: Any) -> None:
        """Let the settings of this process be read from the file, too. The option overrides the variable."""
        if value == "":
            raise typer.BadParameter("the name of the file is empty", ctx=ctx, param=self)
        if value is not None:
            os.environ[ENV_FILE] = value


@cache
def _type_of_env_file() -> Any:
    """Return the type of the option. Every group has one, and building a command takes Typer longest."""
    [option] = get_command(_HAS_ENV_FILE).params
    assert isinstance(option, TyperOption)
    return option.type_descriptor


class LazyCommand(TyperCommand):
    """A command whose module is imported when it runs."""

    def __init__(self, name: str, command: Command) -> None:
        super().__init__(name, help=command.help, rich_markup_mode=None)
        self._target = command.target

    def load(self) -> TyperCommand:
        """Import the module, and build the command from its function."""
        return _load(self._target)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the arguments of the loaded command, which then runs in the place of this one."""
        return self.load().make_context(info_name, args, parent, **extra)


class LazyGroup(TyperGroup):
    """A group of commands. If it does something of its own, its module is imported when it runs."""

    def __init__(self, name: str, command: Command, commands: "dict[str, LazyCommand | LazyGroup]") -> None:
        has_target = bool(command.target)
        super().__init__(
            name=name,
            help=command.help,
            commands={**commands},
            params=[EnvFileOption(hidden=True)],
            invoke_without_command=has_target,
            no_args_is_help=not has_target,
            rich_markup_mode=None,
        )
        self._target = command.target

    def load(self) -> TyperGroup:
        """Import the module, if there is one, and build the group from its function."""
        if not self._target:
            return self
        loaded = _load(self._target)
        return TyperGroup(
            name=self.name,
            help=loaded.help,
            callback=loaded.callback,
            params=loaded.params,
            commands=dict(self.commands),
            invoke_without_command=True,
            rich_markup_mode=None,
        )

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the arguments of the loaded group, which then runs in the place of this one."""
        if not self._target:
            return super().make_context(info_name, args, parent, **extra)
        return self.load().make_context(info_name, args, parent, **extra)


class Program(TyperGroup):
    """The tree of commands. Every command ends with an exit code, and every error is one line."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes | {"commands": _tree()})
        self.params.append(EnvFileOption(hidden=False))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command, and exit the process with its exit code."""
        columns = shutil.get_terminal_size().columns
        if columns < MIN_HELP_COLUMNS:
            extra.setdefault("terminal_width", columns)
        given = _in_place(sys.argv[1:] if args is None else args)
        run = partial(super().main, given, prog_name, complete_var, False, windows_expand_args, **extra)
        if not standalone_mode:
            return run()
        _escape_what_cannot_be_encoded()
        sys.exit(_exit_code_of(run, as_json="--json" in given))

    def invoke(self, ctx: Any) -> Any:
        """Run a command; Ctrl-C ends it in our way, not in Typer's."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptedBySignalError(SIGINT) from None


def _in_place(args: Sequence[str]) -> list[str]:
    """Put options that may stand anywhere where they are parsed, and ``--help`` in the place of the word ``help``."""
    end = args.index("--") if "--" in args else len(args)
    first = [word for word in args[:end] if word in PROGRAM_OPTIONS]
    words = [word for word in args[:end] if word not in {*PROGRAM_OPTIONS, "--json"}]
    last = ["--json"] if "--json" in args[:end] else []
    if words[:1] == ["help"]:
        words, last = words[1:], ["--help"]
    return [*first, *words, *last, *args[end:]]


def _tree() -> "dict[str, LazyCommand | LazyGroup]":
    """Build the commands from the table."""
    below: dict[str, dict[str, Command]] = {}
    for command in COMMANDS:
        group, _, name = command.path.rpartition(" ")
        below.setdefault(group, {})[name] = command

    def build(group: str) -> dict[str, LazyCommand | LazyGroup]:
        return {
            name: LazyGroup(name, command, build(command.path)) if command.path in below else LazyCommand(name, command)
            for name, command in below[group].items()
        }

    return build("")


def _load(target: str) -> TyperCommand:
    module, _, function = target.partition(":")
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command()(getattr(import_module(f"{__package__}.{module}"), function))
    if not gc.isenabled():  # `cli.main` disabled it
        collect_from_now()  # what was imported stays, and is never looked at
    command = get_command(single)
    assert isinstance(command, TyperCommand)
    command.no_args_is_help = any(parameter.required for parameter in command.params)
    command.params.append(EnvFileOption(hidden=True))
    return command


def _exit_code_of(run: Callable[[], Any], *, as_json: bool) -> int:
    try:
        result = run()
    except ReaderGoneError:
        return 0  # the command did its work
    except SystemExit:
        if type(sys.stdout).__name__ == "PacifyFlushWrapper":
            return 0  # Typer exits like this when the reader of the help has gone
        raise
    except Exception as error:  # noqa: BLE001 - no error may end in a traceback
        return _report(_unwrapped(error), as_json=as_json)
    return result if isinstance(result, int) else 0  # an exit code, if the command raised `typer.Exit`


def _report(error: Exception, *, as_json: bool) -> int:
    if isinstance(error, GatewayError):
        # Only settings are reported on several lines; line breaks in anything else came from outside.
        fail(error.detail if isinstance(error, SettingsError) else " ".join(error.detail.splitlines()))
        if as_json and error.exit_code in DOCUMENTED:
            print_json(error.document(about_transfer=error.outcome is not None))
        if isinstance(error, OutcomeUnknownError):
            _warn_of_unknown_outcome(error)
        return error.exit_code
    if isinstance(error, InterruptedBySignalError):
        note(str(error))
        return error.exit_code
    if isinstance(error, typer.TyperException):
        return _report_usage(error)
    log.debug("unexpected", exc_info=error)
    fail(f"unexpected {type(error).__name__}. This is a bug. For details, run pysequence-api --debug with the command.")
    return UNEXPECTED


def _report_usage(error: typer.TyperException) -> int:
    context, message = getattr(error, "ctx", None), error.format_message()
    if context is not None and message == context.get_help():
        note(message)  # there were no arguments, so the help is the answer
    else:
        ending = "" if message.endswith((".", "?", ")")) else "."
        hint = f" See {context.command_path} --help." if context else ""
        fail(" ".join(message.splitlines()) + ending + hint)
    return USAGE


def _warn_of_unknown_outcome(error: OutcomeUnknownError) -> None:
    attempt_id = error.attempt_id or "ATTEMPT_ID"
    note("DO NOT REPEAT THIS TRANSFER: the money may have moved.", color="red", bold=True)
    note(f"Attempt {error.attempt_id or 'unknown'} counts against the daily limit until its outcome is known.")
    note(f"Show its status:     pysequence-api transfers status {attempt_id}")
    note("Look up its outcome: pysequence-api limits reconcile")
    note("Show the limits:     pysequence-api limits show")


def _unwrapped(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _escape_what_cannot_be_encoded() -> None:
    # A name outside of the terminal's character set must not end a command, least of all after a transfer.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
