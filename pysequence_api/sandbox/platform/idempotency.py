"""Idempotency keys: the stored answers of 24 hours, and the requests that are still running.

Answers are stored in the transaction that moves the money. Errors are not stored: nothing moved, so the same key can be
used again. docs/upstream-platform.md does not say how Sequence does this.
"""

import hashlib
import json
import re
import sqlite3
import threading
from contextlib import AbstractContextManager
from types import TracebackType

from pysequence_api.sandbox.http import Request, Response
from pysequence_api.sandbox.platform.errors import PlatformError, PlatformErrorCode
from pysequence_api.sandbox.platform.keys import hash_of_header

IDEMPOTENCY_HEADER = "idempotency-key"
KEPT_SECONDS = 24 * 3600
_KEY = re.compile(r"[A-Za-z0-9._:/|-]{1,36}", re.ASCII)


class Claim(AbstractContextManager["Claim"]):
    """An idempotency key while its request runs, including the faults that delay it."""

    def __init__(self, running: "RunningKeys", request: Request) -> None:
        self.key = request.header(IDEMPOTENCY_HEADER) or ""
        self.fingerprint = _fingerprint(request)
        self.in_flight: str | None = None
        """The fingerprint of another request with the same key that is still running."""
        self._running = running
        self._name = (hash_of_header(request.header("authorization") or ""), self.key)

    def __enter__(self) -> "Claim":
        self.in_flight = self._running.add(self._name, self.fingerprint)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self.in_flight is None:
            self._running.remove(self._name)

    def check(self, in_progress: PlatformErrorCode) -> None:
        """Check the form of the key, and that no other request with it is running.

        Raises:
            PlatformError: 400 or 409.
        """
        if _KEY.fullmatch(self.key) is None:
            raise PlatformError(
                PlatformErrorCode.INVALID_PARAMETERS, "idempotency-key must have 1 to 36 of A-Z a-z 0-9 . _ : / | -"
            )
        if self.in_flight is not None:
            self._compare(self.in_flight)
            raise PlatformError(in_progress, "A request with this idempotency key is still in progress")

    def stored_answer(self, connection: sqlite3.Connection, key_hash: str, now_ms: int) -> Response | None:
        """Return the answer to the first request with this key, in the caller's transaction.

        Raises:
            PlatformError: the first request was another one.
        """
        connection.execute("DELETE FROM platform_answer WHERE created_at_ms <= ?", (now_ms - KEPT_SECONDS * 1000,))
        row = connection.execute(
            "SELECT * FROM platform_answer WHERE key_hash = ? AND idempotency_key = ?", (key_hash, self.key)
        ).fetchone()
        if row is None:
            return None
        self._compare(row["fingerprint"])
        return Response(row["status"], row["body"].encode())

    def store(self, connection: sqlite3.Connection, key_hash: str, now_ms: int, answer: Response) -> None:
        """Store the answer to the first request with this key, in the caller's transaction."""
        connection.execute(
            "INSERT INTO platform_answer VALUES (?, ?, ?, ?, ?, ?)",
            (key_hash, self.key, self.fingerprint, answer.status, answer.body.decode(), now_ms),
        )

    def _compare(self, fingerprint: str) -> None:
        if fingerprint != self.fingerprint:
            raise PlatformError(
                PlatformErrorCode.IDEMPOTENCY_KEY_MISMATCH, "This idempotency key was used for another request"
            )


class RunningKeys:
    """The idempotency keys whose requests are running, with the fingerprints of these requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # requests can come from the event loops of several threads
        self._fingerprints: dict[tuple[str, str], str] = {}

    def add(self, name: tuple[str, str], fingerprint: str) -> str | None:
        """Add a request, or return the fingerprint of the one that is running with the same key."""
        with self._lock:
            running = self._fingerprints.get(name)
            if running is None:
                self._fingerprints[name] = fingerprint
            return running

    def remove(self, name: tuple[str, str]) -> None:
        """Remove a request that has ended."""
        with self._lock:
            del self._fingerprints[name]


def _fingerprint(request: Request) -> str:
    try:
        body = json.dumps(json.loads(request.body), sort_keys=True)
    except (ValueError, RecursionError):
        body = request.body.hex()
    return hashlib.sha256(f"{request.method} {request.path} {body}".encode()).hexdigest()
