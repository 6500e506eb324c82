"""Every request has an id and one log line, without secrets, and callers without a key cannot fill the log."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from pysequence_api.api import create_app
from pysequence_api.web import access
from pysequence_api.web.access import KeyCheck
from pysequence_api.web.keyless import MAX_KEYLESS_LINES_PER_MINUTE
from tests.api.calls import post_transfer
from tests.api.server import Server, start_server
from tests.world import API_KEY, World, open_world

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]

LOGGER_NAME = "pysequence_api.api"
LINE = re.compile(r"[A-Z]+ \S+ [0-9]{3} [0-9]+ ms \(upstream [0-9]+ ms\) by \S+ from \S+ [A-Za-z0-9._-]+")


@pytest.fixture(autouse=True)
def _log_requests(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=LOGGER_NAME)


def logged_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOGGER_NAME]


def last_fields(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """Return the fields of the newest log line."""
    record = [record for record in caplog.records if hasattr(record, "fields")][-1]
    fields: dict[str, Any] = json.loads(json.dumps(record.__dict__["fields"]))
    return fields


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/health", 200),
        ("GET", "/api/pods", 200),
        ("GET", "/api/nothing", 404),
        ("GET", "/api/transfers/nothing", 404),
        ("DELETE", "/api/pods", 405),
        ("GET", "/api/activity?first=0", 422),
        ("POST", "/api/transfers", 422),
        ("GET", "/openapi.json", 200),
    ],
)
async def test_every_answer_has_an_id(shared_client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    first, second = await shared_client.request(method, path), await shared_client.request(method, path)
    assert first.status_code == second.status_code == status
    ids = {answer.headers["x-request-id"] for answer in (first, second)}
    assert len(ids) == 2
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in ids)
    own = await shared_client.request(method, path, headers={"X-Request-ID": "my.own_id-7"})
    assert own.headers.get_list("x-request-id") == ["my.own_id-7"]


@pytest.mark.parametrize("value", [b"", b"two words", b"a" * 65, b"line\tbreak", "é".encode(), b'"quoted"', b"a,b"])
async def test_invalid_ids_are_replaced(shared_client: httpx.AsyncClient, value: bytes) -> None:
    answer = await shared_client.get("/api/health", headers=[(b"X-Request-ID", value)])
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_two_ids_are_replaced(shared_client: httpx.AsyncClient) -> None:
    answer = await shared_client.get("/api/health", headers=[("X-Request-ID", "a"), ("X-Request-ID", "b")])
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_one_line_for_each_request(shared_client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    paths = {
        "/api/pods/Rent/balance?secret=1": "/api/pods/{pod_name}/balance",
        "/api/transfers/some-id?secret=2": "/api/transfers/{transfer_id}",
        "/api/nothing%0Aelse?secret=3": "/api/nothing%0Aelse",
        "/api/health": "/api/health",
    }
    for path in paths:
        await shared_client.get(path, headers={"X-Request-ID": "this-one"})
    lines = logged_lines(caplog)
    assert [line.split()[1] for line in lines] == list(paths.values())
    assert all(LINE.fullmatch(line) and line.endswith(" this-one") for line in lines)
    assert "secret" not in "".join(lines)
    assert API_KEY not in "".join(lines)


async def test_upstream_time_is_logged(
    world: World, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await client.get("/api/limits")
    assert last_fields(caplog)["upstream_ms"] == 0
    world.fail({"kind": "delay", "seconds": 0.1}, operation="ActivityLogV2Transfers")
    await client.get("/api/activity?name=secret")
    fields = last_fields(caplog)
    assert 100 <= fields["upstream_ms"] <= fields["duration_ms"]
    assert set(fields) == {"request_id", "method", "route", "status", "duration_ms", "upstream_ms", "source", "caller"}
    assert fields["caller"] == "default"
    world.fail({"kind": "delay", "seconds": 0.1})
    await post_transfer(client)
    assert last_fields(caplog)["upstream_ms"] >= 100


async def test_wrong_keys_are_logged_with_their_source(shared_world: World, caplog: pytest.LogCaptureFixture) -> None:
    transport = httpx.ASGITransport(create_app(shared_world.gateway), client=("192.0.2.7", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        await client.get("/api/pods", headers={"X-API-Key": "wrong"})
    fields = last_fields(caplog)
    assert (fields["status"], fields["source"]) == (401, "192.0.2.7")


async def test_forwarded_headers_are_ignored(sandbox_server: Server) -> None:
    forwarded = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "Forwarded": "for=203.0.113.9"}
    async with sandbox_server.client() as client:
        answer = await client.get("/api/pods", headers=forwarded | {"X-Request-ID": "proxied-1", "X-API-Key": "wrong"})
    assert answer.status_code == 401
    await sandbox_server.wait_for_log("proxied-1")
    line = next(line for line in sandbox_server.log().splitlines() if "proxied-1" in line)
    assert " 401 " in line
    assert " from 127.0.0.1 " in line
    assert "203.0.113.9" not in sandbox_server.log()


async def test_requests_without_a_key_do_not_fill_the_log(
    shared_world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "MAX_DELAY_SECONDS", 0)
    transport = httpx.ASGITransport(create_app(shared_world.gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        for _ in range(MAX_KEYLESS_LINES_PER_MINUTE + 20):
            await client.get("/api/pods", headers={"X-API-Key": "guess-no-1"})
            await client.get("/api/health")
    assert len(logged_lines(caplog)) == MAX_KEYLESS_LINES_PER_MINUTE
    assert "guess-no-1" not in caplog.text


async def test_rejected_hosts_do_not_fill_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with open_world(tmp_path, allowed_hosts="pods.example.net") as world, world.http() as client:
        for _ in range(100):
            await client.get("/api/pods")
    assert len(re.findall("GET /api/pods 400", caplog.text)) == MAX_KEYLESS_LINES_PER_MINUTE


async def test_key_in_the_path_is_not_logged(tmp_path: Path) -> None:
    key = "a-key-of-our-own-7"
    encoded = "%61" + key[1:]
    targets = [f"/{key}", f"/x?{key}", f"http://{key}:y@host/x", f"http://host/{encoded}", "/" + "x" * 190 + key]
    async with start_server(tmp_path, SANDBOX="1", API_KEY=key) as server:
        for number, target in enumerate(targets):
            head = f"GET {target} HTTP/1.1\r\nHost: x\r\nX-Request-ID: {key if number == 0 else number}\r\n\r\n"
            assert (await server.send_bytes(head.encode()))[0] == 401
        assert (await server.send_bytes(f"{key} / HTTP/1.1\r\nHost: x\r\n\r\n".encode()))[0] == 401
        await server.wait_for_log("[key] / 401")
        assert key[:10] not in server.log()
        assert encoded not in server.log()
        assert "GET /[key] 401" in server.log()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /api/transfers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /api/health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET /api/nothing HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/health?ready=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_nothing_without_a_key_fills_the_log(tmp_path: Path, request_bytes: bytes) -> None:
    async with start_server(tmp_path, SANDBOX="1", API_KEY="a-key-of-our-own-7") as server:
        before = len(server.log().splitlines())
        for _ in range(2 * MAX_KEYLESS_LINES_PER_MINUTE):
            status, _, _ = await server.send_bytes(request_bytes)
            assert status in {200, 400, 401}
        async with server.client() as client:
            await client.get("/api/limits", headers={"X-API-Key": "a-key-of-our-own-7", "X-Request-ID": "the-last"})
        await server.wait_for_log("the-last")
        written = len(server.log().splitlines()) - before - 1
        assert 0 < written <= MAX_KEYLESS_LINES_PER_MINUTE
        assert "Traceback" not in server.log()


async def test_bug_without_a_key_is_logged_within_bounds(
    shared_world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    transport = httpx.ASGITransport(create_app(shared_world.gateway))
    monkeypatch.setattr(KeyCheck, "_caller", fail)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        for _ in range(20):
            assert (await client.get("/api/pods")).status_code == 500
    assert caplog.text.count("Traceback") + caplog.text.count("ZeroDivisionError\n") >= 1
    assert len(caplog.text.splitlines()) <= MAX_KEYLESS_LINES_PER_MINUTE


async def test_bytes_that_are_not_http_do_not_fill_the_log(sandbox_server: Server) -> None:
    before = sandbox_server.log().count("Invalid HTTP request")
    for _ in range(MAX_KEYLESS_LINES_PER_MINUTE + 10):
        assert (await sandbox_server.send_bytes(b"\x16\x03\x01\x02\x00\x01\r\n\r\n"))[0] == 400
    assert sandbox_server.log().count("Invalid HTTP request") - before <= MAX_KEYLESS_LINES_PER_MINUTE
