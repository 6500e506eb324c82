"""The audit trail proves itself."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysequence_api.errors import SafeguardsUnavailableError
from pysequence_api.records.audit import AuditTrail, Event, EventType
from pysequence_api.records.chain import Verification

from .conftest import SetClock, attempt_of, open_records

LINES = 12


def event(number: int) -> Event:
    return Event(
        timestamp=SetClock().now, event_type=EventType.REQUESTED, amount_cents=number, source="a", destination="b"
    )


@pytest.fixture
def trail(tmp_path: Path) -> AuditTrail:
    trail = AuditTrail(tmp_path)
    for number in range(1, LINES):
        trail.append(event(number))
    trail.append(event(LINES))
    return trail


def lines(directory: Path) -> list[bytes]:
    return (directory / ".audit.jsonl").read_bytes().splitlines(keepends=True)


def rewrite(directory: Path, content: list[bytes]) -> None:
    (directory / ".audit.jsonl").write_bytes(b"".join(content))


def test_an_untouched_trail_is_unbroken(tmp_path: Path, trail: AuditTrail) -> None:
    verification = trail.verify()
    assert verification.intact
    assert (verification.entries, verification.unbroken_since) == (LINES, "2026-11-23T12:00:00+00:00")
    assert verification.head == trail.head().sha256
    assert trail.head().count == LINES


@pytest.mark.parametrize("number", range(1, LINES + 1))
def test_a_changed_line_shows(tmp_path: Path, trail: AuditTrail, number: int) -> None:
    content = lines(tmp_path)
    content[number - 1] = content[number - 1].replace(b'"source": "a"', b'"source": "c"')
    rewrite(tmp_path, content)
    verification = trail.verify()
    assert verification.line in {number, number + 1}
    assert "changed" in (verification.problem or "")


@pytest.mark.parametrize("number", range(1, LINES + 1))
def test_a_removed_line_shows(tmp_path: Path, trail: AuditTrail, number: int) -> None:
    content = lines(tmp_path)
    del content[number - 1]
    rewrite(tmp_path, content)
    assert not trail.verify().intact


@pytest.mark.parametrize("number", range(1, LINES))
def test_lines_that_changed_places_show(tmp_path: Path, trail: AuditTrail, number: int) -> None:
    content = lines(tmp_path)
    content[number - 1], content[number] = content[number], content[number - 1]
    rewrite(tmp_path, content)
    assert not trail.verify().intact


@pytest.mark.parametrize("number", range(1, LINES + 1))
def test_an_inserted_line_shows(tmp_path: Path, trail: AuditTrail, number: int) -> None:
    content = lines(tmp_path)
    content.insert(number - 1, content[number - 1])
    rewrite(tmp_path, content)
    assert not trail.verify().intact


@pytest.mark.parametrize("number", range(LINES))
def test_a_cut_off_end_shows_and_stops_transfers(tmp_path: Path, trail: AuditTrail, number: int) -> None:
    rewrite(tmp_path, lines(tmp_path)[:number])
    verification = trail.verify()
    assert verification.problem is not None
    assert "cut off" in verification.problem
    with pytest.raises(SafeguardsUnavailableError):
        trail.append(event(99))


def test_a_trail_that_is_gone_beside_its_head_stops_transfers(tmp_path: Path, trail: AuditTrail) -> None:
    (tmp_path / ".audit.jsonl").unlink()
    with pytest.raises(SafeguardsUnavailableError, match="missing or empty"):
        trail.append(event(99))
    with pytest.raises(SafeguardsUnavailableError):
        open_records(tmp_path, SetClock()).announce(attempt_of(1))


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flipped_bit_shows(tmp_path_factory: pytest.TempPathFactory, position: int, bit: int) -> None:
    directory = tmp_path_factory.mktemp("trail")
    trail = AuditTrail(directory)
    for number in range(1, 5):
        trail.append(event(number))
    content = bytearray((directory / ".audit.jsonl").read_bytes())
    content[position % len(content)] ^= 1 << bit
    (directory / ".audit.jsonl").write_bytes(bytes(content))
    assert not trail.verify().intact


def test_a_crash_between_trail_and_head_is_no_tampering(tmp_path: Path, trail: AuditTrail) -> None:
    old_head = (tmp_path / ".audit.head.json").read_bytes()
    trail.append(event(LINES + 1), event(LINES + 2))
    (tmp_path / ".audit.head.json").write_bytes(old_head)
    assert trail.verify().intact
    trail.append(event(LINES + 3))
    assert trail.head().count == LINES + 3
    assert trail.verify().intact


def test_a_line_that_a_crash_cut_short_is_closed_off_and_reported_as_what_it_is(
    tmp_path: Path, trail: AuditTrail
) -> None:
    with (tmp_path / ".audit.jsonl").open("ab") as file:
        file.write(b'{"timestamp": "2026-11-')
    assert trail.verify() == trail.verify().model_copy(update={"cut_short": (LINES + 1,), "problem": None})
    trail.append(event(LINES + 2))
    verification = trail.verify()
    assert verification.intact
    assert verification.cut_short == (LINES + 1,)
    assert json.loads(lines(tmp_path)[-1])["amount_cents"] == LINES + 2


def test_the_trail_of_another_program_goes_on(tmp_path: Path) -> None:
    theirs = b'{"timestamp": "2026-11-01T00:00:00+00:00", "event_type": "transfer_requested", "amount_cents": 5}\n'
    rewrite(tmp_path, [theirs] * 3)
    trail = AuditTrail(tmp_path)
    trail.append(event(4))
    with (tmp_path / ".audit.jsonl").open("ab") as file:
        file.write(theirs)  # it still runs
    trail.append(event(6))
    verification = trail.verify()
    assert verification.intact
    assert (verification.entries, verification.unbroken_since) == (6, "2026-11-23T12:00:00+00:00")


def test_a_head_that_was_noted_elsewhere_convicts_who_rewrote_both_files(tmp_path: Path, trail: AuditTrail) -> None:
    noted = trail.head().sha256
    trail.append(event(LINES + 1))
    assert trail.verify(expect=noted).intact
    for path in tmp_path.iterdir():
        path.unlink()
    for number in range(1, LINES + 5):
        trail.append(event(number + 1))
    assert trail.verify().intact
    forged: Verification = trail.verify(expect=noted)
    assert forged.problem is not None


def test_progress_counts_every_byte(tmp_path: Path, trail: AuditTrail) -> None:
    seen: list[int] = []
    trail.verify(progress=seen.append)
    assert sum(seen) == trail.size_bytes()
