"""``approvals``: transfers that wait for the owner. Approving asks on the terminal for a code, and sends."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, TypeVar

import typer

from pysequence_api.cli.drawing import Column, print_facts, print_table, shown_time
from pysequence_api.cli.program import DECLINED, InterruptedBySignalError
from pysequence_api.cli.running import Interrupts, can_ask, confirm_or_exit, read_answer, run, status_shown
from pysequence_api.cli.terminal import UNKNOWN, note, print_json, print_line
from pysequence_api.errors import InvalidRequestError
from pysequence_api.gateway import Gateway, open_gateway
from pysequence_api.models import Party
from pysequence_api.records.audit import Channel
from pysequence_api.safeguards.approving import PendingApproval
from pysequence_api.safeguards.transfers import CompletedTransfer
from pysequence_api.settings import Settings, warn_about_ignored_file

T = TypeVar("T")
COLUMNS = (
    Column("Caller", whole=True),
    Column("Amount", right=True),
    Column("From"),
    Column("To"),
    Column("Expires", whole=True),
    Column("Attempt", is_id=True),
)
IN_PROGRESS = "The transfer is being sent. The command ends when its outcome is known."
AttemptId = Annotated[str, typer.Argument(metavar="ATTEMPT_ID", help="Attempt id, from `approvals list`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def list_approvals(as_json: AsJson = False) -> None:
    """List the transfers that wait for you.

    Reads the names of pods, ports and accounts from Sequence.

    \b
    Example:
      pysequence-api approvals list
      pysequence-api approvals list --json | jq -r '.[].attempt_id'
    """
    found = _in_gateway(lambda gateway: gateway.transfers.pending())
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
    elif found:
        print_table(COLUMNS, [_row(one) for one in found])
    else:
        print_line("No transfer waits for you.")


def show(attempt_id: AttemptId, as_json: AsJson = False) -> None:
    """Show one transfer that waits for you.

    What the caller says stands apart, because it is not checked.

    \b
    Example:
      pysequence-api approvals show 1dc004ac-bd0f-41da-b780-b4d026138697
    """
    found = _in_gateway(lambda gateway: gateway.transfers.pending_one(attempt_id))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _print(found)


def approve(attempt_id: AttemptId) -> None:
    """Approve a transfer, and send it.

    Shows the transfer, and asks for a code of your authenticator (SEQUENCE_OWNER_TOTP, or `owner setup`). This needs a
    terminal: the code cannot come from an option or a pipe. Each code works once.

    Your approval lifts only approve_above_cents of the rule. The rest of the policy, the limits and a freeze still
    apply. This command sends the transfer, and prints the result.

    \b
    Example:
      pysequence-api approvals approve 1dc004ac-bd0f-41da-b780-b4d026138697

    \b
    Exit codes:
      0    the transfer was made
      1    you entered no code; nothing was sent
      2    invalid usage or settings
      3    rejected by a safeguard, or the code is wrong
      4    rejected by Sequence, or Sequence could not be reached
      5    unknown outcome: the money may have moved; do not repeat the transfer
      130  interrupted
    """
    if not can_ask():
        raise InvalidRequestError(
            "Not a terminal. Run this in a terminal, where a person can enter the code. Nothing was sent."
        )
    settings = Settings.load_strictly()
    warn_about_ignored_file()
    run(partial(_approve, settings, attempt_id), if_interrupted="Nothing was sent.")


def deny(
    attempt_id: AttemptId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation. Required in scripts.")] = False,
) -> None:
    """Deny a transfer.

    For 24 hours, its caller cannot request the same amount between the same accounts.

    \b
    Example:
      pysequence-api approvals deny 1dc004ac-bd0f-41da-b780-b4d026138697
    """
    if not yes:
        _print(_in_gateway(lambda gateway: gateway.transfers.pending_one(attempt_id)))
    confirm_or_exit("Deny it?", yes=yes)
    _in_gateway(lambda gateway: gateway.transfers.deny(attempt_id, Channel.CLI))
    print_line(f"Denied (attempt {attempt_id}). Nothing was sent.")


async def _approve(settings: Settings, attempt_id: str, interrupts: Interrupts) -> None:
    async with open_gateway(settings, is_owner=True) as gateway:
        with status_shown():
            pending = await gateway.transfers.pending_one(attempt_id)
        _print(pending)
        code = await read_answer(f"Code of your authenticator, to send {pending.amount}:")
        if not code:
            note("Nothing was sent.")
            raise typer.Exit(DECLINED)
        interrupts.defer(IN_PROGRESS)
        with status_shown():
            done = await gateway.transfers.approve(attempt_id, pending.bound_sha256, code, Channel.CLI)
        _print_done(done, pending)
    if interrupts.number is not None:
        raise InterruptedBySignalError(interrupts.number, f"The transfer was made (attempt {done.attempt_id}).")


def _in_gateway(do: Callable[[Gateway], Awaitable[T]]) -> T:
    settings = Settings.load()

    async def opened(_: Interrupts) -> T:
        async with open_gateway(settings, is_owner=True) as gateway:
            with status_shown():
                return await do(gateway)

    return run(opened)


def _row(one: PendingApproval) -> tuple[str, ...]:
    parties = _described(one.source), _described(one.destination)
    return one.caller, one.amount, *parties, shown_time(one.expires_at), one.attempt_id


def _described(party: Party) -> str:
    return party.name or f"{party.type}:{party.id}"


def _print(one: PendingApproval) -> None:
    print_facts(
        [
            ("Amount", one.amount),
            ("From", _with_id(one.source)),
            ("To", _with_id(one.destination)),
            ("Description", one.description or "none"),
            ("Instant", "yes" if one.instant else "no"),
            ("Caller", one.caller),
            ("Rule", one.rule or UNKNOWN),
            ("Organization", one.organization_id or UNKNOWN),
            *([("KYC id", one.kyc_id)] if one.kyc_id else []),
            ("Requested", shown_time(one.created_at)),
            ("Expires", shown_time(one.expires_at)),
            ("Attempt", one.attempt_id),
            ("SHA-256", one.bound_sha256),
        ]
    )
    if one.caller_says:
        print_line()
        print_line(f"The caller says: {one.caller_says}")


def _with_id(party: Party) -> str:
    return f"{party.name or 'unnamed'} ({str(party.type).lower()} {party.id})"


def _print_done(done: CompletedTransfer, pending: PendingApproval) -> None:
    print_line(f"Transferred {done.amount} from {_described(pending.source)} to {_described(pending.destination)}.")
    print_facts(
        [
            ("Transfer", done.id or "not known yet"),
            ("State", done.state),
            ("Status at Sequence", done.status or "not known yet"),
            ("Attempt", done.attempt_id),
        ]
    )
