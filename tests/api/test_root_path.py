"""The server below a path of a proxy, which removes the path or does not."""

from pathlib import Path

import httpx
import pytest

from pysequence_api.errors import SettingsError
from pysequence_api.settings import Settings
from pysequence_api.web import access
from tests.api.server import start_server
from tests.world import open_world

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]
ROOT_PATH = "/prefix"
HOST = "pods.example.net"


async def test_over_http_with_and_without_the_prefix(tmp_path: Path) -> None:
    async with start_server(tmp_path, SANDBOX="1", ROOT_PATH=ROOT_PATH) as server, server.client() as client:
        for prefix in ("", ROOT_PATH):
            assert (await client.get(f"{prefix}/api/health")).json() == {"status": "ok"}
            assert (await client.head(f"{prefix}/api/health")).status_code == 200
            assert (await client.get(f"{prefix}/api/limits")).status_code == 200
            assert (await client.get(f"{prefix}/api/limits", headers={"X-API-Key": "wrong"})).status_code == 401
        for target in (b"/%70refix/api/limits", b"/prefix/api/health/../limits", b"/prefix//api/health", b"/prefix"):
            status, _, _ = await server.send_bytes(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert status == 401, target
        schema = (await client.get(f"{ROOT_PATH}/openapi.json")).json()
        assert [entry["url"] for entry in schema["servers"]] == [ROOT_PATH]
        log = server.log()
    assert "/api/limits 200" in log
    assert "/prefix/api/limits" not in log  # the route, however it was asked for


async def test_the_prefix_bypasses_neither_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_DELAY_SECONDS", 0)
    async with (
        open_world(tmp_path, root_path=ROOT_PATH, allowed_hosts=HOST) as world,
        world.http() as client,
    ):
        for path in (
            "/prefix/prefix/api/health",
            "/prefixed/api/health",
            "/prefix/api/limits",
            "/prefix/api/health/",
            "/prefix/api/health;/api/limits",
            "/prefix//api/limits",
            "/prefix/openapi.json",
            "/prefix/metrics",
            "/PREFIX/api/health",
            "/prefix/",
            "/prefix",
        ):
            without_key = {"Host": HOST, "X-API-Key": "wrong"}
            assert (await client.get(path, headers=without_key)).status_code == 401, path
            assert (await client.get(path, headers={"Host": "evil.example"})).status_code == 400, path


async def test_without_a_root_path_no_prefix_is_removed(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.http() as client:
        assert (await client.get("/prefix/api/health")).status_code == 404
        wrong: httpx.Response = await client.get("/prefix/api/health", headers={"X-API-Key": "wrong"})
        assert wrong.status_code == 401


@pytest.mark.parametrize(
    "path", ["prefix", "/a b", "/a//b", "/a/../b", "/api", "/api/x", "/metrics", "https://a/b", "//"]
)
def test_invalid_root_paths(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("SEQUENCE_ROOT_PATH", path)
    with pytest.raises(SettingsError, match="SEQUENCE_ROOT_PATH"):
        Settings.load()


@pytest.mark.parametrize(("path", "read"), [("/", ""), ("/a/b/", "/a/b"), ("/sequence", "/sequence"), ("", "")])
def test_valid_root_paths(monkeypatch: pytest.MonkeyPatch, path: str, read: str) -> None:
    monkeypatch.setenv("SEQUENCE_ROOT_PATH", path)
    assert Settings.load().root_path == read
