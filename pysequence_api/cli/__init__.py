"""The command line. `commands` lists all commands; each group of them has a file of its own, imported when it runs."""

import gc
import os
import sys
from typing import Annotated

import typer

from pysequence_api import __version__
from pysequence_api.cli.logs import log_for_people
from pysequence_api.cli.program import Program
from pysequence_api.cli.terminal import allow_color, print_line

__all__ = ["app", "main"]

FLAGS = ("help", "install_completion", "show_completion")
"""Typer's own flags, which have no default. Typer would load pydantic to convert that."""

app = typer.Typer(
    name="pysequence-api",
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help wraps in every window, and nothing in it is taken for markup
    context_settings={"help_option_names": ["-h", "--help"], "default_map": dict.fromkeys(FLAGS, False)},
)


def main() -> None:
    """Run the program with the arguments of the command line."""
    # Nothing is garbage while modules are imported, and looking for it again and again takes a tenth of that time.
    gc.disable()  # until the command is loaded
    # It uses no plugin of pydantic, which would look for some in every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # httpx does without its own command line, which would load click and the highlighting of Rich.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # None stands for a module that is missing
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(__version__)
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Print without colors, like NO_COLOR=1.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Log everything to standard error, with tracebacks.")] = False,
) -> None:
    """Read your GetSequence account and move money, with limits and an audit trail for every transfer.

    To try it without real money, set SEQUENCE_SANDBOX=1. --no-color, --debug and --json may stand anywhere.

    \b
    Example:
      pysequence-api serve --sandbox
      SEQUENCE_SANDBOX=1 pysequence-api pods
      pysequence-api help transfer

    \b
    Exit codes:
      0    success
      1    unexpected error, or you answered no
      2    invalid usage or settings
      3    rejected by a safeguard
      4    rejected by Sequence, or Sequence could not be reached
      5    unknown outcome: the money may have moved
      130  interrupted
    """
    allow_color(not no_color)
    log_for_people(debug=debug)
