"""The simulated Sequence as an httpx transport in process, which fails as a network does.

Each request runs in its own task. A client that times out or is cancelled does not stop it: the application runs to the
end and moves the money, as a real server does.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

import anyio
import httpx
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from pysequence_api.sandbox.http import CONNECTION_EXTENSION, ASGIApp, Connection, Message, Scope

_logger = logging.getLogger(__name__)
_BUFFERED_MESSAGES = 16
_CLIENT_HOST = "127.0.0.1"
_FIRST_CLIENT_PORT = 49_152
_client_ports = itertools.count(_FIRST_CLIENT_PORT)
Start = Callable[[Coroutine[Any, Any, None]], None]
Trace = Callable[[str, Mapping[str, Any]], Awaitable[None]]
NOTHING_SENT = "Server disconnected without sending a response."
"""The message of httpcore for a connection that is closed before the response."""


class RunningRequests:
    """The requests in process. They run to the end even if the client disconnects, as in a real server."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, request: Coroutine[Any, Any, None]) -> None:
        """Run a request in its own task, which outlives its client."""
        task = asyncio.get_running_loop().create_task(request)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, timeout_seconds: float) -> None:
        """Wait for the requests of this event loop, and cancel those that take longer than the timeout."""
        loop = asyncio.get_running_loop()
        mine = [task for task in self._tasks if task.get_loop() is loop]
        if not mine:
            return
        _, late = await asyncio.wait(mine, timeout=timeout_seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)


class _ServerSide:
    """The connection as the application sees it."""

    def __init__(self, body: bytes, to_client: MemoryObjectSendStream[Message]) -> None:
        self._body: bytes | None = body
        self._to_client = to_client
        self._disconnected = anyio.Event()
        self._started = False

    async def receive(self) -> Message:
        """Return the request, then wait until the client disconnects."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a message to the client, unless it has disconnected."""
        if self._disconnected.is_set():
            return
        self._started = True
        try:
            await self._to_client.send(message)
        except anyio.BrokenResourceError:
            self._disconnected.set()

    def disconnect(self) -> None:
        """Close the connection. What has been sent still arrives."""
        self._disconnected.set()
        self._to_client.close()

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Run the application. As a server does, log an exception and respond with a 500."""
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            _logger.exception("the application failed")
            if not self._started:
                await self.send({"type": "http.response.start", "status": 500, "headers": [(b"content-length", b"0")]})
                await self.send({"type": "http.response.body"})
        finally:
            self.disconnect()


class _Tracer:
    """Calls the ``trace`` extension of a request with the same events as httpcore."""

    def __init__(self, request: httpx.Request) -> None:
        self._trace: Trace | None = request.extensions.get("trace")

    async def event(self, name: str, **info: object) -> None:
        """Report one event."""
        if self._trace is not None:
            await self._trace(name, info)

    async def step(self, name: str) -> None:
        """Report the start and the end of a step that takes no time here."""
        await self.event(f"{name}.started")
        await self.event(f"{name}.complete")

    async def closed(self) -> None:
        """Report that the response is closed, even if the caller is cancelled."""
        with anyio.CancelScope(shield=True):
            await self.step("http11.response_closed")


class _Incoming:
    """The connection as the client sees it."""

    def __init__(
        self, request: httpx.Request, tracer: _Tracer, from_server: MemoryObjectReceiveStream[Message]
    ) -> None:
        self._from_server = from_server
        self._read_timeout_seconds: float | None = request.extensions.get("timeout", {}).get("read")
        self.request = request
        self.tracer = tracer

    async def next(self) -> Message | None:
        """Wait for the next message of the server; ``None`` if the connection is closed."""
        try:
            with anyio.fail_after(self._read_timeout_seconds):
                return await self._from_server.receive()
        except TimeoutError as error:
            raise httpx.ReadTimeout("", request=self.request) from error
        except anyio.EndOfStream:
            return None

    async def first(self) -> Message:
        """Wait for the head of the response."""
        head = await self.next()
        if head is None:
            raise httpx.RemoteProtocolError(NOTHING_SENT, request=self.request)
        return head

    def close(self) -> None:
        """Disconnect. The application notices when it sends or receives."""
        self._from_server.close()


class _Body(httpx.AsyncByteStream):
    """The body of a response, as far as it arrives."""

    def __init__(self, incoming: _Incoming, expected_bytes: int) -> None:
        self._incoming = incoming
        self._expected_bytes = expected_bytes
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        tracer = self._incoming.tracer
        await tracer.event("http11.receive_response_body.started", request=self._incoming.request)
        try:
            async for part in self._parts():
                yield part
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await tracer.event("http11.receive_response_body.failed", exception=error)
                await self.aclose()
            raise
        await tracer.event("http11.receive_response_body.complete", return_value=None)

    async def _parts(self) -> AsyncIterator[bytes]:
        received_bytes = 0
        more = True
        while more:
            message = await self._incoming.next()
            if message is None:
                raise httpx.RemoteProtocolError(
                    "peer closed connection without sending complete message body "
                    f"(received {received_bytes} bytes, expected {self._expected_bytes})",
                    request=self._incoming.request,
                )
            part, more = message.get("body", b""), message.get("more_body", False)
            received_bytes += len(part)
            if part:
                yield part

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._incoming.close()
            await self._incoming.tracer.closed()


class SandboxTransport(httpx.AsyncBaseTransport):
    """Sends requests for any host to the application, each over its own connection."""

    def __init__(self, app: ASGIApp, start: Start) -> None:
        """Create a transport.

        Args:
            app: the ASGI application.
            start: runs a coroutine in a task that outlives the client.
        """
        self._app = app
        self._start = start

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and wait for the head of the response.

        Raises:
            httpx.RemoteProtocolError: the connection was closed without a response.
            httpx.ReadTimeout: the read timeout of the request expired.
        """
        tracer = _Tracer(request)
        await _connect(request, tracer)
        try:
            body = await _send(request, tracer)
            to_client, from_server = anyio.create_memory_object_stream[Message](_BUFFERED_MESSAGES)
            incoming = _Incoming(request, tracer, from_server)
            server_side = _ServerSide(body, to_client)
            self._start(server_side.run(self._app, _scope(request, server_side)))
            try:
                return await _head(incoming)
            except BaseException:
                incoming.close()
                raise
        except BaseException:
            await tracer.closed()
            raise


async def _connect(request: httpx.Request, tracer: _Tracer) -> None:
    await tracer.event("connection.connect_tcp.started", host=request.url.host, port=request.url.port)
    await tracer.event("connection.connect_tcp.complete", return_value=None)
    if request.url.scheme == "https":
        await tracer.event("connection.start_tls.started", server_hostname=request.url.host)
        await tracer.event("connection.start_tls.complete", return_value=None)


async def _send(request: httpx.Request, tracer: _Tracer) -> bytes:
    await tracer.event("http11.send_request_headers.started", request=request)
    await tracer.event("http11.send_request_headers.complete", return_value=None)
    await tracer.event("http11.send_request_body.started", request=request)
    if not isinstance(request.stream, httpx.AsyncByteStream):
        raise TypeError("The sandbox transport requires an asynchronous client.")
    body = b"".join([part async for part in request.stream])
    await tracer.event("http11.send_request_body.complete", return_value=None)
    return body


async def _head(incoming: _Incoming) -> httpx.Response:
    await incoming.tracer.event("http11.receive_response_headers.started", request=incoming.request)
    try:
        head = await incoming.first()
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await incoming.tracer.event("http11.receive_response_headers.failed", exception=error)
        raise
    status: int = head["status"]
    headers: list[tuple[bytes, bytes]] = head["headers"]
    reason = _reason(status)
    await incoming.tracer.event(
        "http11.receive_response_headers.complete", return_value=(b"HTTP/1.1", status, reason, headers)
    )
    expected_bytes = int(dict(headers).get(b"content-length", b"0"))
    return httpx.Response(
        status,
        headers=headers,
        stream=_Body(incoming, expected_bytes),
        extensions={"http_version": b"HTTP/1.1", "reason_phrase": reason},
    )


def _scope(request: httpx.Request, server_side: _ServerSide) -> Scope:
    port = next(_client_ports)
    connection = Connection(f"{_CLIENT_HOST}:{port}", is_fresh=True, disconnect=server_side.disconnect)
    raw_path, _, query_string = request.url.raw_path.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": raw_path,
        "query_string": query_string,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (request.url.host, request.url.port),
        "client": (_CLIENT_HOST, port),
        "extensions": {CONNECTION_EXTENSION: connection},
    }


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
