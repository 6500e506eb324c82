"""The `auth` commands without a browser, and the messages where no login is possible."""

import builtins
import json
import os
import re
import stat
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import jwt
import pytest

from pysequence_api.errors import InvalidRequestError, SettingsError, SignInError, SignInWaitsError
from pysequence_api.gateway import open_sign_in
from pysequence_api.sandbox import EMAIL
from pysequence_api.sequence.sign_in import chromium
from pysequence_api.sequence.sign_in.chromium import find_chromium, open_chromium
from pysequence_api.sequence.sign_in.tokens import TokenSource
from pysequence_api.settings import Settings
from tests.sign_in.conftest import WRONG_PASSWORD, Result, SignInWorld, free_port

pytestmark = pytest.mark.anyio

ACCEPTED = {"kind": "garbage", "body": '{"data": {"me": {}}}'}
"""An answer to a read, whatever the token."""


async def test_status_without_tokens(world: SignInWorld) -> None:
    status = (await world.call("auth", "status", "--json", email=None, totp=None)).status
    assert status == {
        "signed_in": False,
        "who": None,
        "expires_at": None,
        "got_by": None,
        "renews_by": None,
        "missing_variables": ["SEQUENCE_EMAIL", "SEQUENCE_TOTP"],
        "waiting": None,
        "trouble": None,
    }
    assert len(world.requests("login/application")) == 0


async def test_status_for_people_needs_no_network(world: SignInWorld) -> None:
    world.cache_tokens(lifetime_seconds=3600, refresh=True)
    shown = await world.call("auth", "status", app_url="https://nowhere.invalid", auth_url="https://nowhere.invalid")
    assert shown.code == 0
    facts = dict(line.split("  ", 1) for line in shown.out.splitlines())
    assert facts["Signed in"].strip() == "yes"
    assert facts["Account"].strip() == EMAIL
    assert facts["Token from"].strip() == "another program, or an earlier version"
    assert facts["Renewed with"].strip() == "refresh token"


async def test_status_of_the_token_in_the_environment(world: SignInWorld) -> None:
    token = world.sandbox.issue_tokens(3600).access_token
    world.secrets.add(token)
    status = (await world.call("auth", "status", "--json", access_token=token)).status
    assert (status["signed_in"], status["got_by"]) == (True, "SEQUENCE_ACCESS_TOKEN")


async def test_status_shows_an_expired_token(world: SignInWorld) -> None:
    world.cache_tokens(lifetime_seconds=-60)
    ended = await world.call("auth", "status", password=None)
    assert ended.code == 1, "signed out"
    assert "SEQUENCE_PASSWORD" in ended.out
    status = (await world.call("auth", "status", "--json", password=None)).status
    assert (status["signed_in"], status["renews_by"], status["missing_variables"]) == (
        False,
        None,
        ["SEQUENCE_PASSWORD"],
    )


async def test_token_from_standard_input(world: SignInWorld) -> None:
    token = world.sandbox.issue_tokens(3600).access_token
    world.secrets.add(token)
    ended = await world.call("auth", "login", "--token", stdin=f"{token}\n")
    assert ended.code == 0, ended.err
    assert EMAIL in ended.out
    cache = world.cache()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert cache == {"access_token": token, "refresh_token": None, "expires_at": claims["exp"]}
    assert stat.S_IMODE((world.files.path / ".tokens.json").stat().st_mode) == 0o600
    assert (await world.call("pods")).code == 0
    assert world.sign_ins().begun == 0


async def test_an_invalid_token_is_not_saved(world: SignInWorld) -> None:
    about_to_expire = world.sandbox.issue_tokens(50).access_token
    world.secrets.add(about_to_expire)
    for text in ("", "two words", "tok\u00e9n", "x" * 70_000, about_to_expire):
        ended = await world.call("auth", "login", "--token", stdin=text)
        assert ended.code == 2
        assert not text or text not in ended.err
        assert not (world.files.path / ".tokens.json").exists()


async def test_a_token_without_claims_gets_no_expiry(world: SignInWorld) -> None:
    world.fail(ACCEPTED, operation="ActivitySummary")
    ended = await world.call("auth", "login", "--token", stdin="opaque\n")
    assert ended.code == 0, ended.err
    assert "until" not in ended.out
    status = (await world.call("auth", "status", "--json")).status
    assert (status["signed_in"], status["expires_at"]) == (True, None)
    world.let_time_pass_since_saved(30 * 86_400)
    assert (await world.call("auth", "status")).code == 0, "it is used until Sequence rejects it"


NOT_ACCEPTED: list[tuple[object, str | None]] = [
    (None, "garbage"),
    (None, jwt.encode({"exp": 5}, "k" * 32)),
    ({"kind": "status", "status": 503}, None),
    ({"kind": "status", "status": 403}, None),
    ({"kind": "close"}, None),
    ({"kind": "html", "status": 200}, None),
    ({"kind": "graphql_error", "code": "UNAUTHENTICATED"}, None),
    ({"kind": "status", "status": 429}, None),
]


async def test_a_token_is_stored_only_if_sequence_accepts_it(world: SignInWorld) -> None:
    good = world.cache_tokens(lifetime_seconds=3600, refresh=True)
    for fault, token in NOT_ACCEPTED:
        world.sandbox.journal.clear()
        if fault is not None:
            world.fail(fault, operation="ActivitySummary")
        given = world.sandbox.issue_tokens(3600).access_token if token is None else token
        world.secrets.add(given)
        ended = await world.call("auth", "login", "--token", stdin=given)
        assert ended.code == 4, fault
        assert len(ended.err.splitlines()) == 1, fault
        assert "othing was changed" in ended.err, fault
        assert world.cache() == good, fault
        assert not (world.files.path / ".sign-in.json").exists(), fault
        assert [len(world.requests(name)) for name in ("ActivitySummary", "oauth/token")] == [1, 0], fault


async def test_a_token_cannot_be_tried_without_a_network(world: SignInWorld) -> None:
    good = world.cache_tokens(lifetime_seconds=3600)
    token = world.sandbox.issue_tokens(3600).access_token
    world.secrets.add(token)
    nowhere = f"http://127.0.0.1:{free_port()}/api/graphql"
    ended = await world.call("auth", "login", "--token", stdin=token, graphql_url=nowhere)
    assert ended.code == 4
    assert "othing was changed" in ended.err
    assert world.cache() == good


@pytest.mark.parametrize("ahead_seconds", [-86_400, 86_400])
async def test_a_wrong_clock_does_not_expire_a_token(world: SignInWorld, ahead_seconds: float) -> None:
    world.clock.ahead_seconds = ahead_seconds
    token = world.sandbox.issue_tokens(3600).access_token
    world.secrets.add(token)
    ended = await world.call("auth", "login", "--token", stdin=token)
    assert ended.code == 0, ended.err
    assert ended.err.count("machine's clock") == 1
    status = (await world.call("auth", "status", "--json", password=None)).status
    assert status["signed_in"]
    left = datetime.fromisoformat(status["expires_at"]).timestamp() - time.time()
    assert left == pytest.approx(3600, abs=60)
    assert (await world.call("pods", password=None)).code == 0


async def test_doctor_compares_the_clock_if_signing_in_fails(world: SignInWorld) -> None:
    """Without a token, so that no read of the account tells Sequence's time."""
    for ahead_seconds, level, is_login in [(0, "ok", False), (100, "warning", True), (-86_400, "problem", True)]:
        world.clock.ahead_seconds = ahead_seconds
        ended = await world.call("doctor", "--json", password=None)
        assert ended.code == 4, ended.err
        found = {one["name"]: one for one in json.loads(ended.out)["findings"]}
        assert found["clock"]["level"] == level
        assert ("login" in found["clock"]["fix"]) is is_login
    found = {one["name"]: one for one in json.loads((await doctor_nowhere(world)).out)["findings"]}
    assert found["clock"]["level"] == "warning"


async def doctor_nowhere(world: SignInWorld) -> Result:
    return await world.call("doctor", "--json", password=None, auth_url=f"http://127.0.0.1:{free_port()}")


async def test_doctor_reports_an_invalid_code(world: SignInWorld) -> None:
    world.cache_tokens(lifetime_seconds=3600)
    ended = await world.call("doctor", "--json", totp="12345")
    found = {one["name"]: one for one in json.loads(ended.out)["findings"]}
    assert (found["token"]["level"], found["Sequence"]["level"]) == ("problem", "ok")
    assert "SEQUENCE_TOTP" in found["token"]["said"]


async def test_logout(world: SignInWorld) -> None:
    world.cache_tokens(lifetime_seconds=3600)
    ended = await world.call("auth", "logout")
    assert ended.code == 0
    assert "SEQUENCE_PASSWORD" in ended.err
    assert not (world.files.path / ".tokens.json").exists()
    again = await world.call("auth", "logout")
    assert again.code == 0
    assert again.out != ended.out


async def test_two_ways_to_sign_in_at_once_are_rejected(world: SignInWorld) -> None:
    assert (await world.call("auth", "login", "--token", "--headed")).code == 2


async def test_an_invalid_code(world: SignInWorld) -> None:
    ended = await world.call("auth", "login", totp="12345")
    assert ended.code == 2
    assert "SEQUENCE_TOTP must be" in ended.err


async def test_an_invalid_code_does_not_matter_until_a_login_is_due(world: SignInWorld) -> None:
    world.cache_tokens(lifetime_seconds=3600)
    assert (await world.call("pods", totp="12345")).code == 0
    assert (await world.call("auth", "login", totp="12345")).code == 0
    status = await world.call("auth", "status", "--json", totp="12345")
    assert (status.code, status.status["signed_in"]) == (0, True)
    assert "SEQUENCE_TOTP must be" in status.status["trouble"]
    token = world.sandbox.issue_tokens(3600).access_token
    world.secrets.add(token)
    assert (await world.call("auth", "login", "--token", stdin=token, totp="12345")).code == 0
    assert (await world.call("auth", "logout", totp="12345")).code == 0


async def test_an_invalid_code_after_a_rejected_token_is_certain(world: SignInWorld) -> None:
    """A transfer can be under way then, so the error must say that nothing moved."""
    token = world.cache_tokens(lifetime_seconds=3600)["access_token"]
    tokens = TokenSource.open(Settings.load(**world.variables(totp="12345")), world.files.path)
    with pytest.raises(SignInError) as caught:
        await tokens.renew(token)
    assert caught.value.nothing_moved
    await tokens.aclose()


async def test_the_sandbox_needs_no_sign_in(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError):
        async with open_sign_in(Settings.load(sandbox=True, data_dir=tmp_path)):
            raise AssertionError


async def test_damaged_record_is_shown(world: SignInWorld) -> None:
    (world.files.path / ".sign-in.json").write_text("{")
    status = (await world.call("auth", "status", "--json")).status
    assert "is damaged" in status["trouble"]
    async with world.signing_in() as sign_in:
        with pytest.raises(SignInError, match="is damaged"):
            await sign_in.now()
    assert world.sign_ins().begun == 0


async def test_without_playwright_the_message_says_what_to_install(
    world: SignInWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    imported = builtins.__import__

    def without_playwright(name: str, *arguments: Any) -> Any:
        if name.startswith("playwright"):
            raise ModuleNotFoundError(name)
        return imported(name, *arguments)

    for name in [name for name in sys.modules if name.startswith("playwright")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_playwright)
    async with world.signing_in(chromium=str(program(tmp_path / "chromium"))) as sign_in:
        with pytest.raises(SignInError, match="Playwright") as caught:
            await sign_in.now()
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert re.search(r"pip install '\S+'", str(caught.value))[0] in readme  # type: ignore[index]
    assert not (world.files.path / ".sign-in.json").exists()


def program(path: Path) -> Path:
    path.write_text("#!/bin/sh\nexit 3\n")
    path.chmod(0o700)
    return path


def test_which_chromium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(chromium, "MACOS_PATHS", (tmp_path / "Chromium.app", tmp_path / "Google Chrome.app"))
    with pytest.raises(SignInError, match="no Chromium"):
        find_chromium(None)
    expected = [
        program(tmp_path / name) for name in ("Google Chrome.app", "google-chrome", "chromium-browser", "chromium")
    ]
    for index, newest in enumerate(expected):
        for later in expected[index + 1 :]:
            later.unlink(missing_ok=True)
        program(newest)
        assert find_chromium(None) == newest
    assert find_chromium(expected[0]) == expected[0]
    with pytest.raises(SettingsError, match="SEQUENCE_CHROMIUM"):
        find_chromium(tmp_path / "nothing")


async def test_chromium_does_not_start(tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    with pytest.raises(SignInError, match="does not start"):
        async with open_chromium(program(tmp_path / "chromium"), headed=False):
            raise AssertionError


async def test_missing_variables_are_named(world: SignInWorld) -> None:
    ended = await world.call("auth", "login", email=None, password=None)
    assert ended.code == 4
    assert "SEQUENCE_EMAIL and SEQUENCE_PASSWORD" in ended.err


async def test_the_wait_is_checked_first(world: SignInWorld) -> None:
    """No browser is started: the file alone decides."""
    async with world.signing_in(password=WRONG_PASSWORD) as sign_in:
        sign_in._tokens.record.begin()
    started = time.monotonic()
    async with world.signing_in(password=WRONG_PASSWORD, chromium=os.devnull) as sign_in:
        with pytest.raises(SignInWaitsError):
            await sign_in.now()
    assert time.monotonic() - started < 5
    assert json.loads((world.files.path / ".sign-in.json").read_text())["refusals"] == 1
