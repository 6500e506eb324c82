"""One-time codes for the login: six digits that somebody typed, or a secret of which new ones are made."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pyotp

from pysequence_api.errors import SettingsError

LEAST_CODE_LIFE_SECONDS = 5.0
"""A code with less left may have run out when it arrives; the next one is waited for."""
LEAST_LIFE_SHARE = 6
"""Where codes change faster than usual, no more than this part of their life is waited out."""
MAX_PERIOD_SECONDS = 300
LEAST_SECRET_CHARACTERS = 16
"""Shorter is not a secret but a code with a wrong number of digits, or a part of a secret."""

_SIX_DIGITS = re.compile(r"[0-9]{6}", re.ASCII)
_EXPECTED = (
    "SEQUENCE_TOTP must be the secret of your authenticator (base32, at least"
    f" {LEAST_SECRET_CHARACTERS} characters), an otpauth://totp/ address, or the current six digits"
)


@dataclass(frozen=True, slots=True)
class FixedCode:
    """The six digits of one moment. They are good for one login."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NextCode:
    """A code from a secret.

    Attributes:
        text: its digits.
        wait_seconds: how long until it may be typed; 0 for now.
        ends_at: when the one after it becomes the current one, in Unix seconds.
    """

    text: str = field(repr=False)
    wait_seconds: float
    ends_at: float


class CodeMaker:
    """Makes codes from a secret.

    Args:
        totp: the secret with its digits, period and algorithm.
    """

    def __init__(self, totp: pyotp.TOTP) -> None:
        self._totp = totp
        self.period_seconds = totp.interval

    def next(self, now: float, used_until: float) -> NextCode:
        """Make the next code that is neither about to run out nor used.

        Args:
            now: Unix seconds.
            used_until: when the last used code ran out, in Unix seconds. Further away than the current code's end, it
                was written by a clock that was ahead, and counts as that end.
        """
        begins_at = now // self.period_seconds * self.period_seconds
        free_from = min(used_until, begins_at + self.period_seconds)
        least_life_seconds = min(LEAST_CODE_LIFE_SECONDS, self.period_seconds / LEAST_LIFE_SHARE)
        if begins_at < free_from or begins_at + self.period_seconds - now < least_life_seconds:
            begins_at += self.period_seconds
        return NextCode(self._totp.at(int(begins_at)), max(0.0, begins_at - now), begins_at + self.period_seconds)


def read_codes(text: str) -> FixedCode | CodeMaker:
    """Read ``SEQUENCE_TOTP``.

    Args:
        text: six digits, a base32 secret (in any case, spaces allowed), or an ``otpauth://totp/`` address.

    Raises:
        SettingsError: it is none of them; without a word of it.
    """
    compact = "".join(text.split())
    if _SIX_DIGITS.fullmatch(compact):
        return FixedCode(compact)
    try:
        if urlsplit(compact).scheme == "otpauth":
            totp = pyotp.parse_uri(text.strip())
        elif len(compact) < LEAST_SECRET_CHARACTERS:
            raise SettingsError(f"{_EXPECTED}; what is set is too short for a secret.")
        else:
            totp = pyotp.TOTP(compact.upper())
        if not isinstance(totp, pyotp.TOTP):
            raise SettingsError(f"{_EXPECTED}; codes that are counted (hotp) are not supported.")
        if not 1 <= totp.interval <= MAX_PERIOD_SECONDS:
            raise SettingsError(f"{_EXPECTED}; a period of 1 to {MAX_PERIOD_SECONDS} seconds.")
        totp.at(0)
    except ValueError:  # their text can quote what was set
        raise SettingsError(f"{_EXPECTED}; what is set is none of them.") from None
    return CodeMaker(totp)
