"""``transfers``: one transfer. ``show`` reads it from Sequence; ``status`` reads the data directory."""

from functools import partial
from typing import Annotated

import typer

from pysequence_api.cli.drawing import print_facts, shown_moment, shown_party, shown_time
from pysequence_api.cli.running import Interrupts, open_with_status, run
from pysequence_api.cli.terminal import UNKNOWN, print_json, warn
from pysequence_api.models import CompoundDetails, PaymentStatus, TransferDetail
from pysequence_api.money import format_cents
from pysequence_api.records import open_records
from pysequence_api.safeguards.transfers import AttemptStatus, read_attempt
from pysequence_api.settings import Settings


def show(
    transfer_id: Annotated[str, typer.Argument(metavar="TRANSFER_ID", help="Transfer id, from `activity`.")],
    org_id: Annotated[str | None, typer.Option(metavar="ORG_ID", help="Override SEQUENCE_ORG_ID.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the response of GET /api/transfers/{transfer_id}.")
    ] = False,
) -> None:
    """Show one transfer and its payments.

    \b
    Example:
      pysequence-api transfers show 5f0c1de2-8f0e-4f25-a3c5-1b1f2b6f2a10
    """
    detail = run(partial(_read, Settings.load(), transfer_id, org_id))
    if as_json:
        print_json(detail.model_dump(mode="json"))
    else:
        print_facts(_facts(detail))
    if not detail.complete:
        warn("Sequence left out a part of this transfer, or sent something that cannot be read.")


def status(
    attempt_id: Annotated[str, typer.Argument(metavar="ATTEMPT_ID", help="Attempt id, from the result or the error.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the response of GET /api/attempts/{attempt_id}.")
    ] = False,
) -> None:
    """Show the status of a transfer attempt.

    Reads the data directory; makes no upstream call.

    \b
    Example:
      pysequence-api transfers status 1dc004ac-bd0f-41da-b780-b4d026138697
    """
    print_status(read_attempt(open_records(Settings.load().data_directory), attempt_id), as_json=as_json)


def print_status(attempt: AttemptStatus, *, as_json: bool) -> None:
    """Print the status of an attempt."""
    if as_json:
        print_json(attempt.model_dump(mode="json"))
        return
    print_facts(
        [
            ("Attempt", attempt.attempt_id),
            ("State", attempt.state),
            ("Amount", format_cents(attempt.amount_cents)),
            ("Source", attempt.source_id or UNKNOWN),
            ("Destination", attempt.destination_id or UNKNOWN),
            ("Transfer", attempt.transfer_id or "not known"),
            ("Status at Sequence", attempt.transfer_status or UNKNOWN),
            ("Requested", shown_time(attempt.created_at)),
            ("Sent", shown_time(attempt.announced_at) if attempt.announced_at else "never"),
            ("Ended", shown_time(attempt.ended_at) if attempt.ended_at else "not yet"),
            ("Followed until", shown_time(attempt.followed_until) if attempt.followed_until else "not followed"),
            *([("Code", attempt.code)] if attempt.code else []),
            *([("Error", attempt.error)] if attempt.error else []),
        ]
    )


async def _read(settings: Settings, transfer_id: str, org_id: str | None, _: Interrupts) -> TransferDetail:
    async with open_with_status(settings) as gateway:
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
