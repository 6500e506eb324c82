"""Proxy variables: each can be used, or is rejected in one line."""

import os
from pathlib import Path

import pytest

from pysequence_api.errors import SettingsError
from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
from pysequence_api.sequence.proxies import proxy_for
from pysequence_api.settings import Settings

URL = "https://app.getsequence.io/api/graphql"
PROXY = "http://proxy.invalid:3128"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("no_proxy", "is_direct"),
    [
        ("", False),
        ("fd00::/8", False),
        ("10.0.0.0/8,[::1],::1, http://[bad", False),
        ("getsequence.io", True),
        (".getsequence.io", True),
        ("*.getsequence.io", True),
        ("other.io,APP.getsequence.io", True),
        ("https://app.getsequence.io", True),
        ("evilgetsequence.io", False),
        ("localhost,*", True),
    ],
)
def test_no_proxy(no_proxy: str, is_direct: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_for(URL) == (None if is_direct else PROXY)
    GraphQLSequenceClient.open(Settings.load(), tmp_path)


@pytest.mark.parametrize("no_proxy", ["10.0.0.0/8", "10.1.2.3"])
def test_a_network_that_needs_no_proxy(no_proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_for("https://10.1.2.3/") is None
    assert proxy_for("https://11.1.2.3/") == PROXY


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("https_proxy", PROXY, PROXY),
        ("HTTPS_PROXY", "proxy.invalid:3128", PROXY),
        ("ALL_PROXY", PROXY, PROXY),
        ("HTTP_PROXY", "ftp://not-for-us", None),
    ],
)
def test_the_proxy(
    name: str, value: str, expected: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, value)
    assert proxy_for(URL) == expected
    assert proxy_for("http://127.0.0.1/") is None
    GraphQLSequenceClient.open(Settings.load(), tmp_path)


@pytest.mark.parametrize(
    "value", ["http://[bad", "http://proxy:port", "ftp://proxy", "http://", "::", "socks4://a", "http://a\x7fb"]
)
def test_an_unusable_proxy_is_one_line(value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(SettingsError, match="HTTPS_PROXY"):
        GraphQLSequenceClient.open(Settings.load(), tmp_path)
