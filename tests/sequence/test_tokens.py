"""Which token is used, how another is got, and what the cache file is to others."""

import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import jwt
import pytest

from pysequence_api.errors import SequenceError, SignInError
from tests.sequence.conftest import House

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


def cache(house: House) -> dict[str, Any]:
    tokens: dict[str, Any] = json.loads((house.directory / ".tokens.json").read_text())
    return tokens


def jwt_of(lifetime_seconds: float) -> str:
    return jwt.encode({"exp": time.time() + lifetime_seconds}, "x" * 32)


async def test_static_token_goes_first_and_touches_no_file(any_house: House) -> None:
    any_house.write_cache(access_token="never-looked-at")
    await any_house.client().activity_summary()
    assert [path.name for path in any_house.directory.iterdir()] == [".tokens.json"]


async def test_cached_token(any_house: House) -> None:
    any_house.write_cache(something_else=5)
    await any_house.client(access_token=None).activity_summary()
    assert len(any_house.requests()) == 1


@pytest.mark.parametrize("change", [{}, {"expires_at": 0}])
async def test_token_that_has_run_out_is_refreshed(any_house: House, change: dict[str, object]) -> None:
    before = any_house.write_cache(lifetime_seconds=30, **change)
    await any_house.client(access_token=None).activity_summary()
    (refresh,) = any_house.requests("oauth/token")
    assert refresh.variables == {"grant_type": "refresh_token", "client_id": "sandbox-web-application"}
    after = cache(any_house)
    assert set(after) == {"access_token", "refresh_token", "expires_at"}
    assert after["access_token"] != before["access_token"]
    assert after["refresh_token"] != before["refresh_token"]
    assert after["expires_at"] == pytest.approx(time.time() + 86_400, abs=5)
    assert (any_house.directory / ".tokens.json").stat().st_mode & 0o777 == 0o600


async def test_a_jwt_says_itself_when_it_runs_out(house: House) -> None:
    house.write_cache(access_token=jwt_of(30))  # the cache says a day
    await house.client(access_token=None).activity_summary()
    assert len(house.requests("oauth/token")) == 1


async def test_a_jwt_outlives_the_day_that_the_cache_assumed(house: House) -> None:
    house.write_cache(expires_at=time.time() - 86_400)
    await house.client(access_token=None).activity_summary()
    assert house.requests("oauth/token") == []


async def test_refresh_token_stays_where_no_new_one_comes(house: House) -> None:
    before = house.write_cache(lifetime_seconds=0)
    house.arm("oauth/token", {"kind": "nulls", "paths": ["refresh_token"], "missing": True})
    await house.client(access_token=None).activity_summary()
    assert cache(house)["refresh_token"] == before["refresh_token"]


async def test_refused_refresh(any_house: House) -> None:
    before = any_house.write_cache(lifetime_seconds=0, refresh_token="no-such-refresh-token")
    with pytest.raises(SignInError, match="refused to refresh") as caught:
        await any_house.client(access_token=None).activity_summary()
    assert caught.value.nothing_moved
    assert before["refresh_token"] not in str(caught.value)
    assert cache(any_house)["refresh_token"] == "no-such-refresh-token"
    assert any_house.requests("ActivitySummary") == []


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 429},
        {"kind": "close"},
        {"kind": "half_body"},
        {"kind": "garbage"},
        {"kind": "html"},
    ],
)
async def test_broken_refresh_keeps_the_token(any_house: House, fault: dict[str, Any]) -> None:
    before = any_house.write_cache(lifetime_seconds=0)
    any_house.arm("oauth/token", fault)
    client = any_house.client(access_token=None)
    with pytest.raises(SignInError, match="the refresh token is kept") as caught:
        await client.activity_summary()
    assert "<" not in str(caught.value)
    assert cache(any_house) == before
    await client.activity_summary()


async def test_refresh_needs_the_client_id(house: House) -> None:
    house.write_cache(lifetime_seconds=0)
    with pytest.raises(SignInError, match="SEQUENCE_AUTH0_CLIENT_ID is not set"):
        await house.client(access_token=None, auth0_client_id=None).activity_summary()


async def test_nothing_to_sign_in_with(house: House) -> None:
    with pytest.raises(SignInError, match=r"Set SEQUENCE_ACCESS_TOKEN, or put a \.tokens\.json into /"):
        await house.client(access_token=None).activity_summary()
    house.write_cache(lifetime_seconds=0, refresh_token=None)
    with pytest.raises(SignInError, match="has run out, and there is no refresh token"):
        await house.client(access_token=None).activity_summary()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"access_token": "a-token"}',
        b'{"access_token": "a-token", "refresh_token": null, "expires_at": "9e9"}',
        b'{"access_token": "a-token", "refresh_token": null, "expires_at": true}',
        b'{"access_token": "a-token", "refresh_token": null, "expires_at": NaN}',
        b'{"access_token": "a-token", "refresh_token": 5, "expires_at": 9e9}',
        b'{"access_token": "a\\ntoken", "refresh_token": null, "expires_at": 9e9}',
        b'{"access_token": 5, "refresh_token": null, "expires_at": 9e9}',
    ],
)
async def test_damaged_cache_is_none(house: House, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    (house.directory / ".tokens.json").write_bytes(content)
    with pytest.raises(SignInError, match="There is no access token"):
        await house.client(access_token=None).activity_summary()
    assert "is damaged" in caplog.text
    assert "a-token" not in caplog.text


async def test_refused_static_token_says_so(any_house: House) -> None:
    with pytest.raises(SignInError, match="SEQUENCE_ACCESS_TOKEN is refused by Sequence") as caught:
        await any_house.client(access_token="not-one-of-theirs").activity_summary()
    assert "not-one-of-theirs" not in str(caught.value)
    assert len(any_house.requests("ActivitySummary")) == 1
    with pytest.raises(SignInError, match="has run out"):
        await any_house.client(access_token=jwt_of(0)).activity_summary()
    with pytest.raises(SignInError, match="is no token"):
        await any_house.client(access_token="two words").activity_summary()


async def test_refused_static_token_gives_way_to_the_cache(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.write_cache(lifetime_seconds=0)
    client = house.client(access_token="not-one-of-theirs")
    await client.activity_summary()
    await client.activity_summary()
    assert len(house.requests("ActivitySummary")) == 3
    assert caplog.text.count("refuses SEQUENCE_ACCESS_TOKEN") == 1


async def test_tasks_share_one_refresh(house: House) -> None:
    house.write_cache(lifetime_seconds=0)
    client = house.client(access_token=None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.activity_summary)
        tasks.start_soon(client.accounts)
    assert len(house.requests("oauth/token")) == 1


async def test_a_cancelled_caller_does_not_lose_the_new_refresh_token(house: House) -> None:
    before = house.write_cache(lifetime_seconds=0)
    house.arm("oauth/token", {"kind": "delay", "seconds": 0.2}, when="after")
    client = house.client(access_token=None)
    with anyio.move_on_after(0.05) as scope:
        await client.activity_summary()
    assert scope.cancelled_caught
    await client.aclose()
    assert cache(house)["refresh_token"] != before["refresh_token"]


async def test_tokens_that_cannot_be_saved_are_used(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pysequence_api.sequence.sign_in.token_cache.replace_atomically", full)
    house.write_cache(lifetime_seconds=0)
    client = house.client(access_token=None)
    await client.activity_summary()
    await client.activity_summary()
    assert len(house.requests("oauth/token")) == 1
    assert "cannot be saved" in caplog.text


async def test_two_processes_make_one_refresh(tcp_house: House) -> None:
    tcp_house.write_cache(lifetime_seconds=0)
    tcp_house.arm("oauth/token", {"kind": "delay", "seconds": 0.3})
    settings: dict[str, object] = {
        "base_url": tcp_house.base_url,
        "directory": str(tcp_house.directory),
        "interval": 0,
        "count": 1,
    }
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(run_reader, settings)
    assert len(tcp_house.requests("oauth/token")) == 1
    assert [entry.status for entry in tcp_house.requests("ActivitySummary")] == [200, 200]


async def run_reader(settings: dict[str, object]) -> None:
    process = await anyio.run_process(
        [sys.executable, "-m", "tests.sequence.reader", json.dumps(settings)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert process.returncode == 0, process.stderr.decode()


@pytest.fixture
def sdk_auth(house: House, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    auth = pytest.importorskip("pysequence_sdk.auth")
    monkeypatch.setattr(auth, "TOKEN_PATH", house.directory / ".tokens.json")
    assert isinstance(auth, ModuleType)
    return auth


async def test_the_sdk_reads_what_we_wrote_and_we_what_it_wrote(house: House, sdk_auth: ModuleType) -> None:
    house.write_cache(lifetime_seconds=0)
    await house.client(access_token=None).activity_summary()
    tokens = sdk_auth._load_tokens()
    assert tokens.access_token == cache(house)["access_token"]
    assert sdk_auth.get_access_token() == tokens.access_token
    (house.directory / ".tokens.json").unlink()
    sdk_auth._save_tokens(tokens)
    await house.client(access_token=None).activity_summary()
    assert len(house.requests("oauth/token")) == 1


async def test_no_token_in_a_log_or_an_error(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    before = house.write_cache(lifetime_seconds=0)
    client = house.client(access_token=None)
    await client.activity_summary()
    house.arm("*", {"kind": "status", "status": 401}, count=2)
    with pytest.raises(SequenceError) as caught:
        await client.activity_summary()
    text = caplog.text + repr(caught.value) + repr(client._tokens) + repr(client)
    for tokens in (before, cache(house)):
        assert tokens["access_token"] not in text
        assert tokens["refresh_token"] not in text
