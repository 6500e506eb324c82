"""Freezing transfers, of all callers or of one: at once, in every process, until the owner unfreezes them."""

from pysequence_api.errors import InvalidRequestError
from pysequence_api.records.attempts import DEFAULT_CALLER, OWNER, Freeze, Reader, Writer
from pysequence_api.records.audit import Channel
from pysequence_api.records.callers import require_caller
from pysequence_api.records.database import Database
from pysequence_api.text import plain_text

NO_REASON = "no reason given"
MAX_REASON_CHARACTERS = 200


def freeze(
    records: Database, reason: str | None = None, caller: str | None = None, channel: Channel | None = None
) -> Freeze:
    """Freeze transfers. If they are frozen already, only a new reason from the terminal changes anything.

    Args:
        records: the database.
        reason: why; one line is kept of it.
        caller: only the transfers of this one; ``None`` for those of everybody.
        channel: how that was requested, if it is to be recorded.

    Returns:
        Since when transfers are frozen, and why.

    Raises:
        NotFoundError: there is no such caller.
        InvalidRequestError: the caller was removed, or is the terminal.
        SafeguardsUnavailableError: the records cannot be written.
    """
    wanted = plain_text(reason, MAX_REASON_CHARACTERS) if reason and reason.strip() else None

    def unchanged(reader: Reader) -> tuple[Freeze | None, bool]:
        """Return the freeze that there is, and whether it stays as it is."""
        current = freeze_of(reader, caller)
        is_news = channel is not Channel.API and wanted not in {None, current and current.reason}
        return current, current is not None and not current.callers_only and not is_news

    def decide(writer: Writer) -> Freeze:
        current, stays = unchanged(writer)
        if current is not None and stays:
            return current
        reason = wanted or (current.reason if current else NO_REASON)
        writer.set_freeze(reason, caller=caller, channel=channel)
        return Freeze(writer.now, reason, caller=caller)

    # Read first: a caller can do this as often as it likes, and transfers wait for each other's writes.
    current, stays = records.read(unchanged)
    return current if current is not None and stays else records.write(decide)


def unfreeze(records: Database, caller: str | None = None, channel: Channel | None = None) -> Freeze | None:
    """Let transfers go on: of everybody but the callers that are frozen themselves, or of one caller.

    Args:
        records: the database.
        caller: only the transfers of this one; ``None`` for those of everybody.
        channel: how that was requested, if it is to be recorded.

    Returns:
        What has ended; ``None`` if transfers were not frozen.

    Raises:
        NotFoundError: there is no such caller.
        InvalidRequestError: the caller was removed, or is the terminal.
        SafeguardsUnavailableError: the records cannot be written.
    """

    def decide(writer: Writer) -> Freeze | None:
        current = freeze_of(writer, caller)
        if current is not None:
            writer.set_freeze(None, caller=caller, channel=channel)
        return current

    return records.write(decide)


def freeze_of(reader: Reader, caller: str | None) -> Freeze | None:
    """Return why transfers of everybody are frozen, or, with a caller, why this one itself is.

    Raises:
        NotFoundError: there is no such caller.
        InvalidRequestError: the caller was removed, or is the terminal.
    """
    if caller is None:
        return reader.freeze()
    if caller == OWNER:
        raise InvalidRequestError("The terminal is frozen with everybody: name no caller.")
    if caller != DEFAULT_CALLER:
        require_caller(reader, caller)
    return reader.freeze_of(caller)
