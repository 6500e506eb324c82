"""The listener of the page, beside the one for programs, and what the sandbox shows there."""

import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from pysequence_api.demo import PASSWORD
from pysequence_api.errors import SettingsError
from pysequence_api.local_server import page_url
from pysequence_api.serving import serve
from pysequence_api.settings import Settings
from tests.api.server import free_port
from tests.api.test_bounds import serving
from tests.world import API_KEY, DataDirectory

pytestmark = pytest.mark.anyio
TLS = {"tls_certificate": "c.pem", "tls_key": "c.key"}


async def test_both_ports_and_an_example_that_is_prepared_once(tmp_path: Path) -> None:
    for _ in range(2):
        page_port = free_port()
        async with serving(tmp_path, owner_port=str(page_port)) as port, httpx.AsyncClient(trust_env=False) as client:
            api, page = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{page_port}"
            for url, path, status in ((api, "/", 401), (page, "/", 303), (page, "/api/health", 303)):
                assert (await client.get(url + path)).status_code == status
            allowed = await client.get(f"{api}/api/pods", headers={"X-API-Key": API_KEY})
            assert allowed.status_code == 200  # the policy of the example leaves `default` everything
            shown = (await client.get(f"{page}/sign-in")).text
            assert PASSWORD in shown
            codes = re.findall(r"<strong>(\d{6})</strong>", shown)
            data = {"password": PASSWORD, "code": codes[0] if codes else "", "next": "/"}
            signed_in = await client.post(f"{page}/sign-in", data=data, headers={"Origin": page})
            if codes:  # the second start may be within the 30 seconds of the first code
                assert signed_in.status_code == 303
                cookie = signed_in.headers["set-cookie"].partition(";")[0]
                overview = (await client.get(page, headers={"Cookie": cookie})).text
                assert overview.count(">Review<") == 1
    events = DataDirectory(tmp_path / "sandbox").events()
    assert [events.count(name) for name in ("policy_applied", "key_added", "approval_requested")] == [1, 2, 1]


async def test_without_a_port_there_is_no_page_and_no_example(tmp_path: Path) -> None:
    async with serving(tmp_path):
        assert not DataDirectory(tmp_path / "sandbox").events()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"owner_host": "0.0.0.0"}, "SEQUENCE_OWNER_HOST needs TLS"),
        ({"owner_port": "8720"}, "SEQUENCE_OWNER_PORT must not be the port of the server"),
        ({"owner_port": "-1"}, "SEQUENCE_OWNER_PORT"),
        ({"owner_proxy": "http://owner.example.net"}, "SEQUENCE_OWNER_PROXY must begin with https://"),
        ({"owner_proxy": "https://owner.example.net/page"}, "SEQUENCE_OWNER_PROXY .*without a path"),
        ({"owner_proxy": "owner.example.net"}, "SEQUENCE_OWNER_PROXY"),
    ],
)
def test_settings_that_are_not_safe(given: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        Settings.load(**{"owner_port": "8721"} | given)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "http://127.0.0.1:8721"),
        ({"owner_host": "::1"}, "http://[::1]:8721"),
        ({"owner_host": "0.0.0.0", **TLS}, "https://127.0.0.1:8721"),
        ({"owner_host": "0.0.0.0", "owner_proxy": "https://Owner.example.net/"}, "https://owner.example.net"),
    ],
)
def test_the_address_that_a_person_opens(given: dict[str, Any], url: str) -> None:
    assert page_url(Settings.load(owner_port=8721, **given)) == url


async def test_a_port_that_is_taken_stops_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        settings = Settings.load(sandbox=True, data_dir=tmp_path, server_port=free_port(), owner_port=taken)
        with pytest.raises(SettingsError, match=f"Port {taken} .*SEQUENCE_OWNER_PORT"):
            await serve(settings, on_ready=lambda *_: pytest.fail("it listens"))
