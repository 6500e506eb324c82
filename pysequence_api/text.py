"""Text from outside: made safe for an answer, a log line or an audit event, and JSON parsed strictly."""

import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any, NoReturn

MASK = "••••"
SHOWN_CHARACTERS = 4
"""How many characters of an account number are shown, at its end."""
TEXT_LIMIT_CHARACTERS = 200
ID_LIMIT_CHARACTERS = 100
"""How many characters of a requested id a message repeats."""
READ_FACTOR = 10
"""`plain_text` reads this many times its limit, and cuts off the rest unread."""
SHORTEST_SECRET_CHARACTERS = 8
"""A shorter text could be part of an ordinary word, so it is not removed."""
REMOVED = "(removed)"
MAX_EVENT_BYTES = 256
"""How much of a text from a caller goes into an audit event."""

_TAG = re.compile(r"<[/!?]?[a-z][a-z0-9]*(?:[\s/>]|$)", re.IGNORECASE)
KEY_PREFIX = "psq_"
"""How the keys of callers begin."""

_KEY = re.compile(rf"{KEY_PREFIX}[0-9A-Za-z]+")
_CREDENTIAL = re.compile(rf"\bbearer[\s:=]+\S+|\beyJ[\w-]+(?:\.[\w-]*)+|{_KEY.pattern}", re.IGNORECASE)
# A UUID stays whole. Six or more digits in a row, or three or more groups of at least three digits, are treated as the
# number of an account or a card. A date has groups of two digits and is left alone.
_NUMBER = re.compile(
    r"(?P<id>\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b)|\d{3,}(?:[ -]\d{3,}){2,}|\d{6,}", re.IGNORECASE
)


def plain_text(text: str, limit_characters: int = TEXT_LIMIT_CHARACTERS, *, secrets: Iterable[str] = ()) -> str:
    """Turn text from outside into one short, safe line.

    Args:
        text: the text.
        limit_characters: the maximum length of the result.
        secrets: texts to remove, in addition to everything that looks like a credential.

    Returns:
        The text without control characters, credentials and markup. Long numbers are masked to their last four digits.
    """
    line = one_line(text[: limit_characters * READ_FACTOR])
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET_CHARACTERS:
            line = line.replace(secret, REMOVED)
    if _TAG.search(line):
        return "(an HTML page)"
    line = _NUMBER.sub(_masked, _CREDENTIAL.sub(REMOVED, line))
    if not line:
        return "(no text)"
    return line if len(line) <= limit_characters else line[: limit_characters - 1] + "…"


def bounded(text: str) -> str:
    """Cut a text to `MAX_EVENT_BYTES` bytes of UTF-8."""
    return text.encode("utf-8", "replace")[:MAX_EVENT_BYTES].decode("utf-8", "ignore")


def one_line(text: str) -> str:
    """Remove invisible characters from a text, and make one line of it: control characters become spaces."""
    # Invisible characters could split a number.
    visible = "".join(character for character in text if unicodedata.category(character) not in {"Cf", "Cs", "Co"})
    spaced = "".join(
        " " if unicodedata.category(character) in {"Cc", "Zl", "Zp", "Zs"} else character for character in visible
    )
    return " ".join(spaced.split())


def without_keys(text: str) -> str:
    """Mask the keys of callers in a text."""
    return _KEY.sub(f"{KEY_PREFIX}{REMOVED}", text) if KEY_PREFIX in text else text


def mask_number(number: str) -> str:
    """Mask an account or routing number to its last four characters. Up to four characters are masked completely."""
    shown = number[-SHOWN_CHARACTERS:] if len(number) > SHOWN_CHARACTERS else ""
    return MASK + shown


def quoted(identifier: str) -> str:
    """Quote a requested id for a message, shortened and on one line."""
    return repr(identifier[:ID_LIMIT_CHARACTERS])


def parse_json(body: bytes) -> Any:
    """Parse JSON strictly.

    Raises:
        ValueError: the text is not JSON, is nested too deeply, or holds NaN or an infinity.
    """
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _masked(match: re.Match[str]) -> str:
    return match[0] if match["id"] else mask_number(match[0])


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
