"""What pods, ports and accounts are called, learned from every answer of Sequence. For screens; it decides nothing."""

import logging

from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.records.database import Database

MAX_NAME_CHARACTERS = 200
LOCK_TIMEOUT_SECONDS = 1.0
"""Names are not worth a longer wait."""

log = logging.getLogger(__name__)


class Names:
    """The names by id: those in the database, and those that were learned since.

    Args:
        records: the database.
    """

    def __init__(self, records: Database) -> None:
        self._records = records
        self._known: dict[str, str] | None = None
        self._new: dict[str, str] = {}

    def learn(self, party_id: str | None, name: str | None) -> None:
        """Take note of a name."""
        if party_id and name and self.all().get(party_id) != name:
            self._new[party_id] = name[:MAX_NAME_CHARACTERS]

    def all(self) -> dict[str, str]:
        """Return all names by id."""
        if self._known is None:
            self._known = known_names(self._records)
        return self._known | self._new if self._new else self._known

    def save(self) -> None:
        """Write what was learned into the database. This blocks.

        A new data directory gets its database here. One with the files of an earlier version does not: only a server or
        a transfer takes them over.
        """
        if not self._new or not (self._records.path.exists() or self._records.is_new):
            return
        new = dict(self._new)
        try:
            self._records.write(lambda writer: writer.remember_names(new.items()), LOCK_TIMEOUT_SECONDS)
        except SafeguardsUnavailableError as error:
            log.debug("names cannot be saved (%s)", error)
            return
        self._known = self.all()
        for party_id, name in new.items():  # others may have been learned meanwhile, in another thread
            if self._new.get(party_id) == name:
                del self._new[party_id]


def known_names(records: Database) -> dict[str, str]:
    """Return the names in the database by id; none if it cannot be read."""
    try:
        return records.read(lambda reader: reader.names())
    except SafeguardsUnavailableError as error:
        log.debug("names cannot be read (%s)", error)
        return {}
