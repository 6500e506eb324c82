"""``transfers show``: one transfer, read from Sequence."""

from contextlib import suppress
from functools import partial
from typing import Annotated

import typer

from pysequence_api.cli.drawing import print_facts, shown_moment, shown_party
from pysequence_api.cli.running import Interrupts, run
from pysequence_api.cli.terminal import UNKNOWN, print_json, warn
from pysequence_api.cli.upstream import Fresh, open_with_status, reading
from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.models import CompoundDetails, PaymentStatus, TransferDetail
from pysequence_api.settings import Settings


def show(
    transfer_id: Annotated[str, typer.Argument(metavar="TRANSFER_ID", help="Transfer id, from `activity`.")],
    org_id: Annotated[str | None, typer.Option(metavar="ORG_ID", help="Override SEQUENCE_ORG_ID.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the response of GET /api/transfers/{transfer_id}.")
    ] = False,
    fresh: Fresh = False,
) -> None:
    """Show one transfer and its payments.

    \b
    Example:
      pysequence-api transfers show 5f0c1de2-8f0e-4f25-a3c5-1b1f2b6f2a10
    """
    detail, reason = run(partial(_read, Settings.load(), transfer_id, org_id, fresh))
    if as_json:
        print_json(detail.model_dump(mode="json"))
    else:
        print_facts(_facts(detail) + ([("The caller says", reason)] if reason else []))
    if not detail.complete:
        warn("Sequence left out a part of this transfer, or sent something that cannot be read.")


async def _read(
    settings: Settings, transfer_id: str, org_id: str | None, fresh: bool, _: Interrupts
) -> tuple[TransferDetail, str | None]:
    """Read a transfer, and what the caller said who requested it, if it was requested here."""
    async with open_with_status(settings) as gateway:
        with reading(gateway, fresh=fresh) as reads:
            detail = await reads.transfer_detail(org_id or gateway.organization_id, transfer_id)
        attempt = None
        with suppress(SafeguardsUnavailableError):  # transfers are shown without the records, too
            attempt = gateway.records.read(lambda reader: reader.attempt_by_transfer(detail.id))
        return detail, None if attempt is None else attempt.reason


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
