"""One-time codes for the login: six digits from the settings, or codes made from a secret."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pyotp

from pysequence_api.errors import SettingsError

LEAST_CODE_LIFE_SECONDS = 5.0
"""A code with less time left may expire on the way, so the next one is used."""
LEAST_LIFE_SHARE = 6
"""For codes with a short period, the time above is at most this fraction of the period: one sixth."""
MAX_PERIOD_SECONDS = 300
LEAST_SECRET_CHARACTERS = 16
"""A shorter text is a code with the wrong number of digits, or an incomplete secret."""

_SIX_DIGITS = re.compile(r"[0-9]{6}", re.ASCII)
_EXPECTED = (
    "SEQUENCE_TOTP must be the secret of your authenticator (base32, at least"
    f" {LEAST_SECRET_CHARACTERS} characters), an otpauth://totp/ address, or the current six digits"
)


@dataclass(frozen=True, slots=True)
class FixedCode:
    """Six digits from the settings. They work for one login."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NextCode:
    """A code made from a secret.

    Attributes:
        text: the digits.
        wait_seconds: the time until the code may be used; 0 for now.
        ends_at: when the code expires, in Unix seconds.
    """

    text: str = field(repr=False)
    wait_seconds: float
    ends_at: float


class CodeMaker:
    """Makes codes from a secret.

    Args:
        totp: the secret, number of digits, period and algorithm.
    """

    def __init__(self, totp: pyotp.TOTP) -> None:
        self._totp = totp
        self.period_seconds = totp.interval

    def next(self, now: float, used_until: float) -> NextCode:
        """Return the next code that is neither used nor about to expire.

        Args:
            now: Unix seconds.
            used_until: when the last used code expired, in Unix seconds. A time after the end of the current code was
                written by a clock that was ahead, and counts as that end.
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
        SettingsError: the text is none of these. The message does not contain it.
    """
    compact = "".join(text.split())
    if _SIX_DIGITS.fullmatch(compact):
        return FixedCode(compact)
    try:
        if urlsplit(compact).scheme == "otpauth":
            totp = pyotp.parse_uri(text.strip())
        elif len(compact) < LEAST_SECRET_CHARACTERS:
            raise SettingsError(f"{_EXPECTED}. The current value is too short for a secret.")
        else:
            totp = pyotp.TOTP(compact.upper())
        if not isinstance(totp, pyotp.TOTP):
            raise SettingsError(f"{_EXPECTED}. Counter-based codes (hotp) are not supported.")
        if not 1 <= totp.interval <= MAX_PERIOD_SECONDS:
            raise SettingsError(f"{_EXPECTED}. The period must be 1 to {MAX_PERIOD_SECONDS} seconds.")
        totp.at(0)
    except ValueError:  # its text can contain the secret
        raise SettingsError(f"{_EXPECTED}. The current value is none of these.") from None
    return CodeMaker(totp)
