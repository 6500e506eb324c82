"""The key check, in process."""

import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import Message, Scope

from pysequence_api.api import create_app
from pysequence_api.errors import SettingsError
from pysequence_api.gateway import open_gateway
from pysequence_api.settings import Settings
from pysequence_api.web.request_log import MAX_KEYLESS_LINES_PER_MINUTE
from tests.api.conftest import KEY, Api

pytestmark = pytest.mark.anyio

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


def assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Invalid API key"}
    assert answer.headers["x-request-id"]


@pytest.fixture
async def stranger(shared_api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a key."""
    transport = httpx.ASGITransport(create_app(shared_api.gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_every_path_needs_the_key(stranger: httpx.AsyncClient, method: str, path: str) -> None:
    assert_refused(await stranger.request(method, f"http://api{path}"))


@pytest.mark.parametrize("headers", WRONG_KEYS)
async def test_wrong_keys(shared_api: Api, stranger: httpx.AsyncClient, headers: list[tuple[bytes, bytes]]) -> None:
    before = len(shared_api.sandbox.journal.read().requests)
    assert_refused(await stranger.get("/api/pods", headers=headers))
    assert_refused(await stranger.post("/api/transfers", headers=headers, content=b"{"))
    assert len(shared_api.sandbox.journal.read().requests) == before
    assert shared_api.audit() == []


async def test_a_key_in_the_query_is_no_key(stranger: httpx.AsyncClient) -> None:
    assert_refused(await stranger.get("/api/pods", params={"X-API-Key": KEY, "api_key": KEY}))


async def test_health_needs_no_key(stranger: httpx.AsyncClient) -> None:
    for headers in WRONG_KEYS:
        assert (await stranger.get("/api/health", headers=headers)).json() == {"status": "ok"}


async def test_pages_with_the_key(shared_api: Api) -> None:
    assert (await shared_api.client.get("/docs")).status_code == 200
    assert (await shared_api.client.get("/openapi.json")).status_code == 200


async def test_the_body_is_not_read_without_the_key(shared_api: Api) -> None:
    app = create_app(shared_api.gateway)
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    await app(_scope("http", method="POST", path="/api/transfers"), receive, send)
    assert sent[0]["status"] == 401


async def test_web_sockets_are_refused(shared_api: Api) -> None:
    app = create_app(shared_api.gateway)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(_scope("websocket", path="/api/pods"), receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_no_key_no_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = Settings.load(data_dir=tmp_path_factory.mktemp("data"), access_token="token")
    async with open_gateway(settings) as gateway:
        with pytest.raises(SettingsError, match="SEQUENCE_API_KEY is not set"):
            create_app(gateway)


def test_an_empty_key_is_no_key() -> None:
    with pytest.raises(SettingsError, match="SEQUENCE_API_KEY is not set"):
        Settings.load(api_key="", required=["api_key"])


async def test_refusals_do_not_fill_the_log(stranger: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="pysequence_api.api")
    for _ in range(MAX_KEYLESS_LINES_PER_MINUTE + 20):
        await stranger.get("/api/pods", headers={"X-API-Key": "guess-no-1"})
        await stranger.get("/api/health")
    lines = [record.getMessage() for record in caplog.records if record.name == "pysequence_api.api"]
    assert len(lines) == MAX_KEYLESS_LINES_PER_MINUTE
    assert "guess-no-1" not in caplog.text


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
