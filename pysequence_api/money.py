"""Cents to text and text to cents, in integers only."""

import re

MAX_AMOUNT_CENTS = 2_147_483_647
"""The largest amount of one transfer: Sequence takes it as a GraphQL ``Int`` (upstream-graphql, CreatePayment)."""

_DOLLARS = re.compile(
    r"(?P<sign>\$?)(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,12})(?:\.(?P<cents>[0-9]{2}))?", re.ASCII
)


def format_cents(cents: int) -> str:
    """Write an amount as people in the United States do.

    Args:
        cents: the amount in cents; it may be negative.

    Returns:
        For example ``$1,500.00`` or ``-$0.05``.
    """
    dollars, rest = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}${dollars:,}.{rest:02d}"


def parse_dollars(text: str) -> int:
    """Read an amount that a person typed, and that can only be meant in dollars.

    A bare whole number is refused: ``5000`` could be meant in cents, and would then be a hundred times too much.

    Args:
        text: ``50.00``, ``$50`` or ``$1,250.50``.

    Returns:
        The amount in cents.

    Raises:
        ValueError: the text is no such amount; the message says what to write instead.
    """
    match = _DOLLARS.fullmatch(text.strip())
    if match is None:
        raise ValueError("is not an amount in dollars; write it like 50.00 or 1,250.50")
    whole = match["whole"].replace(",", "")
    if not match["sign"] and match["cents"] is None:
        cents = int(whole)
        dollars = f"{cents // 100}.{cents % 100:02}"
        raise ValueError(f"could be in dollars or in cents; write {whole}.00, or {dollars} if it is in cents")
    return int(whole) * 100 + int(match["cents"] or 0)
