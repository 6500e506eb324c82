"""Connections, request heads and bodies are bounded in size, number and time."""

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from pysequence_api.serving import serve
from pysequence_api.settings import Settings
from pysequence_api.web import body, listening
from pysequence_api.web.body import MAX_BODY_BYTES
from tests.api.server import Server, free_port
from tests.world import World

pytestmark = pytest.mark.anyio

JSON_HEADERS = {"Content-Type": "application/json"}


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[int]:
    """Serve in this process, so that a test can set the bounds. Yields the port."""
    port = free_port()
    settings = Settings.load(sandbox=True, data_dir=directory, server_port=port)
    ready = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: serve(settings, on_ready=lambda *_: ready.set()))
        with anyio.fail_after(10):
            await ready.wait()
            yield port
        signal.raise_signal(signal.SIGTERM)


async def test_too_many_connections_are_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MAX_CONNECTIONS", 1)
    async with serving(tmp_path) as port, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/api/health")
        assert answer.status_code == 503
        assert answer.headers["cache-control"] == "no-store"


async def test_connection_without_a_whole_request_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "SILENCE_SECONDS", 0.1)
    async with serving(tmp_path) as port:
        for request in (b"", b"GET /api/he", b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\nGET /api"):
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                if request:
                    await stream.send(request)
                received = b"".join([chunk async for chunk in stream])
                assert received.endswith(b'{"status":"ok"}' if b"\r\n" in request else b"")


async def test_large_head_is_400(sandbox_server: Server) -> None:
    filler = b"X-Filler: " + b"x" * (listening.MAX_REQUEST_HEAD_BYTES * 2) + b"\r\n"
    status, _, _ = await sandbox_server.send_bytes(b"GET /api/health HTTP/1.1\r\nHost: x\r\n" + filler)
    assert status == 400


HEAD = b"POST /api/transfers HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        HEAD + CHUNKED + b"Content-Length: 3\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Content-Length: 2, 2\r\n\r\n{}",
        HEAD + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n",
        b"POST /api/transfers HTTP/1.0\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
        b"GET /api/health HTTP/1.1\nHost: x\n\n",
        b"GET /api/health HTTP/1.1\r\nHost: x\nX-Other: y\r\n\r\n",
        b"GET /api/health HTTP/1.1\r\nHost: x\r\n\n",
        b"GET /api/health HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /api/health HTTP/1.2\r\nHost: x\r\n\r\n",
        b"GET /api/health HTTP/2.0\r\nHost: x\r\n\r\n",
        b"HEAD /api/health HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"Content-Length: 3\r\n\r\n",
    ],
)
async def test_request_that_can_be_read_in_two_ways_is_400_and_closed(
    sandbox_server: Server, request_bytes: bytes
) -> None:
    async with await anyio.connect_tcp(sandbox_server.host, sandbox_server.port) as stream:
        await stream.send(request_bytes + b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n")
        with anyio.fail_after(5):
            received = b"".join([chunk async for chunk in stream])
    head, _, content = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"cache-control: no-store" in head.lower()
    assert json.loads(content)["code"] == "invalid_request"


async def test_large_body_is_413(shared_client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1024

    for content in (b" " * (MAX_BODY_BYTES + 1), endless()):
        answer = await shared_client.post("/api/transfers", content=content, headers=JSON_HEADERS)
        assert answer.status_code == 413
        assert set(answer.json()) == {"detail", "code", "outcome", "retry"}
        assert answer.json()["outcome"] == "nothing_moved"
        assert answer.json()["code"] == "body_too_large"
        assert str(MAX_BODY_BYTES) in answer.json()["detail"]


async def test_slow_body_is_408(
    shared_world: World, shared_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await anyio.sleep_forever()

    monkeypatch.setattr(body, "BODY_TIMEOUT_SECONDS", 0.05)
    answer = await shared_client.post("/api/transfers", content=stuck(), headers=JSON_HEADERS)
    assert answer.status_code == 408
    assert set(answer.json()) == {"detail", "code", "outcome", "retry"}
    assert answer.json()["outcome"] == "nothing_moved"
    assert answer.json()["code"] == "body_too_late"
    assert await shared_world.moved() == []
