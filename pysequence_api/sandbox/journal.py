"""The requests that the sandbox received, in order."""

import threading
from collections import deque

from pydantic import BaseModel, ConfigDict, JsonValue

from pysequence_api.sandbox.http import Delivery

MAX_JOURNAL_ENTRIES = 10_000
SECRET_HEADERS = frozenset({"authorization", "cookie", "x-sequence-access-token"})


class JournalEntry(BaseModel):
    """A request. ``status`` and ``delivery`` are null before the response; ``status`` stays null if none is sent."""

    model_config = ConfigDict(defer_build=True)

    number: int
    arrived_monotonic_seconds: float
    arrived_at: str
    answered_monotonic_seconds: float | None = None
    method: str
    path: str
    operation: str | None
    variables: JsonValue
    status: int | None = None
    delivery: Delivery | None = None
    fault: tuple[str, ...] = ()
    connection_id: str | None
    connection_is_fresh: bool | None
    headers: dict[str, str]


class RequestLog(BaseModel):
    """The newest requests, at most `MAX_JOURNAL_ENTRIES`, oldest first."""

    model_config = ConfigDict(defer_build=True)

    requests: tuple[JournalEntry, ...]


class Journal:
    """Keeps the newest requests, at most `MAX_JOURNAL_ENTRIES`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[JournalEntry] = deque(maxlen=MAX_JOURNAL_ENTRIES)
        self._count = 0

    def add(self, entry: JournalEntry) -> None:
        """Add a request and give it the next number."""
        with self._lock:
            self._count += 1
            entry.number = self._count
            self._entries.append(entry)

    def read(self) -> RequestLog:
        """Return all requests in the journal."""
        with self._lock:
            return RequestLog(requests=tuple(entry.model_copy() for entry in self._entries))

    def clear(self) -> None:
        """Remove all requests."""
        with self._lock:
            self._entries.clear()
