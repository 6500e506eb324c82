"""``pysequence-api health``: Docker calls it to check the container."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from pysequence_api.cli import app
from tests.api.server import free_port
from tests.shipping.conftest import Site


def check_health(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["health", *arguments])
    return done.exit_code, done.output


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that answers every request in the same way."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_healthy_server(site: Site) -> None:
    done = site.run("pysequence-api health")
    assert done.returncode == 0
    assert f"http://127.0.0.1:{site.port}" in done.stdout
    assert check_health("--url", f"http://127.0.0.1:{site.port}/")[0] == 0


def test_the_default_address_is_where_the_server_listens(site: Site) -> None:
    for host in ("0.0.0.0", "localhost"):
        assert site.run(f"SEQUENCE_SERVER_HOST={host} pysequence-api health").returncode == 0


def test_no_key_is_needed(site: Site) -> None:
    done = site.run("env --unset=SEQUENCE_API_KEY --unset=SEQUENCE_SANDBOX pysequence-api health")
    assert done.returncode == 0


def test_no_server() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, output = check_health("--url", url)
    assert code == 1
    assert url in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>"), (200, b"[]"), (200, b'{"status": "bad"}'), (503, b'{"status": "ok"}'), (404, b"{}")],
)
def test_an_unexpected_answer_is_not_healthy(status: int, body: bytes) -> None:
    with answering(status, body) as url:
        code, output = check_health("--url", url)
    assert code == 1
    assert url in output


@pytest.mark.parametrize("url", ["pods.example.net", "ftp://x", "http://", "http://x:port", "http://[::1"])
def test_an_invalid_url_is_a_usage_error(url: str) -> None:
    code, output = check_health("--url", url)
    assert code == 2
    assert "--url" in output
