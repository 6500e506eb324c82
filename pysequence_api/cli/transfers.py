"""``transfers``: one of them. ``show`` asks Sequence; ``status`` reads files only."""

from functools import partial
from typing import Annotated

import typer

from pysequence_api.cli.moves import shown_moment, shown_party
from pysequence_api.cli.output import UNKNOWN, print_facts, print_json, shown_time
from pysequence_api.cli.running import Interrupts, run
from pysequence_api.cli.waiting import open_watched
from pysequence_api.gateway import open_records, open_recovery
from pysequence_api.models import CompoundDetails, PaymentStatus, TransferDetail
from pysequence_api.money import format_cents
from pysequence_api.safeguards.recovery import AttemptStatus
from pysequence_api.settings import Settings

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="One transfer, and what became of it.")


@app.command("show", no_args_is_help=True)
def show(
    transfer_id: Annotated[str, typer.Argument(metavar="TRANSFER_ID", help="From `activity`, or from a transfer.")],
    org_id: Annotated[str | None, typer.Option(metavar="ORG_ID", help="Instead of SEQUENCE_ORG_ID.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what GET /api/transfers/{transfer_id} answers.")
    ] = False,
) -> None:
    """Show one transfer as Sequence knows it, with the payments that it consists of.

    \b
    Example:
      pysequence-api transfers show 5f0c1de2-8f0e-4f25-a3c5-1b1f2b6f2a10
    """
    detail = run(partial(_read, Settings.load(), transfer_id, org_id))
    if as_json:
        print_json(detail.model_dump(mode="json"))
    else:
        print_facts(_facts(detail))


@app.command("status")
def status(
    attempt_id: Annotated[str, typer.Argument(metavar="ATTEMPT_ID", help="From the answer, or the error.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print what GET /api/attempts/{attempt_id} answers.")] = False,
) -> None:
    """Say what is known by now of an attempt to transfer. Needs neither Sequence nor a network.

    \b
    Example:
      pysequence-api transfers status 1dc004ac-bd0f-41da-b780-b4d026138697
    """
    settings = Settings.load()
    print_status(open_recovery(settings, open_records(settings)).status(attempt_id), as_json=as_json)


async def _read(settings: Settings, transfer_id: str, org_id: str | None, _: Interrupts) -> TransferDetail:
    async with open_watched(settings) as gateway:
        return await gateway.client.transfer_detail(org_id or gateway.organization_id, transfer_id)


def _facts(detail: TransferDetail) -> list[tuple[str, str]]:
    facts = [
        ("Transfer", detail.id),
        ("Status", detail.status or UNKNOWN),
        ("Amount", detail.amount or UNKNOWN),
        ("From", shown_party(detail.source)),
        ("To", shown_party(detail.destination)),
        ("Kind", detail.activity_type or UNKNOWN),
        ("Description", detail.description or "none"),
        ("Created", shown_moment(detail.created_at)),
    ]
    facts += [("Error", detail.error_reason)] if detail.error_reason else []
    if isinstance(detail.details, CompoundDetails):
        facts += _payment("Pull", detail.details.pull)
        facts += _payment("Push", detail.details.push)
        facts += _payment("Reversal", detail.details.reversal)
    else:
        facts += _payment("Payment", detail.details)
    if detail.rule is not None:
        facts.append(("Rule", " ".join(filter(None, (detail.rule.trigger_type, detail.rule.trigger_cron))) or UNKNOWN))
    return facts


def _payment(name: str, payment: PaymentStatus | None) -> list[tuple[str, str]]:
    if payment is None:
        return []
    if payment.completed_at is not None:
        when = f", completed {shown_moment(payment.completed_at)}"
    elif payment.expected_completion is not None:
        when = f", expected {shown_moment(payment.expected_completion)}"
    else:
        when = ""
    return [(name, f"{payment.status or UNKNOWN}{when}")]


def print_status(known: AttemptStatus, *, as_json: bool) -> None:
    """Write what is known of an attempt."""
    if as_json:
        print_json(known.model_dump(mode="json"))
        return
    print_facts(
        [
            ("Attempt", known.attempt_id),
            ("Status", known.status),
            ("Amount", format_cents(known.amount_cents)),
            ("Source", known.source_id or UNKNOWN),
            ("Destination", known.destination_id or UNKNOWN),
            ("Transfer", known.transfer_id or "none that is known"),
            ("Requested", shown_time(known.requested_at) if known.requested_at else UNKNOWN),
            ("Ended", shown_time(known.ended_at) if known.ended_at else "not yet"),
            *([("Error", known.error)] if known.error else []),
        ]
    )
