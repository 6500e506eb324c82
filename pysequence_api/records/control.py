"""Freezing transfers: at once, in every process, until somebody unfreezes them."""

from pysequence_api.records.attempts import Freeze, Writer
from pysequence_api.records.database import Database
from pysequence_api.text import plain_text

NO_REASON = "no reason given"
MAX_REASON_CHARACTERS = 200


def freeze(records: Database, reason: str | None = None) -> Freeze:
    """Freeze transfers for every caller. If they are frozen already, only a new reason changes anything.

    Args:
        records: the database.
        reason: why; one line is kept of it.

    Returns:
        Since when transfers are frozen, and why.

    Raises:
        SafeguardsUnavailableError: the records cannot be written.
    """
    wanted = plain_text(reason, MAX_REASON_CHARACTERS) if reason and reason.strip() else None

    def decide(writer: Writer) -> Freeze:
        current = writer.freeze()
        if current is not None and not current.callers_only and wanted in {None, current.reason}:
            return current
        reason = wanted or (current.reason if current else NO_REASON)
        writer.set_freeze(reason)
        return Freeze(writer.now, reason)

    return records.write(decide)


def unfreeze(records: Database) -> Freeze | None:
    """Let transfers go on.

    Returns:
        What has ended; ``None`` if transfers were not frozen.

    Raises:
        SafeguardsUnavailableError: the records cannot be written.
    """

    def decide(writer: Writer) -> Freeze | None:
        current = writer.freeze()
        if current is not None:
            writer.set_freeze(None)
        return current

    return records.write(decide)
