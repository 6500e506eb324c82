"""``mcp``: the same tools over standard input, from a running server."""

import json
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from anyio.from_thread import start_blocking_portal

from tests.api.server import Server, free_port, start_server
from tests.mcp.clients import LEGACY, MODERN, answer, refusal
from tests.processes import TIMEOUT_SECONDS, Environment, environment, run_process, start_process
from tests.starter import python
from tests.world import API_KEY, DESTINATION, SOURCE

if TYPE_CHECKING:
    from mcp.client.client import ConnectMode

pytestmark = pytest.mark.anyio

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
CALL = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "get_limits", "arguments": {}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server process on its own simulated Sequence."""
    running = start_server(tmp_path_factory.mktemp("server"), SANDBOX="1")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(running) as server:
        yield server


def variables(directory: Path, key: str = API_KEY) -> Environment:
    return environment(directory / "none", SEQUENCE_API_KEY=key)


def exchange(directory: Path, url: str, *lines: Any, key: str = API_KEY) -> tuple[list[Any], str]:
    """Send lines, end the input, and return what was answered, and what was said on standard error."""
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    ended = subprocess.run(
        [*python(), "-m", "pysequence_api", "mcp", "--url", url],
        env=variables(directory, key),
        input=text,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=True,
    )
    assert not (directory / "none").exists(), "it opens no data directory"
    return [json.loads(line) for line in ended.stdout.splitlines()], ended.stderr


@pytest.mark.parametrize("mode", [MODERN, LEGACY, "auto"])
async def test_a_client_that_starts_the_program(server: Server, tmp_path: Path, mode: "ConnectMode") -> None:
    from mcp import Client, StdioServerParameters  # noqa: PLC0415 - see tests.mcp.clients

    [command, *arguments] = (*python(), "-m", "pysequence_api")
    program = StdioServerParameters(
        command=command, args=[*arguments, "mcp", "--url", server.url], env=variables(tmp_path), cwd=tmp_path
    )
    async with Client(program, mode=mode) as client:
        assert "transfer" in {tool.name for tool in (await client.list_tools()).tools}
        pods = answer(await client.call_tool("list_accounts"))["pods"]
        ids = {pod["name"]: pod["id"] for pod in pods}
        order = {"source_id": ids[SOURCE], "destination_id": ids[DESTINATION], "amount_cents": 100}
        moved = answer(await client.call_tool("transfer", order | {"idempotency_key": f"stdio-{mode}"}))
        assert moved["state"] == "accepted"
        assert refusal(await client.call_tool("transfer", order))["code"] == "invalid_request"


def test_each_line_is_answered_before_it_ends(server: Server, tmp_path: Path) -> None:
    calls = [PING | {"id": number} for number in range(30)]
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    wrong = ("nonsense", "", "[]", " " * 100_000)
    answers, said = exchange(tmp_path, server.url + "/", notification, *wrong, *calls, {"id": "x"})
    assert sorted(one["id"] for one in answers if one.get("result") == {}) == list(range(30))
    messages = {(one["id"], one["error"]["message"]) for one in answers if "error" in one}
    not_json, too_long = "The line is not one JSON object.", "The message is longer than 65536 bytes."
    assert messages == {(None, not_json), (None, too_long), ("x", "The body is not JSON-RPC 2.0.")}
    assert said == ""


def test_a_wrong_key_and_no_server_are_said_in_one_line(server: Server, tmp_path: Path) -> None:
    [answered], said = exchange(tmp_path, server.url, PING, key="wrong")
    assert answered == {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "Invalid API key"}}
    assert said == f"The server at {server.url} refuses: Invalid API key\n"
    nowhere = f"http://127.0.0.1:{free_port()}"
    answers, said = exchange(tmp_path, nowhere, PING, CALL)
    by_id = {one["id"]: one for one in answers}
    text = f"No server answers at {nowhere} (Connection refused)."
    assert by_id[1]["error"]["message"] == f"{text} Nothing was sent. Start it: pysequence-api serve"
    result = by_id[2]["result"]
    assert result["isError"] is True
    assert (result["structuredContent"]["code"], result["structuredContent"]["retry"]) == (
        "server_unreachable",
        "later",
    )
    assert said == f"{text}\n"


def test_a_lost_answer_says_how_to_ask_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        [answered], _ = exchange(tmp_path, f"http://127.0.0.1:{listener.getsockname()[1]}", CALL)
        thread.join()
    told = answered["result"]["structuredContent"]
    assert (told["code"], told["retry"]) == ("answer_lost", "same_key")
    assert "with the same idempotency_key, nothing is paid twice" in told["detail"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(server: Server, tmp_path: Path, number: signal.Signals) -> None:
    with start_process(variables(tmp_path), "mcp", "--url", server.url, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(PING) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        process.send_signal(number)
        assert process.wait(TIMEOUT_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_it_needs_a_key(tmp_path: Path) -> None:
    ended = run_process(environment(tmp_path), "mcp", "--url", "http://127.0.0.1:1")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Error: SEQUENCE_API_KEY is not set.")
    assert ended.stderr.count("\n") == 1
