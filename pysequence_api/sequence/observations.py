"""What a client tells the rest of the program beside its answers: names, and that an answer is incomplete."""

import logging
from collections.abc import Callable

from pysequence_api.models import ExternalAccount, Party, Pod, Port, Transfer
from pysequence_api.sequence.nodes import Gaps

log = logging.getLogger(__name__)

OnName = Callable[[str | None, str | None], None]


def ignore_name(_identifier: str | None, _name: str | None) -> None:
    """Do nothing with a name."""


class Observations:
    """Passes names on, and logs what of the answers cannot be read.

    Args:
        on_name: called with the id and the name of each pod, port and account in an answer.
    """

    def __init__(self, on_name: OnName) -> None:
        self._on_name = on_name
        self._warned: dict[str, str] = {}

    def learn(self, *parties: Pod | Port | ExternalAccount | Party) -> None:
        """Pass on the names of parties."""
        for party in parties:
            self._on_name(party.id, party.name)

    def learn_from(self, *transfers: Transfer) -> None:
        """Pass on the names of the parties of transfers."""
        for transfer in transfers:
            self.learn(transfer.source, transfer.destination)

    def warn_of_gaps(self, operation: str, gaps: Gaps) -> None:
        """Log what of an answer cannot be read, once until that changes."""
        text = str(gaps)
        if text and text != self._warned.get(operation):
            log.warning("Sequence's answer to %s is incomplete; left out: %s", operation, text)
        self._warned[operation] = text
