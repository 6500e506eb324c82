"""``/mcp`` as HTTP: who gets in, what a request may be, and what is told of it."""

import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest

from pysequence_api.records.callers import add
from pysequence_api.web.body import MAX_BODY_BYTES
from tests.mcp.clients import LEGACY, answer, connected, order
from tests.world import API_KEY, World

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]

PING = {"jsonrpc": "2.0", "id": 7, "method": "ping"}
JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    async with world.http() as client:
        del client.headers["X-API-Key"]
        yield client


async def ping(client: httpx.AsyncClient, *headers: tuple[str, str], **more: Any) -> httpx.Response:
    """Send a ping, with headers."""
    return await client.post("/mcp", **({"content": json.dumps(PING)} | more), headers=[*JSON.items(), *headers])


async def test_the_key_is_in_one_of_two_headers(client: httpx.AsyncClient) -> None:
    key, bearer = ("X-API-Key", API_KEY), ("Authorization", f"Bearer {API_KEY}")
    for header in (key, bearer, ("authorization", f"bearer {API_KEY}")):
        answered = await ping(client, header)
        assert (answered.status_code, answered.json()) == (200, {"jsonrpc": "2.0", "id": 7, "result": {}})
    one_key = "Send one API key: in X-API-Key or as Authorization: Bearer, not in both"
    for headers, detail in (
        ((), "Invalid API key"),
        ((("X-API-Key", "wrong"),), "Invalid API key"),
        ((("Authorization", "Bearer wrong"),), "Invalid API key"),
        ((("Authorization", f"Basic {API_KEY}"),), "Invalid API key"),
        ((key, bearer), one_key),
        ((bearer, bearer), one_key),
    ):
        answered = await ping(client, *headers)
        assert (answered.status_code, answered.json()) == (401, {"detail": detail})
        assert answered.headers["WWW-Authenticate"] == "Bearer"


async def test_other_paths_take_no_bearer(client: httpx.AsyncClient) -> None:
    answered = await client.get("/api/limits", headers={"Authorization": f"Bearer {API_KEY}"})
    assert (answered.status_code, answered.headers["WWW-Authenticate"]) == (401, "APIKey")
    both = {"Authorization": "Bearer of something else", "X-API-Key": API_KEY}
    assert (await client.get("/api/limits", headers=both)).status_code == 200


async def test_a_client_can_use_a_bearer(world: World) -> None:
    key = add(world.gateway.records, "one").key
    async with connected(world, headers={"Authorization": f"Bearer {key}"}, mode=LEGACY) as client:
        assert answer(await client.call_tool("get_limits"))["caller"] == "one"


async def test_only_post(client: httpx.AsyncClient) -> None:
    for method in ("GET", "DELETE", "PUT", "HEAD"):
        headers = {"X-API-Key": API_KEY, "Accept": "text/event-stream"}
        answered = await client.request(method, "/mcp", headers=headers)
        assert (answered.status_code, answered.headers["Allow"]) == (405, "POST")


async def test_a_body_that_is_no_message(client: httpx.AsyncClient) -> None:
    key = ("X-API-Key", API_KEY)
    for content, status in (
        (json.dumps([PING, PING]), 422),
        ("{", 422),
        ('{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', 422),
        ('{"jsonrpc":"2.0","id":1,"method":"ping","params":{"n":NaN}}', 422),
        ("{}", 400),
        ('{"jsonrpc":"2.0","id":1.5,"method":"ping"}', 400),
        (" " * (MAX_BODY_BYTES + 1), 413),
    ):
        answered = await ping(client, key, content=content)
        assert answered.status_code == status, content[:100]
        assert "\n" not in answered.text
        assert "validation error" not in answered.text
    answered = await client.post("/mcp", content=json.dumps(PING), headers=[key, ("Content-Type", "text/plain")])
    assert (answered.status_code, answered.json()["code"]) == (422, "invalid_request")
    assert (
        await ping(client, key, content='{"jsonrpc":"2.0","method":"notifications/initialized"}')
    ).status_code == 202
    answered = await client.post("/mcp", json=PING, headers=[key, ("Accept", "text/html")])
    assert answered.status_code == 406


async def test_no_request_opens_a_stream(client: httpx.AsyncClient) -> None:
    version = "2026-07-28"
    meta = {"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}}
    listen = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {"_meta": meta}}
    about = (("MCP-Protocol-Version", version), ("Mcp-Method", "subscriptions/listen"))
    with anyio.fail_after(10):
        answered = await ping(client, ("X-API-Key", API_KEY), *about, content=json.dumps(listen))
    assert answered.status_code >= 400
    assert answered.headers["Content-Type"] == "application/json"
    assert "error" in answered.json()


async def test_pages_of_other_sites_are_kept_out(world: World, client: httpx.AsyncClient) -> None:
    key = ("X-API-Key", API_KEY)
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "https://[", "file://"):
        answered = await ping(client, key, ("Origin", origin))
        assert (answered.status_code, answered.json()["code"]) == (403, "origin_not_allowed"), origin
    for origin in ("http://localhost:6274", "http://127.0.0.1", "http://[::1]:8720"):
        assert (await ping(client, key, ("Origin", origin))).status_code == 200, origin
    assert (await client.get("/api/limits", headers=[key, ("Origin", "https://evil.example")])).status_code == 200


async def test_allowed_hosts_hold_for_mcp_too(world: World) -> None:
    process = await world.open_process(allowed_hosts=("api.example",))
    async with world.http(process) as client:
        assert (await ping(client)).json()["code"] == "host_not_allowed"
        headers = [("Host", "api.example"), ("Origin", "https://api.example")]
        assert (await ping(client, *headers)).status_code == 200


async def test_the_log_tells_of_a_request_and_not_what_is_in_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    handlers = list(logging.getLogger().handlers)
    with caplog.at_level(logging.INFO), caplog.at_level(logging.INFO, "pysequence_api"):  # commands set a level
        async with connected(world) as client:
            await client.call_tool("transfer", order(world, description="for my secret", idempotency_key="key-of-mine"))
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("pysequence_api")]
    assert any(line.startswith("POST /mcp 200 ") and " by default " in line for line in lines)
    assert "tool transfer by default: ok" in lines
    everything = "\n".join(record.getMessage() for record in caplog.records)
    assert "secret" not in everything
    assert "key-of-mine" not in everything
    assert not [record for record in caplog.records if record.name.startswith("mcp.server")]
    assert logging.getLogger().handlers == handlers


async def test_a_server_without_the_sdk_says_how_to_add_it(
    monkeypatch: pytest.MonkeyPatch, client: httpx.AsyncClient
) -> None:
    monkeypatch.setattr("pysequence_api.mcp.route.find_spec", lambda _: None)
    answered = await ping(client, ("X-API-Key", API_KEY))
    assert answered.status_code == 404
    how = "Its owner can add it, in the clone of pysequence-api: pip install '.[mcp]'"
    assert answered.json()["detail"] == f"This server has no MCP. {how}"
    assert (await client.get("/api/limits", headers={"X-API-Key": API_KEY})).status_code == 200


def test_the_server_loads_the_sdk_with_the_first_request() -> None:
    program = "import sys, pysequence_api.serving; print(sorted({'mcp', 'mcp_types', 'httpx2'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60, text=True)
    assert loaded.stdout == "[]\n"
