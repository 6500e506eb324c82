"""``transfer``: the one command that moves money."""

import re
from functools import partial
from typing import Annotated, Any

import typer

from pysequence_api.account.names import Counterparty
from pysequence_api.cli.asking import can_ask, confirm
from pysequence_api.cli.confirmation import show_plan
from pysequence_api.cli.output import note, print_facts, print_json, print_line
from pysequence_api.cli.plan import Plan, TransferArguments, make_plan
from pysequence_api.cli.program import InterruptedBySignalError
from pysequence_api.cli.running import Interrupts, run
from pysequence_api.cli.waiting import waiting_shown
from pysequence_api.errors import GatewayError, InvalidRequestError
from pysequence_api.gateway import open_gateway
from pysequence_api.models import MAX_DESCRIPTION_CHARACTERS, AccountType
from pysequence_api.money import MAX_AMOUNT_CENTS, format_cents, parse_dollars
from pysequence_api.records.audit import Channel
from pysequence_api.safeguards.reservations import MAX_KEY_CHARACTERS, CompletedTransfer
from pysequence_api.settings import Settings

SAID_NO = 1
_WHOLE_CENTS = re.compile(r"[0-9]{1,12}", re.ASCII)
UNDER_WAY = "The transfer is under way. Waiting until it has ended and is recorded."


def transfer(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Name or id of the pod, port or account that the money comes from.")
    ],
    destination: Annotated[str, typer.Argument(metavar="DESTINATION", help="Name or id of the one that it goes to.")],
    amount: Annotated[
        str | None,
        typer.Argument(metavar="AMOUNT", help="In dollars, and it must look like it: '$50', 50.00, 1,250.50."),
    ] = None,
    cents: Annotated[
        str | None, typer.Option(metavar="N", help="The amount in cents, instead of AMOUNT: 2500 for $25.00.")
    ] = None,
    description: Annotated[str, typer.Option(help="For the bank statement.")] = "",
    instant: Annotated[bool, typer.Option("--instant", help="Ask for an instant transfer.")] = False,
    source_type: Annotated[
        AccountType | None, typer.Option(help="What SOURCE is.", case_sensitive=False, show_default=False)
    ] = None,
    destination_type: Annotated[
        AccountType | None, typer.Option(help="What DESTINATION is.", case_sensitive=False, show_default=False)
    ] = None,
    kyc_id: Annotated[str | None, typer.Option(help="Instead of SEQUENCE_KYC_ID.")] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="A name of your own for this transfer; sent again, it moves nothing again."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do everything but send, and record nothing. Ends with 3 if refused.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Needed where nobody can be asked.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the transfer as one JSON document.")] = False,
) -> None:
    """Move money, after showing what would happen and asking.

    SOURCE and DESTINATION are ids, names in any case, or a part of a name that only one has. A bare 5000 is no AMOUNT:
    it could be meant in cents. Put '$50' in quotes, or the shell takes $5 out of it.

    Ctrl-C before the transfer is under way sends nothing; later it waits for its end. Exit codes: 0 done, 1 you said
    no (nothing was sent), 2 usage or settings, 3 refused by a safeguard, 4 refused by Sequence, or it could not be
    reached, 5 nobody knows whether the money moved: do not repeat it, 130 interrupted.

    \b
    Example:
      pysequence-api transfer Groceries Rent '$25'
      pysequence-api transfer Groceries Rent '$25' --dry-run
      pysequence-api transfer groceries rent --cents 2500 --description "October" --yes --json
    """
    arguments = TransferArguments(
        source=source,
        destination=destination,
        amount_cents=amount_in_cents(amount, cents),
        source_type=source_type,
        destination_type=destination_type,
        description=_checked(description),
        instant=instant,
        kyc_id=kyc_id,
        idempotency_key=_checked_key(idempotency_key),
        yes=yes,
        dry_run=dry_run,
    )
    if not (yes or dry_run or can_ask()):
        raise InvalidRequestError("Nobody can be asked here, because this is no terminal. Nothing was sent. Add --yes.")
    settings = Settings.load()
    run(partial(_transfer, settings, arguments, as_json), left="Nothing was sent.")


def amount_in_cents(amount: str | None, cents: str | None) -> int:
    """Decide on the amount.

    Args:
        amount: in dollars.
        cents: in cents.

    Raises:
        InvalidRequestError: both are given, or none, or it is no amount.
    """
    if amount is not None and cents is None:
        given, amount_cents = f"AMOUNT {amount!r}", _parsed_dollars(amount)
    elif cents is not None and amount is None:
        given, amount_cents = f"--cents {cents!r}", _parsed_cents(cents)
    else:
        raise InvalidRequestError("Give the amount either in dollars, as in '$50', or as --cents 5000.")
    if not 1 <= amount_cents <= MAX_AMOUNT_CENTS:
        raise InvalidRequestError(f"{given} must be more than $0.00 and at most {format_cents(MAX_AMOUNT_CENTS)}.")
    return amount_cents


def _parsed_dollars(amount: str) -> int:
    try:
        return parse_dollars(amount)
    except ValueError as error:
        raise InvalidRequestError(
            f"AMOUNT {amount!r} {error}. In a shell, put it in quotes: the dollar sign is special there."
        ) from None


def _parsed_cents(cents: str) -> int:
    # Not Typer's own conversion, which takes 5.00 for 5: a hundredth of what was meant.
    if _WHOLE_CENTS.fullmatch(cents) is None:
        raise InvalidRequestError(f"--cents {cents!r} is no whole number of cents; write it like --cents 2500.")
    return int(cents)


def _checked(description: str) -> str:
    if len(description) > MAX_DESCRIPTION_CHARACTERS:
        raise InvalidRequestError(f"--description may have {MAX_DESCRIPTION_CHARACTERS} characters at most.")
    if "\0" in description or any("\ud800" <= character <= "\udfff" for character in description):
        raise InvalidRequestError("--description holds bytes that are no text.")
    return description


def _checked_key(key: str | None) -> str | None:
    if key is not None and not (1 <= len(key) <= MAX_KEY_CHARACTERS and all("!" <= each <= "~" for each in key)):
        raise InvalidRequestError(
            f"--idempotency-key is 1 to {MAX_KEY_CHARACTERS} visible ASCII characters without spaces."
        )
    return key


async def _transfer(settings: Settings, arguments: TransferArguments, as_json: bool, interrupts: Interrupts) -> None:
    async with open_gateway(settings) as gateway:
        with waiting_shown():
            plan = await make_plan(gateway, arguments)
        show_plan(plan)
        if arguments.dry_run:
            with waiting_shown():
                replayed = await gateway.transfers.rehearse(plan.order, Channel.CLI, arguments.idempotency_key)
            return _print_rehearsed(plan, replayed, as_json=as_json)
        if not arguments.yes and not await confirm(f"Send {format_cents(arguments.amount_cents)}?"):
            note("Nothing was sent.")
            raise typer.Exit(SAID_NO)
        interrupts.finish(UNDER_WAY)
        with waiting_shown():
            done = await gateway.transfers.transfer(plan.order, Channel.CLI, arguments.idempotency_key)
        _report(done, plan, as_json)
    if interrupts.number is not None:
        raise InterruptedBySignalError(interrupts.number, f"The transfer was made (attempt {done.attempt_id}).")
    return None


def _print_rehearsed(plan: Plan, replayed: CompletedTransfer | None, *, as_json: bool) -> None:
    if as_json:
        print_json(_rehearsed(plan, would_be_sent=replayed is None))
    elif replayed is not None:
        print_line("This idempotency key was used before: nothing would be sent, and the answer of then be given.")
    else:
        amount, source, destination = format_cents(plan.order.amount_cents), plan.source, plan.destination
        print_line(f"Would transfer {amount} from {source.shown_name} to {destination.shown_name}. Nothing was sent.")


def _rehearsed(plan: Plan, *, would_be_sent: bool) -> dict[str, Any]:
    def side(one: Counterparty, after_cents: int | None) -> dict[str, Any]:
        balances = {"balance_cents": one.balance_cents, "balance_after_cents": after_cents}
        return {"id": one.id, "name": one.name, "type": one.type.value, **balances}

    return {
        "dry_run": True,
        "would_be_sent": would_be_sent,
        "amount_cents": plan.order.amount_cents,
        "amount": format_cents(plan.order.amount_cents),
        "source": side(plan.source, plan.source_after_cents),
        "destination": side(plan.destination, plan.destination_after_cents),
        "daily_remaining_cents": plan.left_cents if would_be_sent else plan.limits.remaining_cents,
        "warnings": plan.warnings,
    }


def _report(done: CompletedTransfer, plan: Plan, as_json: bool) -> None:
    try:
        if as_json:
            print_json(done.model_dump(mode="json") | {"replayed": done.replayed})
            return
        if done.replayed:
            note("This idempotency key was used before. Nothing was sent now; this is the answer of then.")
        if done.id is None:
            note(f"Sequence does not show its id yet. Later: pysequence-api transfers status {done.attempt_id}")
        print_line(f"Transferred {done.amount} from {plan.source.shown_name} to {plan.destination.shown_name}.")
        print_facts(
            [
                ("Transfer", done.id or "not known yet; the audit trail gets it later"),
                ("Status", done.status or "not known yet"),
                ("Amount", done.amount),
                ("Attempt", done.attempt_id),
                ("Left today", format_cents(done.daily_remaining_cents)),
            ]
        )
    except GatewayError as error:
        raise GatewayError(f"The transfer was made, but: {error}", attempt_id=done.attempt_id) from error
