"""What `.daily_limits.json` may hold, what counts in it, and what happens when it is damaged."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pysequence_api.errors import LimitExceededError, SafeguardsUnavailableError
from pysequence_api.models import Party, Transfer
from pysequence_api.safeguards.reservations import Records

from .conftest import MAX_DAILY_CENTS, SetClock, attempt_of, open_records

TODAY = "2026-11-23"
NOON = "2026-11-23T12:00:00+00:00"


def write(directory: Path, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (directory / ".daily_limits.json").write_text(text)


def read(directory: Path) -> Any:
    return json.loads((directory / ".daily_limits.json").read_text())


def theirs(amount_cents: int, timestamp: str = NOON) -> dict[str, Any]:
    """Make an entry as the existing server writes it."""
    return {"transfer_id": "unknown", "amount_cents": amount_cents, "timestamp": timestamp}


def settle(records: Records, amount_cents: int = 100, *, prune: bool = False, transfer_id: str = "t") -> None:
    attempt = attempt_of(amount_cents)
    records.reserve(attempt, prune=prune)
    records.announce(attempt)
    transfer = Transfer(id=transfer_id, amount_cents=amount_cents, source=Party(), destination=Party())
    assert records.settle(attempt, [transfer], organization_id="org", last=True) is not None


@pytest.mark.parametrize(
    ("content", "used_cents"),
    [
        pytest.param({}, 0, id="empty"),
        pytest.param({TODAY: {"__global__": [theirs(300)]}}, 300, id="the existing server's shape"),
        pytest.param({TODAY: [theirs(300), theirs(5)]}, 305, id="its older shape"),
        pytest.param({TODAY: {"__global__": [theirs(300)], "42": [theirs(7)]}}, 307, id="every list of a day"),
        pytest.param({TODAY: {"__notes__": {"amount_cents": 9}, "__global__": []}}, 0, id="what is no list"),
        pytest.param({"2026-11-22": {"__global__": [theirs(300, "2026-11-22T23:59:59Z")]}}, 0, id="yesterday"),
        pytest.param(
            {"2026-11-22": [theirs(300, "2026-11-22T23:30:00-05:00")]}, 300, id="local day, UTC time of today"
        ),
        pytest.param({TODAY: [theirs(300, "2026-11-22T23:30:00+00:00")]}, 0, id="local day, UTC time of yesterday"),
        pytest.param({TODAY: [theirs(300, "half past nine")]}, 300, id="no time that can be read: the day"),
        pytest.param({"2026-11-22": [theirs(300, "2026-11-22T23:30:00")]}, 0, id="no zone: the day"),
        pytest.param({TODAY: [{"transfer_id": None, "amount_cents": 8}]}, 8, id="no time at all: the day"),
        pytest.param({"2026-11-20": [theirs(4, NOON) | {"state": "unknown"}]}, 4, id="unsettled counts on later days"),
        pytest.param({"2026-11-21": [{"amount_cents": 4, "state": "reserved"}]}, 4, id="reserved long ago"),
        pytest.param(
            {"2027-01-01": [theirs(6, "2027-01-01T00:00:00Z")]}, 6, id="a day to come: the clock was set back"
        ),
    ],
)
def test_what_counts_today(tmp_path: Path, records: Records, content: object, used_cents: int) -> None:
    write(tmp_path, content)
    limits = records.limits()
    assert (limits.used_cents, limits.remaining_cents) == (used_cents, MAX_DAILY_CENTS - used_cents)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"2026-11-23": {"__global__": [',
        '{"2026-11-23": {}, "2026-11-23": {}}',
        '{"2026-11-23": [{"amount_cents": NaN}]}',
        "[" * 100_000,
        {TODAY: 5},
        {TODAY: "x"},
        {TODAY: {"__global__": [5]}},
        {TODAY: {"__global__": [{}]}},
        {TODAY: [theirs(-1)]},
        {TODAY: [theirs(0)]},
        {TODAY: [theirs(5) | {"amount_cents": "5"}]},
        {TODAY: [theirs(5) | {"amount_cents": 5.0}]},
        {TODAY: [theirs(5) | {"amount_cents": True}]},
        {TODAY: [theirs(5) | {"amount_cents": 10**16}]},
        {TODAY: [theirs(5) | {"state": "spent"}]},
        {TODAY: [theirs(5) | {"timestamp": 5}]},
        {TODAY: [theirs(5) | {"transfer_id": 5}]},
        {TODAY: [theirs(5) | {"attempt_id": "a"}, theirs(5) | {"attempt_id": "a"}]},
        {TODAY: {"42": [theirs(-1)]}},
        {"2020-01-01": [theirs(-1)]},
        {"2026-13-45": [theirs(5)]},
        {"yesterday": {"__global__": [theirs(5)]}},
    ],
    ids=lambda content: str(content)[:40],
)
def test_damage_stops_transfers_and_is_left_as_it_is(tmp_path: Path, records: Records, content: object) -> None:
    write(tmp_path, content)
    before = (tmp_path / ".daily_limits.json").read_bytes()
    with pytest.raises(SafeguardsUnavailableError, match=r"No transfer is possible: \.daily_limits\.json"):
        records.reserve(attempt_of(100))
    with pytest.raises(SafeguardsUnavailableError):
        records.limits()
    assert (tmp_path / ".daily_limits.json").read_bytes() == before


def test_bytes_that_are_no_text_are_damage(tmp_path: Path, records: Records) -> None:
    (tmp_path / ".daily_limits.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SafeguardsUnavailableError):
        records.reserve(attempt_of(100))


def test_a_missing_ledger_is_damage_where_the_audit_trail_shows_transfers(tmp_path: Path, records: Records) -> None:
    settle(records)
    (tmp_path / ".daily_limits.json").unlink()
    with pytest.raises(SafeguardsUnavailableError, match="missing"):
        records.reserve(attempt_of(100))
    assert not (tmp_path / ".daily_limits.json").exists()


def test_a_missing_ledger_is_none_of_our_business_after_its_days(
    tmp_path: Path, records: Records, clock: SetClock
) -> None:
    settle(records)
    (tmp_path / ".daily_limits.json").unlink()
    clock.advance(days=3)
    records.reserve(attempt_of(100))


def test_what_this_version_does_not_know_is_kept(tmp_path: Path, records: Records) -> None:
    entry = theirs(300) | {"user": "7", "note": {"a": [1]}}
    write(tmp_path, {TODAY: {"__global__": [entry], "__keys__": {"k": 1}}, "__version__": 3})
    settle(records)
    after = read(tmp_path)
    assert after[TODAY]["__global__"][0] == entry
    assert (after[TODAY]["__keys__"], after["__version__"]) == ({"k": 1}, 3)


def test_the_older_shape_is_written_back_as_the_newer_one(tmp_path: Path, records: Records) -> None:
    write(tmp_path, {TODAY: [theirs(300)]})
    settle(records)
    assert [entry["amount_cents"] for entry in read(tmp_path)[TODAY]["__global__"]] == [300, 100]


def test_a_settled_entry_has_what_the_existing_server_reads(tmp_path: Path, records: Records) -> None:
    settle(records, transfer_id="transfer-1")
    [entry] = read(tmp_path)[TODAY]["__global__"]
    assert (entry["transfer_id"], entry["amount_cents"], entry["timestamp"]) == ("transfer-1", 100, NOON)
    assert entry["state"] == "settled"


def test_old_days_go_once_the_clock_is_known_to_be_right(tmp_path: Path, records: Records) -> None:
    open_attempt = {"amount_cents": 4, "attempt_id": "a", "state": "unknown", "timestamp": "2026-11-01T00:00:00Z"}
    old = {"2026-11-01": [theirs(5, "2026-11-01T00:00:00Z"), open_attempt], "2026-11-02": [theirs(6, "")]}
    write(tmp_path, old | {"2026-11-21": [theirs(7, "2026-11-21T00:00:00Z")]})
    settle(records, prune=False)
    assert set(read(tmp_path)) == {"2026-11-01", "2026-11-02", "2026-11-21", TODAY}
    settle(records, prune=True, transfer_id="t2")
    assert set(read(tmp_path)) == {"2026-11-01", "2026-11-21", TODAY}
    assert read(tmp_path)["2026-11-01"]["__global__"] == [open_attempt]


def test_over_midnight_a_transfer_counts_on_both_days(tmp_path: Path, clock: SetClock) -> None:
    clock.now = clock.now.replace(hour=23, minute=59, second=59)
    records = open_records(tmp_path, clock)
    attempt = attempt_of(1_000_000)
    records.reserve(attempt)
    records.announce(attempt)
    clock.advance(seconds=2)
    assert records.limits().used_cents == 1_000_000
    records.settle(attempt, [], organization_id=None, last=True)
    assert records.limits().used_cents == 1_000_000
    clock.now -= timedelta(seconds=2)
    assert records.limits().used_cents == 1_000_000
    clock.advance(days=2)
    assert records.limits().used_cents == 0


def test_a_clock_set_back_frees_nothing(records: Records, clock: SetClock) -> None:
    for number in range(2):
        settle(records, 1_000_000, transfer_id=f"t{number}")
    clock.advance(days=-1)
    with pytest.raises(LimitExceededError, match="exceeds daily remaining limit of 500000 cents"):
        records.reserve(attempt_of(1_000_000))


def test_the_files_are_readable_by_their_owner_alone(tmp_path: Path, records: Records) -> None:
    for name in (".daily_limits.json", ".audit.jsonl"):
        (tmp_path / name).write_text("{}" if name.endswith("json") else "")
        (tmp_path / name).chmod(0o644)
    records.store.prepare()
    settle(records)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert set(modes.values()) == {0o600}, modes
