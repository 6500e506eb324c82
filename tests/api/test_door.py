"""What the door does to every request: names it answers to, headers it sets, headers it does not believe."""

import json
import logging
import re
import signal
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from pysequence_api.api import create_app
from pysequence_api.errors import SettingsError
from pysequence_api.serving import serve
from pysequence_api.settings import Settings
from pysequence_api.web import listening
from tests.api.conftest import KEY, Api, OpenApi, Server, free_port

pytestmark = pytest.mark.anyio

OURS = "pods.example.net, 127.0.0.1,[::1]"


@pytest.mark.parametrize("host", ["pods.example.net", "PODS.example.net:8720", "127.0.0.1:1", "[::1]:8720", "[::1]"])
async def test_hosts_that_are_ours(open_api: OpenApi, host: str) -> None:
    async with open_api(allowed_hosts=OURS) as api:
        assert (await api.client.get("/api/limits", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1:8720", "[::1]", "localhost"])
async def test_this_machines_own_names_are_ours_always(open_api: OpenApi, host: str) -> None:
    async with open_api(allowed_hosts="pods.example.net") as api:
        assert (await api.client.get("/api/limits", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "pods.example.net.evil.example", "example.net", "[::2]", "", "::1"])
async def test_hosts_that_are_not(open_api: OpenApi, host: str) -> None:
    async with open_api(allowed_hosts=OURS) as api:
        answer = await api.client.get("/api/limits", headers={"Host": host})
        assert answer.status_code == 400
        assert "SEQUENCE_ALLOWED_HOSTS" in answer.json()["detail"]
        assert answer.headers["x-request-id"]
        assert (await api.client.get("/api/health", headers={"Host": host})).status_code == 200


async def test_every_host_is_ours_unless_some_are_named(shared_api: Api) -> None:
    assert (await shared_api.client.get("/api/limits", headers={"Host": "whatever.example"})).status_code == 200


@pytest.mark.parametrize("hosts", ["https://pods.example.net", "a, ,b", "pods.example.net:8720", "a b"])
def test_hosts_that_cannot_be(monkeypatch: pytest.MonkeyPatch, hosts: str) -> None:
    monkeypatch.setenv("SEQUENCE_ALLOWED_HOSTS", hosts)
    with pytest.raises(SettingsError, match="SEQUENCE_ALLOWED_HOSTS must be host names"):
        Settings.load()


def test_hosts_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCE_ALLOWED_HOSTS", OURS)
    assert Settings.load().allowed_hosts == ("pods.example.net", "127.0.0.1", "[::1]")
    monkeypatch.setenv("SEQUENCE_ALLOWED_HOSTS", "")
    assert Settings.load().allowed_hosts == ()


@pytest.mark.parametrize(
    ("path", "key"),
    [("/api/pods", KEY), ("/api/pods", "wrong"), ("/nothing", KEY), ("/api/health", ""), ("/docs", KEY)],
)
async def test_nothing_is_stored_and_nobody_says_what_runs_here(sandbox_server: Server, path: str, key: str) -> None:
    async with sandbox_server.client() as client:
        answer = await client.get(path, headers={"X-API-Key": key})
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers
    assert "x-powered-by" not in answer.headers


@pytest.mark.parametrize(
    "request_bytes", [b"\x16\x03\x01\x02\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"]
)
async def test_what_is_no_request_is_answered_like_every_error(sandbox_server: Server, request_bytes: bytes) -> None:
    status, headers, body = await sandbox_server.raw(request_bytes)
    assert (status, json.loads(body)) == (400, listening.NO_REQUEST)
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


async def test_more_connections_than_there_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MAX_CONNECTIONS", 1)
    settings = Settings.load(sandbox=True, data_dir=tmp_path, server_port=free_port())
    ready = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: serve(settings, on_ready=lambda *_: ready.set()))
        with anyio.fail_after(10):
            await ready.wait()
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{settings.server_port}/api/health")
        assert answer.status_code == 503
        assert answer.headers["cache-control"] == "no-store"
        signal.raise_signal(signal.SIGTERM)


async def test_what_a_proxy_says_is_not_believed(sandbox_server: Server) -> None:
    said = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "Forwarded": "for=203.0.113.9"}
    async with sandbox_server.client() as client:
        answer = await client.get("/api/pods", headers=said | {"X-Request-ID": "proxied-1", "X-API-Key": "wrong"})
    assert answer.status_code == 401
    with anyio.fail_after(10):
        while "proxied-1" not in sandbox_server.log():  # noqa: ASYNC110 - the line comes after the answer
            await anyio.sleep(0.01)
    line = next(line for line in sandbox_server.log().splitlines() if "proxied-1" in line)
    assert " 401 " in line
    assert " from 127.0.0.1 " in line
    assert "203.0.113.9" not in sandbox_server.log()


async def test_wrong_keys_are_logged_with_their_source(shared_api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="pysequence_api.api")
    transport = httpx.ASGITransport(create_app(shared_api.gateway), client=("192.0.2.7", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        await client.get("/api/pods", headers={"X-API-Key": "wrong"})
    fields = _fields(caplog)
    assert (fields["status"], fields["source"]) == (401, "192.0.2.7")


async def test_upstream_time(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="pysequence_api.api")
    await api.client.get("/api/limits")
    assert _fields(caplog)["upstream_ms"] == 0
    api.arm("SelectSourceAndDestination", {"kind": "delay", "seconds": 0.1})
    await api.client.get("/api/pods?name=secret")
    fields = _fields(caplog)
    assert 100 <= fields["upstream_ms"] <= fields["duration_ms"]
    assert set(fields) == {"request_id", "method", "route", "status", "duration_ms", "upstream_ms", "source"}
    api.arm("CreatePayment", {"kind": "delay", "seconds": 0.1})
    await api.transfer()
    assert _fields(caplog)["upstream_ms"] >= 100


async def test_hosts_that_are_not_ours_do_not_fill_the_log(open_api: OpenApi, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="pysequence_api.api")
    async with open_api(allowed_hosts="ours.example") as api:
        for _ in range(100):
            await api.client.get("/api/pods")
    assert len(re.findall("GET /api/pods 400", caplog.text)) == 30


def _fields(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    record = [record for record in caplog.records if hasattr(record, "fields")][-1]
    fields: dict[str, Any] = json.loads(json.dumps(record.__dict__["fields"]))
    return fields
