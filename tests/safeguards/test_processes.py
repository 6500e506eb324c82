"""What several processes do to one data directory."""

import subprocess
import sys
from pathlib import Path

from pysequence_api.safeguards.reservations import Records

from .conftest import SetClock, attempt_of, open_records

RESERVE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from pysequence_api.errors import LimitExceededError
from pysequence_api.records.audit import Channel
from pysequence_api.safeguards.reservations import Attempt, Records
from pysequence_api.models import TransferOrder

records = Records(
    Path(sys.argv[1]), max_transfer_cents=1_000_000, max_daily_cents=2_500_000,
    clock=lambda: datetime(2026, 11, 23, 12, tzinfo=UTC),
)
reserved = 0
for _ in range(int(sys.argv[2])):
    order = TransferOrder(kyc_id="k", source_id="a", destination_id="b", amount_cents=int(sys.argv[3]))
    try:
        records.reserve(Attempt(order, Channel.CLI))
        reserved += 1
    except LimitExceededError:
        pass
sys.stdout.write(f"{reserved}\\n")
sys.stdout.flush()
sys.stdin.read()
"""


def start(directory: Path, count: int, amount_cents: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", RESERVE, str(directory), str(count), str(amount_cents)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def reserved_by(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def end(process: "subprocess.Popen[str]") -> None:
    with process:
        process.kill()


def test_processes_share_one_limit(tmp_path: Path, records: Records) -> None:
    processes = [start(tmp_path, count=20, amount_cents=50_000) for _ in range(4)]
    try:
        assert sum(reserved_by(process) for process in processes) == 50
    finally:
        for process in processes:
            end(process)
    assert records.limits().remaining_cents == 0


def test_a_killed_process_leaves_its_reservation_counted_and_known_to_be_dead(
    tmp_path: Path, records: Records, clock: SetClock
) -> None:
    process = start(tmp_path, count=1, amount_cents=1_000_000)
    try:
        assert reserved_by(process) == 1
        [unsettled] = records.limits().unsettled
        assert unsettled.running
    finally:
        end(process)
    [unsettled] = records.limits().unsettled
    assert not unsettled.running
    assert records.limits().used_cents == 1_000_000
    # A new process tidies up after the dead one, and its own file is gone when it closes.
    later = open_records(tmp_path, clock)
    later.reserve(attempt_of(1))
    assert len(list((tmp_path / ".owners").iterdir())) == 1
    later.close()
    assert list((tmp_path / ".owners").iterdir()) == []


def test_an_owner_that_the_ledger_made_up_is_no_path(tmp_path: Path, records: Records) -> None:
    outside = tmp_path.parent / "outside.lock"
    outside.write_text("")
    (tmp_path / ".daily_limits.json").write_text(
        '{"2026-11-23": [{"amount_cents": 5, "state": "reserved", "owner": "../../outside"}]}'
    )
    assert [one.running for one in records.limits().unsettled] == [False]
    assert outside.exists()
