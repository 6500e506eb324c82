"""Bytes that are almost HTTP, sent to a server on this machine without its key.

A second in the suite. For longer runs: ``SEQUENCE_RAW_HTTP_SECONDS=600 pytest -n 0 -s`` with this file.
"""

import asyncio
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from tests.api.server import Server, start_server

pytestmark = pytest.mark.anyio

SECONDS = float(os.environ.get("SEQUENCE_RAW_HTTP_SECONDS", "1"))
CONNECTIONS = 8
"""How many are open at the same time: few, so that the machine stays usable."""
ANSWER_SECONDS = 0.5
MAX_LINES_PER_MINUTE = 30
"""See `pysequence_api/web/keyless.py`."""

ALLOWED_STATUSES = {b"100", b"200", b"400", b"401", b"404", b"405", b"422", b"431"}
METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"get", b"G\x00T", b"", b"PRI", b"X" * 300]
TARGETS = [
    b"/api/health",
    b"/api/pods",
    b"/api/transfers",
    b"/openapi.json",
    b"/api/health/../pods",
    b"/api%2fhealth",
    b"/api/health%00",
    b"//api/health",
    b"http://127.0.0.1/api/pods",
    b"http://[/api/pods",
    b"*",
    b"",
    b"/\xff\xfe",
    b"/%ff%fe?%zz",
    b"/api/pods/" + b"a" * 5000,
    b"/api/health?ready=x",
]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b""]
HEADERS = [
    b"Host: x",
    b"Host: a\r\nHost: b",
    b"X-API-Key: wrong",
    b"X-API-Key: \xff\x00",
    b"X-API-Key: a\r\nX-API-Key: b",
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13",
    b"Connection: close",
    b"Expect: 100-continue",
    b"Expect: \x80",
    b" folded: yes",
    b"no colon",
    b"Name : space",
    b": empty",
    b"X-Request-ID: a\r\n injected: yes",
    b"X-Forwarded-For: 1.2.3.4",
    b"Accept-Encoding: " + b"a" * 9000,
]
BODIES = [
    b"",
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"zz\r\n",
    b"-1\r\n",
    b"ffffffffffffffff\r\n",
    b"\x00" * 100,
    b"{" * 2000,
]
LINE_ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"]


def a_request(chance: random.Random) -> bytes:
    end = chance.choice(LINE_ENDS)
    line = b" ".join([chance.choice(METHODS), chance.choice(TARGETS), chance.choice(VERSIONS)])
    headers = chance.sample(HEADERS, chance.randint(0, 5))
    return end.join([line, *headers, b"", b""]) + chance.choice(BODIES)


def with_changed_bytes(chance: random.Random) -> bytes:
    content = bytearray(a_request(chance))
    for _ in range(chance.randint(1, 4)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content)


def cut_short(chance: random.Random) -> bytes:
    content = a_request(chance)
    return content[: chance.randrange(len(content))]


def several(chance: random.Random) -> bytes:
    return b"".join(a_request(chance) for _ in range(chance.randint(2, 5)))


def noise(chance: random.Random) -> bytes:
    return chance.randbytes(chance.randint(1, 2000))


KINDS: list[Callable[[random.Random], bytes]] = [a_request, a_request, with_changed_bytes, cut_short, several, noise]


async def send(server: Server, content: bytes) -> bytes:
    """Send bytes, close our direction, and read everything until the server closes or falls silent."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    received = b""
    try:
        writer.write(content)
        with anyio.move_on_after(ANSWER_SECONDS):
            while block := await reader.read(65_536):
                received += block
    except ConnectionError:
        pass  # closed while we were still sending
    finally:
        writer.close()
    return received


def problem_of(received: bytes, counts: Counter[str]) -> str | None:
    """Check answers: each is a rejection, or a health check's, and says nothing about the program or the account."""
    statuses = re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", received)
    counts.update(status.decode() for status in statuses or [b"none"])
    if not set(statuses) <= ALLOWED_STATUSES:
        return "status"
    if b"Traceback" in received or b"injected: yes" in received:
        return "content"
    bodies = re.findall(rb"\r\n\r\n(\{.*?\})(?=HTTP/1\.1|$)", received, re.DOTALL)
    is_known = all(b'"status":"ok"' in body or b'"detail":' in body for body in bodies)
    return None if is_known else "body"


async def test_the_server_stands_bytes_that_are_almost_http(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown if the test fails
    counts: Counter[str] = Counter()
    problems: list[tuple[str, bytes, bytes]] = []
    async with start_server(tmp_path, SANDBOX="1") as server:
        started = time.monotonic()

        async def attack(number: int) -> None:
            chance = random.Random(f"{seed} {number}")
            while time.monotonic() - started < SECONDS:
                content = chance.choice(KINDS)(chance)
                received = await send(server, content)
                problem = problem_of(received, counts)
                if problem is not None:
                    problems.append((problem, content, received))

        async with anyio.create_task_group() as attackers:
            for number in range(CONNECTIONS):
                attackers.start_soon(attack, number)
        async with server.client() as client:
            assert (await client.get("/api/health")).json() == {"status": "ok"}
            assert (await client.get("/api/pods")).status_code == 200
        assert server.process.returncode is None
        log = server.log()
    print(dict(counts), f"{len(log)} bytes of log")  # noqa: T201
    assert problems == []
    assert "Traceback" not in log
    assert len(log.splitlines()) < 50 + MAX_LINES_PER_MINUTE * (1 + SECONDS / 60)
    assert sum(counts.values()) > CONNECTIONS
