"""A real HTTP server on this machine that receives notifications, and fails as told."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio

TOKEN = "tk-0123456789-secret"
"""Is in every URL, and must be nowhere else."""


@dataclass
class Receiver:
    """What receives.

    Attributes:
        status: what it answers.
        hangs: whether it answers only once `release` is called.
        received: the messages, as Apprise's ``json://`` sends them.
    """

    port: int = 0
    status: int = 200
    hangs: bool = False
    received: list[dict[str, Any]] = field(default_factory=list)
    _released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Its URL for Apprise, with a token in the path, in the query and as a password."""
        return f"json://user:{TOKEN}@127.0.0.1:{self.port}/{TOKEN}?+X-Token={TOKEN}"

    @property
    def titles(self) -> list[str]:
        """The titles of all messages."""
        return [message["title"] for message in self.received]

    @property
    def bodies(self) -> str:
        """The bodies of all messages."""
        return "\n\n".join(message["message"] for message in self.received)

    def release(self) -> None:
        """Answer what hangs."""
        self.hangs = False
        self._released.set()

    async def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until something holds."""
        with anyio.fail_after(20):
            while not condition():  # noqa: ASYNC110 - another thread or process makes it true
                await anyio.sleep(0.01)


@contextmanager
def receiving(**more: Any) -> Iterator[Receiver]:
    """Run a receiver on a free port."""
    receiver = Receiver(**more)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if receiver.hangs:
                receiver._released.wait(60)
            self.send_response(receiver.status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

        def handle(self) -> None:
            with suppress(OSError):  # the sender has gone
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.release()
        server.shutdown()
        server.server_close()
