"""Damage stops transfers and is never repaired by forgetting; a person repairs it from the audit trail."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pysequence_api import files
from pysequence_api.errors import (
    LockTimeoutError,
    OutcomeUnknownError,
    RefusedError,
    SafeguardsUnavailableError,
    SettingsError,
    TransferPendingError,
)
from pysequence_api.files import locked, prepare_directory
from pysequence_api.records import audit as audit_file
from pysequence_api.records import repair, store
from pysequence_api.safeguards.reservations import Attempt
from tests.world import World

from .conftest import SetClock, attempt_of, open_records

pytestmark = pytest.mark.anyio


async def mixed_day(world: World) -> None:
    """Make transfers that end in every way there is."""
    await world.transfer(1_000, key="completed")
    with pytest.raises(RefusedError):
        await world.transfer(2_000, source="Empty Envelope", key="refused")
    world.fail("close", when="after")
    with pytest.raises(OutcomeUnknownError):
        await world.transfer(3_000, key="unknown")


@pytest.mark.parametrize("damage", ["cut", "gone", "flipped", "without the newest attempt"])
async def test_repair_makes_the_ledger_again_from_the_trail(world: World, damage: str) -> None:
    await mixed_day(world)
    path = world.files.path / ".daily_limits.json"
    good = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(good[: len(good) // 2])
    elif damage == "flipped":
        path.write_bytes(good.replace(b'"amount_cents": 1000', b'"amount_cents": -999'))
    else:
        days = json.loads(good)
        next(iter(days.values()))["__global__"].pop()
        path.write_text(json.dumps(days))
    damaged = path.read_bytes() if path.exists() else None
    with pytest.raises(SafeguardsUnavailableError):
        await world.transfer(4_000)
    assert len(await world.gateway.client.pods()) > 1  # reads go on

    proposed = repair.propose(world.gateway.records.store)
    assert proposed.problem is not None
    assert proposed.used_cents == 4_000  # what completed and what is unknown, not what was refused
    aside = repair.carry_out(world.gateway.records.store, proposed)
    assert (aside.read_bytes() if aside else None) == damaged
    assert await world.used_cents() == 4_000
    # The keys are kept.
    assert (await world.transfer(1_000, key="completed")).replayed
    with pytest.raises(RefusedError):
        await world.transfer(2_000, source="Empty Envelope", key="refused")
    with pytest.raises(OutcomeUnknownError):
        await world.transfer(3_000, key="unknown")
    with pytest.raises(TransferPendingError):
        await world.transfer(3_000)
    assert len(await world.moved()) == 2
    await world.follow_up()
    assert {entry["state"] for entry in world.files.counted()} == {"settled"}


async def test_repair_does_not_trust_a_trail_that_was_changed(world: World) -> None:
    await mixed_day(world)
    trail = world.files.path / ".audit.jsonl"
    trail.write_bytes(trail.read_bytes().replace(b"1000", b"1001", 1))
    with pytest.raises(SafeguardsUnavailableError, match="cannot be trusted either"):
        repair.propose(world.gateway.records.store)


async def test_repair_refuses_when_something_happened_since_it_was_shown(world: World) -> None:
    await world.transfer(1_000)
    proposed = repair.propose(world.gateway.records.store)
    await world.transfer(2_000)
    with pytest.raises(SafeguardsUnavailableError, match="Run it again"):
        repair.carry_out(world.gateway.records.store, proposed)


def test_repair_counts_what_the_existing_server_requested(tmp_path: Path, clock: SetClock) -> None:
    lines = [
        {"event_type": "transfer_requested", "amount_cents": 100},
        {"event_type": "transfer_completed", "amount_cents": 100, "transfer_id": "unknown"},
        {"event_type": "transfer_requested", "amount_cents": 200},
        {"event_type": "transfer_failed", "amount_cents": 200, "error": "HTTP 504"},
    ]
    stamp = {"timestamp": "2026-11-23T09:00:00+00:00", "source": "a", "destination": "b"}
    (tmp_path / ".audit.jsonl").write_text("".join(json.dumps(stamp | line) + "\n" for line in lines))
    records = open_records(tmp_path, clock)
    assert repair.propose(records.store).used_cents == 300


def test_repair_stops_at_an_amount_that_cannot_be(tmp_path: Path, clock: SetClock) -> None:
    line = {"timestamp": "2026-11-23T09:00:00Z", "event_type": "transfer_requested", "amount_cents": 10**16}
    (tmp_path / ".audit.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(SafeguardsUnavailableError, match=r"line 1 of \.audit\.jsonl says 10000000000000000 cents"):
        repair.propose(open_records(tmp_path, clock).store)


class FullDisk:
    """Fails every write to files of the given names, as a full disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: set[str] = set()
        real_append, real_replace = files.append_lines, files.replace_atomically

        def append_lines(path: Path, content: bytes) -> None:
            self.check(path)
            real_append(path, content)

        def replace_atomically(path: Path, content: bytes) -> None:
            self.check(path)
            real_replace(path, content)

        monkeypatch.setattr(audit_file, "append_lines", append_lines)
        monkeypatch.setattr(store, "replace_atomically", replace_atomically)

    def check(self, path: Path) -> None:
        if path.name in self.names:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    return FullDisk(monkeypatch)


@pytest.mark.parametrize("name", [".audit.jsonl", ".daily_limits.json"])
async def test_what_cannot_be_recorded_is_not_sent(world: World, full_disk: FullDisk, name: str) -> None:
    await world.transfer(1_000)
    full_disk.names.add(name)
    with pytest.raises(SafeguardsUnavailableError, match="No space left on device"):
        await world.transfer(2_000)
    full_disk.names.clear()
    assert len(await world.moved()) == 1
    assert await world.used_cents() == 1_000
    await world.transfer(2_000)


@pytest.mark.parametrize("name", [".audit.jsonl", ".daily_limits.json"])
async def test_what_was_sent_when_the_disk_filled_up_stays_counted(
    world: World,
    full_disk: FullDisk,
    name: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world.fail({"kind": "delay", "seconds": 0.2}, when="after")

    real = world.gateway.records.announce

    def announce_then_fill(attempt: Attempt) -> None:
        real(attempt)
        full_disk.names.add(name)

    monkeypatch.setattr(world.gateway.records, "announce", announce_then_fill)
    completed = await world.transfer(2_000)
    assert completed.attempt_id
    full_disk.names.clear()
    [unsettled] = (await world.gateway.transfers.limits()).unsettled
    assert unsettled.attempt_id == completed.attempt_id
    assert await world.used_cents() == 2_000
    if name == ".audit.jsonl":
        assert "transfer_completed" in caplog.text
        assert completed.attempt_id in caplog.text


def test_a_data_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(SettingsError, match="another user"):
        prepare_directory(tmp_path)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Hold the data lock in another process, until it ends."""
    code = (
        "import sys; from pathlib import Path; from pysequence_api.files import locked\n"
        "with locked(Path(sys.argv[1])): sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        yield process
        process.kill()


def test_a_lock_that_is_not_given_back_names_its_process(tmp_path: Path, holder: "subprocess.Popen[bytes]") -> None:
    with pytest.raises(LockTimeoutError) as error, locked(tmp_path / ".lock", timeout_seconds=0.1):
        pass
    if Path("/proc/locks").exists():
        assert f"Process {holder.pid}" in str(error.value)


def test_a_lock_of_a_process_that_was_killed_is_free_at_once(tmp_path: Path, holder: "subprocess.Popen[bytes]") -> None:
    holder.kill()
    holder.wait()
    with locked(tmp_path / ".lock", timeout_seconds=0.1):
        pass


def test_ten_thousand_entries_in_a_day_still_work(tmp_path: Path, clock: SetClock) -> None:
    entries = [{"transfer_id": str(n), "amount_cents": 1, "timestamp": "2026-11-23T01:00:00Z"} for n in range(10_000)]
    (tmp_path / ".daily_limits.json").write_text(json.dumps({"2026-11-23": {"__global__": entries}}))
    records = open_records(tmp_path, clock)
    began = time.perf_counter()
    attempt = attempt_of(100)
    records.reserve(attempt, prune=True)
    records.announce(attempt)
    records.settle(attempt, [], organization_id=None, last=True)
    assert records.limits().used_cents == 10_100
    sys.stderr.write(f"a transfer's files with 10,000 entries: {time.perf_counter() - began:.3f} s\n")
