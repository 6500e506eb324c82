"""``limits reconcile``, ``resolve`` and ``repair``: bringing to an end what has none."""

from functools import partial
from typing import Annotated

import anyio
import typer

from pysequence_api.cli.asking import can_ask, confirm
from pysequence_api.cli.output import Column, note, print_facts, print_json, print_line, print_table
from pysequence_api.cli.running import Interrupts, run
from pysequence_api.cli.transfers import print_status
from pysequence_api.errors import InvalidRequestError
from pysequence_api.gateway import open_gateway, open_records, open_recovery
from pysequence_api.money import format_cents
from pysequence_api.settings import Settings

COLUMNS = (Column("Attempt"), Column("Amount", right=True), Column("Result"), Column("Transfer, or why"))
SAID_NO = 1


def reconcile(
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found out as one JSON list.")] = False,
) -> None:
    """Look up in the account's activity what is unsettled, and settle or release it.

    What is in doubt stays unsettled and counted. Ends with 0 also then.

    \b
    Example:
      pysequence-api limits reconcile
    """
    run(partial(_reconcile, Settings.load(), as_json))


async def _reconcile(settings: Settings, as_json: bool, _interrupts: Interrupts) -> None:
    async with open_gateway(settings) as gateway:
        findings = await gateway.follow_up.run()
    if as_json:
        print_json([finding.model_dump(mode="json") for finding in findings])
    elif not findings:
        print_line("Nothing is unsettled.")
    else:
        rows = [
            (one.attempt_id, format_cents(one.amount_cents), one.result.value, one.transfer_id or one.reason or "-")
            for one in findings
        ]
        print_table(COLUMNS, rows)


def resolve(
    attempt_id: Annotated[
        str, typer.Argument(metavar="ATTEMPT", help="Its id; `limits show` lists what is unsettled.")
    ],
    completed: Annotated[
        str | None, typer.Option(metavar="TRANSFER_ID", help="It was executed, as this transfer.")
    ] = None,
    not_executed: Annotated[
        bool, typer.Option("--not-executed", help="It was not executed, and counts no longer.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Needed where nobody can be asked.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the attempt as one JSON document.")] = False,
) -> None:
    """Decide yourself what became of an attempt, after looking in Sequence's application.

    It goes into the audit trail as your word, and stays. Needs neither Sequence nor a network.

    \b
    Example:
      pysequence-api limits resolve 1dc004ac-bd0f-41da-b780-b4d026138697 --not-executed
    """
    if (completed is not None) == not_executed or completed == "":
        raise InvalidRequestError("Say either --completed TRANSFER_ID or --not-executed.")
    settings = Settings.load()
    recovery = open_recovery(settings, open_records(settings))
    status = recovery.status(attempt_id)
    became = "was not executed" if completed is None else f"was executed, as transfer {completed!r}"
    parties = f"from {status.source_id} to {status.destination_id}"
    note(f"The transfer of {format_cents(status.amount_cents)} {parties} {became}.")
    _ask(yes, "Record that for good?")
    print_status(recovery.resolve(attempt_id, completed), as_json=as_json)


def repair(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. Needed where nobody can be asked.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as one JSON document.")] = False,
) -> None:
    """Make a damaged or missing .daily_limits.json again from the audit trail, after showing what would be written.

    It counts everything that has no certain failure, and keeps idempotency keys. The damaged file is put aside. Needs
    neither Sequence nor a network.

    \b
    Example:
      pysequence-api limits repair
    """
    from pysequence_api.records.repair import carry_out, propose  # noqa: PLC0415

    store = open_records(Settings.load()).store
    proposed = propose(store)
    entries = [entry for _, entry in proposed.ledger.entries()]
    if proposed.counted_cents is None:
        note(proposed.problem or "")
    else:
        note(f"The ledger that is there is in order, and counts {format_cents(proposed.counted_cents)} today.")
    used_today = format_cents(proposed.used_cents)
    note(f"Made from the audit trail, it would count {used_today} today. All its entries ({len(entries)}):")
    for entry in entries:
        amount = format_cents(entry.amount_cents)
        note(f"  {entry.timestamp}  {amount:>14}  {entry.state:8}  {entry.attempt_id or 'by another program'}")
    _ask(yes, "Write it?")
    aside = carry_out(store, proposed)
    written = {"entries": len(entries), "used_cents": proposed.used_cents, "old_file": str(aside) if aside else None}
    if as_json:
        print_json(written)
    else:
        print_facts(
            [
                ("Written", f"{len(entries)} entries"),
                ("Used today", format_cents(proposed.used_cents)),
                ("Old file", str(aside) if aside else "there was none"),
            ]
        )


def _ask(yes: bool, question: str) -> None:
    if not yes and not can_ask():
        raise InvalidRequestError("Nobody can be asked here. Nothing was written. Add --yes if it is meant.")
    if not yes and not anyio.run(confirm, question):
        note("Nothing was written.")
        raise typer.Exit(SAID_NO)
