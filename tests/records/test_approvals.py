"""Approvals in backups, restores and checks."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from pysequence_api.errors import Code, GatewayError
from pysequence_api.records.audit import Channel
from pysequence_api.records.check import check
from pysequence_api.records.upkeep import back_up
from tests.approvals import BOT, TOTP_SECRET, apply_rules, approve
from tests.world import World, open_world

from .conftest import come_to_rest, restored

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world whose owner has an authenticator, and whose caller ``bot`` must ask."""
    async with open_world(tmp_path, owner_totp=SecretStr(TOTP_SECRET)) as world:
        apply_rules(world)
        yield world


@pytest.mark.parametrize("has_backup", [True, False])
async def test_what_was_approved_after_the_backup_keeps_its_keys(
    world: World, tmp_path: Path, has_backup: bool
) -> None:
    backup = tmp_path / "backup.db" if has_backup else None
    asked = await world.ask(caller=BOT, key="one")
    if backup is not None:
        back_up(world.gateway.records, backup)
    await world.ask(caller=BOT, key="two")
    await approve(world, asked.attempt_id)
    denied = await world.ask(7_000, caller=BOT, key="three")
    await world.gateway.transfers.deny(denied.attempt_id, Channel.CLI)
    waiting = await world.ask(8_000, caller=BOT, key="four")
    assert check(world.gateway.records).problems == ()
    done = await restored(world, backup)
    assert done.expired == (waiting.attempt_id,)
    apply_rules(world)
    assert world.states() == ["accepted", "denied", "expired"]
    for key in ("one", "two"):
        assert (await world.transfer(caller=BOT, key=key)).attempt_id == asked.attempt_id
    with pytest.raises(GatewayError) as error:
        await world.ask(7_000, caller=BOT, key="three")
    assert error.value.code is Code.DENIED
    assert len(await world.moved()) == 1
    assert check(world.gateway.records).problems == ()


async def test_a_backup_that_holds_a_denied_one_open_takes_over_the_denial(world: World, tmp_path: Path) -> None:
    asked = await world.ask(caller=BOT, key="one")
    back_up(world.gateway.records, tmp_path / "backup.db")
    await world.gateway.transfers.deny(asked.attempt_id, Channel.CLI)
    await restored(world, tmp_path / "backup.db")
    assert world.states() == ["denied"]
    assert not world.gateway.records.read(lambda reader: reader.is_approved(asked.attempt_id))
    assert check(world.gateway.records).problems == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE approval SET bound_sha256 = zeroblob(32)", "The approval of attempt"),
        ("UPDATE approval SET decision = 'approved', decided_at = 1, decided_via = 'cli'", "The approval of attempt"),
        ("UPDATE idempotency SET key_sha256 = zeroblob(32) WHERE rowid_is_second", "idempotency key"),
    ],
)
async def test_a_check_finds_what_was_changed(world: World, change: str, said: str) -> None:
    await world.ask(caller=BOT, key="one")
    await world.ask(caller=BOT, key="two")
    await come_to_rest(world)
    second = "key_sha256 <> (SELECT key_sha256 FROM attempt)"
    with closing(sqlite3.connect(world.files.path / ".records.db")) as connection:
        for trigger in ("approval_fixed", "approval_decided"):
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(change.replace("rowid_is_second", second))
        connection.commit()
    await world.open_process()
    found = check(world.gateway.records).problems
    assert any(said in problem for problem in found), found
