"""``auth``: signing in on purpose, how that stands, and signing out."""

import getpass
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pysequence_api.cli.output import UNKNOWN, is_terminal, note, print_facts, print_json, print_line, shown_time
from pysequence_api.cli.running import Interrupts, run
from pysequence_api.errors import InvalidRequestError
from pysequence_api.gateway import open_sign_in
from pysequence_api.settings import Settings, variable

if TYPE_CHECKING:
    from pysequence_api.sequence.sign_in.service import SignIn, SignInStatus

T = TypeVar("T")

MAX_TOKEN_CHARACTERS = 64 * 1024

app = typer.Typer(no_args_is_help=True, help="Signing in to GetSequence.")


@app.command("login")
def login(
    headed: Annotated[
        bool, typer.Option("--headed", help="Open a window and type everything yourself: any second factor or captcha.")
    ] = False,
    token: Annotated[
        bool, typer.Option("--token", help="Read an access token from standard input instead of signing in.")
    ] = False,
    debug_dir: Annotated[
        Path | None,
        typer.Option(help="If a page stops the login, put a picture of it in here, with its fields blanked."),
    ] = None,
) -> None:
    """Sign in, and keep the tokens in the data directory.

    Signs in with SEQUENCE_EMAIL, SEQUENCE_PASSWORD and SEQUENCE_TOTP in a Chromium without a window, unless there is a
    token already that is good. After a refused login the next one has to wait, so that the account is not locked.

    \b
    Example:
      pysequence-api auth login
      pysequence-api auth login --headed
      pysequence-api auth login --token < token.txt
    """
    if headed and token:
        raise InvalidRequestError("--headed and --token are two ways to sign in. Choose one.")
    settings = Settings.load()
    if token:
        status = _keep(settings, _read_token())
    elif headed:
        note("Sign in in the window that opens. It closes by itself when the application has a token.")
        status = _run(settings, lambda sign_in: sign_in.by_hand(), debug_dir)
    else:
        status = _run(settings, lambda sign_in: sign_in.now(), debug_dir)
    print_line(f"Signed in{_as(status.who)}{_until(status.expires_at)}, by {status.got_by}.")
    if settings.access_token is not None and (headed or token):
        note(f"{variable('access_token')} is set, and goes before what is kept in the data directory.")


@app.command("status")
def show_status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show who is signed in, until when, how the token was got, and what is waiting.

    Needs no network: a token that Sequence has withdrawn looks good here.

    \b
    Example:
      pysequence-api auth status
      pysequence-api auth status --json | jq -r .expires_at
    """
    status = _run(Settings.load(), lambda sign_in: sign_in.status())
    if as_json:
        print_json(_document(status))
    else:
        print_facts(_facts(status))


@app.command("logout")
def logout() -> None:
    """Remove the cached tokens.

    Refused logins stay remembered, and the tokens stay valid at Sequence until they run out.

    \b
    Example:
      pysequence-api auth logout
    """
    settings = Settings.load()
    had_tokens = _run(settings, lambda sign_in: sign_in.forget())
    print_line("Signed out: .tokens.json is removed." if had_tokens else "There were no cached tokens.")
    note("What stays: the token at Sequence until it runs out, and what is remembered of refused logins.")
    stays = [variable(name) for name in ("access_token", "password") if getattr(settings, name) is not None]
    if stays:
        stay = "stays" if len(stays) == 1 else "stay"
        note(f"{' and '.join(stays)} {stay} set, with which the next command that needs Sequence signs in again.")


def _run(settings: Settings, do: "Callable[[SignIn], Awaitable[T]]", debug_directory: Path | None = None) -> T:
    async def opened(_: Interrupts) -> T:
        async with open_sign_in(settings, debug_directory) as sign_in:
            return await do(sign_in)

    return run(opened, left="Nobody was signed in.")


def _keep(settings: Settings, access_token: str) -> "SignInStatus":
    from pysequence_api.sequence.sign_in.token_cache import expiry_of  # noqa: PLC0415 - only here

    status = _run(settings, lambda sign_in: sign_in.with_token(access_token))
    if expiry_of(access_token) is not None:
        return status
    note("The token does not say until when it is good, and Sequence was not asked: `pysequence-api pods` shows it.")
    return replace(status, expires_at=None)


def _read_token() -> str:
    """Read a token, which does not appear on the screen."""
    if is_terminal(sys.stdin):
        text = getpass.getpass("Access token (it is not shown): ", stream=sys.stderr)
    else:
        text = sys.stdin.read(MAX_TOKEN_CHARACTERS + 1)
    if len(text) > MAX_TOKEN_CHARACTERS:
        raise InvalidRequestError(f"An access token has no more than {MAX_TOKEN_CHARACTERS} characters.")
    token = text.strip()
    if not token:
        raise InvalidRequestError("Standard input holds no access token.")
    return token


def _as(who: str | None) -> str:
    return "" if who is None else f" as {who}"


def _until(expires_at: datetime | None) -> str:
    return "" if expires_at is None else f" until {shown_time(expires_at)}"


def _facts(status: "SignInStatus") -> list[tuple[str, str]]:
    facts = [("Signed in", "yes" if status.signed_in else "no")]
    if status.got_by is not None:
        ended = "" if status.signed_in or status.expires_at is None else " (has run out)"
        until = shown_time(status.expires_at) + ended if status.expires_at else UNKNOWN
        facts += [("Who", status.who or UNKNOWN), ("Until", until), ("Got by", status.got_by)]
    facts.append(("Renewed by", status.renews_by or f"nothing: {', '.join(status.missing)} not set"))
    if status.waiting is not None:
        waiting = status.waiting
        facts += [
            ("Next login", f"not before {shown_time(waiting.until)}"),
            ("Refusals", f"{waiting.refusals} in a row, last at {shown_time(waiting.attempted_at)}"),
            ("Reason", waiting.reason),
        ]
    if status.trouble is not None:
        facts.append(("Trouble", status.trouble))
    return facts


def _document(status: "SignInStatus") -> dict[str, object]:
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
