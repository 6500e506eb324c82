"""Cursors of the activity, with a checksum in front, so that a guessed or cut one is noticed here.

What Sequence does with a cursor that is not its own is not known. It may answer with the first page, so that whoever
pages with one never comes to the end.
"""

import hashlib

from pysequence_api.errors import InvalidRequestError
from pysequence_api.sequence.client import NOT_A_CURSOR

CHECKSUM_CHARACTERS = 8


def checked(cursor: str, organization_id: str) -> str:
    """Return a cursor of Sequence's as callers get it; the empty text, for no cursor, stays so."""
    return _checksum(cursor, organization_id) + cursor if cursor else ""


def unchecked(text: str, organization_id: str) -> str:
    """Return Sequence's cursor; the empty text is that of the first page.

    Raises:
        InvalidRequestError: it is not a cursor, or one of another organization.
    """
    checksum, cursor = text[:CHECKSUM_CHARACTERS], text[CHECKSUM_CHARACTERS:]
    if text and (not cursor or checksum != _checksum(cursor, organization_id)):
        raise InvalidRequestError(NOT_A_CURSOR)
    return cursor


def _checksum(cursor: str, organization_id: str) -> str:
    return hashlib.sha256(f"{organization_id}\0{cursor}".encode(errors="replace")).hexdigest()[:CHECKSUM_CHARACTERS]
