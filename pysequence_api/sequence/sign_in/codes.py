"""One-time codes for the login: six digits from the settings, or codes made from a secret.

A secret is read as authenticator applications read it, which is more generous than `pyotp` is.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

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
_BASE32 = re.compile(r"[A-Z2-7]+")
_ADDRESS = re.compile(r"otpauth://(?P<kind>[a-z]*)[^?]*(\?(?P<query>.*))?", re.IGNORECASE | re.DOTALL)
_ALGORITHMS = {"SHA1": hashlib.sha1, "SHA256": hashlib.sha256, "SHA512": hashlib.sha512}
_IGNORED = {"Zs", "Zl", "Zp", "Cc", "Cf", "Pd"}
"""Spaces, line breaks, invisible characters and dashes, by Unicode category. They only group a secret or a code."""
_EXPECTED = (
    "SEQUENCE_TOTP must be the secret of your authenticator (base32, at least"
    f" {LEAST_SECRET_CHARACTERS} characters), an otpauth://totp/ address, or the current six digits"
)


class _Totp(pyotp.TOTP):
    min_secret_length_bits = 1  # the service chose the secret, and many choose 80 bits


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
        text: six digits, a base32 secret, or an ``otpauth://totp/`` address. Case, spaces, dashes and padding do not
            matter, and neither do the label and the issuer of an address.

    Raises:
        SettingsError: the text is none of these. The message does not contain it.
    """
    compact = _compact(text)
    if _SIX_DIGITS.fullmatch(compact):
        return FixedCode(compact)
    address = _ADDRESS.fullmatch(text.strip())
    if address is None and len(compact) < LEAST_SECRET_CHARACTERS:
        raise SettingsError(f"{_EXPECTED}. The current value is too short for a secret.")
    if address is not None and address["kind"].lower() == "hotp":
        raise SettingsError(f"{_EXPECTED}. Counter-based codes (hotp) are not supported.")
    try:
        totp = _Totp(_base32(text)) if address is None else _read_address(address["kind"], address["query"] or "")
        totp.at(0)
    except ValueError:  # its text can contain the secret
        raise SettingsError(
            f"{_EXPECTED}. The current value is none of these. (An address can have 6 to 10 digits, a period of 1 to"
            f" {MAX_PERIOD_SECONDS} seconds, and SHA1, SHA256 or SHA512.)"
        ) from None
    return CodeMaker(totp)


def _read_address(kind: str, query: str) -> _Totp:
    """Read the parameters of an ``otpauth://`` address. An empty or missing one has its usual value.

    Raises:
        ValueError: there is no secret, or a parameter cannot be used.
    """
    if kind.lower() != "totp":
        raise ValueError("not a totp address")
    found: dict[str, set[str]] = {}
    for name, value in parse_qsl(query.replace("&amp;", "&")):  # as copied from the source of a page
        found.setdefault(name.lower(), set()).add(_base32(value) if name.lower() == "secret" else value.strip())

    def one(name: str, usual: str) -> str:
        values = found.get(name, {usual})
        if len(values) > 1:
            raise ValueError(f"several values of {name}")
        return values.pop()

    options: dict[str, Any] = {"digits": int(one("digits", "6")), "interval": int(one("period", "30"))}
    if not 1 <= options["interval"] <= MAX_PERIOD_SECONDS:
        raise ValueError("unusable period")
    algorithm = re.sub(r"[-_]|^HMAC", "", one("algorithm", "SHA1").upper())
    if algorithm not in _ALGORITHMS:
        raise ValueError("unknown algorithm")
    return _Totp(one("secret", ""), digest=_ALGORITHMS[algorithm], **options)


def _base32(secret: str) -> str:
    """Return a secret in upper case, without grouping and padding, and without a character that makes no whole byte."""
    plain = _compact(secret).rstrip("=").upper()
    return plain[:-1] if _BASE32.fullmatch(plain) and len(plain) % 8 in {1, 3, 6} else plain


def _compact(text: str) -> str:
    return "".join(character for character in text if unicodedata.category(character) not in _IGNORED)
