"""The terminal: the Typer tree, put together. Each command group has a file of its own.

What a command does not need, its file does not import at the top: ``audit tail`` and ``limits show`` start without an
HTTP client, and nothing but ``serve`` loads the web framework.
"""

from typing import Annotated

import typer

from pysequence_api import __version__
from pysequence_api.cli import (
    accounts,
    activity,
    audit,
    auth,
    doctor,
    health,
    key,
    limits,
    openapi,
    pods,
    sandbox,
    serve,
    settling,
    trail,
    transfer,
    transfers,
)
from pysequence_api.cli.logs import log_for_people
from pysequence_api.cli.output import print_line, use_color
from pysequence_api.cli.program import Program

__all__ = ["app", "main"]

app = typer.Typer(
    name="pysequence-api",
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help wraps well in every window, and nothing in it can be taken for markup
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("health")(health.health)
app.command("doctor")(doctor.doctor)
app.command("openapi")(openapi.openapi)
app.command("accounts")(accounts.list_accounts)
app.command("transfer", no_args_is_help=True)(transfer.transfer)
audit.app.command("verify")(trail.verify)
audit.app.command("export")(trail.export)
limits.app.command("reconcile")(settling.reconcile)
limits.app.command("resolve", no_args_is_help=True)(settling.resolve)
limits.app.command("repair")(settling.repair)
app.add_typer(pods.app, name="pods")
app.add_typer(activity.app, name="activity")
app.add_typer(transfers.app, name="transfers")
app.add_typer(auth.app, name="auth")
app.add_typer(audit.app, name="audit")
app.add_typer(limits.app, name="limits")
app.add_typer(key.app, name="key")
app.add_typer(sandbox.app, name="sandbox")


def main() -> None:
    """Run the program on the command line's arguments."""
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
    no_color: Annotated[bool, typer.Option("--no-color", help="Draw without colours, as NO_COLOR=1 does.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log everything to standard error, with tracebacks of what is unexpected.")
    ] = False,
) -> None:
    """A gateway to your money at GetSequence: limits and an audit trail around every transfer.

    SEQUENCE_SANDBOX=1 before any command uses a simulated Sequence, where no real money is.

    \b
    Example:
      pysequence-api serve --sandbox
      SEQUENCE_SANDBOX=1 pysequence-api pods

    Exit codes: 0 done, 1 unexpected (or you said no), 2 usage or settings, 3 refused by a safeguard, 4 Sequence refused
    or could not be reached, 5 nobody knows whether the money moved, 130 interrupted.
    """
    use_color(not no_color)
    log_for_people(debug=debug)
