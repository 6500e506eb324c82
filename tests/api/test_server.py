"""The server as a process: what only shows over real connections, with real signals."""

import json
import signal
import socket
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import anyio
import httpx
import pytest

from pysequence_api.errors import SettingsError, SignInError
from pysequence_api.records.audit import AuditTrail, Event, EventType
from pysequence_api.sandbox import Sandbox
from pysequence_api.sandbox.faults import Fault
from pysequence_api.serving import serve
from pysequence_api.settings import Settings
from pysequence_api.web import listening
from pysequence_api.web.request_log import MAX_KEYLESS_LINES_PER_MINUTE
from tests.api.conftest import KEY, Server, free_port, served_sandbox, start_server

pytestmark = pytest.mark.anyio


def audit(directory: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (directory / ".audit.jsonl").read_text().splitlines()]


async def order(client: httpx.AsyncClient, amount_cents: int = 5000) -> dict[str, object]:
    ids = {pod["name"]: pod["id"] for pod in (await client.get("/api/pods")).json()}
    return {"source_id": ids["Emergency Fund"], "destination_id": ids["Rent"], "amount_cents": amount_cents}


def arm(sandbox: Sandbox, **fault: object) -> None:
    sandbox.faults.arm([Fault.model_validate({"operation": "CreatePayment"} | fault)])


async def wait_for_payment(sandbox: Sandbox) -> None:
    """Wait until Sequence has got the order."""
    with anyio.fail_after(10):
        while not any(  # noqa: ASYNC110 - the sandbox tells nobody
            one.operation == "CreatePayment" for one in sandbox.journal.read().requests
        ):
            await anyio.sleep(0.01)


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
async def test_wrong_keys(sandbox_server: Server, headers: bytes) -> None:
    status, received, body = await sandbox_server.raw(b"GET /api/pods HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
    assert (status, json.loads(body)) == (401, {"detail": "Invalid API key"})
    assert received["x-request-id"]
    assert "server" not in received


async def test_the_body_is_not_waited_for_without_the_key(sandbox_server: Server) -> None:
    head = b"POST /api/transfers HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    status, _, body = await sandbox_server.raw(head + b"Content-Length: 1000000\r\n\r\n")
    assert (status, json.loads(body)) == (401, {"detail": "Invalid API key"})


@pytest.mark.parametrize("target", [b"/api/health", b"/api/health?x=1"])
async def test_health(sandbox_server: Server, target: bytes) -> None:
    status, received, body = await sandbox_server.raw(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, json.loads(body)) == (200, {"status": "ok"})
    assert received["x-request-id"]


@pytest.mark.parametrize("name", ["Vacation / Travel", "50% Rule", "Café ☕", "vacation / t", "CAFÉ", "50%", "Rent"])
async def test_names_in_paths(sandbox_server: Server, name: str) -> None:
    async with sandbox_server.client() as client:
        answer = await client.get(f"/api/pods/{quote(name, safe='')}/balance")
    assert answer.status_code == 200, answer.text
    assert name.casefold() in answer.json()["name"].casefold()


@pytest.mark.parametrize(
    "path", ["/api/pods/%FF%FE/balance", "/api/pods/a%0Ab%00/balance", "/api/pods/%25/%2F/balance"]
)
async def test_strange_names_in_paths(sandbox_server: Server, path: str) -> None:
    status, _, body = await sandbox_server.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n\r\n".encode())
    assert status == 404
    assert "No pod" in json.loads(body)["detail"]


async def test_a_head_that_is_too_large(sandbox_server: Server) -> None:
    filler = b"X-Filler: " + b"x" * (listening.MAX_REQUEST_HEAD_BYTES * 2) + b"\r\n"
    status, _, _ = await sandbox_server.raw(b"GET /api/health HTTP/1.1\r\nHost: x\r\n" + filler)
    assert status == 400


async def test_what_is_no_http_does_not_fill_the_log(sandbox_server: Server) -> None:
    before = sandbox_server.log().count("Invalid HTTP request")
    for _ in range(MAX_KEYLESS_LINES_PER_MINUTE + 10):
        assert (await sandbox_server.raw(b"\x16\x03\x01\x02\x00\x01\r\n\r\n"))[0] == 400
    assert sandbox_server.log().count("Invalid HTTP request") - before <= MAX_KEYLESS_LINES_PER_MINUTE


async def test_two_servers_on_one_data_directory(tmp_path: Path, sandbox: Sandbox) -> None:
    """Half through each; and what day it is does not depend on where a process thinks that it is."""
    data = tmp_path / "data"
    data.mkdir()
    async with (
        served_sandbox(sandbox) as variables,
        start_server(data, TZ="Pacific/Kiritimati", **variables) as east,
        start_server(data, TZ="Pacific/Pago_Pago", **variables) as west,
        east.client(timeout=30) as first,
        west.client(timeout=30) as second,
    ):
        body = await order(first, 1_000_000)
        answers: list[httpx.Response] = []

        async def send(client: httpx.AsyncClient) -> None:
            answers.append(await client.post("/api/transfers", json=body))

        async with anyio.create_task_group() as tasks:
            for client in [first, second] * 5:
                tasks.start_soon(send, client)
        assert sorted(answer.status_code for answer in answers) == [200] * 2 + [400] * 8
        assert (await first.get("/api/limits")).json() == (await second.get("/api/limits")).json()
    days = json.loads((data / ".daily_limits.json").read_text())
    assert datetime.now(UTC).date().isoformat() in days
    assert sum(one.operation == "CreatePayment" for one in sandbox.journal.read().requests) == 2


async def test_a_transfer_outlives_its_caller(tmp_path: Path, sandbox: Sandbox) -> None:
    arm(sandbox, what=[{"kind": "delay", "seconds": 0.3}])
    async with (
        served_sandbox(sandbox) as variables,
        start_server(tmp_path, **variables) as server,
        server.client() as client,
    ):
        body = await order(client)
        with anyio.move_on_after(5):
            async with anyio.create_task_group() as tasks, server.client() as leaving:
                tasks.start_soon(lambda: leaving.post("/api/transfers", json=body))
                await wait_for_payment(sandbox)
                tasks.cancel_scope.cancel()
        with anyio.fail_after(10):
            while len(audit(tmp_path)) < 2:  # noqa: ASYNC110 - another process writes it
                await anyio.sleep(0.02)
        assert (await client.get("/api/limits")).json()["unsettled"] == []
    assert [line["event_type"] for line in audit(tmp_path)] == ["transfer_requested", "transfer_completed"]


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT, signal.SIGTERM]])
async def test_a_signal_while_a_transfer_is_on_its_way(tmp_path: Path, sandbox: Sandbox, signals: list[int]) -> None:
    arm(sandbox, what=[{"kind": "delay", "seconds": 1.0}])
    answers: list[int] = []
    async with (
        served_sandbox(sandbox) as variables,
        start_server(tmp_path, **variables) as server,
        server.client() as client,
    ):
        body = await order(client)

        async def send() -> None:
            try:
                answers.append((await client.post("/api/transfers", json=body)).status_code)
            except httpx.TransportError:
                answers.append(0)  # a second Ctrl-C does not wait for callers

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await wait_for_payment(sandbox)
            for number in signals:
                server.process.send_signal(number)
                await anyio.sleep(0.2)
        assert await server.exit_code() == 0
    if len(signals) == 1:
        assert answers == [200]
    assert [line["event_type"] for line in audit(tmp_path)] == ["transfer_requested", "transfer_completed"]
    assert "Traceback" not in server.log()


async def test_what_the_log_says(tmp_path: Path, sandbox: Sandbox) -> None:
    async with (
        served_sandbox(sandbox) as variables,
        start_server(tmp_path, **variables) as server,
        server.client() as client,
    ):
        await client.get("/api/pods?secret", headers={"X-Request-ID": "this-one"})
        assert await server.stop() == 0
    log = server.log()
    assert "SEQUENCE_API_KEY has fewer than 16 characters" in log
    assert "INFO pysequence_api.api GET /api/pods 200 " in log
    assert log.count("this-one") == 1
    assert "secret" not in log
    assert f" {KEY}" not in log
    assert variables["ACCESS_TOKEN"] not in log


async def test_what_is_wrong_and_stops_nothing_is_in_the_log(tmp_path: Path, sandbox: Sandbox) -> None:
    rejected = {"event_type": EventType.REJECTED, "amount_cents": 5, "source": "a", "destination": "b"}
    for _ in range(2):
        AuditTrail(tmp_path).append(Event.model_validate({"timestamp": datetime.now(UTC)} | rejected))
    path = tmp_path / ".audit.jsonl"
    path.write_text(path.read_text().replace('"amount_cents": 5', '"amount_cents": 6', 1))
    async with (
        served_sandbox(sandbox) as variables,
        start_server(tmp_path, **variables, MAX_TRANSFER_CNTS="1") as server,
    ):
        while "is not what was written: line 2" not in server.log():  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.02)
        assert await server.stop() == 0
    assert "SEQUENCE_MAX_TRANSFER_CNTS is no setting" in server.log()
    assert "Is SEQUENCE_MAX_TRANSFER_CENTS meant?" in server.log()


async def test_sequence_is_away_at_the_start(tmp_path: Path) -> None:
    nowhere = {"GRAPHQL_URL": f"http://127.0.0.1:{free_port()}", "ACCESS_TOKEN": "token", "ORG_ID": "o", "KYC_ID": "k"}
    async with start_server(tmp_path, **nowhere) as server, server.client() as client:
        assert (await client.get("/api/health")).status_code == 200
        assert (await client.get("/api/limits")).status_code == 200


def nobody_is_ready(*_: object) -> None:
    raise AssertionError("it listens")


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings.load(sandbox=True, data_dir=tmp_path, server_port=port)
        with pytest.raises(SettingsError, match=rf"^Port {port} of 127\.0\.0\.1 is taken\. "):
            await serve(settings, on_ready=nobody_is_ready)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "2001:db8::1"])
async def test_an_address_that_is_not_ours(tmp_path: Path, host: str) -> None:
    settings = Settings.load(sandbox=True, data_dir=tmp_path, server_host=host, server_port=free_port())
    with pytest.raises(SettingsError, match="Nothing can listen on port"):
        await serve(settings, on_ready=nobody_is_ready)


async def test_nothing_listens_without_a_token(tmp_path: Path) -> None:
    settings = Settings.load(data_dir=tmp_path, api_key="k" * 20, request_interval_seconds=0, request_jitter_seconds=0)
    with pytest.raises(SignInError):
        await serve(settings, on_ready=nobody_is_ready)


async def test_half_a_request_does_not_hold_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "SILENCE_SECONDS", 0.1)
    port = free_port()
    settings = Settings.load(sandbox=True, data_dir=tmp_path, server_port=port)
    ready = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: serve(settings, on_ready=lambda *_: ready.set()))
        with anyio.fail_after(10):
            await ready.wait()
            for request in (b"", b"GET /api/he", b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\nGET /api"):
                async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                    if request:
                        await stream.send(request)
                    received = b"".join([chunk async for chunk in stream])
                    assert received.endswith(b'{"status":"ok"}' if b"\r\n" in request else b"")
        signal.raise_signal(signal.SIGTERM)


async def test_ipv6(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with start_server(tmp_path, SANDBOX="1", SERVER_HOST="::1") as server:
        assert server.url.startswith("http://[::1]:")
        async with server.client() as client:
            assert (await client.get("/api/health")).status_code == 200
