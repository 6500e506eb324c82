"""The server process: how it starts, stops, and shares a data directory."""

import json
import signal
import socket
from datetime import UTC, datetime
from pathlib import Path

import anyio
import httpx
import pytest

from pysequence_api.errors import SettingsError, SignInError
from pysequence_api.sandbox import Sandbox
from pysequence_api.sandbox.faults import Fault
from pysequence_api.serving import serve
from pysequence_api.settings import Settings
from tests.api.calls import post_transfer, transfer_body
from tests.api.server import free_port, served_sandbox, start_server
from tests.world import API_KEY, DataDirectory, open_world

pytestmark = pytest.mark.anyio


def fail(sandbox: Sandbox, **fault: object) -> None:
    sandbox.faults.arm([Fault.model_validate({"operation": "CreatePayment"} | fault)])


async def wait_for_payment(sandbox: Sandbox) -> None:
    """Wait until Sequence has received the transfer."""
    with anyio.fail_after(10):
        while not any(  # noqa: ASYNC110 - the sandbox has no event for it
            one.operation == "CreatePayment" for one in sandbox.journal.read().requests
        ):
            await anyio.sleep(0.01)


async def test_two_servers_share_one_data_directory(tmp_path: Path, sandbox: Sandbox) -> None:
    """They share the daily limit, also in different time zones."""
    data = tmp_path / "data"
    data.mkdir()
    async with (
        served_sandbox(sandbox) as variables,
        start_server(data, TZ="Pacific/Kiritimati", **variables) as east,
        start_server(data, TZ="Pacific/Pago_Pago", **variables) as west,
        east.client(timeout=30) as first,
        west.client(timeout=30) as second,
    ):
        body = transfer_body(1_000_000)
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


async def test_transfer_completes_if_the_client_disconnects(tmp_path: Path, sandbox: Sandbox) -> None:
    fail(sandbox, what=[{"kind": "delay", "seconds": 0.3}])
    async with (
        served_sandbox(sandbox) as variables,
        start_server(tmp_path, **variables) as server,
        server.client() as client,
    ):
        body = transfer_body()
        with anyio.move_on_after(5):
            async with anyio.create_task_group() as tasks, server.client() as leaving:
                tasks.start_soon(lambda: leaving.post("/api/transfers", json=body))
                await wait_for_payment(sandbox)
                tasks.cancel_scope.cancel()
        with anyio.fail_after(10):
            while len(DataDirectory(tmp_path).trail()) < 2:  # noqa: ASYNC110 - another process writes it
                await anyio.sleep(0.02)
        assert (await client.get("/api/limits")).json()["unsettled"] == []
    assert DataDirectory(tmp_path).events() == ["requested", "completed"]


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGTERM], [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]],
    ids=lambda signals: "-".join(one.name for one in signals),
)
async def test_signal_during_a_transfer(tmp_path: Path, sandbox: Sandbox, signals: list[signal.Signals]) -> None:
    """A transfer that was sent is waited for, and its client gets the answer, also after more signals."""
    fail(sandbox, what=[{"kind": "delay", "seconds": 1.0}])
    answers: list[httpx.Response] = []
    async with (
        served_sandbox(sandbox) as variables,
        start_server(tmp_path, **variables) as server,
        server.client() as client,
    ):
        body = transfer_body()

        async def send() -> None:
            answers.append(await client.post("/api/transfers", json=body))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await wait_for_payment(sandbox)
            for number in signals:
                server.process.send_signal(number)
                await anyio.sleep(0.2)
        assert await server.exit_code() == 0
    assert [answer.status_code for answer in answers] == [200]
    assert DataDirectory(tmp_path).events() == ["requested", "completed"]
    assert "waiting for the outcome of 1 transfer" in server.log()
    assert ("at most" in server.log()) == (len(signals) > 1)
    assert "Traceback" not in server.log()


@pytest.mark.waits
async def test_signal_releases_all_transfers_that_wait(tmp_path: Path, sandbox: Sandbox) -> None:
    """With a request in a second, 16 transfers would wait longer than the server has to stop."""
    answers: list[httpx.Response] = []
    async with (
        served_sandbox(sandbox) as variables,
        start_server(
            tmp_path, **variables | {"REQUEST_INTERVAL_SECONDS": "1"}, MAX_TRANSFER_ATTEMPTS_PER_MINUTE="100"
        ) as server,
        server.client(timeout=60, limits=httpx.Limits(max_connections=50)) as client,
    ):
        body = transfer_body()

        async def send(amount_cents: int) -> None:
            answers.append(await client.post("/api/transfers", json=body | {"amount_cents": amount_cents}))

        async def count_waiting() -> int:
            states = [one["state"] for one in (await client.get("/api/limits")).json()["unsettled"]]
            return states.count("reserved")

        async with anyio.create_task_group() as tasks:
            for amount_cents in range(1, 17):
                tasks.start_soon(send, amount_cents)
            with anyio.fail_after(30):
                while await count_waiting() < 15:  # noqa: ASYNC110 - another process counts
                    await anyio.sleep(0.05)
            await wait_for_payment(sandbox)
            server.process.send_signal(signal.SIGINT)
            with anyio.fail_after(5):
                await server.process.wait()
        assert await server.exit_code() == 0
    assert sum(one.operation == "CreatePayment" for one in sandbox.journal.read().requests) == 1
    assert sorted(answer.status_code for answer in answers) == [200] + [503] * 15
    for answer in answers:
        if answer.status_code == 503:
            error = answer.json()
            assert (error["code"], error["outcome"], error["retry"]) == ("stopping", "nothing_moved", "later")
    async with open_world(tmp_path, sandbox) as world:
        assert sorted(world.states()) == ["accepted"] + ["failed"] * 15
        assert world.used_cents() == next(answer.json()["amount_cents"] for answer in answers if answer.is_success)
    assert "Traceback" not in server.log()


async def test_signal_releases_reads_that_wait(tmp_path: Path, sandbox: Sandbox) -> None:
    answers: list[httpx.Response] = []
    async with (
        served_sandbox(sandbox) as variables,
        start_server(tmp_path, **variables | {"REQUEST_INTERVAL_SECONDS": "20"}) as server,
        server.client(timeout=60) as client,
    ):

        async def read(path: str) -> None:
            answers.append(await client.get(path))

        async with anyio.create_task_group() as tasks:
            for path in ("/api/pods", "/api/activity"):
                tasks.start_soon(read, path)
            await anyio.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            with anyio.fail_after(5):
                await server.process.wait()
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, "stopping")] * 2


async def test_log_contains_no_secret(tmp_path: Path, sandbox: Sandbox) -> None:
    async with (
        served_sandbox(sandbox) as variables,
        start_server(tmp_path, **variables) as server,
        server.client() as client,
    ):
        await client.get("/api/activity?name=secret", headers={"X-Request-ID": "this-one"})
        assert await server.stop() == 0
    log = server.log()
    assert "WARNING pysequence_api.serving SEQUENCE_API_KEY" in log
    assert "INFO pysequence_api.api GET /api/activity 200 " in log
    assert log.count("this-one") == 1
    assert "secret" not in log
    assert f" {API_KEY}" not in log
    assert variables["ACCESS_TOKEN"] not in log


async def test_problems_that_do_not_stop_the_server_are_logged(tmp_path: Path, sandbox: Sandbox) -> None:
    async with open_world(tmp_path, sandbox) as world:
        await world.transfer(5)
    path = tmp_path / ".audit.jsonl"
    path.write_text(path.read_text().replace('"amount_cents": 5', '"amount_cents": 6', 1))
    async with (
        served_sandbox(sandbox) as variables,
        start_server(tmp_path, **variables, MAX_TRANSFER_CNTS="1") as server,
    ):
        await server.wait_for_log(".audit.jsonl was changed")
        assert await server.stop() == 0
    assert "ERROR pysequence_api.serving" in server.log()
    assert "SEQUENCE_MAX_TRANSFER_CNTS" in server.log()
    assert "SEQUENCE_MAX_TRANSFER_CENTS" in server.log()


@pytest.mark.parametrize("name", [".records.db", ".audit.jsonl"])
async def test_records_that_cannot_be_trusted_stop_transfers_but_not_the_server(
    tmp_path: Path, sandbox: Sandbox, name: str
) -> None:
    async with open_world(tmp_path, sandbox) as world:
        await world.transfer(5)
    (tmp_path / name).unlink()
    async with (
        served_sandbox(sandbox) as variables,
        start_server(tmp_path, **variables) as server,
        server.client() as client,
    ):
        answer = await post_transfer(client)
        assert (answer.status_code, answer.json()["code"]) == (503, "records_unavailable")
        assert await server.stop() == 0
    assert "ERROR pysequence_api.serving No transfer is possible" in server.log()
    assert not (tmp_path / name).exists()


async def test_server_starts_without_sequence(tmp_path: Path) -> None:
    nowhere = {"GRAPHQL_URL": f"http://127.0.0.1:{free_port()}", "ACCESS_TOKEN": "token", "ORG_ID": "o", "KYC_ID": "k"}
    async with start_server(tmp_path, **nowhere) as server, server.client() as client:
        assert (await client.get("/api/health")).status_code == 200
        assert (await client.get("/api/limits")).status_code == 200


def never_ready(*_: object) -> None:
    raise AssertionError("the server listens")


async def test_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings.load(sandbox=True, data_dir=tmp_path, server_port=port)
        with pytest.raises(SettingsError, match="SEQUENCE_SERVER_PORT"):
            await serve(settings, on_ready=never_ready)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "2001:db8::1"])
async def test_unusable_address(tmp_path: Path, host: str) -> None:
    settings = Settings.load(sandbox=True, data_dir=tmp_path, server_host=host, server_port=free_port())
    with pytest.raises(SettingsError, match="SEQUENCE_SERVER_HOST"):
        await serve(settings, on_ready=never_ready)


async def test_server_does_not_start_without_a_token(tmp_path: Path) -> None:
    settings = Settings.load(data_dir=tmp_path, api_key="k" * 20, request_interval_seconds=0, request_jitter_seconds=0)
    with pytest.raises(SignInError):
        await serve(settings, on_ready=never_ready)


async def test_ipv6(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with start_server(tmp_path, SANDBOX="1", SERVER_HOST="::1") as server:
        assert server.url.startswith("http://[::1]:")
        async with server.client() as client:
            assert (await client.get("/api/health")).status_code == 200
