"""``owner``: your authenticator, and the password of your page. Reads and writes the data directory."""

import io
import sys
from functools import partial
from typing import Annotated

import anyio
import typer

from pysequence_api.cli.program import DECLINED
from pysequence_api.cli.running import can_ask, read_answer
from pysequence_api.cli.terminal import note, print_line, warn, write
from pysequence_api.errors import InvalidRequestError
from pysequence_api.records import open_records
from pysequence_api.safeguards.owner import Owner, address_of, new_secret
from pysequence_api.settings import Settings

NOT_A_TERMINAL = "Not a terminal. Run this in a terminal, where a person can enter the codes. Nothing was changed."


def setup(
    lost: Annotated[bool, typer.Option("--lost", help="Replace an authenticator that you no longer have.")] = False,
) -> None:
    """Set up your authenticator, which approves transfers.

    Draws a QR code for an authenticator app on your phone, and asks for a code that it shows. To replace an
    authenticator, you need a code of the old one. With --lost, you do not; the audit trail, the log and a notification
    say so.

    The secret is in the data directory. Anyone who can read it can approve, so no caller may run as the same user. With
    SEQUENCE_OWNER_TOTP set, that secret is used instead.

    \b
    Example:
      pysequence-api owner setup
      pysequence-api owner setup --lost
    """
    owner = _owner()
    owner.require_own_secret()
    old_code = None
    if owner.has_code() and not lost:
        old_code = _ask("Code of the authenticator that you replace:")
    secret = new_secret()
    _draw(address_of(secret))
    note(f"Scan this with your authenticator, or enter the secret: {secret}")
    owner.set_code(secret, _ask("Code that it shows:"), old_code=old_code, lost=lost)
    if lost:
        warn("The old authenticator was replaced without one of its codes. The audit trail says so.")
    print_line("Your authenticator is set up. `pysequence-api approvals approve` asks for its codes.")


def password() -> None:
    """Set the password of the owner's page.

    Asks for a code of your authenticator. Every session of the page is signed out.

    \b
    Example:
      pysequence-api owner password
    """
    owner = _owner()
    if not owner.has_code():
        raise InvalidRequestError("Set up your authenticator first: pysequence-api owner setup")
    chosen = _ask_hidden("New password (hidden): ")
    if chosen != _ask_hidden("The same again (hidden): "):
        raise InvalidRequestError("The two passwords differ. Nothing was changed. Run the command again.")
    owner.set_password(chosen, _ask("Code of your authenticator:"))
    print_line("The password of the owner's page is set.")


def _owner() -> Owner:
    if not can_ask():
        raise InvalidRequestError(NOT_A_TERMINAL)
    settings = Settings.load()
    return Owner(open_records(settings.data_directory), settings.owner_totp)


def _ask(question: str) -> str:
    answer = anyio.run(partial(read_answer, question))
    if not answer:
        note("Nothing was changed.")
        raise typer.Exit(DECLINED)
    return answer


def _ask_hidden(question: str) -> str:
    import getpass  # noqa: PLC0415 - only here

    return getpass.getpass(question, stream=sys.stderr)


def _draw(address: str) -> None:
    """Draw a QR code on standard error only, because it is a secret."""
    import segno  # noqa: PLC0415 - only here

    drawn = io.StringIO()
    segno.make(address, micro=False).terminal(out=drawn, border=2, compact=True)
    write(sys.stderr, drawn.getvalue())
