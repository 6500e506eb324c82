"""Keys of callers: made, replaced and ended; what the records keep of them, and what a restore takes over."""

import hashlib
import json
import re
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import time_machine

from pysequence_api.errors import InvalidRequestError, NotFoundError
from pysequence_api.records import open_records
from pysequence_api.records.audit import Event, EventType
from pysequence_api.records.callers import CallerInfo, Callers, NewKey, add, listed, remove, revoke, rotate
from pysequence_api.records.check import check
from pysequence_api.records.control import freeze
from pysequence_api.records.database import Database
from pysequence_api.records.keys import DIGITS, is_mistyped, new_key
from pysequence_api.records.upkeep import back_up, restore
from pysequence_api.text import plain_text, without_keys

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Database]:
    """The records of a new data directory."""
    records = open_records(tmp_path / "data")
    yield records
    records.close()


def names_of(records: Database, *keys: NewKey) -> list[str | None]:
    """Say whose keys these are, as another process finds out."""
    other = open_records(records.directory)
    found = [Callers(other).find(key.key.encode()) for key in keys]
    other.close()
    return [None if caller is None else caller.name for caller in found]


def only(records: Database, name: str) -> CallerInfo:
    [found] = [one for one in records.read(listed) if one.name == name]
    return found


def events(records: Database) -> list[str]:
    lines = (records.directory / ".audit.jsonl").read_text().splitlines()
    return [json.loads(line)["event_type"] for line in lines]


# The format.


def test_a_key_has_a_prefix_256_random_bits_and_a_checksum() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert re.fullmatch(r"psq_[0-9A-Za-z]{49}", key)
        number = 0
        for digit in key[-6:]:
            number = number * 62 + DIGITS.index(digit)
        assert number == zlib.crc32(key[4:-6].encode())
        assert not is_mistyped(key.encode())


def test_every_slip_shows() -> None:
    key = new_key()
    slips = [key[:-1], key[1:], key + "x", key.lower(), key.upper(), "", "psq_", "psq_\xe4" + key[5:]]
    slips += [key[:at] + ("a" if key[at] != "a" else "b") + key[at + 1 :] for at in range(len(key))]
    slips += [key[:at] + key[at + 1] + key[at] + key[at + 2 :] for at in range(4, 46) if key[at] != key[at + 1]]
    assert [slip for slip in slips if not is_mistyped(slip.encode("latin-1"))] == []


def test_keys_in_a_text_are_masked() -> None:
    key = new_key()
    assert without_keys(f"a {key}, {key[:20]}") == "a psq_(removed), psq_(removed)"
    assert plain_text(f"a {key}") == "a (removed)"
    assert without_keys("nothing") == "nothing"


# What the owner does.


def test_a_new_caller_has_one_key_of_which_only_the_hash_is_kept(records: Database) -> None:
    made = add(records, "openclaw")
    assert names_of(records, made) == ["openclaw"]
    caller = only(records, "openclaw")
    assert [(key.hint, key.old, key.last_used_at) for key in caller.keys] == [(made.key[-4:], False, None)]
    assert events(records) == ["key_added"]
    for path in records.directory.iterdir():
        assert path.is_dir() or made.key.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "a b", "a/b", "a.b", "ä", "a" * 33, "gateway", "none", "owner", "default", "a\n"]
)
def test_names_that_cannot_be_used(records: Database, name: str) -> None:
    with pytest.raises(InvalidRequestError):
        add(records, name)
    assert records.read(listed) == []


def test_a_name_is_never_given_out_again(records: Database) -> None:
    add(records, "one")
    with pytest.raises(InvalidRequestError, match="never given out again"):
        add(records, "one")
    remove(records, "one")
    with pytest.raises(InvalidRequestError, match="never given out again"):
        add(records, "one")
    for change in (remove, rotate, revoke):
        with pytest.raises(InvalidRequestError, match="was removed"):
            change(records, "one")


def test_rotating_ends_the_old_key_at_once(records: Database) -> None:
    first = add(records, "one")
    second = rotate(records, "one")
    assert second.replaced == (first.key[-4:],)
    assert names_of(records, first, second) == [None, "one"]
    assert events(records) == ["key_added", "key_revoked", "key_added"]


def test_rotating_keeps_the_old_key_until_it_is_revoked(records: Database) -> None:
    first = add(records, "one")
    second = rotate(records, "one", keep_old=True)
    assert (second.replaced, second.old) == ((), first.key[-4:])
    assert names_of(records, first, second) == ["one", "one"]
    assert [key.old for key in only(records, "one").keys] == [True, False]
    with pytest.raises(InvalidRequestError, match=first.key[-4:]):
        rotate(records, "one", keep_old=True)
    assert revoke(records, "one", old_only=True) == (first.key[-4:],)
    assert names_of(records, first, second) == [None, "one"]
    with pytest.raises(InvalidRequestError, match="no old key"):
        revoke(records, "one", old_only=True)
    third = rotate(records, "one", keep_old=True)
    fourth = rotate(records, "one")
    assert names_of(records, first, second, third, fourth) == [None, None, None, "one"]


def test_revoking_ends_all_keys_and_the_caller_stays(records: Database) -> None:
    keys = [add(records, "one"), rotate(records, "one", keep_old=True)]
    revoke(records, "one")
    assert names_of(records, *keys) == [None, None]
    with pytest.raises(InvalidRequestError, match="no key"):
        revoke(records, "one")
    assert names_of(records, rotate(records, "one")) == ["one"]


def test_removing_ends_the_keys_and_keeps_the_record(records: Database) -> None:
    made = add(records, "one")
    remove(records, "one")
    assert names_of(records, made) == [None]
    assert only(records, "one").removed_at is not None
    assert events(records) == ["key_added", "key_revoked", "caller_removed"]


@pytest.mark.parametrize("name", ["owner", "default"])
def test_the_built_in_callers_have_no_key_here(records: Database, name: str) -> None:
    for change in (rotate, revoke, remove):
        with pytest.raises(InvalidRequestError):
            change(records, name)


def test_callers_that_do_not_exist(records: Database) -> None:
    for change in (rotate, revoke, remove):
        with pytest.raises(NotFoundError):
            change(records, "nobody")


# When a key was used.


def test_uses_are_written_at_most_once_a_minute(records: Database) -> None:
    callers = Callers(records)
    with time_machine.travel(NOON, tick=False) as traveller:
        key = add(records, "one").key.encode()
        seen = []
        for seconds in (0, 30, 29, 2, 3600, -7200):
            traveller.shift(seconds)
            callers.find(key)
            callers.save_uses()
            [info] = only(records, "one").keys
            assert info.last_used_at is not None
            seen.append((info.last_used_at - NOON).total_seconds())
    assert seen == [0, 0, 0, 61, 3661, -3539]


def test_a_use_that_cannot_be_written_fails_nothing(records: Database) -> None:
    callers = Callers(records)
    key = add(records, "one").key.encode()
    assert callers.find(key) is not None
    other = open_records(records.directory)
    with other.held():
        callers.save_uses()
    assert only(records, "one").keys[0].last_used_at is None
    callers.find(key)
    callers.save_uses()
    assert only(records, "one").keys[0].last_used_at is not None


# What the database enforces, and what a check and a restore know.


def fill(records: Database) -> None:
    """Do everything that there is to do with callers, keys and policies."""
    for name in ("one", "two", "three"):
        add(records, name)
    rotate(records, "one", keep_old=True)
    remove(records, "two")
    records.write(lambda writer: writer.change_grants(policy_event(writer.now, 1), "version = 1\n"))
    records.write(lambda writer: writer.set_freeze("lost", caller="three"))
    records.write(lambda writer: writer.set_freeze("lost", caller="default"))
    records.write(lambda writer: writer.set_freeze(None, caller="default"))


def policy_event(now: datetime, version: int) -> Event:
    sha256 = hashlib.sha256(b"version = 1\n").hexdigest()
    return Event(
        timestamp=now, event_type=EventType.POLICY_APPLIED, policy_version=version, policy_sha256=sha256, from_file=True
    )


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM caller",
        "DELETE FROM caller_key",
        "DELETE FROM policy",
        "UPDATE caller SET name = 'other' WHERE name = 'one'",
        "UPDATE caller SET created_at = 1 WHERE name = 'one'",
        "UPDATE caller SET removed_at = NULL WHERE name = 'two'",
        "UPDATE caller SET frozen_at = 1, frozen_reason = 'x' WHERE name = 'two'",
        "UPDATE caller SET frozen_at = 1 WHERE name = 'one'",
        "INSERT OR REPLACE INTO caller(name, created_at) VALUES('two', 1)",
        "INSERT INTO caller_key(sha256, caller, hint, created_at) VALUES(zeroblob(32), 'two', 'x', 1)",
        "INSERT INTO caller_key(sha256, caller, hint, created_at) VALUES(zeroblob(32), 'one', 'x', 1)",
        "INSERT INTO caller_key(sha256, caller, hint, created_at) VALUES(zeroblob(32), 'nobody', 'x', 1)",
        "INSERT INTO caller_key(sha256, caller, hint, created_at) VALUES(zeroblob(31), 'three', 'x', 1)",
        "UPDATE caller_key SET caller = 'one' WHERE caller = 'three'",
        "UPDATE caller_key SET sha256 = zeroblob(32) WHERE caller = 'three'",
        "UPDATE caller_key SET revoked_at = NULL WHERE caller = 'two'",
        "UPDATE caller_key SET replaced_at = NULL WHERE caller = 'one'",
        "UPDATE policy SET text = 'other'",
        "INSERT OR REPLACE INTO policy(version, applied_at, sha256, from_file) VALUES(1, 1, zeroblob(32), 0)",
        "INSERT INTO policy(version, applied_at, sha256, text, from_file) VALUES(3, 1, zeroblob(32), 'x', 0)",
    ],
)
def test_the_database_refuses_what_must_never_happen(records: Database, change: str) -> None:
    fill(records)
    with pytest.raises(sqlite3.IntegrityError):
        records.write(lambda writer: writer._connection.execute(change))
    assert check(records).problems == ()


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("caller", "UPDATE caller SET frozen_at = NULL, frozen_reason = NULL WHERE name = 'three'"),
        ("caller", "INSERT INTO caller(name, created_at) VALUES('four', 1)"),
        ("caller_key", "UPDATE caller_key SET revoked_at = 1 WHERE caller = 'three'"),
        ("caller_key", "UPDATE caller_key SET revoked_at = 1 WHERE revoked_at NOTNULL"),
        ("policy", "INSERT INTO policy(version, applied_at, sha256, from_file) VALUES(2, 1, zeroblob(32), 0)"),
    ],
)
def test_a_check_finds_what_the_audit_events_do_not_say(records: Database, table: str, change: str) -> None:
    fill(records)
    records.close()
    with closing(sqlite3.connect(records.path)) as connection:
        connection.execute("DROP TRIGGER caller_key_ended")
        connection.execute(change)
        connection.commit()
    [problem] = check(open_records(records.directory)).problems
    assert f"table {table} " in problem


def test_a_check_finds_a_policy_of_another_text(records: Database) -> None:
    fill(records)
    records.close()
    with closing(sqlite3.connect(records.path)) as connection:
        connection.execute("DROP TRIGGER policy_fixed")
        connection.execute("UPDATE policy SET text = 'other'")
        connection.commit()
    [problem] = check(open_records(records.directory)).problems
    assert "policy" in problem


def test_a_restore_takes_over_what_happened_after_the_backup(records: Database, tmp_path: Path) -> None:
    before = [add(records, "one"), add(records, "four")]
    back_up(records, tmp_path / "backup.db")
    revoke(records, "four")
    after = [rotate(records, "one"), add(records, "five")]
    remove(records, "five")
    records.write(lambda writer: writer.set_freeze("lost", caller="one"))
    records.write(lambda writer: writer.change_grants(policy_event(writer.now, 1), "version = 1\n"))
    known = records.read(listed)
    records.close()
    for backup in (tmp_path / "backup.db", None):
        restore(records.directory, backup)
        restored = open_records(records.directory)
        assert names_of(restored, *before, *after) == [None, None, "one", None]
        assert restored.read(listed) == known
        with pytest.raises(InvalidRequestError, match="never given out again"):
            add(restored, "five")
        policy = restored.read(lambda reader: reader.policy())
        assert policy is not None
        assert (policy.version, policy.text, policy.from_file) == (1, None, True)
        assert check(restored).problems == ()
        restored.close()


def test_a_caller_of_attempts_alone_keeps_its_name(records: Database) -> None:
    records.write(
        lambda writer: writer._connection.execute(
            "INSERT INTO attempt(id, caller, channel, state, amount_cents, created_at)"
            " VALUES('x', 'gone', 'api', 'rejected', 1, 1)"
        )
    )
    with pytest.raises(InvalidRequestError, match="never given out again"):
        add(records, "gone")


def test_freezing_everything_is_told_apart_from_freezing_a_caller(records: Database) -> None:
    fill(records)
    freeze(records, "all")
    assert check(records).problems == ()
    assert records.read(lambda reader: reader.freeze()) is not None
    assert only(records, "three").frozen_reason == "lost"
    assert only(records, "default").frozen_since is None
