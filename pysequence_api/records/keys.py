"""The format of callers' keys: ``psq_``, 256 random bits and a checksum, in base62.

The prefix lets secret scanners find a key. The checksum, a CRC-32 as in GitHub's tokens, tells a mistyped key from one
that does not exist.
"""

import hashlib
import secrets
import string
import zlib

from pysequence_api.text import KEY_PREFIX as PREFIX

DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_BITS = 256
RANDOM_CHARACTERS = 43
CHECKSUM_CHARACTERS = 6
HINT_CHARACTERS = 4


def new_key() -> str:
    """Make a new key."""
    body = _base62(secrets.randbits(RANDOM_BITS), RANDOM_CHARACTERS)
    return f"{PREFIX}{body}{_checksum(body)}"


def looks_like_key(given: bytes) -> bool:
    """Say whether what was sent is meant as the key of a caller."""
    return given.startswith(PREFIX.encode())


def is_mistyped(given: bytes) -> bool:
    """Say whether a key of a caller was not copied whole, or mistyped: its length or checksum is wrong."""
    text = given.decode("latin-1").removeprefix(PREFIX)
    body, checksum = text[:RANDOM_CHARACTERS], text[RANDOM_CHARACTERS:]
    return not (looks_like_key(given) and text.isascii() and checksum == _checksum(body))


def sha256_of(given: bytes) -> bytes:
    """Return the raw SHA-256 of a key, which is all that is kept of it."""
    return hashlib.sha256(given).digest()


def hint_of(key: str) -> str:
    """Return the end of a key, by which a person recognizes it."""
    return key[-HINT_CHARACTERS:]


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode("latin-1")), CHECKSUM_CHARACTERS)


def _base62(number: int, characters: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, len(DIGITS))
        digits = DIGITS[digit] + digits
    return digits.rjust(characters, DIGITS[0])
