"""Only requests with the key, for an allowed host name, reach the application."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.types import Message, Scope

from pysequence_api.api import create_app
from pysequence_api.errors import SettingsError
from pysequence_api.gateway import open_gateway
from pysequence_api.settings import Settings
from tests.api.server import Server
from tests.world import API_KEY, World, open_world

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]

ALLOWED_HOSTS = "pods.example.net, 127.0.0.1,[::1]"
PATHS = [
    "/api/pods",
    "/api/pods/balance",
    "/api/pods/rent/balance",
    "/api/pods/detail/x",
    "/api/pods/x/y",
    "/api/accounts",
    "/api/activity/summary",
    "/api/activity",
    "/api/transfers/x",
    "/api/activity/x/y",
    "/api/limits",
    "/docs",
    "/redoc",
    "/openapi.json",
    "/",
    "/nothing",
    "/api/health/",
    "/api/health%0A",
    "/api/health/x",
    "/API/HEALTH",
    "//api/health",
]
WRONG_KEYS: list[list[tuple[bytes, bytes]]] = [
    [],
    [(b"X-API-Key", b"")],
    [(b"X-API-Key", b"wrong")],
    [(b"X-API-Key", b"sandbox2")],
    [(b"X-API-Key", b"sandbo")],
    [(b"X-API-Key", b"SANDBOX")],
    [(b"X-API-Key", "sändbox".encode())],
    [(b"X-API-Key", b"\xff\xfe")],
    [(b"X-API-Key", b"x" * 10_000)],
    [(b"X-API-Key", b"sandbox"), (b"X-API-Key", b"sandbox")],
    [(b"X-API-Key", b"sandbox"), (b"x-api-key", b"wrong")],
    [(b"Authorization", b"Bearer sandbox")],
]


def assert_rejected(answer: httpx.Response) -> None:
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Invalid API key"}
    assert answer.headers["x-request-id"]


@pytest.fixture
async def keyless_client(shared_world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    transport = httpx.ASGITransport(create_app(shared_world.gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_every_path_needs_the_key(keyless_client: httpx.AsyncClient, method: str, path: str) -> None:
    assert_rejected(await keyless_client.request(method, f"http://api{path}"))


@pytest.mark.parametrize("headers", WRONG_KEYS)
async def test_wrong_key_is_rejected(
    shared_world: World, keyless_client: httpx.AsyncClient, headers: list[tuple[bytes, bytes]]
) -> None:
    before = len(shared_world.sandbox.journal.read().requests)
    assert_rejected(await keyless_client.get("/api/pods", headers=headers))
    assert_rejected(await keyless_client.post("/api/transfers", headers=headers, content=b"{"))
    assert len(shared_world.sandbox.journal.read().requests) == before
    assert shared_world.files.trail() == []


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        b"X-API-Key:\r\n",
        b"X-API-Key: s\xc3\xa4ndbox\r\n",
        b"X-API-Key: \xff\xfe\r\n",
        b"X-API-Key: sandbox\r\nX-API-Key: sandbox\r\n",
        b"X-API-Key: sandbox\r\nx-api-key: other\r\n",
        b"X-API-Key: sandbox, sandbox\r\n",
        b"X_API_Key: sandbox\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n",
    ],
)
async def test_wrong_key_is_rejected_over_a_connection(sandbox_server: Server, headers: bytes) -> None:
    request = b"GET /api/pods HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n"
    status, received, body = await sandbox_server.send_bytes(request)
    assert (status, json.loads(body)) == (401, {"detail": "Invalid API key"})
    assert received["x-request-id"]
    assert "server" not in received


async def test_key_in_the_query_is_rejected(keyless_client: httpx.AsyncClient) -> None:
    assert_rejected(await keyless_client.get("/api/pods", params={"X-API-Key": API_KEY, "api_key": API_KEY}))


async def test_health_needs_no_key(keyless_client: httpx.AsyncClient) -> None:
    for headers in WRONG_KEYS:
        assert (await keyless_client.get("/api/health", headers=headers)).json() == {"status": "ok"}


@pytest.mark.parametrize("target", [b"/api/health", b"/api/health?ready=0"])
async def test_health_needs_no_key_over_a_connection(sandbox_server: Server, target: bytes) -> None:
    request = b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    status, received, body = await sandbox_server.send_bytes(request)
    assert (status, json.loads(body)) == (200, {"status": "ok"})
    assert received["x-request-id"]


async def test_the_key_opens_the_openapi_document_only(shared_client: httpx.AsyncClient) -> None:
    assert (await shared_client.get("/docs")).status_code == 404
    assert (await shared_client.get("/redoc")).status_code == 404
    assert (await shared_client.get("/openapi.json")).status_code == 200


async def test_body_is_not_read_without_the_key(shared_world: World) -> None:
    app = create_app(shared_world.gateway)
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    await app(_scope("http", method="POST", path="/api/transfers"), receive, send)
    assert sent[0]["status"] == 401


async def test_server_does_not_wait_for_a_body_without_the_key(sandbox_server: Server) -> None:
    head = b"POST /api/transfers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    status, _, body = await sandbox_server.send_bytes(head + b"Content-Length: 1000000\r\n\r\n")
    assert (status, json.loads(body)) == (401, {"detail": "Invalid API key"})


async def test_websockets_are_rejected(shared_world: World) -> None:
    app = create_app(shared_world.gateway)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(_scope("websocket", path="/api/pods"), receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_no_application_without_a_key(tmp_path: Path) -> None:
    async with open_gateway(Settings.load(data_dir=tmp_path, access_token="token")) as gateway:
        with pytest.raises(SettingsError, match="SEQUENCE_API_KEY"):
            create_app(gateway)


def test_empty_key_counts_as_unset() -> None:
    with pytest.raises(SettingsError, match="SEQUENCE_API_KEY"):
        Settings.load_strictly(lambda _: ["api_key"], api_key="")


async def test_allowed_hosts(tmp_path: Path) -> None:
    named = ["pods.example.net", "PODS.example.net:8720", "127.0.0.1:1", "[::1]:8720", "[::1]"]
    async with open_world(tmp_path, allowed_hosts=ALLOWED_HOSTS) as world, world.http() as client:
        for host in named:
            assert (await client.get("/api/limits", headers={"Host": host})).status_code == 200, host
        for host in ("evil.example", "pods.example.net.evil.example", "example.net", "[::2]", "", "::1"):
            answer = await client.get("/api/limits", headers={"Host": host})
            assert answer.status_code == 400, host
            assert "SEQUENCE_ALLOWED_HOSTS" in answer.json()["detail"]
            assert answer.headers["x-request-id"]
            assert (await client.get("/api/health", headers={"Host": host})).status_code == 200


async def test_loopback_names_are_always_allowed(tmp_path: Path) -> None:
    async with open_world(tmp_path, allowed_hosts="pods.example.net") as world, world.http() as client:
        for host in ("127.0.0.1:8720", "[::1]", "localhost"):
            assert (await client.get("/api/limits", headers={"Host": host})).status_code == 200, host


async def test_every_host_is_allowed_by_default(shared_client: httpx.AsyncClient) -> None:
    assert (await shared_client.get("/api/limits", headers={"Host": "whatever.example"})).status_code == 200


@pytest.mark.parametrize("hosts", ["https://pods.example.net", "a, ,b", "pods.example.net:8720", "a b"])
def test_invalid_allowed_hosts(monkeypatch: pytest.MonkeyPatch, hosts: str) -> None:
    monkeypatch.setenv("SEQUENCE_ALLOWED_HOSTS", hosts)
    with pytest.raises(SettingsError, match="SEQUENCE_ALLOWED_HOSTS"):
        Settings.load()


def test_allowed_hosts_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCE_ALLOWED_HOSTS", ALLOWED_HOSTS)
    assert Settings.load().allowed_hosts == ("pods.example.net", "127.0.0.1", "[::1]")
    monkeypatch.setenv("SEQUENCE_ALLOWED_HOSTS", "")
    assert Settings.load().allowed_hosts == ()


def _scope(kind: str, **more: str) -> Scope:
    return {
        "type": kind,
        "http_version": "1.1",
        "query_string": b"",
        "raw_path": b"",
        "root_path": "",
        "headers": [],
        "client": None,
        "server": None,
        **more,
    }
