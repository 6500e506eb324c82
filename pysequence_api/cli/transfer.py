"""``transfer``: the one command that moves money."""

import re
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer
from pydantic import ValidationError

from pysequence_api.cli.asking import can_ask, confirm
from pysequence_api.cli.output import note, note_facts, print_facts, print_json, print_line, warn
from pysequence_api.cli.parties import Side, find_side
from pysequence_api.cli.program import InterruptedBySignalError
from pysequence_api.cli.running import Interrupts, run
from pysequence_api.errors import GatewayError, InvalidRequestError
from pysequence_api.gateway import Gateway, open_gateway
from pysequence_api.money import MAX_AMOUNT_CENTS, format_cents, parse_dollars
from pysequence_api.safeguards.audit import Via
from pysequence_api.safeguards.records import MAX_KEY_CHARACTERS, CompletedTransfer, Limits
from pysequence_api.sequence.models import MAX_DESCRIPTION_CHARACTERS, AccountType, TransferOrder
from pysequence_api.settings import Settings

SAID_NO = 1
_WHOLE_CENTS = re.compile(r"[0-9]{1,12}", re.ASCII)
UNDER_WAY = "The transfer is under way. Waiting until it has ended and is recorded."


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line."""

    source: str
    destination: str
    amount_cents: int
    source_type: AccountType | None
    destination_type: AccountType | None
    description: str
    instant: bool
    kyc_id: str | None
    idempotency_key: str | None
    yes: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What would happen."""

    order: TransferOrder
    source: Side
    destination: Side
    limits: Limits
    directory: str
    is_sandbox: bool

    @property
    def left_cents(self) -> int:
        """What would be left of today after it; below 0 if there is not enough."""
        return self.limits.remaining_cents - self.order.amount_cents


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
      pysequence-api transfer groceries rent --cents 2500 --description "October" --yes --json
    """
    wish = Wish(
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
    )
    if not yes and not can_ask():
        raise InvalidRequestError("Nobody can be asked here, because this is no terminal. Nothing was sent. Add --yes.")
    settings = Settings.load()
    run(partial(_transfer, settings, wish, as_json), left="Nothing was sent.")


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


async def _transfer(settings: Settings, wish: Wish, as_json: bool, interrupts: Interrupts) -> None:
    async with open_gateway(settings) as gateway:
        plan = await _plan(gateway, wish)
        _show(plan)
        if not wish.yes and not await confirm(f"Send {format_cents(wish.amount_cents)}?"):
            note("Nothing was sent.")
            raise typer.Exit(SAID_NO)
        interrupts.finish(UNDER_WAY)
        done = await gateway.guard.transfer(plan.order, Via.CLI, wish.idempotency_key)
        _report(done, plan, as_json)
    if interrupts.number is not None:
        raise InterruptedBySignalError(interrupts.number, f"The transfer was made (attempt {done.attempt_id}).")


async def _plan(gateway: Gateway, wish: Wish) -> Plan:
    kyc_id = wish.kyc_id or gateway.kyc_id
    accounts = await gateway.client.accounts()
    source = find_side(wish.source, accounts, wish.source_type)
    destination = find_side(wish.destination, accounts, wish.destination_type)
    if source.id == destination.id:
        raise InvalidRequestError(f"Source and destination are the same: {source.shown_name!r}. Nothing was sent.")
    directory = gateway.settings.data_directory.absolute()
    return Plan(
        order=_order(wish, source, destination, kyc_id),
        source=source,
        destination=destination,
        limits=await gateway.guard.limits(),
        directory=f"{directory}{' (new: no transfer is recorded there yet)' if gateway.data_directory_is_new else ''}",
        is_sandbox=gateway.settings.sandbox,
    )


def _order(wish: Wish, source: Side, destination: Side, kyc_id: str) -> TransferOrder:
    try:
        return TransferOrder(
            kyc_id=kyc_id,
            source_id=source.id,
            source_type=source.type,
            destination_id=destination.id,
            destination_type=destination.type,
            amount_cents=wish.amount_cents,
            description=wish.description,
            instant=wish.instant,
        )
    except ValidationError as error:
        problems = "; ".join(f"{each['loc'][-1:]} {each['msg']}" for each in error.errors(include_url=False))
        raise InvalidRequestError(f"Such a transfer cannot be: {problems}. Nothing was sent.") from None


def _show(plan: Plan) -> None:
    order, limits = plan.order, plan.limits
    after = "too little for this" if plan.left_cents < 0 else f"after this {format_cents(plan.left_cents)}"
    note(f"Transfer {format_cents(order.amount_cents)}", "bold")
    note_facts(
        [
            ("  from", _described(plan.source)),
            ("  to", _described(plan.destination)),
            ("  description", order.description or "none"),
            ("  instant", "yes" if order.instant else "no"),
            ("  per transfer", f"at most {format_cents(limits.max_transfer_cents)}"),
            ("  left today", f"{format_cents(limits.remaining_cents)}, {after}"),
            ("  recorded in", plan.directory),
            ("  money", "pretended: this is the sandbox" if plan.is_sandbox else "real"),
        ]
    )
    for doubt in _doubts(plan):
        warn(doubt)


def _doubts(plan: Plan) -> list[str]:
    amount_cents, limits, source = plan.order.amount_cents, plan.limits, plan.source
    doubts = [f"The account does not list {side.id!r}." for side in (source, plan.destination) if not side.is_listed]
    if amount_cents > limits.max_transfer_cents:
        doubts.append("This is more than the per-transfer limit, so that it will be refused.")
    elif plan.left_cents < 0:
        doubts.append("This is more than what is left of today, so that it will be refused.")
    if source.balance_cents is not None and source.balance_cents < amount_cents:
        doubts.append(f"{source.shown_name!r} holds less than that.")
    if source.can_be_source is False:
        doubts.append(f"Sequence says that no money can come from {source.shown_name!r}.")
    return doubts


def _described(side: Side) -> str:
    return f"{side.name or 'unnamed'} ({side.type.lower()} {side.id}), balance {side.shown_balance}"


def _report(done: CompletedTransfer, plan: Plan, as_json: bool) -> None:
    try:
        if as_json:
            print_json(done.model_dump(mode="json"))
            return
        if done.replayed:
            note("This idempotency key was used before. Nothing was sent now; this is the answer of then.")
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
