"""`.daily_limits.json` follows the database, and nothing is decided from it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.world import World, open_world

pytestmark = pytest.mark.anyio
NAME = ".daily_limits.json"


async def test_it_has_the_shape_that_the_existing_server_reads(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        completed = await world.transfer(5_000)
        await world.lose(moved=False, amount_cents=7_000)
    days = json.loads((tmp_path / NAME).read_text())
    [(day, lists)] = days.items()
    assert day == datetime.now(UTC).date().isoformat()
    [first, second] = lists["__global__"]
    assert (first["transfer_id"], first["amount_cents"]) == (completed.id, 5_000)
    assert datetime.fromisoformat(first["timestamp"]).tzinfo is not None
    assert (second["transfer_id"], second["amount_cents"]) == (None, 7_000)
    assert (tmp_path / NAME).stat().st_mode & 0o077 == 0


async def test_a_damaged_or_missing_one_is_written_again_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(tmp_path) as world:
        await world.transfer(5_000)
        await world.close(world.gateway)
        good = (tmp_path / NAME).read_bytes()
        for content in (b"", b"{", b"[]", b"\xff\xfe", None):
            world.files.damage(NAME, content)
            caplog.clear()
            again = await world.open_process()
            assert world.used_cents() == 5_000
            again.records.write(lambda writer: writer.now)
            await world.close(again)
            assert (tmp_path / NAME).read_bytes() == good, content
            assert "written again" in caplog.text, content


async def test_a_lie_in_it_changes_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.transfer(5_000)
        world.files.damage(NAME, b"{}")
        assert world.used_cents() == 5_000
        await world.transfer(6_000)
        assert world.used_cents() == 11_000


async def test_a_new_directory_warns_of_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with open_world(tmp_path) as world:
        await world.transfer(5_000)
    assert NAME not in caplog.text


async def test_rejected_transfers_are_not_in_it(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await expect_rejected(world)
    assert world.files.counted() == []


async def expect_rejected(world: World) -> None:
    with pytest.raises(Exception, match="per-transfer limit"):
        await world.transfer(1_500_000)
