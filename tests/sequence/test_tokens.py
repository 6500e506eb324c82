"""Which token is used, how a new one is obtained, and that ``pysequence-sdk`` can share the cache."""

import json
import logging
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import jwt
import pytest

from pysequence_api.errors import SequenceError, SignInError, SignInRefusedError
from pysequence_api.sandbox import Sandbox
from pysequence_api.sandbox.auth import TokenSettings
from pysequence_api.sequence.graphql.client import GraphQLSequenceClient
from pysequence_api.sequence.sign_in import tokens as token_source
from pysequence_api.sequence.sign_in.record import fingerprint
from tests.sequence.conftest import ClientWorld
from tests.starter import python

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


def cache(world: ClientWorld) -> dict[str, Any]:
    tokens: dict[str, Any] = world.files.read_json(".tokens.json")
    return tokens


def jwt_of(lifetime_seconds: float) -> str:
    return jwt.encode({"exp": time.time() + lifetime_seconds}, "x" * 32)


async def test_the_token_of_the_settings_takes_precedence_and_touches_no_file(any_world: ClientWorld) -> None:
    any_world.cache_tokens(access_token="never-looked-at")
    await any_world.client().activity_summary()
    assert [path.name for path in any_world.files.path.iterdir()] == [".tokens.json"]


async def test_cached_token(any_world: ClientWorld) -> None:
    any_world.cache_tokens(something_else=5)
    await any_world.client(access_token=None).activity_summary()
    assert len(any_world.requests()) == 1


@pytest.mark.parametrize("change", [{}, {"expires_at": 0}])
async def test_an_expired_token_is_refreshed(any_world: ClientWorld, change: dict[str, object]) -> None:
    before = any_world.cache_tokens(lifetime_seconds=30, **change)
    await any_world.client(access_token=None).activity_summary()
    (refresh,) = any_world.requests("oauth/token")
    assert refresh.variables == {"grant_type": "refresh_token", "client_id": "sandbox-web-application"}
    after = cache(any_world)
    assert set(after) == {"access_token", "refresh_token", "expires_at"}
    assert after["access_token"] != before["access_token"]
    assert after["refresh_token"] != before["refresh_token"]
    assert after["expires_at"] == pytest.approx(time.time() + 86_400, abs=5)
    assert (any_world.files.path / ".tokens.json").stat().st_mode & 0o777 == 0o600


async def test_the_expiry_in_a_jwt_takes_precedence(world: ClientWorld) -> None:
    world.cache_tokens(access_token=jwt_of(30))  # the cache says one day
    await world.client(access_token=None).activity_summary()
    assert len(world.requests("oauth/token")) == 1


async def test_a_jwt_can_live_longer_than_the_cache_says(world: ClientWorld) -> None:
    world.cache_tokens(expires_at=time.time() - 86_400)
    await world.client(access_token=None).activity_summary()
    assert world.requests("oauth/token") == []


@asynccontextmanager
async def world_with_clock(directory: Path, ahead_seconds: float, **tokens: Any) -> AsyncIterator[ClientWorld]:
    """Open a world whose Sequence has another time than this machine, which has an expired token."""
    (directory / "data").mkdir(parents=True)
    sandbox = Sandbox(directory / "sandbox.db", clock=lambda: time.time() + ahead_seconds)
    sandbox.settings = TokenSettings(**tokens)
    world = ClientWorld.on(sandbox, directory / "data")
    world.cache_tokens(access_token=jwt_of(-10 * 86_400))
    yield world
    await world.aclose()
    await sandbox.aclose()


HOURS_OFF = [-240, -24, -1, 1, 24, 240]


async def keep_signed_in(client: GraphQLSequenceClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a client look after its token, for as long as it takes to look three times."""
    monkeypatch.setattr(token_source, "LEAST_PAUSE_SECONDS", 0.03)
    with anyio.move_on_after(0.1):
        await client.stay_signed_in()


@pytest.mark.parametrize("hours", HOURS_OFF)
async def test_a_wrong_clock_needs_one_refresh(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    async with world_with_clock(tmp_path, hours * 3600) as world:
        client = world.client(access_token=None)
        for reader in (client, client, world.client(access_token=None)):
            await reader.activity_summary()
        await keep_signed_in(client, monkeypatch)
        assert len(world.requests("oauth/token")) == 1
        life = await client.token_life()
    assert life is not None
    assert life.age_seconds == pytest.approx(0, abs=30)
    assert life.left_seconds == pytest.approx(86_400, abs=30)
    assert caplog.text.count("machine's clock") == 1


@pytest.mark.parametrize("fault", [{"kind": "no_date"}, {"kind": "date_offset_seconds", "seconds": 90_000}])
async def test_a_refresh_without_a_correct_date(tmp_path: Path, fault: dict[str, Any]) -> None:
    async with world_with_clock(tmp_path, -86_400) as world:
        world.fail(fault, operation="oauth/token")
        for _ in range(3):
            await world.client(access_token=None).activity_summary()
        assert len(world.requests("oauth/token")) == 1


async def test_a_new_token_is_not_renewed_within_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that lives for 30 seconds."""
    async with world_with_clock(tmp_path, 0, access_token_lifetime_seconds=30) as world:
        client = world.client(access_token=None)
        for reader in (client, world.client(access_token=None)):
            await reader.activity_summary()
        await keep_signed_in(client, monkeypatch)
        assert len(world.requests("oauth/token")) == 1
        record = world.files.read_json(".sign-in.json")
        record["got"]["saved_at"] -= 61
        world.files.damage(".sign-in.json", json.dumps(record).encode())
        await world.client(access_token=None).activity_summary()
        assert len(world.requests("oauth/token")) == 2


@pytest.mark.parametrize("hours", HOURS_OFF)
async def test_a_clock_that_was_corrected(tmp_path: Path, hours: int) -> None:
    """This machine's clock was wrong when the token came, and is right now: the token's own expiry is used."""
    async with world_with_clock(tmp_path, hours * 3600) as world:
        await world.client(access_token=None).activity_summary()
    async with world_with_clock(tmp_path / "later", 0) as later:
        tokens = later.cache_tokens()
        record = world.files.read_json(".sign-in.json")
        record["got"] |= {"token": fingerprint(tokens["access_token"])}
        for name in ("saved_at", "expires_at"):
            record["got"][name] -= hours * 3600
        later.files.damage(".sign-in.json", json.dumps(record).encode())
        life = await later.client(access_token=None).token_life()
        assert life is not None
        assert life.left_seconds is not None
        assert life.left_seconds < 86_400 + 30, "never longer than it lives"


@pytest.mark.parametrize("content", [b"{", None])
async def test_a_wrong_clock_and_a_damaged_record(tmp_path: Path, content: bytes | None) -> None:
    async with world_with_clock(tmp_path, -86_400) as world:
        path = world.files.path / ".sign-in.json"
        path.mkdir() if content is None else path.write_bytes(content)
        client = world.client(access_token=None)
        for _ in range(3):
            await client.activity_summary()
        assert len(world.requests("oauth/token")) == 1


async def test_a_refreshed_token_of_unknown_life(world: ClientWorld) -> None:
    world.cache_tokens(lifetime_seconds=0)
    answer = {"access_token": "opaque", "token_type": "Bearer"}
    world.fail({"kind": "garbage", "body": json.dumps(answer)}, operation="oauth/token")
    world.fail({"kind": "garbage", "body": '{"data": {"me": {}}}'}, operation="ActivitySummary")
    client = world.client(access_token=None)
    await client.activity_summary()
    life = await client.token_life()
    assert life is not None
    assert life.left_seconds is None
    await client.activity_summary()  # Sequence rejects the token, and it is refreshed
    assert len(world.requests("oauth/token")) == 2


async def test_the_refresh_token_stays_if_there_is_no_new_one(world: ClientWorld) -> None:
    before = world.cache_tokens(lifetime_seconds=0)
    world.fail({"kind": "nulls", "paths": ["refresh_token"], "missing": True}, operation="oauth/token")
    await world.client(access_token=None).activity_summary()
    assert cache(world)["refresh_token"] == before["refresh_token"]


async def test_refused_refresh(any_world: ClientWorld) -> None:
    before = any_world.cache_tokens(lifetime_seconds=0, refresh_token="no-such-refresh-token")
    with pytest.raises(SignInRefusedError) as caught:
        await any_world.client(access_token=None).activity_summary()
    assert caught.value.nothing_moved
    assert before["refresh_token"] not in str(caught.value)
    assert cache(any_world)["refresh_token"] == "no-such-refresh-token"
    assert any_world.requests("ActivitySummary") == []


BROKEN_REFRESHES: list[dict[str, Any]] = [
    {"kind": "status", "status": 503},
    {"kind": "status", "status": 429},
    {"kind": "close"},
    {"kind": "half_body"},
    {"kind": "garbage"},
    {"kind": "html"},
]


async def test_broken_refresh_keeps_the_token(any_world: ClientWorld) -> None:
    for fault in BROKEN_REFRESHES:
        before = any_world.cache_tokens(lifetime_seconds=0)
        any_world.fail(fault, operation="oauth/token")
        client = any_world.client(access_token=None)
        with pytest.raises(SignInError) as caught:
            await client.activity_summary()
        assert "<" not in str(caught.value), fault
        assert cache(any_world) == before, fault
        await client.activity_summary()


async def test_refresh_needs_the_client_id(world: ClientWorld) -> None:
    world.cache_tokens(lifetime_seconds=0)
    with pytest.raises(SignInError, match="SEQUENCE_AUTH0_CLIENT_ID"):
        await world.client(access_token=None, auth0_client_id=None).activity_summary()


async def test_no_way_to_sign_in(world: ClientWorld) -> None:
    with pytest.raises(SignInError, match="SEQUENCE_ACCESS_TOKEN"):
        await world.client(access_token=None).activity_summary()
    world.cache_tokens(lifetime_seconds=0, refresh_token=None)
    with pytest.raises(SignInError, match="no refresh token"):
        await world.client(access_token=None).activity_summary()


DAMAGED = [
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
]


async def test_a_damaged_cache_counts_as_missing(world: ClientWorld, caplog: pytest.LogCaptureFixture) -> None:
    for content in DAMAGED:
        caplog.clear()
        (world.files.path / ".tokens.json").write_bytes(content)
        with pytest.raises(SignInError, match="no access token"):
            await world.client(access_token=None).activity_summary()
        assert "is damaged" in caplog.text, content
        assert "a-token" not in caplog.text, content


async def test_a_rejected_token_of_the_settings_is_named(any_world: ClientWorld) -> None:
    with pytest.raises(SignInError, match="SEQUENCE_ACCESS_TOKEN is not accepted") as caught:
        await any_world.client(access_token="not-one-of-theirs").activity_summary()
    assert "not-one-of-theirs" not in str(caught.value)
    assert len(any_world.requests("ActivitySummary")) == 1
    with pytest.raises(SignInError, match="has expired"):
        await any_world.client(access_token=jwt_of(0)).activity_summary()
    with pytest.raises(SignInError, match="is not a token"):
        await any_world.client(access_token="two words").activity_summary()


async def test_after_a_rejected_token_the_cache_is_used(world: ClientWorld, caplog: pytest.LogCaptureFixture) -> None:
    world.cache_tokens(lifetime_seconds=0)
    client = world.client(access_token="not-one-of-theirs")
    await client.activity_summary()
    await client.activity_summary()
    assert len(world.requests("ActivitySummary")) == 3
    assert caplog.text.count("does not accept SEQUENCE_ACCESS_TOKEN") == 1


async def test_tasks_share_one_refresh(world: ClientWorld) -> None:
    world.cache_tokens(lifetime_seconds=0)
    client = world.client(access_token=None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.activity_summary)
        tasks.start_soon(client.accounts)
    assert len(world.requests("oauth/token")) == 1


async def test_a_cancelled_caller_does_not_lose_the_new_refresh_token(world: ClientWorld) -> None:
    before = world.cache_tokens(lifetime_seconds=0)
    world.fail({"kind": "delay", "seconds": 0.2}, operation="oauth/token", when="after")
    client = world.client(access_token=None)
    with anyio.move_on_after(0.05) as scope:
        await client.activity_summary()
    assert scope.cancelled_caught
    await client.aclose()
    assert cache(world)["refresh_token"] != before["refresh_token"]


async def test_tokens_that_cannot_be_saved_are_used(
    world: ClientWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pysequence_api.sequence.sign_in.token_cache.replace_atomically", full)
    world.cache_tokens(lifetime_seconds=0)
    client = world.client(access_token=None)
    await client.activity_summary()
    await client.activity_summary()
    assert len(world.requests("oauth/token")) == 1
    assert "cannot be saved" in caplog.text


async def test_two_processes_make_one_refresh(tcp_world: ClientWorld) -> None:
    tcp_world.cache_tokens(lifetime_seconds=0)
    tcp_world.fail({"kind": "delay", "seconds": 0.3}, operation="oauth/token")
    settings: dict[str, object] = {
        "base_url": tcp_world.base_url,
        "directory": str(tcp_world.files.path),
        "interval": 0,
        "count": 1,
    }
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(run_reader, settings)
    assert len(tcp_world.requests("oauth/token")) == 1
    assert [entry.status for entry in tcp_world.requests("ActivitySummary")] == [200, 200]


async def run_reader(settings: dict[str, object]) -> None:
    process = await anyio.run_process(
        [*python(), "-m", "tests.sequence.reader", json.dumps(settings)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert process.returncode == 0, process.stderr.decode()


@pytest.fixture
def sdk_auth(world: ClientWorld, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    auth = pytest.importorskip("pysequence_sdk.auth")
    monkeypatch.setattr(auth, "TOKEN_PATH", world.files.path / ".tokens.json")
    assert isinstance(auth, ModuleType)
    return auth


async def test_the_cache_is_shared_with_the_sdk(world: ClientWorld, sdk_auth: ModuleType) -> None:
    world.cache_tokens(lifetime_seconds=0)
    await world.client(access_token=None).activity_summary()
    tokens = sdk_auth._load_tokens()
    assert tokens.access_token == cache(world)["access_token"]
    assert sdk_auth.get_access_token() == tokens.access_token
    (world.files.path / ".tokens.json").unlink()
    sdk_auth._save_tokens(tokens)
    await world.client(access_token=None).activity_summary()
    assert len(world.requests("oauth/token")) == 1


async def test_no_token_in_a_log_or_an_error(world: ClientWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    before = world.cache_tokens(lifetime_seconds=0)
    client = world.client(access_token=None)
    await client.activity_summary()
    world.fail({"kind": "status", "status": 401}, operation="*", count=2)
    with pytest.raises(SequenceError) as caught:
        await client.activity_summary()
    text = caplog.text + repr(caught.value) + repr(client._tokens) + repr(client)
    for tokens in (before, cache(world)):
        assert tokens["access_token"] not in text
        assert tokens["refresh_token"] not in text
