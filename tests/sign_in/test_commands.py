"""The `auth` commands where no page is opened, and what is said where a login cannot be."""

import builtins
import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from pysequence_api.errors import InvalidRequestError, SettingsError, SignInError
from pysequence_api.gateway import open_sign_in
from pysequence_api.sandbox import EMAIL
from pysequence_api.sequence.sign_in import chromium
from pysequence_api.sequence.sign_in.chromium import find_chromium, open_chromium
from pysequence_api.settings import Settings
from tests.sign_in.conftest import WRONG_PASSWORD, Stage

pytestmark = pytest.mark.anyio


async def test_status_with_nothing(stage: Stage) -> None:
    status = (await stage.run("auth", "status", "--json", email=None, totp=None)).status
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
    assert stage.count("login/application") == 0


async def test_status_for_people_needs_no_network(stage: Stage) -> None:
    stage.write_cache(lifetime_seconds=3600, refresh=True)
    shown = await stage.run("auth", "status", app_url="https://nowhere.invalid", auth_url="https://nowhere.invalid")
    assert shown.code == 0
    facts = dict(line.split("  ", 1) for line in shown.out.splitlines())
    assert facts["Signed in"].strip() == "yes"
    assert facts["Account"].strip() == EMAIL
    assert facts["Token from"].strip() == "another program, or an earlier version"
    assert facts["Renewed with"].strip() == "refresh token"


async def test_status_of_the_token_in_the_environment(stage: Stage) -> None:
    token = stage.sandbox.issue_tokens(3600).access_token
    stage.secrets.add(token)
    status = (await stage.run("auth", "status", "--json", access_token=token)).status
    assert (status["signed_in"], status["got_by"]) == (True, "SEQUENCE_ACCESS_TOKEN")


async def test_status_names_a_token_that_has_run_out(stage: Stage) -> None:
    stage.write_cache(lifetime_seconds=-60)
    ended = await stage.run("auth", "status", password=None)
    assert "(expired)" in ended.out
    assert "SEQUENCE_PASSWORD" in ended.out


async def test_token_from_standard_input(stage: Stage) -> None:
    token = stage.sandbox.issue_tokens(3600).access_token
    stage.secrets.add(token)
    ended = await stage.run("auth", "login", "--token", stdin=f"{token}\n")
    assert ended.code == 0, ended.err
    assert ended.out.startswith(f"Signed in as {EMAIL} until ")
    cache = stage.cache()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert cache == {"access_token": token, "refresh_token": None, "expires_at": claims["exp"]}
    assert stat.S_IMODE((stage.directory / ".tokens.json").stat().st_mode) == 0o600
    assert (await stage.run("pods")).code == 0
    assert stage.sign_ins().begun == 0


@pytest.mark.parametrize("text", ["", "two words", "tok\u00e9n", "x" * 70_000])
async def test_what_is_no_token(stage: Stage, text: str) -> None:
    ended = await stage.run("auth", "login", "--token", stdin=text)
    assert ended.code == 2
    assert not text or text not in ended.err
    assert not (stage.directory / ".tokens.json").exists()


async def test_a_token_that_says_nothing_of_itself_is_promised_nothing(stage: Stage) -> None:
    ended = await stage.run("auth", "login", "--token", stdin="opaque\n")
    assert ended.code == 0
    assert "until" not in ended.out
    assert "pysequence-api pods" in ended.err


async def test_a_token_that_has_run_out_is_not_taken(stage: Stage) -> None:
    token = stage.sandbox.issue_tokens(0).access_token
    ended = await stage.run("auth", "login", "--token", stdin=token)
    assert ended.code == 2
    assert "has run out" in ended.err


async def test_logout(stage: Stage) -> None:
    stage.write_cache(lifetime_seconds=3600)
    ended = await stage.run("auth", "logout")
    assert ended.code == 0
    assert "SEQUENCE_PASSWORD" in ended.err
    assert not (stage.directory / ".tokens.json").exists()
    assert (await stage.run("auth", "logout")).code == 0


async def test_two_ways_at_once(stage: Stage) -> None:
    assert (await stage.run("auth", "login", "--token", "--headed")).code == 2


async def test_wrong_form_of_the_code(stage: Stage) -> None:
    ended = await stage.run("auth", "login", totp="12345")
    assert ended.code == 2
    assert "SEQUENCE_TOTP must be the secret" in ended.err


async def test_in_the_sandbox_nobody_signs_in(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="needs no signing in"):
        async with open_sign_in(Settings.load(sandbox=True, data_dir=tmp_path)):
            raise AssertionError


async def test_damaged_record_is_shown(stage: Stage) -> None:
    (stage.directory / ".sign-in.json").write_text("{")
    status = (await stage.run("auth", "status", "--json")).status
    assert "is damaged" in status["trouble"]
    async with stage.signing_in() as sign_in:
        with pytest.raises(SignInError, match="is damaged"):
            await sign_in.now()
    assert stage.sign_ins().begun == 0


async def test_without_the_extra_the_message_says_what_to_install(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    imported = builtins.__import__

    def without_playwright(name: str, *arguments: Any) -> Any:
        if name.startswith("playwright"):
            raise ModuleNotFoundError(name)
        return imported(name, *arguments)

    for name in [name for name in sys.modules if name.startswith("playwright")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_playwright)
    async with stage.signing_in(chromium=str(program(tmp_path / "chromium"))) as sign_in:
        with pytest.raises(SignInError, match=r"pip install 'pysequence-api\[browser\]'.*apt-get install chromium"):
            await sign_in.now()
    assert not (stage.directory / ".sign-in.json").exists()


def program(path: Path) -> Path:
    path.write_text("#!/bin/sh\nexit 3\n")
    path.chmod(0o700)
    return path


def test_which_chromium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(chromium, "MACOS_PATHS", (tmp_path / "Chromium.app", tmp_path / "Google Chrome.app"))
    with pytest.raises(SignInError, match=r"there is no Chromium on this machine.*SEQUENCE_CHROMIUM"):
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
    with pytest.raises(SettingsError, match="SEQUENCE_CHROMIUM names"):
        find_chromium(tmp_path / "nothing")


async def test_a_chromium_that_does_not_start(tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    with pytest.raises(SignInError, match="does not start"):
        async with open_chromium(program(tmp_path / "chromium"), headed=False):
            raise AssertionError


async def test_missing_variables_are_named(stage: Stage) -> None:
    ended = await stage.run("auth", "login", email=None, password=None)
    assert ended.code == 4
    assert "or set SEQUENCE_EMAIL and SEQUENCE_PASSWORD to sign in" in ended.err


async def test_the_wait_is_checked_before_anything_else(stage: Stage) -> None:
    """Without a browser, and so at once: the file alone decides."""
    async with stage.signing_in(password=WRONG_PASSWORD) as sign_in:
        sign_in._tokens.record.begin()
    began = time.monotonic()
    async with stage.signing_in(password=WRONG_PASSWORD, chromium=os.devnull) as sign_in:
        with pytest.raises(SignInError, match="No login before"):
            await sign_in.now()
    assert time.monotonic() - began < 5
    assert json.loads((stage.directory / ".sign-in.json").read_text())["refusals"] == 1
