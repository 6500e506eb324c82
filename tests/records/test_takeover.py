"""What an earlier version, or the existing PySequence server, left in a data directory is taken over.

`old_directories/` holds what the last version without a database really left when it was killed before, or in the
middle of, each of its file operations: one file for each kind of transfer, one directory for each state that differs.
"""

import fcntl
import hashlib
import json
import os
import sqlite3
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.records import open_records
from pysequence_api.records.attempts import DEFAULT_CALLER, OWNER, Attempt
from pysequence_api.records.audit import FIRST_HASH, hash_of
from pysequence_api.records.database import Database
from pysequence_api.records.history import fold
from pysequence_api.records.states import RULES, State
from pysequence_api.safeguards.follow_up import LONG_AGO
from pysequence_api.safeguards.now import day_begin

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TODAY, YESTERDAY = "2026-11-23", "2026-11-22"
LEDGER, TRAIL, HEAD, NAMES = ".daily_limits.json", ".audit.jsonl", ".audit.head.json", ".names.json"
MOVED = {"moved_to": ".records.db"}
KEPT = ".before-records-db"
LEFT = [
    (path.stem, one)
    for path in sorted((Path(__file__).parent / "old_directories").glob("*.json"))
    for one in json.loads(path.read_text())
]
DIRECTORIES = [
    pytest.param(one, id=f"{stem}, {one['killed'] or 'to the end'}", marks=[pytest.mark.crash] if number % 4 else [])
    for number, (stem, one) in enumerate(LEFT)
]
"""All of them; without the marker, one in four."""


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def theirs(amount_cents: int, timestamp: str | None = NOON.isoformat(), **more: Any) -> dict[str, Any]:
    """Make a ledger entry as the existing server writes it."""
    return {"transfer_id": "unknown", "amount_cents": amount_cents, "timestamp": timestamp} | more


def ours(
    attempt_id: str, amount_cents: int, state: str = "settled", at: datetime = NOON, **more: Any
) -> dict[str, Any]:
    """Make a ledger entry as the version before the database writes it."""
    parties = {"source_id": "pod-a", "destination_id": "pod-b", "via": "api"}
    entry = {"transfer_id": None, "amount_cents": amount_cents, "timestamp": at.isoformat(), "attempt_id": attempt_id}
    return entry | {"state": state} | parties | more


def event(
    what: str, amount_cents: int, attempt_id: str | None = None, at: datetime = NOON, **more: Any
) -> dict[str, Any]:
    """Make a line of the audit trail; without an attempt id, one of the existing server."""
    line = {
        "timestamp": at.isoformat(),
        "event_type": f"transfer_{what}",
        "amount_cents": amount_cents,
        "source": "pod-a",
        "destination": "pod-b",
    }
    return line | ({} if attempt_id is None else {"attempt_id": attempt_id}) | more


def trail_of(*lines: dict[str, Any] | bytes) -> list[bytes]:
    """Chain events; what is bytes already stays as it is."""
    content: list[bytes] = []
    prev = FIRST_HASH
    for line in lines:
        raw = line if isinstance(line, bytes) else json.dumps(line | {"prev": prev}).encode()
        content.append(raw)
        prev = hash_of(raw) if raw else prev
    return content


@dataclass
class OldDirectory:
    """A data directory without a database."""

    path: Path
    now: datetime = NOON
    opened: list[Database] = field(default_factory=list)

    def write(self, ledger: object = None, trail: Iterable[bytes] | None = None, *, head: bool = True) -> None:
        """Write a ledger and an audit trail with its head."""
        if ledger is not None:
            (self.path / LEDGER).write_text(ledger if isinstance(ledger, str) else json.dumps(ledger))
        if trail is not None:
            lines = list(trail)
            (self.path / TRAIL).write_bytes(b"".join(line + b"\n" for line in lines))
            newest = [line for line in lines if line]
            if head and newest:
                text = json.dumps({"count": len(newest), "sha256": hash_of(newest[-1])})
                (self.path / HEAD).write_text(text)

    def restore(self, files: dict[str, str]) -> None:
        """Write files as they were."""
        for name, text in files.items():
            (self.path / name).write_text(text)

    def content(self) -> dict[str, bytes]:
        """Read all files but locks."""
        paths = (path for path in sorted(self.path.iterdir()) if path.is_file() and path.suffix != ".lock")
        return {path.name: path.read_bytes() for path in paths if path.name != ".lock"}

    def open(self) -> Database:
        """Open the records, and write nothing yet."""
        records = open_records(self.path, lambda: self.now)
        self.opened.append(records)
        return records

    def taken_over(self) -> Database:
        """Open the records and have them taken over."""
        records = self.open()
        records.write(lambda _: None)
        return records

    def close(self) -> None:
        for records in self.opened:
            records.close()
        self.opened.clear()


@pytest.fixture
def old(tmp_path: Path) -> Iterator[OldDirectory]:
    path = tmp_path / "data"
    path.mkdir()
    old = OldDirectory(path)
    yield old
    old.close()


def used_cents(records: Database) -> int:
    return records.read(lambda reader: reader.used_cents(day_begin(reader.now)))


def attempts(records: Database) -> dict[str, Attempt]:
    return {one.id: one for one in records.read(lambda reader: reader.attempts_since(datetime.min.replace(tzinfo=UTC)))}


def only(records: Database) -> Attempt:
    [attempt] = attempts(records).values()
    return attempt


def rows_of(path: Path) -> list[bytes]:
    """List the audit lines in a database that nobody has open."""
    connection = sqlite3.connect(path / ".records.db")
    try:
        return [line for (line,) in connection.execute("SELECT line FROM audit ORDER BY seq")]
    finally:
        connection.close()


def expect_whole(old: OldDirectory, records: Database) -> None:
    """Check that trail, rows and attempts say the same, and close the records."""
    known = attempts(records)
    assert records.trail.verify().intact
    told = fold(records.trail.oldest_first())
    assert {key: one.state for key, one in told.items()} == {key: one.state for key, one in known.items()}
    assert {key: one.amount_cents for key, one in told.items()} == {key: one.amount_cents for key, one in known.items()}
    old.close()
    trail = (old.path / TRAIL).read_bytes() if (old.path / TRAIL).exists() else b""
    assert trail == b"".join(line + b"\n" for line in rows_of(old.path))
    assert json.loads((old.path / HEAD).read_text()) == MOVED


# What a killed process of the version before left.


@pytest.mark.parametrize("left", DIRECTORIES)
def test_what_was_left_at_each_step_of_a_transfer_is_taken_over(old: OldDirectory, left: dict[str, Any]) -> None:
    old.restore(left["files"])
    old.now = datetime.fromisoformat(left["at"])
    before = old.content()
    reading = old.open()
    read, read_cents = attempts(reading), used_cents(reading)
    assert old.content() == before
    records = old.taken_over()
    known = attempts(records)
    assert (known, used_cents(records)) == (read, read_cents)

    moved_cents = sum(one["amount_cents"] for one in left["moved"])
    assert used_cents(records) >= moved_cents
    states = Counter(one.state for one in known.values())
    assert states[State.SENDING] == states[State.RESERVED] == 0
    if used_cents(records) < left["used_cents"]:
        # The version before released only what the trail proved, which it could not where the trail was empty.
        assert not before[TRAIL]
        assert states == {State.FAILED: 1}
    transfer_ids = {one["id"] for one in left["moved"]}
    assert {one.transfer_id for one in known.values() if one.transfer_id} <= transfer_ids
    for key in ("history-1", "key-1"):
        caller = OWNER if "terminal" in left["scenario"] else DEFAULT_CALLER
        wanted = [one for one in known.values() if one.key_sha256 == bytes.fromhex(sha256(key))]
        found = records.read(lambda reader: reader.attempt_by_key(caller, bytes.fromhex(sha256(key))))  # noqa: B023
        assert found == (wanted[-1] if wanted else None)
    expect_whole(old, records)
    for name in (LEDGER, TRAIL, HEAD):
        assert (old.path / f"{name}{KEPT}").exists() == (name in before)
        if name in before:
            assert (old.path / f"{name}{KEPT}").read_bytes() == before[name]


def test_a_second_start_takes_nothing_over_again(old: OldDirectory) -> None:
    old.write({TODAY: [theirs(300)]}, trail_of(event("requested", 7, "a")))
    first = attempts(old.taken_over())
    old.close()
    trail = (old.path / TRAIL).read_bytes()
    records = old.taken_over()
    assert attempts(records) == first
    assert (old.path / TRAIL).read_bytes() == trail


# The ledger.


@pytest.mark.parametrize(
    ("ledger", "cents"),
    [
        pytest.param({}, 0, id="empty"),
        pytest.param({TODAY: {"__global__": [theirs(300)]}}, 300, id="the existing server's shape"),
        pytest.param({TODAY: [theirs(300), theirs(5)]}, 305, id="its older shape"),
        pytest.param({TODAY: [theirs(300), theirs(300)]}, 600, id="two equal entries"),
        pytest.param({TODAY: {"__global__": [theirs(300)], "42": [theirs(7)]}}, 307, id="every list of a day"),
        pytest.param({TODAY: {"__notes__": {"amount_cents": 9}, "__global__": []}}, 0, id="what is not a list"),
        pytest.param({YESTERDAY: {"__global__": [theirs(300, "2026-11-22T23:50:00Z")]}}, 0, id="yesterday"),
        pytest.param({YESTERDAY: [theirs(300, "2026-11-22T23:30:00-05:00")]}, 300, id="local day, UTC time of today"),
        pytest.param({TODAY: [theirs(300, "2026-11-22T23:30:00+00:00")]}, 0, id="local day, UTC time of yesterday"),
        pytest.param({TODAY: [theirs(300, "half past nine")]}, 300, id="a time that cannot be read: the day"),
        pytest.param({TODAY: [theirs(300, "9999-12-31T23:59:59-10:00")]}, 300, id="a time past all days: the day"),
        pytest.param({TODAY: [{"transfer_id": None, "amount_cents": 8}]}, 8, id="no time at all: the day"),
        pytest.param({"2026-11-20": [theirs(4) | {"state": "unknown"}]}, 4, id="open counts on later days"),
        pytest.param({"2026-11-21": [{"amount_cents": 4, "state": "reserved"}]}, 4, id="reserved long ago"),
        pytest.param(
            {"2027-01-01": [theirs(6, "2027-01-01T00:00:00Z")]}, 6, id="a day to come: the clock was set back"
        ),
        pytest.param({"9999-12-31": [theirs(6, None)]}, 6, id="the last of all days"),
        pytest.param(
            {TODAY: [theirs(6) | {"day": 1, "outcome": "failed", "x": [{}]}]}, 6, id="fields that are not ours"
        ),
    ],
)
def test_what_the_ledger_counts_today_counts(old: OldDirectory, ledger: object, cents: int) -> None:
    old.write(ledger)
    reading = old.open()
    assert used_cents(reading) == cents
    records = old.taken_over()
    assert used_cents(records) == cents
    expect_whole(old, records)


@pytest.mark.parametrize(
    "ledger",
    [
        "",
        "{",
        "[]",
        "null",
        '{"2026-11-23": {"__global__": [',
        '{"2026-11-23": {}, "2026-11-23": {}}',
        '{"2026-11-23": [{"amount_cents": 5, "amount_cents": 6}]}',
        '{"2026-11-23": [{"amount_cents": NaN}]}',
        "[" * 100_000,
        {TODAY: 5},
        {TODAY: {"__global__": [5]}},
        {TODAY: {"__global__": [{}]}},
        {TODAY: {"__ended__": [5]}},
        {TODAY: {"__ended__": {"a": {"amount_cents": 5, "outcome": "lost"}}}},
        {TODAY: [theirs(-1)]},
        {TODAY: [theirs(0)]},
        {TODAY: [theirs(5) | {"amount_cents": "5"}]},
        {TODAY: [theirs(5) | {"amount_cents": 5.0}]},
        {TODAY: [theirs(5) | {"amount_cents": True}]},
        {TODAY: [theirs(5) | {"amount_cents": 10**16}]},
        {TODAY: [theirs(5) | {"state": "spent"}]},
        {TODAY: [theirs(5) | {"timestamp": 5}]},
        {TODAY: [theirs(5) | {"transfer_id": 5}]},
        {TODAY: [ours("a", 5), ours("a", 5)]},
        {TODAY: {"42": [theirs(-1)]}},
        {"2020-01-01": [theirs(-1)]},
        {"2026-13-45": [theirs(5)]},
        {"yesterday": {"__global__": [theirs(5)]}},
    ],
    ids=lambda content: str(content)[:40],
)
def test_a_damaged_ledger_stops_it_and_stays_as_it_is(old: OldDirectory, ledger: object) -> None:
    old.write(ledger, trail_of(event("requested", 7, "a")))
    before = old.content()
    records = old.open()
    for use in (records.read, records.write):
        with pytest.raises(SafeguardsUnavailableError, match="good copy"):
            use(lambda _: None)
    assert {name: content for name, content in old.content().items() if not name.startswith(".records")} == before
    assert not (old.path / ".records.db").exists()


def test_without_a_damaged_ledger_the_trail_alone_says_what_counts(old: OldDirectory) -> None:
    old.write("{", trail_of(event("requested", 7, "a")))
    for _ in range(2):
        with pytest.raises(SafeguardsUnavailableError, match="good copy"):
            old.taken_over()
    (old.path / LEDGER).rename(old.path / "damaged")  # as the message says
    assert used_cents(old.taken_over()) == 7


def test_each_state_of_the_ledger_becomes_one_of_an_attempt(old: OldDirectory) -> None:
    ended = {
        state: ours(state, 10, at=NOON, outcome=state, ended_at=NOON.isoformat(), error="why")
        for state in ("failed", "refused", "not_executed")
    }
    entries = [ours("settled", 10, transfer_id="t", settled_at=NOON.isoformat()), ours("unknown", 10, "unknown")]
    old.write({TODAY: {"__global__": entries, "__ended__": ended}})
    records = old.taken_over()
    known = attempts(records)
    assert {key: one.state.value for key, one in known.items()} == {
        "settled": "accepted",
        "unknown": "unknown",
        "failed": "failed",
        "refused": "refused",
        "not_executed": "not_executed",
    }
    assert known["settled"].transfer_id == "t"
    assert known["settled"].followed_until == NOON + timedelta(days=14)
    assert known["refused"].error == "why"
    assert used_cents(records) == 20
    expect_whole(old, records)


def test_only_what_is_younger_than_two_weeks_is_followed(old: OldDirectory) -> None:
    days = {number: NOON - timedelta(days=number) for number in (1, 13, 15)}
    lines = [
        event(what, 10, f"{number} days", at) for number, at in days.items() for what in ("requested", "completed")
    ]
    old.write({TODAY: [theirs(10)]}, trail_of(*lines))
    followed = old.taken_over().read(lambda reader: reader.followed_attempts())
    assert {one.id: one.followed_until for one in followed} == {
        f"{number} days": days[number] + timedelta(days=14) for number in (1, 13)
    }


def test_a_transfer_that_two_attempts_have_stays_with_the_first(old: OldDirectory) -> None:
    first, second = (
        ours(name, 10, at=NOON + timedelta(seconds=at), transfer_id="t") for name, at in [("b", 0), ("a", 1)]
    )
    old.write({TODAY: [second, first]})
    known = attempts(old.taken_over())
    assert (known["b"].transfer_id, known["a"].transfer_id) == ("t", None)


# Ledger and trail together.


@dataclass(frozen=True)
class Case:
    """One attempt in both files, and what becomes of it."""

    state: str
    ledger: dict[str, Any] | None
    lines: tuple[dict[str, Any], ...]
    recovered: tuple[str, ...] = ()


def ended(outcome: str) -> dict[str, Any]:
    return ours("a", 10, outcome=outcome, ended_at=NOON.isoformat())


def failed(outcome: str) -> dict[str, Any]:
    return event("failed", 10, "a", outcome=outcome)


REQUESTED, COMPLETED = event("requested", 10, "a"), event("completed", 10, "a", transfer_id="t")
CASES = {
    "only requested": Case("unknown", None, (REQUESTED,), ("failed",)),
    "only completed": Case("accepted", None, (COMPLETED,), ("requested",)),
    "requested and completed": Case("accepted", None, (REQUESTED, COMPLETED)),
    "requested and failed": Case("failed", None, (REQUESTED, failed("failed"))),
    "an end of no known outcome": Case("unknown", None, (REQUESTED, event("failed", 10, "a"))),
    "unknown and then found": Case("accepted", None, (REQUESTED, failed("unknown"), COMPLETED)),
    "not executed and then found": Case("accepted", None, (REQUESTED, failed("not_executed"), COMPLETED)),
    "reserved and requested": Case("unknown", ours("a", 10, "reserved"), (REQUESTED,), ("failed",)),
    "reserved and unknown": Case("unknown", ours("a", 10, "reserved"), (REQUESTED, failed("unknown"))),
    "reserved and completed": Case("accepted", ours("a", 10, "reserved"), (REQUESTED, COMPLETED)),
    "reserved and refused": Case("refused", ours("a", 10, "reserved"), (REQUESTED, failed("refused"))),
    "unknown and not executed": Case("not_executed", ours("a", 10, "unknown"), (REQUESTED, failed("not_executed"))),
    "settled, and the end is missing": Case("accepted", ours("a", 10), (REQUESTED,), ("completed",)),
    "settled, and unknown before": Case("accepted", ours("a", 10), (REQUESTED, failed("unknown")), ("completed",)),
    "settled, and not executed before": Case(
        "accepted", ours("a", 10), (REQUESTED, failed("not_executed")), ("completed",)
    ),
    "settled, and nothing in the trail": Case("accepted", ours("a", 10), (), ("requested", "completed")),
    "identified, and the line is missing": Case(
        "accepted", ours("a", 10, transfer_id="t"), (REQUESTED, event("completed", 10, "a")), ("identified",)
    ),
    "failed, and the end is missing": Case("failed", ended("failed"), (REQUESTED,), ("failed",)),
    "failed, and nothing in the trail": Case("failed", ended("failed"), (), ("failed",)),
    "refused, and the end is missing": Case("refused", ended("refused"), (REQUESTED,), ("failed",)),
    "refused, and nothing in the trail": Case("refused", ended("refused"), (), ("requested", "failed")),
    "not executed, and the end is missing": Case(
        "not_executed", ended("not_executed"), (REQUESTED, failed("unknown")), ("failed",)
    ),
    "not executed, and completed": Case("accepted", ended("not_executed"), (REQUESTED, COMPLETED)),
    "failed, and completed": Case("accepted", ended("failed"), (REQUESTED, COMPLETED)),
    "not executed, and failed": Case("not_executed", ended("not_executed"), (REQUESTED, failed("failed")), ("failed",)),
    "unknown, and nothing in the trail": Case("unknown", ours("a", 10, "unknown"), (), ("requested", "failed")),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_attempt_that_both_files_know_gets_one_end(old: OldDirectory, case: Case) -> None:
    entry = case.ledger
    ledger = {} if entry is None else {"__ended__": {"a": entry}} if "outcome" in entry else {"__global__": [entry]}
    old.write({TODAY: ledger}, trail_of(*case.lines))
    records = old.taken_over()
    attempt = only(records)
    assert attempt.state.value == case.state
    assert used_cents(records) == (10 if RULES[attempt.state].counts else 0)
    added = [json.loads(line) for line in records.read(lambda reader: reader.events_of("a"))][len(case.lines) :]
    assert tuple(line["event_type"].removeprefix("transfer_") for line in added) == case.recovered
    assert all(line["recovered"] is True for line in added)
    expect_whole(old, records)


@pytest.mark.parametrize(
    ("head", "lines", "state"),
    [
        pytest.param(None, [], State.FAILED, id="both empty"),
        pytest.param(-1, [event("rejected", 5)], State.FAILED, id="the trail has not changed"),
        pytest.param(-2, [event("rejected", 5), event("rejected", 6)], State.FAILED, id="the trail went on"),
        pytest.param(None, [event("rejected", 5)], State.UNKNOWN, id="the trail may be another one"),
        pytest.param(sha256("elsewhere"), [event("rejected", 5)], State.UNKNOWN, id="the trail is another one"),
        pytest.param(sha256("elsewhere"), [], State.UNKNOWN, id="the trail is gone"),
        pytest.param(-2, [event("rejected", 5), b"{"], State.UNKNOWN, id="a line since then cannot be read"),
        pytest.param(-1, [event("rejected", 5), b"{"], State.FAILED, id="one before cannot be read"),
    ],
)
def test_a_reservation_was_not_sent_only_if_the_trail_proves_it(
    old: OldDirectory, head: int | str | None, lines: list[Any], state: State
) -> None:
    trail = trail_of(*lines)
    audit_head = hash_of(trail[head]) if isinstance(head, int) else head
    old.write({TODAY: [ours("a", 10, "reserved") | ({"audit_head": audit_head} if audit_head else {})]}, trail)
    records = old.taken_over()
    assert only(records).state is state
    expect_whole(old, records)


def test_equal_ids_and_amounts_that_differ_count_the_larger_one(old: OldDirectory) -> None:
    old.write({TODAY: [ours("a", 10)]}, trail_of(event("requested", 30, "a"), event("completed", 30, "a")))
    assert used_cents(old.taken_over()) == 30


def test_what_a_replay_needs_is_kept(old: OldDirectory) -> None:
    hashes: dict[str, Any] = {"request_sha256": sha256("request"), "key_sha256": sha256("key")}
    answer = {
        "id": "t",
        "status": "PENDING",
        "created_at": (NOON - timedelta(seconds=5)).isoformat(),
        "source": {"id": "pod-a", "type": "POD"},
        "destination": {"id": "pod-b", "type": "POD"},
    }
    settled = ours("a", 10, transfer_id="t", answer=answer, organization_id="org", description="rent", **hashes)
    old.write({TODAY: [settled]})
    records = old.taken_over()
    attempt = records.read(lambda reader: reader.attempt_by_key(DEFAULT_CALLER, bytes.fromhex(sha256("key"))))
    assert attempt is not None
    assert attempt.request_sha256 == bytes.fromhex(sha256("request"))
    assert (attempt.upstream_status, attempt.organization_id, attempt.description) == ("PENDING", "org", "rent")
    assert (attempt.source_type, attempt.upstream_created_at) == ("POD", NOON - timedelta(seconds=5))
    [requested, completed] = (json.loads(line) for line in records.read(lambda reader: reader.events_of("a")))
    assert (requested["key_sha256"], completed["transfer_id"]) == (sha256("key"), "t")


def test_an_answer_that_could_move_it_to_another_day_is_not_trusted_with_its_time(old: OldDirectory) -> None:
    answer = {"created_at": (NOON - timedelta(days=1)).isoformat(), "source": "?", "status": 5}
    old.write({TODAY: [ours("a", 10, answer=answer)]})
    assert used_cents(old.taken_over()) == 10


def test_a_key_names_the_newest_attempt_that_keeps_it(old: OldDirectory) -> None:
    def with_key(name: str, minutes: int, *more: dict[str, Any]) -> list[dict[str, Any]]:
        at = NOON + timedelta(minutes=minutes)
        return [event("requested", 10, name, at, key_sha256=sha256("key"), via="api"), *more]

    old.write(
        {},
        trail_of(
            *with_key("first", 0, event("failed", 10, "first", outcome="failed")),
            *with_key("second", 1, event("completed", 10, "second")),
            *with_key("third", 2, event("failed", 10, "third", outcome="refused")),
            event("requested", 10, "mine", key_sha256=sha256("key"), via="cli"),
        ),
    )
    records = old.taken_over()
    key = bytes.fromhex(sha256("key"))
    found = [records.read(lambda reader: reader.attempt_by_key(caller, key)) for caller in (DEFAULT_CALLER, OWNER)]  # noqa: B023
    assert [one and one.id for one in found] == ["second", "mine"]


# The existing PySequence server.


def test_the_existing_servers_files_are_taken_over_once(old: OldDirectory) -> None:
    seconds = timedelta(seconds=1)
    at = [NOON + number * 10 * seconds for number in range(6)]
    old.write(
        {TODAY: [theirs(300, at[1].isoformat()), theirs(300, at[5].isoformat()), theirs(9, at[5].isoformat())]},
        [
            json.dumps(line).encode()
            for line in (
                event("requested", 300, at=at[0]),
                event("completed", 300, at=at[1] + seconds, transfer_id="unknown"),
                event("requested", 300, at=at[2]),
                event("failed", 300, at=at[3], error="timeout"),
                event("requested", 300, at=at[4]),
                event("completed", 300, at=at[5], transfer_id="unknown"),
            )
        ],
        head=False,
    )
    records = old.taken_over()
    known = attempts(records).values()
    # Three requests, of which one failed without certainty, and one entry that the trail lacks.
    assert sorted(one.amount_cents for one in known) == [9, 300, 300, 300]
    assert {one.state for one in known} == {State.ACCEPTED}
    assert {(one.transfer_id, one.followed_until, one.key_sha256) for one in known} == {(None, None, None)}
    assert used_cents(records) == 909
    events = [json.loads(line) for line in (old.path / TRAIL).read_bytes().splitlines()]
    added = [(line["event_type"], line["amount_cents"]) for line in events if "recovered" in line]
    assert added == [("transfer_requested", 9), ("transfer_completed", 9)]
    ids = set(attempts(records))
    expect_whole(old, records)
    # The ids depend on the files alone.
    for name in (LEDGER, TRAIL):
        (old.path / f"{name}{KEPT}").rename(old.path / name)
    for name in (HEAD, ".records.db"):
        (old.path / name).unlink()
    assert set(attempts(old.taken_over())) == ids


@pytest.mark.parametrize(
    ("seconds", "amount_cents", "cents"),
    [(0, 10, 10), (60, 10, 10), (-60, 10, 10), (61, 10, 20), (0, 11, 21)],
)
def test_ledger_and_completion_are_one_transfer_within_a_minute(
    old: OldDirectory, seconds: int, amount_cents: int, cents: int
) -> None:
    completed = event("completed", 10, at=NOON + timedelta(seconds=seconds))
    old.write({TODAY: [theirs(amount_cents)]}, [json.dumps(completed).encode()], head=False)
    assert used_cents(old.taken_over()) == cents


def test_two_entries_do_not_share_a_completion(old: OldDirectory) -> None:
    old.write({TODAY: [theirs(10), theirs(10)]}, [json.dumps(event("completed", 10)).encode()], head=False)
    assert used_cents(old.taken_over()) == 20


def test_times_without_a_zone_are_utc_in_the_trail(old: OldDirectory) -> None:
    lines = [
        event("completed", 10) | {"timestamp": timestamp}
        for timestamp in ("2026-11-23T00:10:00", "2026-11-22T23:50:00", "2026-11-22 23:50:00.5")
    ]
    old.write(None, [json.dumps(line).encode() for line in lines], head=False)
    assert used_cents(old.taken_over()) == 10


# The trail.


def test_every_line_becomes_a_row_and_the_file_stays_as_it_was(old: OldDirectory) -> None:
    foreign = json.dumps(event("completed", 5)).encode()
    lines = trail_of(
        b"\xff\xfe", b"", event("requested", 7, "a"), foreign, b"[1]", b"", b'"\\ud800"', event("rejected", 3), b""
    )
    odd = [
        b'{"event_type": 5}',
        b'{"attempt_id": "\\ud800", "event_type": "transfer_requested", "amount_cents": 9}',
        b"\x00",
    ]
    old.write(None, [*lines, *odd], head=False)
    before = (old.path / TRAIL).read_bytes()
    records = old.taken_over()
    assert used_cents(records) == 21
    assert records.trail.verify().intact
    old.close()
    after = (old.path / TRAIL).read_bytes()
    assert after.startswith(before)
    assert after == b"".join(line + b"\n" for line in rows_of(old.path))
    assert rows_of(old.path)[: len(lines) + len(odd)] == [*lines, *odd]


def test_a_torn_last_line_gets_its_break(old: OldDirectory) -> None:
    old.write(None, trail_of(event("requested", 7, "a"), event("completed", 7, "a")), head=False)
    torn = (old.path / TRAIL).read_bytes()[:-20]
    (old.path / TRAIL).write_bytes(torn)
    records = old.taken_over()
    assert only(records).state is State.UNKNOWN
    expect_whole(old, records)
    assert (old.path / TRAIL).read_bytes().startswith(torn + b"\n")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: content[: content.rindex(b"{")], id="its end cut off"),
        pytest.param(lambda content: content[content.index(b"\n") + 1 :], id="its beginning cut off"),
        pytest.param(lambda content: content.replace(b"7", b"6", 1), id="changed"),
        pytest.param(lambda content: content.replace(b"8", b"6"), id="changed at its end"),
        pytest.param(lambda _: b"", id="emptied"),
        pytest.param(None, id="missing"),
    ],
)
def test_a_trail_that_does_not_fit_its_head_stops_it(
    old: OldDirectory, change: Callable[[bytes], bytes] | None
) -> None:
    at = datetime(2026, 11, 23, tzinfo=UTC)
    old.write({TODAY: [ours("a", 10)]}, trail_of(event("requested", 7, "a", at), event("rejected", 8, None, at)))
    content = (old.path / TRAIL).read_bytes()
    (old.path / TRAIL).unlink()
    if change is not None:
        (old.path / TRAIL).write_bytes(change(content))
    records = old.open()
    with pytest.raises(SafeguardsUnavailableError, match="good copies"):
        records.write(lambda _: None)
    assert not (old.path / ".records.db").exists()
    assert json.loads((old.path / HEAD).read_text())["count"] == 2
    # As the message says: with both moved away, the ledger alone says what counts.
    for name in (TRAIL, HEAD):
        (old.path / name).unlink(missing_ok=True)
    assert used_cents(old.taken_over()) == 10


def test_lines_after_the_head_are_what_a_crash_left(old: OldDirectory) -> None:
    lines = trail_of(event("requested", 7, "a"), event("completed", 7, "a"))
    old.write(None, lines[:1])
    with (old.path / TRAIL).open("ab") as trail:
        trail.write(lines[1] + b"\n")
    assert only(old.taken_over()).state is State.ACCEPTED


def test_a_damaged_head_stops_it(old: OldDirectory) -> None:
    old.write(None, trail_of(event("requested", 7, "a")))
    (old.path / HEAD).write_text("{}")
    with pytest.raises(SafeguardsUnavailableError, match=HEAD):
        old.taken_over()


def test_an_amount_that_cannot_be_stops_it(old: OldDirectory) -> None:
    old.write(None, trail_of(event("requested", 10**30, "a")))
    with pytest.raises(SafeguardsUnavailableError, match=TRAIL):
        old.taken_over()


# A database that is gone, and a version that still runs.


@pytest.mark.parametrize("gone", [("head",), ("head", "trail"), ("trail",), ("trail", "ledger"), ()], ids=str)
def test_a_database_that_is_gone_is_missed(old: OldDirectory, gone: tuple[str, ...]) -> None:
    old.write({TODAY: [ours("a", 10)]})
    old.taken_over()
    old.close()
    ledger = json.dumps({TODAY: {"__global__": [ours("a", 10, "accepted")]}})
    (old.path / LEDGER).write_text(ledger)
    (old.path / ".records.db").unlink()
    for name, path in {"head": HEAD, "trail": TRAIL, "ledger": LEDGER}.items():
        if name in gone:
            (old.path / path).unlink()
    records = old.open()
    for use in (records.read, records.write):
        with pytest.raises(SafeguardsUnavailableError, match="records restore"):
            use(lambda _: None)
    assert not (old.path / ".records.db").exists()


def test_an_earlier_version_that_still_runs_stops_it(old: OldDirectory) -> None:
    old.write({TODAY: [ours("a", 10)]})
    (old.path / ".owners").mkdir()
    lock = old.path / ".owners" / f"{'0' * 32}.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SafeguardsUnavailableError, match="earlier version"):
            old.taken_over()
        assert not (old.path / ".records.db").exists()
        assert not (old.path / f"{LEDGER}{KEPT}").exists()
    assert used_cents(old.taken_over()) == 10


# The files beside it.


def test_a_fresh_directory_begins_empty_and_marked(old: OldDirectory) -> None:
    records = old.taken_over()
    assert attempts(records) == {}
    assert json.loads((old.path / HEAD).read_text()) == MOVED
    assert not list(old.path.glob(f"*{KEPT}"))


def test_what_only_reads_changes_nothing(old: OldDirectory) -> None:
    old.write({TODAY: [theirs(10)]}, trail_of(event("requested", 7, "a")))
    (old.path / NAMES).write_text('{"pod-a": "Rent"}')
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in old.path.iterdir()}
    records = old.open()
    assert records.read(lambda reader: reader.names()) == {"pod-a": "Rent"}
    assert used_cents(records) == 17
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in old.path.iterdir()} == before


def test_all_files_are_readable_by_their_owner_alone(old: OldDirectory) -> None:
    old.write({TODAY: [theirs(10)]}, trail_of(event("requested", 7, "a")))
    for path in old.path.iterdir():
        path.chmod(0o644)
    old.taken_over()
    old.close()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in old.path.iterdir() if path.is_file()}
    assert set(modes.values()) == {0o600}, modes


def test_names_move_into_the_database(old: OldDirectory) -> None:
    (old.path / NAMES).write_text(json.dumps({"pod-a": "Rent", "pod-b": 5, "pod-c": "x" * 201, "pod-d": "\ud800"}))
    (old.path / ".names.lock").touch()
    records = old.taken_over()
    assert records.read(lambda reader: reader.names()) == {"pod-a": "Rent", "pod-d": "?"}
    assert not list(old.path.glob(".names*"))


def test_damaged_names_are_forgotten(old: OldDirectory) -> None:
    (old.path / NAMES).write_text("[1")
    assert old.taken_over().read(lambda reader: reader.names()) == {}


def test_the_marker_is_written_at_the_next_start_if_it_is_missing(old: OldDirectory) -> None:
    old.write(None, trail_of(event("requested", 7, "a"), event("completed", 7, "a")))
    head = (old.path / HEAD).read_bytes()
    old.taken_over()
    old.close()
    (old.path / HEAD).write_bytes(head)  # as after a kill between the database and the marker
    (old.path / NAMES).write_text("{}")
    old.taken_over()
    assert json.loads((old.path / HEAD).read_text()) == MOVED
    assert not (old.path / NAMES).exists()


# Killed anywhere.


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Killer:
    """Ends the program before its n-th change of a file, and carries out none after that."""

    patch: pytest.MonkeyPatch
    at: int
    calls: int = 0

    def arm(self) -> None:
        for owner, name in [(os, "fsync"), (Path, "replace"), (Path, "unlink"), (Path, "chmod"), (os, "write")]:
            self._wrap(owner, name)
        self._wrap(os, "open", only_if=lambda *values: bool(values[1] & os.O_CREAT))
        self._wrap(os, "pwrite")

    def _wrap(self, owner: Any, name: str, only_if: Callable[..., bool] = lambda *_: True) -> None:
        original = getattr(owner, name)

        def call(*values: Any, **named: Any) -> Any:
            if only_if(*values):
                self.calls += 1
                if self.calls >= self.at:
                    raise Killed
            return original(*values, **named)

        self.patch.setattr(owner, name, call)


def old_content(old: OldDirectory) -> None:
    old.write(
        {TODAY: [theirs(10), ours("a", 10), ours("b", 10, "reserved")]},
        trail_of(event("requested", 10, "a"), b"", event("requested", 7, "c"), event("completed", 7, "c")),
    )
    (old.path / TRAIL).write_bytes((old.path / TRAIL).read_bytes()[:-5])
    (old.path / HEAD).unlink()
    (old.path / NAMES).write_text('{"pod-a": "Rent"}')


def snapshot(old: OldDirectory) -> Any:
    records = old.taken_over()
    result = (attempts(records), records.read(lambda reader: reader.names()), used_cents(records))
    expect_whole(old, records)
    kept = {path.name: path.read_bytes() for path in old.path.glob(f"*{KEPT}")}
    return result, (old.path / TRAIL).read_bytes(), kept


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.crash)])
def test_killed_at_any_change_of_a_file_the_next_start_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    whole = OldDirectory(tmp_path / "whole")
    whole.path.mkdir()
    old_content(whole)
    before, wanted = whole.content(), snapshot(whole)
    number = 1 - step
    while True:
        number += step
        old = OldDirectory(tmp_path / str(number))
        old.path.mkdir()
        old_content(old)
        with monkeypatch.context() as patch:
            killer = Killer(patch, number)
            records = old.open()
            killer.arm()
            try:
                records.write(lambda _: None)
            except Killed:
                records.abandon()
            else:
                break
        if not (old.path / ".records.db").exists():
            unchanged = {name: content for name, content in old.content().items() if name in before}
            assert unchanged == before, number
        old.opened.clear()
        assert snapshot(old) == wanted, number
    old.close()
    assert number > 20


# Any old directory.

TIMES = st.integers(-60, 5).map(lambda hours: NOON + timedelta(hours=hours))
AMOUNTS = st.integers(1, 5).map(lambda number: number * 100)
OUTCOMES = st.sampled_from(["failed", "refused", "not_executed"])


@dataclass
class Old:
    """An old data directory in the making, and what the version before counts in it."""

    lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: list[tuple[int, dict[str, Any] | bytes]] = field(default_factory=list)
    cents: int = 0
    keys: set[tuple[str, bytes]] = field(default_factory=set)

    def list(self, day: date, entry: dict[str, Any], at: datetime, *, counts: bool) -> None:
        self.lists.setdefault(day.isoformat(), []).append(entry)
        self.cents += entry["amount_cents"] if counts or at.date() >= NOON.date() else 0

    def ledger(self) -> dict[str, Any]:
        days: dict[str, Any] = {day: {"__global__": entries} for day, entries in self.lists.items()}
        days.setdefault(TODAY, {"__global__": []})["__ended__"] = self.ended
        return days


@st.composite
def old_directories(draw: st.DrawFn) -> Old:
    """Make what processes that were killed anywhere, an older copy of a file, and another server can leave."""
    old = Old()
    for number in range(draw(st.integers(0, 6))):
        attempt_id, amount_cents, at = f"attempt-{number}", draw(AMOUNTS), draw(TIMES)
        via = draw(st.sampled_from(["api", "cli"]))
        key = draw(st.none() | st.integers(0, 2).map(lambda one: f"key-{one}"))
        more = {"via": via} | ({} if key is None else {"key_sha256": sha256(key)})
        order = iter(range(number, 1_000, 10))
        end = draw(st.sampled_from([None, "settled", "unknown", "failed", "refused", "not_executed"]))
        ended_at = at + timedelta(minutes=draw(st.integers(0, 30)))
        is_listed, is_told = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
        has_end_line = draw(st.booleans())
        if key is not None:
            old.keys.add((OWNER if via == "cli" else DEFAULT_CALLER, bytes.fromhex(sha256(key))))
        if is_told:
            old.lines.append((next(order), event("requested", amount_cents, attempt_id, at, **more)))
            if end is not None and (has_end_line or not is_listed):
                what = "completed" if end == "settled" else "failed"
                outcome = {} if end == "settled" else {"outcome": end}
                old.lines.append((next(order), event(what, amount_cents, attempt_id, ended_at, **outcome, **more)))
        if is_listed:
            entry = ours(attempt_id, amount_cents, at=at, **more)
            if end == "settled":
                old.list(at.date(), entry | {"settled_at": ended_at.isoformat()}, ended_at, counts=False)
            elif end in {None, "unknown"}:
                # Without a head in the entry, nothing proves that it was not sent.
                old.list(at.date(), entry | {"state": end or "unknown"}, at, counts=True)
            else:
                old.ended[attempt_id] = entry | {"outcome": end, "ended_at": ended_at.isoformat()}
    for number in range(draw(st.integers(0, 4))):
        amount_cents, at = draw(AMOUNTS), draw(TIMES)
        if draw(st.booleans()):
            old.list(at.date(), theirs(amount_cents, at.isoformat()), at, counts=False)
        if draw(st.booleans()):
            old.lines.append((number * 7, event("requested", amount_cents, at=at)))
            if draw(st.booleans()):
                what = draw(st.sampled_from(["completed", "failed"]))
                old.lines.append((number * 7 + 1, event(what, amount_cents, at=at)))
    junk = draw(st.lists(st.sampled_from([b"", b"{", b"\x00", b"[]", b'{"a": 1}']), max_size=3))
    old.lines += [(draw(st.integers(0, 60)), line) for line in junk]
    return old


@settings(max_examples=settings().max_examples // 5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=old_directories(), torn=st.integers(0, 30))
def test_nothing_that_counted_is_lost(tmp_path_factory: pytest.TempPathFactory, made: Old, torn: int) -> None:
    old = OldDirectory(tmp_path_factory.mktemp("old"))
    lines = trail_of(*[line for _, line in sorted(made.lines, key=lambda one: one[0])])
    old.write(made.ledger(), lines, head=False)
    if torn and lines and not lines[-1]:
        with (old.path / TRAIL).open("ab") as trail:
            trail.write(b'{"torn": "'[:torn])
    before = (old.path / TRAIL).read_bytes()
    reading = old.open()
    read = attempts(reading)
    assert used_cents(reading) >= made.cents
    records = old.taken_over()
    assert attempts(records) == read
    assert used_cents(records) >= made.cents
    for caller, key in made.keys:
        assert records.read(lambda reader: reader.attempt_by_key(caller, key)) is not None  # noqa: B023
    assert all(one.created_at > LONG_AGO for one in read.values())
    expect_whole(old, records)
    assert (old.path / TRAIL).read_bytes().startswith(before)
