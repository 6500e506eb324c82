"""``transfer``: the one command that moves money. Plans, shows the plan, asks, and sends."""

import re
import sys
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from pysequence_api.account.names import Counterparty, find_counterparty
from pysequence_api.account.preview import Preview, SimilarTransfer, Verdict, sequence_refusals
from pysequence_api.cli.completion import complete_name
from pysequence_api.cli.drawing import cents_in_words, print_facts, shown_moment, shown_party, with_bar
from pysequence_api.cli.program import DECLINED, InterruptedBySignalError
from pysequence_api.cli.running import Interrupts, can_ask, confirm, run, status_shown
from pysequence_api.cli.terminal import UNKNOWN, fail, note, print_json, print_line, warn
from pysequence_api.errors import GatewayError, InvalidRequestError, NotFoundError, SafeguardError, SettingsError
from pysequence_api.gateway import Gateway, open_gateway
from pysequence_api.models import (
    MAX_DESCRIPTION_CHARACTERS,
    MAX_KEY_CHARACTERS,
    MAX_REASON_CHARACTERS,
    Accounts,
    AccountType,
    TransferOrder,
)
from pysequence_api.money import MAX_AMOUNT_CENTS, format_cents, parse_dollars
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import THE_OWNER
from pysequence_api.safeguards.matching import RULE
from pysequence_api.safeguards.status import Limits
from pysequence_api.safeguards.transfers import CompletedTransfer
from pysequence_api.settings import Settings, variable, warn_about_ignored_file
from pysequence_api.text import quoted

_WHOLE_CENTS = re.compile(r"[0-9]{1,12}", re.ASCII)
IN_PROGRESS = "The transfer is in progress. Waiting until it has ended and is recorded."


@dataclass(frozen=True, slots=True)
class TransferArguments:
    """The arguments of the command line, checked."""

    source: str
    destination: str
    amount_cents: int
    source_type: AccountType | None
    destination_type: AccountType | None
    description: str
    instant: bool
    kyc_id: str | None
    idempotency_key: str | None
    reason: str | None
    yes: bool
    dry_run: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What the transfer would do."""

    order: TransferOrder
    source: Counterparty
    destination: Counterparty
    accounts: Accounts
    limits: Limits
    directory: str
    is_sandbox: bool

    @property
    def left_today_cents(self) -> int:
        """What would be left of the daily limit; negative if it is exceeded."""
        return self.limits.remaining_cents - self.order.amount_cents

    @property
    def source_after_cents(self) -> int | None:
        """The balance of the source after the transfer."""
        return None if self.source.balance_cents is None else self.source.balance_cents - self.order.amount_cents

    @property
    def destination_after_cents(self) -> int | None:
        """The balance of the destination after the transfer."""
        before_cents = self.destination.balance_cents
        return None if before_cents is None else before_cents + self.order.amount_cents

    @property
    def refusals(self) -> list[str]:
        """Why Sequence will refuse the transfer."""
        return sequence_refusals(self.order.amount_cents, self.source, self.destination)

    @property
    def warnings(self) -> list[str]:
        """Reasons why the transfer may fail, or not do what was meant."""
        amount_cents, limits, parties = self.order.amount_cents, self.limits, (self.source, self.destination)
        warnings = [f"{each.id!r} is not listed in the account." for each in parties if not each.is_listed]
        warnings += [f"Only a part of the name {each.shown_name!r} was given." for each in parties if each.is_guess]
        if amount_cents > limits.max_transfer_cents:
            warnings.append("The amount exceeds the per-transfer limit. The transfer will be rejected.")
        elif self.left_today_cents < 0:
            warnings.append("The amount exceeds what is left of the daily limit. The transfer will be rejected.")
        return warnings + self.refusals


def transfer(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Name or id of the pod, port or account to take the money from.",
            autocompletion=complete_name,
        ),
    ],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="DESTINATION",
            help="Name or id of the pod, port or account to send it to.",
            autocompletion=complete_name,
        ),
    ],
    amount: Annotated[
        str | None,
        typer.Argument(metavar="AMOUNT", help="Dollars and cents: 50.00 or 1,250.50."),
    ] = None,
    cents: Annotated[
        str | None, typer.Option(metavar="N", help="Amount in cents, instead of AMOUNT: 2500 for $25.00.")
    ] = None,
    description: Annotated[str, typer.Option(help="Text for the bank statement.")] = "",
    instant: Annotated[bool, typer.Option("--instant", help="Request an instant transfer.")] = False,
    source_type: Annotated[
        AccountType | None, typer.Option(help="Kind of SOURCE.", case_sensitive=False, show_default=False)
    ] = None,
    destination_type: Annotated[
        AccountType | None, typer.Option(help="Kind of DESTINATION.", case_sensitive=False, show_default=False)
    ] = None,
    kyc_id: Annotated[str | None, typer.Option(help="Override SEQUENCE_KYC_ID.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Key of your choice. A repeated key never moves money twice.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What it is for, for the records only; Sequence does not get it.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, but send and record nothing. Exits with 3 if refused.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation. Required in scripts.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the transfer as one JSON document.")] = False,
) -> None:
    """Move money, after a confirmation.

    SOURCE and DESTINATION are ids or names; case does not matter. A part of a name is enough if you then confirm what
    it was taken for. Write 5000.00, not 5000, which could be meant in cents.

    Ctrl-C before the transfer is sent cancels it. After that, the command waits for the result.

    \b
    Example:
      pysequence-api transfer Groceries Rent 25.00
      pysequence-api transfer Groceries Rent 25.00 --dry-run
      pysequence-api transfer groceries rent --cents 2500 --description "October" --yes --json

    \b
    Exit codes:
      0    the transfer was made
      1    you answered no; nothing was sent
      2    invalid usage or settings
      3    rejected by a safeguard
      4    rejected by Sequence, or Sequence could not be reached
      5    unknown outcome: the money may have moved; do not repeat the transfer
      130  interrupted
    """
    arguments = TransferArguments(
        source=source,
        destination=destination,
        amount_cents=amount_in_cents(amount, cents),
        source_type=source_type,
        destination_type=destination_type,
        description=_checked(description, "--description", MAX_DESCRIPTION_CHARACTERS),
        instant=instant,
        kyc_id=kyc_id,
        idempotency_key=_checked_key(idempotency_key),
        reason=None if reason is None else _checked(reason, "--reason", MAX_REASON_CHARACTERS),
        yes=yes,
        dry_run=dry_run,
        as_json=as_json,
    )
    if not (yes or dry_run or can_ask()):
        raise InvalidRequestError("Not a terminal; pass --yes to confirm. Nothing was sent.")
    settings = Settings.load_strictly()
    warn_about_ignored_file()
    run(partial(_transfer, settings, arguments), if_interrupted="Nothing was sent.")


def amount_in_cents(amount: str | None, cents: str | None) -> int:
    """Return the amount from the argument in dollars or the option in cents.

    Raises:
        InvalidRequestError: both are given or none, or it is not an amount.
    """
    if amount is not None and cents is None:
        given, amount_cents = f"AMOUNT {amount!r}", _parsed_dollars(amount)
    elif cents is not None and amount is None:
        given, amount_cents = f"--cents {cents!r}", _parsed_cents(cents)
    else:
        raise InvalidRequestError("Pass the amount either in dollars, like 50.00, or in cents, like --cents 5000.")
    if not 1 <= amount_cents <= MAX_AMOUNT_CENTS:
        raise InvalidRequestError(f"{given} must be more than $0.00 and at most {format_cents(MAX_AMOUNT_CENTS)}.")
    return amount_cents


def _parsed_dollars(amount: str) -> int:
    try:
        return parse_dollars(amount)
    except ValueError as error:
        raise InvalidRequestError(f"AMOUNT {amount!r} {error}.") from None


def _parsed_cents(cents: str) -> int:
    # Typer would convert 5.00 to 5, a hundredth of what was meant.
    if _WHOLE_CENTS.fullmatch(cents) is None:
        raise InvalidRequestError(f"--cents {cents!r} is not a whole number of cents. Write it like --cents 2500.")
    return int(cents)


def _checked(text: str, option: str, max_characters: int) -> str:
    if len(text) > max_characters:
        raise InvalidRequestError(f"{option} can have at most {max_characters} characters.")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidRequestError(f"{option} contains bytes that are not text.")
    return text


def _checked_key(key: str | None) -> str | None:
    if key is not None and not (1 <= len(key) <= MAX_KEY_CHARACTERS and all("!" <= each <= "~" for each in key)):
        raise InvalidRequestError(
            f"--idempotency-key must be 1 to {MAX_KEY_CHARACTERS} visible ASCII characters without spaces."
        )
    return key


async def _transfer(settings: Settings, arguments: TransferArguments, interrupts: Interrupts) -> None:
    async with open_gateway(settings, is_owner=True) as gateway:
        if arguments.yes and not arguments.dry_run:
            _check_directory(gateway)
        with status_shown():
            plan = await _make_plan(gateway, arguments)
        _show_plan(plan)
        if arguments.dry_run:
            with status_shown():
                preview = await gateway.preview(
                    plan.order, Channel.CLI, arguments.idempotency_key, caller=THE_OWNER, accounts=plan.accounts
                )
            _print_dry_run(plan, preview, as_json=arguments.as_json)
            return
        if not arguments.yes and not await confirm(_question(plan)):
            note("Nothing was sent.")
            raise typer.Exit(DECLINED)
        interrupts.defer(IN_PROGRESS)
        with status_shown():
            done = await gateway.transfers.transfer(
                plan.order, Channel.CLI, arguments.idempotency_key, caller=THE_OWNER, reason=arguments.reason
            )
        assert isinstance(done, CompletedTransfer)  # no rule asks the owner
        _print_done(done, plan, as_json=arguments.as_json)
    if interrupts.number is not None:
        raise InterruptedBySignalError(interrupts.number, f"The transfer was made (attempt {done.attempt_id}).")


def _check_directory(gateway: Gateway) -> None:
    """Reject a data directory that is new only because the command runs in another directory than before.

    Its daily limit would start from zero. A person sees that in the plan; a script does not.
    """
    settings = gateway.settings
    if not settings.sandbox and not settings.data_dir.is_absolute() and gateway.records.is_new:
        raise SettingsError(
            f"Nothing was ever recorded in {settings.data_directory.absolute()}, so the whole daily limit would be"
            f" left. {variable('data_dir')} is {str(settings.data_dir)!r}, which is another directory wherever this"
            " command runs. Set it to an absolute path, or run `pysequence-api init`. To begin here, make the first"
            " transfer without --yes. Nothing was sent."
        )


async def _make_plan(gateway: Gateway, arguments: TransferArguments) -> Plan:
    kyc_id = arguments.kyc_id or gateway.kyc_id
    accounts = await gateway.client.accounts()
    source = _find(arguments.source, accounts, arguments.source_type, "--source-type", may_guess=not arguments.yes)
    destination = _find(
        arguments.destination, accounts, arguments.destination_type, "--destination-type", may_guess=not arguments.yes
    )
    if source.id == destination.id:
        raise InvalidRequestError(f"Source and destination are the same: {source.shown_name!r}. Nothing was sent.")
    order = _order(arguments, source, destination, kyc_id)
    gateway.client.check_order(order)
    directory, limits = gateway.settings.data_directory.absolute(), gateway.limits()
    return Plan(
        order=order,
        source=source,
        destination=destination,
        accounts=accounts,
        limits=limits,
        directory=f"{directory}{' (new; no transfers recorded yet)' if limits.audit_head is None else ''}",
        is_sandbox=gateway.settings.sandbox,
    )


def _find(
    wanted: str, accounts: Accounts, kind: AccountType | None, type_option: str, *, may_guess: bool
) -> Counterparty:
    try:
        party = find_counterparty(wanted, accounts, kind)
    except NotFoundError as error:
        hint = "" if kind else f" To use an id that is not listed, add {type_option}."
        raise NotFoundError(f"{error} Run `pysequence-api accounts` to list them.{hint}") from None
    if party.is_guess and not may_guess:
        raise NotFoundError(
            f"{quoted(wanted)} is only a part of the name {party.shown_name!r}. With --yes, write the whole name or the"
            f" id {party.id}. Nothing was sent."
        )
    return party


def _question(plan: Plan) -> str:
    guesses = [f"to {plan.destination.shown_name!r}"] if plan.destination.is_guess else []
    if plan.source.is_guess:
        guesses.insert(0, f"from {plan.source.shown_name!r}")
    return f"{' '.join([f'Send {format_cents(plan.order.amount_cents)}', *guesses])}?"


def _order(
    arguments: TransferArguments, source: Counterparty, destination: Counterparty, kyc_id: str | None
) -> TransferOrder:
    try:
        return TransferOrder(
            kyc_id=kyc_id,
            source_id=source.id,
            source_type=source.type,
            destination_id=destination.id,
            destination_type=destination.type,
            amount_cents=arguments.amount_cents,
            description=arguments.description,
            instant=arguments.instant,
        )
    except ValidationError as error:
        problems = "; ".join(f"{each['loc'][-1:]} {each['msg']}" for each in error.errors(include_url=False))
        raise InvalidRequestError(f"The transfer is invalid: {problems}. Nothing was sent.") from None


def _show_plan(plan: Plan) -> None:
    order, limits = plan.order, plan.limits
    amount_cents, left_cents = order.amount_cents, plan.left_today_cents
    note(f"Transfer {format_cents(amount_cents)}", bold=True, reverse=True)
    note(f"  {cents_in_words(amount_cents)}", bold=True)
    after = f"{format_cents(-left_cents)} too much" if left_cents < 0 else f"{format_cents(left_cents)} after this"
    per_transfer = f"at most {format_cents(limits.max_transfer_cents)}"
    left_today = f"{format_cents(limits.remaining_cents)}, {after}"
    print_facts(
        [
            ("  from", _described(plan.source)),
            ("", _balances(plan.source.balance_cents, plan.source_after_cents)),
            ("  to", _described(plan.destination)),
            ("", _balances(plan.destination.balance_cents, plan.destination_after_cents)),
            ("  description", order.description or "none"),
            ("  instant", "yes" if order.instant else "no"),
            ("  per transfer", with_bar(sys.stderr, per_transfer, 0, amount_cents, limits.max_transfer_cents)),
            ("  left today", with_bar(sys.stderr, left_today, limits.used_cents, amount_cents, limits.max_daily_cents)),
            ("  recorded in", plan.directory),
            ("  money", "SANDBOX: no real money" if plan.is_sandbox else "real"),
        ],
        sys.stderr,
    )
    for warning in plan.warnings:
        warn(warning)


def _described(party: Counterparty) -> str:
    return f"{party.name or 'unnamed'} ({party.type.lower()} {party.id})"


def _balances(before_cents: int | None, after_cents: int | None) -> str:
    if before_cents is None or after_cents is None:
        return f"balance {UNKNOWN}"
    return f"balance {format_cents(before_cents)}, {format_cents(after_cents)} after this"


def _print_dry_run(plan: Plan, preview: Preview, *, as_json: bool) -> None:
    """Print what the transfer would do, and exit with 3 or 5 if it would be refused."""
    for check in preview.checks:
        note(f"  {'passed' if check.passed else 'FAILED'}  {check.name}: {check.text}")
    for similar in preview.similar or ():
        warn(_described_similar(similar))
    if not preview.complete:
        warn("A part of the account or of its activity could not be read. There may be more similar transfers.")
    if as_json:
        print_json(_dry_run_document(plan, preview))
    if preview.error is not None:
        if not as_json:
            raise preview.error
        fail(" ".join(preview.error.detail.splitlines()))
        raise typer.Exit(preview.error.exit_code)
    would_be_refused = preview.verdict is Verdict.ALLOWED and bool(plan.refusals)
    if not as_json:
        print_line(f"{_in_words(plan, preview)} Nothing was sent.")
    if would_be_refused:
        raise typer.Exit(SafeguardError.exit_code)


def _in_words(plan: Plan, preview: Preview) -> str:
    if preview.verdict is Verdict.REPLAYED:
        return f"This idempotency key was used before, in attempt {preview.attempt_id}. Its result would be returned."
    if plan.refusals:
        return f"Sequence would refuse this transfer: {' '.join(plan.refusals)}"
    amount, source, destination = format_cents(plan.order.amount_cents), plan.source, plan.destination
    return f"Would transfer {amount} from {source.shown_name} to {destination.shown_name}."


def _described_similar(similar: SimilarTransfer) -> str:
    maker = "a rule at Sequence" if similar.activity_type == RULE else (similar.activity_type or UNKNOWN).lower()
    source, when = shown_party(similar.source), shown_moment(similar.created_at)
    named = similar.id or f"attempt {similar.attempt_id}, which Sequence does not show yet"
    return (
        f"A similar transfer exists: {similar.amount} from {source} on {when}, {similar.status or UNKNOWN}, made by"
        f" {maker.replace('_', ' ')} ({named})."
    )


def _dry_run_document(plan: Plan, preview: Preview) -> dict[str, Any]:
    """Return the preview, with the fields of the error document if the transfer would be refused."""
    error = {} if preview.error is None else preview.error.document(about_transfer=True)
    return (
        preview.model_dump(mode="json")
        | error
        | {
            "dry_run": True,
            "would_be_sent": preview.verdict is Verdict.ALLOWED,
            "would_be_refused": preview.verdict is Verdict.REFUSED or bool(plan.refusals),
            "warnings": plan.warnings,
        }
    )


def _print_done(done: CompletedTransfer, plan: Plan, *, as_json: bool) -> None:
    try:
        if as_json:
            print_json(done.model_dump(mode="json") | {"replayed": done.replayed})
            return
        if done.replayed:
            note("This idempotency key was used before. Nothing was sent; this is the original result.")
        if done.id is None:
            note(f"Sequence has not shown its id yet. To look it up: pysequence-api transfers status {done.attempt_id}")
        print_line(f"Transferred {done.amount} from {plan.source.shown_name} to {plan.destination.shown_name}.")
        print_facts(
            [
                ("Transfer", done.id or "not known yet"),
                ("State", done.state),
                ("Status at Sequence", done.status or "not known yet"),
                ("Amount", done.amount),
                ("Attempt", done.attempt_id),
                ("Left today", format_cents(done.daily_remaining_cents)),
            ]
        )
    except GatewayError as error:
        raise GatewayError(f"The transfer was made, but: {error}", attempt_id=done.attempt_id) from error
