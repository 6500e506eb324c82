"""The screen before a transfer: what would happen, and what speaks against it."""

import sys

from pysequence_api.account.names import Counterparty
from pysequence_api.cli.output import UNKNOWN, note, note_facts, warn, with_bar
from pysequence_api.cli.plan import Plan
from pysequence_api.cli.words import cents_in_words
from pysequence_api.money import format_cents


def show_plan(plan: Plan) -> None:
    """Show on standard error what would happen."""
    order, limits = plan.order, plan.limits
    amount_cents = order.amount_cents
    note(f"Transfer {format_cents(amount_cents)}", "bold reverse")
    note(f"  {cents_in_words(amount_cents)}", "bold")
    after = f"short by {format_cents(-plan.left_cents)}" if plan.left_cents < 0 else format_cents(plan.left_cents)
    per_transfer = f"at most {format_cents(limits.max_transfer_cents)}"
    left_today = f"{format_cents(limits.remaining_cents)}, after this {after}"
    note_facts(
        [
            ("  from", _described(plan.source)),
            ("", _before_and_after(plan.source.balance_cents, plan.source_after_cents)),
            ("  to", _described(plan.destination)),
            ("", _before_and_after(plan.destination.balance_cents, plan.destination_after_cents)),
            ("  description", order.description or "none"),
            ("  instant", "yes" if order.instant else "no"),
            ("  per transfer", with_bar(sys.stderr, per_transfer, 0, amount_cents, limits.max_transfer_cents)),
            (
                "  left today",
                with_bar(sys.stderr, left_today, limits.used_cents, amount_cents, limits.max_daily_cents),
            ),
            ("  recorded in", plan.directory),
            ("  money", "pretended: this is the sandbox" if plan.is_sandbox else "real"),
        ]
    )
    for doubt in plan.warnings:
        warn(doubt)


def _described(side: Counterparty) -> str:
    return f"{side.name or 'unnamed'} ({side.type.lower()} {side.id})"


def _before_and_after(before_cents: int | None, after_cents: int | None) -> str:
    if before_cents is None or after_cents is None:
        return f"balance {UNKNOWN}"
    return f"balance {format_cents(before_cents)}, after this {format_cents(after_cents)}"
