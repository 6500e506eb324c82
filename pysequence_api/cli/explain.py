"""``policy explain``: what the policy decides about a transfer, and why. Sends and records nothing."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from pysequence_api.account.names import find_counterparty
from pysequence_api.cli.audit import read_when
from pysequence_api.cli.completion import complete_name
from pysequence_api.cli.drawing import Column, print_table
from pysequence_api.cli.policy import as_they_are, attempts_for
from pysequence_api.cli.running import Interrupts, run, status_shown
from pysequence_api.cli.terminal import note, print_json, print_line, warn
from pysequence_api.cli.transfer import amount_in_cents
from pysequence_api.errors import InvalidRequestError
from pysequence_api.gateway import open_gateway
from pysequence_api.models import Accounts, AccountType, TransferOrder
from pysequence_api.money import format_cents
from pysequence_api.records import read_records
from pysequence_api.records.attempts import DEFAULT_CALLER, OWNER, Attempt, Freeze, Reader
from pysequence_api.records.database import Database
from pysequence_api.safeguards.judge import Check, Judgement, PolicyCode, is_free, judge
from pysequence_api.safeguards.now import MaxCents, frozen_for
from pysequence_api.safeguards.policies import CurrentPolicy, current_policy
from pysequence_api.safeguards.policy import account_id, account_of
from pysequence_api.safeguards.replay import history_of
from pysequence_api.settings import Settings
from pysequence_api.text import quoted

COLUMNS = (Column("Result", whole=True), Column("Check", whole=True), Column("Why"))


def explain(
    caller: Annotated[str, typer.Argument(metavar="CALLER", help="The caller that would ask.")],
    source: Annotated[
        str,
        typer.Argument(
            metavar="FROM", help="A word of the policy, TYPE:id, or a full name.", autocompletion=complete_name
        ),
    ],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="TO", help="A word of the policy, TYPE:id, or a full name.", autocompletion=complete_name
        ),
    ],
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="Dollars and cents: 50.00 or 1,250.50.")],
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="At 2026-11-23T12:00Z, or 2h or 7d ago. By default now.")
    ] = None,
    instant: Annotated[bool, typer.Option("--instant", help="An instant transfer.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say what the policy decides about a transfer, and why.

    Prints every check of the policy in force, in order. The first one that fails decides. Reads the account only if
    FROM or TO is neither a word of the policy nor TYPE:id. Sends and records nothing.

    \b
    Example:
      pysequence-api policy explain owner Groceries Rent 25.00
      pysequence-api policy explain openclaw POD:1234 POD:5678 25.00 --at 2026-11-23T12:00Z
    """
    settings = Settings.load()
    amount_cents = amount_in_cents(amount, None)
    now = read_when(at) if at else datetime.now(UTC)
    records = read_records(settings.data_directory)

    def ask(reader: Reader) -> tuple[CurrentPolicy | None, list[Attempt], Freeze | None, MaxCents]:
        limits = MaxCents.of(settings).lowered_by(reader.recorded_limits())
        return current_policy(reader), attempts_for(reader, now), frozen_for(reader, caller), limits

    current, attempts, frozen, limits = records.read(ask)
    policy = None if current is None else current.policy
    source, destination = _accounts(settings, policy.accounts if policy else {}, source, destination)
    order = _order(source, destination, amount_cents, instant=instant)
    judgement = judge(
        policy,
        caller,
        order,
        history=history_of(as_they_are(records, attempts), now),
        limits=limits,
        now=now,
        frozen=frozen if frozen and frozen.since <= now else None,
    )
    _warn_about_caller(records, caller)
    if as_json:
        print_json(_as_json(judgement, current, caller, order, now))
        return
    _print_judgement(judgement, current, caller)


def _accounts(settings: Settings, words: dict[str, str], source: str, destination: str) -> tuple[str, str]:
    """Find two accounts, each as ``TYPE:id``. Only what is neither a word nor ``TYPE:id`` is looked up at Sequence."""
    known = [words.get(one) or _written(one) for one in (source, destination)]
    if known[0] and known[1]:
        return known[0], known[1]
    accounts = run(partial(_read_accounts, settings), if_interrupted="")
    return known[0] or _named(source, accounts), known[1] or _named(destination, accounts)


def _written(wanted: str) -> str | None:
    kind, _, identifier = wanted.partition(":")
    is_type = kind.upper() in set(AccountType) and identifier.strip() == identifier != ""
    return account_of(AccountType(kind.upper()), identifier) if is_type else None


async def _read_accounts(settings: Settings, _: Interrupts) -> Accounts:
    async with open_gateway(settings, is_owner=True) as gateway:
        with status_shown():
            return await gateway.client.accounts(balances=False)


def _named(wanted: str, accounts: Accounts) -> str:
    found = find_counterparty(wanted, accounts, None)
    if found.is_guess:
        note(f"{quoted(wanted)} is taken for {found.shown_name!r}.")
    return account_of(found.type, found.id)


def _order(source: str, destination: str, amount_cents: int, *, instant: bool) -> TransferOrder:
    try:
        return TransferOrder(
            source_id=account_id(source),
            source_type=AccountType(source.partition(":")[0]),
            destination_id=account_id(destination),
            destination_type=AccountType(destination.partition(":")[0]),
            amount_cents=amount_cents,
            instant=instant,
        )
    except ValidationError as error:
        [message] = {str(detail["msg"]).removeprefix("Value error, ") for detail in error.errors()}
        raise InvalidRequestError(f"From {quoted(source)} to {quoted(destination)}: {message}.") from None


def _warn_about_caller(records: Database, name: str) -> None:
    if name in {OWNER, DEFAULT_CALLER}:
        return
    row = records.read(lambda reader: reader.caller(name))
    if row is None:
        warn(f"There is no caller {quoted(name)}. `pysequence-api callers list` lists them.")
    elif not records.read(lambda reader: reader.working_keys(name)):
        warn(f"The caller {name} has no key that works, so each of its requests is refused.")


def _print_judgement(judgement: Judgement, current: CurrentPolicy | None, caller: str) -> None:
    print_table(COLUMNS, [(_result(check), check.name, _text(check)) for check in judgement.checks])
    print_line()
    print_line(f"{_decided(judgement)} {_basis(current, caller)}")


def _decided(judgement: Judgement) -> str:
    if judgement.code is None:
        return "Allowed." if judgement.rule is None else f"Allowed by the rule {judgement.rule.name}."
    if judgement.asks and judgement.rule is not None:
        return f"The rule {judgement.rule.name} asks the owner, who has {judgement.rule.approval_minutes} minutes."
    return f"Refused with the code {judgement.code}."


def _basis(current: CurrentPolicy | None, caller: str) -> str:
    if is_free(None if current is None else current.policy, caller):
        return f"Only the global limits hold for {caller}."
    return "There is no policy." if current is None else f"Decided by version {current.version} of the policy."


def _result(check: Check) -> str:
    if check.code is PolicyCode.NEEDS_APPROVAL:
        return "asks"
    return "ok" if check.passed else "refused"


def _text(check: Check) -> str:
    # To callers, the global limits are told without numbers.
    if check.name.startswith("global") and check.limit is not None and check.left is not None:
        return f"{check.text} ({format_cents(check.left)} left of {format_cents(check.limit)})"
    return check.text


def _as_json(
    judgement: Judgement, current: CurrentPolicy | None, caller: str, order: TransferOrder, now: datetime
) -> dict[str, Any]:
    return {
        "allowed": judgement.code is None,
        "code": judgement.code,
        "rule": judgement.rule and judgement.rule.name,
        "policy_version": current and current.version,
        "caller": caller,
        "source": account_of(order.source_type, order.source_id),
        "destination": account_of(order.destination_type, order.destination_id),
        "amount_cents": order.amount_cents,
        "at": now.isoformat(),
        "checks": [
            {
                "name": check.name,
                "passed": check.passed,
                "code": check.code,
                "text": check.text,
                "limit": check.limit,
                "left": check.left,
            }
            for check in judgement.checks
        ],
    }
