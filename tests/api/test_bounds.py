"""Connections, request heads and bodies are bounded in size, number and time."""

import json
import resource
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from anyio.abc import SocketStream

from pysequence_api.serving import serve
from pysequence_api.settings import Settings
from pysequence_api.web import access, body, connections, listening
from pysequence_api.web.body import MAX_BODY_BYTES
from pysequence_api.web.head import Head
from tests.api.server import Server, free_port
from tests.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]

JSON_HEADERS = {"Content-Type": "application/json"}


@asynccontextmanager
async def serving(directory: Path, **more: str) -> AsyncIterator[int]:
    """Serve in this process, so that a test can set the bounds. Yields the port."""
    port = free_port()
    settings = Settings.load(sandbox=True, data_dir=directory, server_port=port, **more)
    ready = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: serve(settings, on_ready=lambda *_: ready.set()))
        with anyio.fail_after(10):
            await ready.wait()
            yield port
        signal.raise_signal(signal.SIGTERM)


REQUEST = b"GET /api/limits HTTP/1.1\r\nHost: x\r\nX-API-Key: sandbox\r\n\r\n"
HEALTH = b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n"


async def answer_of(stream: SocketStream, request: bytes) -> tuple[int, bytes]:
    """Send a request, and return the status and the rest of the answer."""
    await stream.send(request)
    with anyio.fail_after(5):
        received = await stream.receive()
        while b"}" not in received:
            received += await stream.receive()
    return int(received.split()[1]), received


async def test_connections_above_the_limit_are_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 2)
    async with serving(tmp_path) as port, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port)) for _ in range(2)]
        for stream in streams:
            assert (await answer_of(stream, REQUEST))[0] == 200
        async with await anyio.connect_tcp("127.0.0.1", port) as third:
            status, received = await answer_of(third, HEALTH)
            assert status == 503
            assert b"cache-control: no-store" in received
            assert json.loads(received.partition(b"\r\n\r\n")[2])["code"] == "busy"
        for stream in streams:
            assert (await answer_of(stream, REQUEST))[0] == 200
        await streams[0].aclose()
        async with await anyio.connect_tcp("127.0.0.1", port) as fourth:
            assert (await answer_of(fourth, HEALTH))[0] == 200


async def test_idle_connections_keep_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 20)
    async with serving(tmp_path) as port, AsyncExitStack() as stack:
        trusted = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
        assert (await answer_of(trusted, REQUEST))[0] == 200
        idle_streams = []
        for _ in range(100):
            idle = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
            await idle.send(b"GET / HT")
            idle_streams.append(idle)
        await anyio.sleep(0.1)
        assert (await answer_of(trusted, REQUEST))[0] == 200
        async with await anyio.connect_tcp("127.0.0.1", port) as another:
            assert (await answer_of(another, HEALTH))[0] == 200
        with anyio.fail_after(5), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await idle_streams[0].receive()


async def test_connections_of_one_address_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS_PER_ADDRESS", 2)
    monkeypatch.setattr(connections, "is_loopback", lambda _: False)
    async with serving(tmp_path) as port, AsyncExitStack() as stack:
        for _ in range(2):
            stream = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
            assert (await answer_of(stream, REQUEST))[0] == 200
        third = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
        assert (await answer_of(third, HEALTH))[0] == 503


async def test_descriptors_are_kept_for_other_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (200, 200))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        bounded = connections.BoundedListener(listener, is_plain=True)
    bounded.setblocking(False)
    port = bounded.getsockname()[1]
    with ExitStack() as stack:
        stack.callback(bounded.close)
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            try:
                stack.enter_context(bounded.accept()[0])
            except BlockingIOError:
                break
        assert len(bounded) == 200 - connections.RESERVED_DESCRIPTORS


async def test_client_that_does_not_read_is_disconnected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "WRITE_SECONDS", 0.2)
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nX-API-Key: sandbox\r\n\r\n"
    async with serving(tmp_path) as port, await anyio.connect_tcp("127.0.0.1", port) as stream:

        async def send_and_never_read() -> None:
            while True:
                await stream.send(request * 20)

        with pytest.raises(anyio.BrokenResourceError), anyio.fail_after(10):
            await send_and_never_read()


async def test_wrong_keys_are_answered_more_and_more_slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_DELAY_SECONDS", 0.8)
    wrong = REQUEST.replace(b"sandbox", b"guess")
    async with serving(tmp_path) as port, await anyio.connect_tcp("127.0.0.1", port) as guesser:
        durations = []
        for _ in range(access.FREE_WRONG_KEYS + 4):
            started = anyio.current_time()
            assert (await answer_of(guesser, wrong))[0] == 401
            durations.append(anyio.current_time() - started)
        assert max(durations[: access.FREE_WRONG_KEYS]) < 0.1
        assert durations[-4:] == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.09)
        await guesser.send(wrong)
        async with await anyio.connect_tcp("127.0.0.1", port) as owner:
            started = anyio.current_time()
            assert (await answer_of(owner, REQUEST))[0] == 200
            assert anyio.current_time() - started < 0.4


def head_from(address: str) -> Head:
    return Head({"path": "/", "headers": [], "client": (address, 1)})


async def test_wrong_keys_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_ADDRESSES", 3)
    monkeypatch.setattr(access, "MAX_DELAYED_ANSWERS", 2)
    wrong_keys = access.WrongKeys()
    with anyio.fail_after(1):
        for number in range(50):
            await wrong_keys.wait(head_from(f"192.0.2.{number}"))
    assert len(wrong_keys) == 3
    async with anyio.create_task_group() as tasks:
        for _ in range(access.FREE_WRONG_KEYS + 20):
            tasks.start_soon(wrong_keys.wait, head_from("192.0.2.7"))
        await anyio.sleep(0.05)
        assert wrong_keys.delayed == 2
        tasks.cancel_scope.cancel()


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
