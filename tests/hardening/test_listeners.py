"""The server over TLS and on a Unix socket: who can connect, and which settings stop it at the start."""

import shutil
import socket
import ssl
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import anyio
import httpx
import pytest

from pysequence_api.cli.health import health
from pysequence_api.errors import GatewayError, SettingsError
from pysequence_api.serving import serve
from pysequence_api.settings import Settings
from tests.api.server import free_port
from tests.api.test_bounds import serving
from tests.world import API_KEY

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two certificates and their keys."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    directory = tmp_path_factory.mktemp("certificates")
    for name in ("one", "two"):
        key, certificate = directory / f"{name}.key", directory / f"{name}.pem"
        what = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=pods.example.net"]
        command = ["openssl", "req", "-x509", *what, "-keyout", str(key), "-out", str(certificate), "-days", "2"]
        subprocess.run(command, check=True, capture_output=True)
    locked = ["openssl", "pkcs8", "-topk8", "-in", "one.key", "-out", "locked.key", "-passout", "pass:secret"]
    subprocess.run(locked, check=True, capture_output=True, cwd=directory)
    return directory


async def check_health(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Run the command `health` with these settings."""
    for name, value in variables.items():
        monkeypatch.setenv(f"SEQUENCE_{name}", value)
    await anyio.to_thread.run_sync(health, None)


async def test_tls(tmp_path: Path, certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"tls_certificate": str(certificates / "one.pem"), "tls_key": str(certificates / "one.key")}
    context = ssl.create_default_context(cafile=files["tls_certificate"])
    context.check_hostname = False
    page_port = free_port()
    async with serving(tmp_path, **files, owner_host="0.0.0.0", owner_port=str(page_port)) as port:
        async with httpx.AsyncClient(verify=context, trust_env=False, headers={"X-API-Key": API_KEY}) as client:
            assert (await client.get(f"https://127.0.0.1:{port}/api/limits")).status_code == 200
            assert "Password" in (await client.get(f"https://127.0.0.1:{page_port}/sign-in")).text
            with pytest.raises(httpx.TransportError):
                await client.get(f"http://127.0.0.1:{port}/api/limits")
        named = {name.upper(): value for name, value in files.items()}
        await check_health(monkeypatch, SERVER_HOST="127.0.0.1", SERVER_PORT=str(port), **named)
        monkeypatch.setenv("SEQUENCE_TLS_CERTIFICATE", str(certificates / "two.pem"))
        with pytest.raises(GatewayError, match="verify failed"):
            await anyio.to_thread.run_sync(health, None)


@pytest.mark.parametrize(
    ("certificate", "key", "named"),
    [
        ("one.pem", "two.key", "SEQUENCE_TLS_KEY"),
        ("one.pem", "missing.key", "SEQUENCE_TLS_KEY"),
        ("missing.pem", "one.key", "SEQUENCE_TLS_CERTIFICATE"),
        ("one.key", "one.key", "SEQUENCE_TLS_CERTIFICATE"),
        ("one.pem", "locked.key", "SEQUENCE_TLS_KEY"),
        (".", "one.key", "SEQUENCE_TLS_CERTIFICATE"),
    ],
)
async def test_certificate_that_cannot_be_used(
    tmp_path: Path, certificates: Path, certificate: str, key: str, named: str
) -> None:
    files = {"tls_certificate": certificates / certificate, "tls_key": certificates / key}
    settings = Settings.load(sandbox=True, data_dir=tmp_path, server_port=free_port(), **files)
    with pytest.raises(SettingsError, match=named) as caught:
        await serve(settings, on_ready=lambda *_: pytest.fail("it listens"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"tls_certificate": "c.pem"}, "SEQUENCE_TLS_KEY is not set"),
        ({"tls_key": "c.key"}, "SEQUENCE_TLS_CERTIFICATE is not set"),
        ({"tls_certificate": "c.pem", "tls_key": "c.key", "server_socket": "s"}, "SEQUENCE_SERVER_SOCKET"),
    ],
)
def test_settings_that_exclude_each_other(given: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        Settings.load(**given)


async def test_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "api.sock"
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with (
        serving(tmp_path / "data", server_socket=str(path)),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (await client.get("/api/limits", headers={"X-API-Key": API_KEY})).status_code == 200
        assert (await client.get("/api/limits", headers={"X-API-Key": "wrong"})).status_code == 401
        await check_health(monkeypatch, SERVER_SOCKET=str(path))
        settings = Settings.load(sandbox=True, data_dir=tmp_path / "data", server_socket=path)
        with pytest.raises(SettingsError, match="another server"):
            await serve(settings, on_ready=lambda *_: pytest.fail("it listens"))
        assert (await client.get("/api/health")).status_code == 200
    assert not path.exists()


async def test_socket_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as killed:
        killed.bind(str(path))
    async with serving(tmp_path / "data", server_socket=str(path)):
        pass


def file_in_its_place(path: Path) -> None:
    path.write_text("precious")


def link_in_its_place(path: Path) -> None:
    path.symlink_to(path.parent / "elsewhere")


def open_directory(path: Path) -> None:
    path.parent.chmod(0o777)


def no_directory(path: Path) -> None:
    path.parent.rmdir()


@pytest.mark.parametrize("prepare", [file_in_its_place, link_in_its_place, open_directory, no_directory])
async def test_path_that_cannot_be_a_socket(tmp_path: Path, prepare: Callable[[Path], None]) -> None:
    path = tmp_path / "run" / "api.sock"
    path.parent.mkdir(mode=0o700)
    prepare(path)
    before = [*path.parent.parent.rglob("*.sock")]
    settings = Settings.load(sandbox=True, data_dir=tmp_path / "data", server_socket=path)
    with pytest.raises(SettingsError, match="SEQUENCE_SERVER_SOCKET"):
        await serve(settings, on_ready=lambda *_: pytest.fail("it listens"))
    assert [*path.parent.parent.rglob("*.sock")] == before
