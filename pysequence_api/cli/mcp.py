"""``mcp``: forwards the Model Context Protocol from standard input to a running server, for clients that start one.

Each line is one message, which becomes one request, and its answer one line. Messages are passed on as they are. It
opens no data directory, and loads neither the SDK nor an HTTP client: a client starts it, and waits for it, often.
"""

import http.client
import json
import os
import signal
import sys
import threading
from typing import Annotated, Any, NoReturn

import typer

from pysequence_api.cli.terminal import fail, note
from pysequence_api.errors import Retry, SettingsError
from pysequence_api.local_server import Reached, reach, reason_of
from pysequence_api.settings import Settings, variable

MCP_PATH = "/mcp"
TIMEOUT_SECONDS = 180.0
"""Longer than any transfer takes."""
MAX_LINE_BYTES = 64 * 1024
"""The server accepts no larger body."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_RUNNING = 16
"""How many messages are forwarded at the same time. Further ones wait in the pipe."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SERVER_ERROR, PARSE_ERROR = -32000, -32700
SERVER_UNREACHABLE, ANSWER_LOST = "server_unreachable", "answer_lost"
"""The codes of the proxy itself. All others are the server's."""
VERSION = "io.modelcontextprotocol/protocolVersion"
"""Where messages of protocols without a handshake name their version."""

Message = dict[str, Any]


def mcp(
    url: Annotated[str | None, typer.Option(help="URL of the server. By default, the server of the settings.")] = None,
) -> None:
    """Connect an MCP client that starts programs to a running server.

    Forwards messages between standard input and output and the server's /mcp. SEQUENCE_API_KEY is the key of the
    caller. Ends at the end of the input.

    \b
    Example:
      SEQUENCE_API_KEY=... pysequence-api mcp --url http://127.0.0.1:8720
    """
    key = Settings.load().api_key
    if key is None or not key.get_secret_value():
        raise SettingsError(
            f"{variable('api_key')} is not set. Set it to the key of the caller, from: pysequence-api callers add NAME"
        )
    proxy = Proxy(reach(url, TIMEOUT_SECONDS), key.get_secret_value())
    for number in SIGNALS:
        signal.signal(number, _stop)
    try:
        proxy.run()
    except _StoppedError:
        # The client is gone. The server completes and records what it was asked for.
        os._exit(0)


class _StoppedError(BaseException):
    """A signal ends the program."""


def _stop(*_: object) -> NoReturn:
    raise _StoppedError


class Proxy:
    """Forwards messages to one server.

    Args:
        server: where to.
        key: the API key.
    """

    def __init__(self, server: Reached, key: str) -> None:
        self._server = server
        self._key = key
        self._version: str | None = None
        self._slots = threading.BoundedSemaphore(MAX_RUNNING)
        self._writing = threading.Lock()
        self._told: set[str] = set()

    def run(self) -> None:
        """Forward each line of standard input, until it ends and every message is answered."""
        threads: list[threading.Thread] = []
        while line := sys.stdin.buffer.readline(MAX_LINE_BYTES + 1):
            message = self._parse(line)
            if message is None:
                continue
            if message.get("method") == "initialize":
                self._forward(message)  # what follows needs the version that is agreed on
                continue
            self._slots.acquire()
            threads = [thread for thread in threads if thread.is_alive()]
            threads.append(threading.Thread(target=self._forward_and_release, args=(message,), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _parse(self, line: bytes) -> Message | None:
        if len(line) > MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = sys.stdin.buffer.readline(MAX_LINE_BYTES)
            self._write(_error(None, PARSE_ERROR, f"The message is longer than {MAX_LINE_BYTES} bytes."))
            return None
        if not line.strip():
            return None
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if isinstance(message, dict):
            return message
        self._write(_error(None, PARSE_ERROR, "The line is not one JSON object."))
        return None

    def _forward_and_release(self, message: Message) -> None:
        try:
            self._forward(message)
        finally:
            self._slots.release()

    def _forward(self, message: Message) -> None:
        answer = self._ask(message)
        if answer is None or "id" not in message:
            return
        if message.get("method") == "initialize":
            self._version = answer.get("result", {}).get("protocolVersion")
        self._write(answer)

    def _ask(self, message: Message) -> Message | None:
        """Send a message, and return what to answer, if anything."""
        connection = self._server.connect()
        is_sent = False
        try:
            connection.connect()
            is_sent = True
            connection.request("POST", self._server.path + MCP_PATH, json.dumps(message), self._headers(message))
            answered = connection.getresponse()
            return self._read(message, answered.status, answered.read(MAX_ANSWER_BYTES))
        except (OSError, http.client.HTTPException) as error:
            reason = reason_of(error) if isinstance(error, OSError) else type(error).__name__
            return self._not_answered(message, reason, is_sent=is_sent)
        finally:
            connection.close()

    def _headers(self, message: Message) -> dict[str, str]:
        headers = {"X-API-Key": self._key, "Content-Type": "application/json", "Accept": "application/json"}
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        meta = params.get("_meta")
        named = meta.get(VERSION) if isinstance(meta, dict) else None
        if isinstance(named, str):  # a protocol without a handshake repeats these fields in headers
            about = {"Mcp-Method": message.get("method"), "Mcp-Name": params.get("name")}
            headers |= {name: value for name, value in about.items() if isinstance(value, str) and _is_token(value)}
        version = named if isinstance(named, str) and _is_token(named) else self._version
        return headers if version is None else headers | {"MCP-Protocol-Version": version}

    def _read(self, message: Message, status: int, content: bytes) -> Message | None:
        try:
            answer = json.loads(content) if content else None
        except ValueError:
            answer = {}
        if isinstance(answer, dict) and answer.get("jsonrpc") == "2.0":
            return answer | {"id": message.get("id")}
        if status == 202:
            return None
        detail = answer.get("detail") if isinstance(answer, dict) else None
        text = detail if isinstance(detail, str) else f"It answered {status}. Is it pysequence-api?"
        self._tell(f"The server at {self._server.address} refuses: {text}")
        return _error(message.get("id"), SERVER_ERROR, text)

    def _not_answered(self, message: Message, reason: str, *, is_sent: bool) -> Message:
        if is_sent:
            text = f"The answer of the server at {self._server.address} was lost ({reason})."
            advice = "Call again with the same arguments: with the same idempotency_key, nothing is paid twice."
            code, retry = ANSWER_LOST, Retry.SAME_KEY
        else:
            text = f"No server answers at {self._server.address} ({reason})."
            advice = "Nothing was sent. Start it: pysequence-api serve"
            code, retry = SERVER_UNREACHABLE, Retry.LATER
        self._tell(text)
        identifier, detail = message.get("id"), f"{text} {advice}"
        if message.get("method") != "tools/call":
            return _error(identifier, SERVER_ERROR, detail)
        content = {"detail": detail, "code": code, "retry": retry.value}
        result = {
            "content": [{"type": "text", "text": json.dumps(content, ensure_ascii=False)}],
            "structuredContent": content,
            "isError": True,
            "resultType": "complete",
        }
        return {"jsonrpc": "2.0", "id": identifier, "result": result}

    def _tell(self, text: str) -> None:
        """Say something on standard error, once."""
        if text not in self._told:
            self._told.add(text)
            note(text)

    def _write(self, answer: Message) -> None:
        line = memoryview(json.dumps(answer).encode() + b"\n")
        with self._writing:
            try:
                while line:
                    line = line[os.write(sys.stdout.fileno(), line) :]
            except OSError as error:
                fail(f"Cannot write to standard output ({error.strerror}).")
                os._exit(1)  # nobody reads the answers


def _error(identifier: Any, code: int, text: str) -> Message:
    return {"jsonrpc": "2.0", "id": identifier, "error": {"code": code, "message": text}}


def _is_token(text: str) -> bool:
    return text.isascii() and text.isprintable()
