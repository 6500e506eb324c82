"""Servers that misbehave below HTTP, and which failures may count as "not sent"."""

import asyncio
import gzip
import json
import socket
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest

from pysequence_api.errors import (
    ConnectionLostError,
    NotAuthorizedError,
    NotSentError,
    RateLimitedError,
    SequenceError,
    SettingsError,
    SignInError,
    TimedOutError,
    UnreadableAnswerError,
)
from pysequence_api.sequence import transport
from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
from pysequence_api.sequence.transport import MAX_ANSWER_BYTES, clock_offset_seconds, retry_after_seconds
from pysequence_api.settings import Settings
from tests.sequence.conftest import TIMEOUT_SECONDS, ClientWorld, order_of, transfer

pytestmark = pytest.mark.anyio

SHORT_DEADLINE_SECONDS = 0.75
"""For peers that never complete an answer. Others get `TIMEOUT_SECONDS`, so that a slow machine does not matter."""
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SUMMARY = json.dumps({"data": {"activitySummary": {"transferReferencesCount": 7}}}).encode()


@asynccontextmanager
async def peer(behave: Peer) -> AsyncIterator[str]:
    """Run a TCP server with this behavior, and yield its host and port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behave(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the client has disconnected, as it should
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@asynccontextmanager
async def client_of(
    address: str, tmp_path: Path, scheme: str = "http", deadline_seconds: float = TIMEOUT_SECONDS
) -> AsyncIterator[GraphQLSequenceClient]:
    settings = Settings.load(
        access_token="a-token-of-ours",
        graphql_url=f"{scheme}://{address}/api/graphql",
        request_interval_seconds=0,
        request_jitter_seconds=0,
        request_timeout_seconds=deadline_seconds,
    )
    client = GraphQLSequenceClient.open(settings, tmp_path)
    yield client
    await client.aclose()


async def failure(
    address: str, tmp_path: Path, scheme: str = "http", deadline_seconds: float = TIMEOUT_SECONDS
) -> list[SequenceError]:
    """Return the errors of a read and of a transfer."""
    errors = []
    async with client_of(address, tmp_path, scheme, deadline_seconds) as client:
        with pytest.raises(SequenceError) as caught:
            await client.activity_summary()
        errors.append(caught.value)
        with pytest.raises(SequenceError) as caught:
            await transfer(client, order_of())
        errors.append(caught.value)
    for error in errors:
        assert "\n" not in str(error)
        assert "a-token-of-ours" not in f"{error!r} {error.__cause__!r}"
    return errors


async def failures(
    tmp_path: Path, peers: list[tuple[Peer, type[SequenceError]]]
) -> list[tuple[SequenceError, SequenceError, type[SequenceError]]]:
    """Return the errors of a read and of a transfer with each peer, and the expected one. They wait together."""
    found = []

    async def ask(number: int, behave: Peer, expected: type[SequenceError]) -> None:
        directory = tmp_path / str(number)
        directory.mkdir()
        deadline_seconds = SHORT_DEADLINE_SECONDS if expected is TimedOutError else TIMEOUT_SECONDS
        async with peer(behave) as address:
            read, sent = await failure(address, directory, deadline_seconds=deadline_seconds)
        found.append((read, sent, expected))

    async with anyio.create_task_group() as tasks:
        for number, (behave, expected) in enumerate(peers):
            tasks.start_soon(ask, number, behave, expected)
    return found


def unused_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


async def request_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return head + await reader.readexactly(length)


def says(*parts: bytes, then: str = "close", read_request: bool = True) -> Peer:
    """Return a peer that sends something and then closes, resets, hangs or sends slowly."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if read_request:
            await request_of(reader)
        for part in parts:
            writer.write(part)
            await writer.drain()
        match then:
            case "reset":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            case "hang":
                await reader.read()
            case "drip":
                while True:
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.02)

    return behave


def answer(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


SUMMARY_ANSWER = answer(SUMMARY)


async def test_connection_refused(tmp_path: Path) -> None:
    read, transfer = await failure(unused_address(), tmp_path)
    assert type(read) is type(transfer) is NotSentError
    assert transfer.nothing_moved


async def test_no_such_host(tmp_path: Path) -> None:
    read, transfer = await failure("sequence.invalid", tmp_path, "https")
    assert type(read) is type(transfer) is NotSentError


@pytest.mark.parametrize(
    "behave", [says(then="hang", read_request=False), says(b"not TLS\r\n", read_request=False)], ids=["silent", "plain"]
)
async def test_without_tls_nothing_is_sent(tmp_path: Path, behave: Peer) -> None:
    async with peer(behave) as address:
        read, transfer = await failure(address, tmp_path, "https", SHORT_DEADLINE_SECONDS)
    assert type(read) is type(transfer) is NotSentError


PEERS: list[tuple[Peer, type[SequenceError]]] = [
    (says(read_request=False), ConnectionLostError),
    (says(), ConnectionLostError),
    (says(then="reset"), ConnectionLostError),
    (says(b"HTTP/1.1 200", then="close"), ConnectionLostError),
    (says(b"SSH-2.0-OpenSSH\r\n"), ConnectionLostError),
    (says(b"\x16\x03\x01" * 50_000), ConnectionLostError),
    (says(answer(SUMMARY, length=len(SUMMARY) + 1)), ConnectionLostError),
    (says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe"), ConnectionLostError),
    (says(then="hang"), TimedOutError),
    (says(b"HTTP/1.1 200 OK\r\n", then="hang"), TimedOutError),
    (says(b"HTTP/1.1 200 OK\r\nx: ", then="drip"), TimedOutError),
    (says(answer(SUMMARY, length=10**6), then="hang"), TimedOutError),
    (says(answer(SUMMARY, length=10**6), then="drip"), TimedOutError),
    (says(answer(b"", status="401 Unauthorized", length=10**6), then="hang"), NotAuthorizedError),
    (says(answer(b"", "retry-after: 0", status="429 Slow", length=10**6), then="drip"), RateLimitedError),
    (says(answer(SUMMARY, "content-encoding: br")), UnreadableAnswerError),
    (says(answer(gzip.compress(SUMMARY), "content-encoding: gzip")), UnreadableAnswerError),
    (says(answer(gzip.compress(SUMMARY), "content-encoding: identity, gzip")), UnreadableAnswerError),
    (says(answer(b"", "content-encoding: gzip", length=10**6), then="hang"), UnreadableAnswerError),
    (says(answer(b" " * (MAX_ANSWER_BYTES + 1))), UnreadableAnswerError),
    (says(answer(b"", status="204 No Content")), UnreadableAnswerError),
]


async def test_after_the_first_byte_the_outcome_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "ERROR_BODY_SECONDS", 0.3)
    for read, sent, expected in await failures(tmp_path, PEERS):
        if expected is NotAuthorizedError:  # there is no other token than the one of the settings
            assert isinstance(read, SignInError)
            assert sent.nothing_moved
        else:
            assert type(read) is type(sent) is expected
            assert sent.nothing_moved == (expected is RateLimitedError)


@pytest.mark.parametrize("bomb", ["compressed", "plain"])
async def test_a_huge_answer_takes_little_memory(tmp_path: Path, bomb: str) -> None:
    if bomb == "compressed":
        limit_bytes = 1024**2
        parts = [answer(gzip.compress(bytes(20 * 1024**2)), "content-encoding: gzip")]
    else:
        limit_bytes = 4 * MAX_ANSWER_BYTES
        parts = [answer(b"", length=10**9), *[bytes(1024**2)] * 1000]
    async with peer(says(SUMMARY_ANSWER)) as address, client_of(address, tmp_path) as client:
        await client.activity_summary()  # so that one-time loading is not measured
    async with peer(says(*parts)) as address, client_of(address, tmp_path) as client:
        tracemalloc.start()
        try:
            with pytest.raises(UnreadableAnswerError):
                await client.activity_summary()
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak_bytes < limit_bytes


async def test_the_content_type_is_ignored(tmp_path: Path) -> None:
    for content_type in ("application/json", "text/html", "image/png"):
        reply = answer(SUMMARY, f"content-type: {content_type}", "content-encoding: identity")
        async with peer(says(reply)) as address, client_of(address, tmp_path) as client:
            assert (await client.activity_summary()).transfer_count == 7


async def test_an_uncompressed_answer_is_requested(tcp_world: ClientWorld) -> None:
    await tcp_world.client().activity_summary()
    (request,) = tcp_world.requests()
    assert request.headers["accept-encoding"] == "identity"


async def test_plain_http_never_goes_through_a_proxy(tcp_world: ClientWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://{unused_address()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    await tcp_world.client().activity_summary()


async def test_an_unreachable_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:proxy-password@{unused_address()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    read, transfer = await failure("sequence.invalid", tmp_path, "https")
    assert type(read) is type(transfer) is NotSentError
    assert "proxy-password" not in f"{read} {read.__cause__}"


@pytest.mark.parametrize(
    ("name", "value"),
    [("HTTPS_PROXY", "ftp://user:proxy-password@proxy"), ("ALL_PROXY", "nonsense://x"), ("SSL_CERT_FILE", "/no/such")],
)
def test_an_unusable_environment_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name) as caught:
        GraphQLSequenceClient.open(Settings.load(), tmp_path)
    assert "proxy-password" not in str(caught.value)


class FailingTransport(httpx.AsyncBaseTransport):
    """A transport that always fails, without any trace event."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def handle_async_request(self, _: httpx.Request) -> httpx.Response:
        raise self._error


ERRORS: list[tuple[Exception, type[SequenceError]]] = [
    (httpx.ConnectError("refused"), NotSentError),
    (httpx.ConnectTimeout("slow"), NotSentError),
    (httpx.ReadError("x"), ConnectionLostError),
    (httpx.ReadTimeout("x"), ConnectionLostError),
    (OSError("x"), ConnectionLostError),
    (zlib.error("x"), ConnectionLostError),
    (ExceptionGroup("x", [OSError("x")]), ConnectionLostError),
]


async def test_a_custom_transport_counts_as_having_sent(world: ClientWorld) -> None:
    for error, expected in ERRORS:
        client = GraphQLSequenceClient.open(world.settings, world.files.path, FailingTransport(error))
        with pytest.raises(SequenceError) as caught:
            await transfer(client, order_of())
        assert type(caught.value) is expected, error
        await client.aclose()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *(("7", 7), (" 7 ", 7), ("0", 0), ("-1", None), ("1.5", None), ("9" * 30, None), ("٣", None), ("", None)),
        *(("86401", 86_400), ("999999", 86_400), ("Mon, 23 Nov", None)),
        ("Mon, 23 Nov 2026 10:01:00 GMT", 60),
        ("Mon, 23 Nov 2026 09:00:00 GMT", 0),
        ("Mon, 23 Nov 2099 09:00:00 GMT", 86_400),
    ],
)
def test_retry_after(header: str, seconds: int | None) -> None:
    # A date is later by the server's own clock, not by ours.
    assert retry_after_seconds(header, "Mon, 23 Nov 2026 10:00:00 GMT") == seconds


@pytest.mark.parametrize(
    ("date", "offset"),
    [
        ("Thu, 01 Jan 1970 00:01:40 GMT", 0.5),
        ("Thu, 01 Jan 1970 00:01:30 GMT", -9.5),
        ("Thu, 01 Jan 1970 00:01:30 -0000", None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 99999 00:00:00 GMT", None),
    ],
)
def test_clock_offset(date: str, offset: float | None) -> None:
    assert clock_offset_seconds(date, 99.0, 101.0) == offset
