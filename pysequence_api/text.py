"""Text from upstream, made fit for an answer, a log line or an audit entry."""

import re
import unicodedata
from collections.abc import Iterable

MASK = "••••"
SHOWN_CHARACTERS = 4
"""How much of an account number is shown, at its end."""
TEXT_LIMIT_CHARACTERS = 200
ID_LIMIT_CHARACTERS = 100
"""How much of an id that somebody asked for is said back."""
READ_FACTOR = 10
"""How many times the limit is looked at; what lies beyond is cut off unseen."""
SHORTEST_SECRET_CHARACTERS = 8
"""A shorter secret could be a part of any word, and is no secret."""
REMOVED = "(removed)"

_TAG = re.compile(r"<[/!?]?[a-z][a-z0-9]*(?:[\s/>]|$)", re.IGNORECASE)
_CREDENTIAL = re.compile(r"\bbearer[\s:=]+\S+|\beyJ[\w-]+(?:\.[\w-]*)+", re.IGNORECASE)
# An identifier stays whole. Of digits alone, six and more in a row, or three and more groups of three and more, are the
# number of an account or a card. A date, whose groups have two, is not.
_NUMBER = re.compile(
    r"(?P<id>\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b)|\d{3,}(?:[ -]\d{3,}){2,}|\d{6,}", re.IGNORECASE
)


def plain_text(text: str, limit_characters: int = TEXT_LIMIT_CHARACTERS, *, secrets: Iterable[str] = ()) -> str:
    """Make one bounded line of a text that somebody else wrote.

    Args:
        text: the text.
        limit_characters: how long it may become.
        secrets: what must not be in it, besides all that looks like a credential.

    Returns:
        The text without control characters, credentials and markup, with long numbers masked to their last four digits.
    """
    line = _one_line(text[: limit_characters * READ_FACTOR])
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET_CHARACTERS:
            line = line.replace(secret, REMOVED)
    if _TAG.search(line):
        return "(an HTML page)"
    line = _NUMBER.sub(_masked, _CREDENTIAL.sub(REMOVED, line))
    if not line:
        return "(no text)"
    return line if len(line) <= limit_characters else line[: limit_characters - 1] + "…"


def mask_number(number: str) -> str:
    """Mask an account or routing number to its last four characters; four or fewer are masked whole."""
    shown = number[-SHOWN_CHARACTERS:] if len(number) > SHOWN_CHARACTERS else ""
    return MASK + shown


def quoted(identifier: str) -> str:
    """Say back an id that was asked for: bounded, on one line, in quotes."""
    return repr(identifier[:ID_LIMIT_CHARACTERS])


def _one_line(text: str) -> str:
    # Invisible characters go entirely, so that they cannot split a number; line breaks and their like become spaces.
    visible = "".join(character for character in text if unicodedata.category(character) not in {"Cf", "Cs", "Co"})
    spaced = "".join(
        " " if unicodedata.category(character) in {"Cc", "Zl", "Zp", "Zs"} else character for character in visible
    )
    return " ".join(spaced.split())


def _masked(match: re.Match[str]) -> str:
    return match[0] if match["id"] else mask_number(match[0])
