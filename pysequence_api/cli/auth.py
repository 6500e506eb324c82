"""``auth``: signing in, the sign-in status, and signing out."""

import getpass
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from pysequence_api.account.shared import remove_answers
from pysequence_api.cli.drawing import print_facts, shown_time
from pysequence_api.cli.running import Interrupts, run
from pysequence_api.cli.terminal import UNKNOWN, is_terminal, note, print_json, print_line
from pysequence_api.errors import (
    InvalidRequestError,
    NotAuthorizedError,
    SequenceError,
    SignInError,
    SignInRefusedError,
)
from pysequence_api.gateway import open_gateway, open_sign_in
from pysequence_api.sequence.sign_in.service import SignIn, SignInStatus
from pysequence_api.sequence.sign_in.token_cache import is_sendable
from pysequence_api.settings import Settings, variable

T = TypeVar("T")

MAX_TOKEN_CHARACTERS = 64 * 1024
SIGNED_OUT = 1
"""The exit code of `auth status` without a valid access token."""


def login(
    headed: Annotated[
        bool, typer.Option("--headed", help="Open a browser window and sign in by hand, for any second factor.")
    ] = False,
    token: Annotated[
        bool, typer.Option("--token", help="Read an access token from standard input instead of signing in.")
    ] = False,
    debug_dir: Annotated[
        Path | None,
        typer.Option(help="Directory for a screenshot, with blanked fields, of a page that stops the sign-in."),
    ] = None,
) -> None:
    """Sign in and store the tokens.

    Signs in with SEQUENCE_EMAIL, SEQUENCE_PASSWORD and SEQUENCE_TOTP in a headless Chromium, unless there is a valid
    token already. After a rejected sign-in the next one has to wait, so the account is not locked. The tokens are
    stored in the data directory. A token from standard input is stored if Sequence accepts it for a read.

    \b
    Example:
      pysequence-api auth login
      pysequence-api auth login --headed
      pysequence-api auth login --token < token.txt
    """
    if headed and token:
        raise InvalidRequestError("--headed and --token cannot be combined. Choose one.")
    settings = Settings.load()
    if token:
        status = _store(settings, _read_token())
    elif headed:
        note("Sign in in the browser window. It closes when the sign-in is complete.")
        status = _run(settings, lambda sign_in: sign_in.by_hand(), debug_dir)
    else:
        status = _run(settings, lambda sign_in: sign_in.now(), debug_dir)
    print_line(f"Signed in{_as(status.who)}{_until(status.expires_at)} ({status.got_by}).")
    if settings.access_token is not None and (headed or token):
        note(f"{variable('access_token')} is set and takes precedence over the stored tokens.")


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the sign-in status.

    Shows the account, when the access token expires, how it is renewed, and when the next sign-in is allowed after a
    rejected one. Makes no upstream call, so a token that Sequence has revoked is shown as valid.

    \b
    Example:
      pysequence-api auth status
      pysequence-api auth status --json | jq -r .expires_at

    \b
    Exit codes:
      0  signed in: there is a valid access token
      1  signed out
      2  invalid usage or settings
    """
    found = _run(Settings.load(), lambda sign_in: sign_in.status())
    if as_json:
        print_json(_document(found))
    else:
        print_facts(_facts(found))
    if not found.signed_in:
        raise typer.Exit(SIGNED_OUT)


def logout() -> None:
    """Remove the stored tokens.

    The record of rejected sign-ins stays, and the tokens stay valid at Sequence until they expire.

    \b
    Example:
      pysequence-api auth logout
    """
    settings = Settings.load()
    had_tokens = _run(settings, lambda sign_in: sign_in.forget())
    remove_answers(settings.data_directory)
    print_line("Signed out: removed .tokens.json." if had_tokens else "There were no stored tokens.")
    note("The token stays valid at Sequence until it expires. The record of rejected sign-ins stays too.")
    still_set = [variable(name) for name in ("access_token", "password") if getattr(settings, name) is not None]
    if still_set:
        verb = "is" if len(still_set) == 1 else "are"
        note(f"{' and '.join(still_set)} {verb} still set. The next command that needs Sequence signs in again.")


def _run(settings: Settings, do: Callable[[SignIn], Awaitable[T]], debug_directory: Path | None = None) -> T:
    async def opened(_: Interrupts) -> T:
        async with open_sign_in(settings, debug_directory) as sign_in:
            return await do(sign_in)

    return run(opened, if_interrupted="You are not signed in.")


def _store(settings: Settings, access_token: str) -> SignInStatus:
    """Store an access token, if Sequence accepts it. Otherwise, nothing is changed."""

    async def try_and_store(_: Interrupts) -> SignInStatus:
        async with open_sign_in(settings) as sign_in, open_gateway(settings, is_owner=True) as gateway:
            try:
                await gateway.client.try_token(access_token)
            except NotAuthorizedError:
                raise SignInRefusedError(
                    "Sequence does not accept this access token (401). Nothing was changed."
                ) from None
            except SequenceError as error:
                raise SignInError(f"The access token was not stored, and nothing was changed. {error}") from error
            return await sign_in.with_token(access_token, gateway.client.clock_offset_seconds)

    if not is_sendable(access_token):
        raise InvalidRequestError("This is not an access token. Use printable ASCII without spaces.")
    return run(try_and_store, if_interrupted="Nothing was changed.")


def _read_token() -> str:
    if is_terminal(sys.stdin):
        text = getpass.getpass("Access token (hidden): ", stream=sys.stderr)
    else:
        text = sys.stdin.read(MAX_TOKEN_CHARACTERS + 1)
    if len(text) > MAX_TOKEN_CHARACTERS:
        raise InvalidRequestError(f"An access token has at most {MAX_TOKEN_CHARACTERS} characters.")
    token = text.strip()
    if not token:
        raise InvalidRequestError("There is no access token on standard input.")
    return token


def _as(who: str | None) -> str:
    return "" if who is None else f" as {who}"


def _until(expires_at: datetime | None) -> str:
    return "" if expires_at is None else f" until {shown_time(expires_at)}"


def _facts(status: SignInStatus) -> list[tuple[str, str]]:
    facts = [("Signed in", "yes" if status.signed_in else "no")]
    if status.got_by is not None:
        expired = "" if status.signed_in or status.expires_at is None else " (expired)"
        until = shown_time(status.expires_at) + expired if status.expires_at else UNKNOWN
        facts += [("Account", status.who or UNKNOWN), ("Expires", until), ("Token from", status.got_by)]
    facts.append(("Renewed with", status.renews_by or f"nothing: {', '.join(status.missing)} not set"))
    if status.waiting is not None:
        waiting = status.waiting
        facts += [
            ("Next sign-in", f"not before {shown_time(waiting.until)}"),
            ("Rejected", f"{waiting.refusals} in a row, last at {shown_time(waiting.attempted_at)}"),
            ("Reason", waiting.reason),
        ]
    if status.trouble is not None:
        facts.append(("Problem", status.trouble))
    return facts


def _document(status: SignInStatus) -> dict[str, object]:
    waiting = status.waiting
    return {
        "signed_in": status.signed_in,
        "who": status.who,
        "expires_at": _written(status.expires_at),
        "got_by": status.got_by,
        "renews_by": status.renews_by,
        "missing_variables": list(status.missing),
        "waiting": None
        if waiting is None
        else {
            "next_login_at": _written(waiting.until),
            "refusals": waiting.refusals,
            "attempted_at": _written(waiting.attempted_at),
            "reason": waiting.reason,
        },
        "trouble": status.trouble,
    }


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
