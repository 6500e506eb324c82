"""The record of logins: how long the next one waits, and that the file holds no credentials."""

import json
import stat
from pathlib import Path

import pytest

from pysequence_api.errors import SignInError, SignInWaitsError
from pysequence_api.sequence.sign_in import record as refusals
from pysequence_api.sequence.sign_in.record import UNFINISHED, SignInRecord

CREDENTIALS = ("alex@example.com", "a-Long-Password-7", "JVUW42LNMFXGI33S")
NOON = 1_800_000_000.0


class Clock:
    """Unix seconds that a test can change."""

    now = NOON

    def time(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _fast_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the hashes of credentials cost little. In a login of `test_pages`, they cost what they should."""
    assert refusals.SCRYPT_COST >= 2**14
    monkeypatch.setattr(refusals, "SCRYPT_COST", 2)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(refusals, "time", clock)
    return clock


def opened(directory: Path, credentials: tuple[str, ...] = CREDENTIALS) -> SignInRecord:
    """Open the record, as after a restart."""
    return SignInRecord(directory, credentials)


def seconds_to_wait(directory: Path, clock: Clock, credentials: tuple[str, ...] = CREDENTIALS) -> float:
    waiting = opened(directory, credentials).waiting()
    return 0 if waiting is None else waiting.until.timestamp() - clock.now


def refuse(directory: Path, reason: str = "Wrong email or password") -> None:
    opened(directory).begin()
    opened(directory).explain(reason)


def test_each_refusal_makes_the_wait_longer(tmp_path: Path, clock: Clock) -> None:
    assert seconds_to_wait(tmp_path, clock) == 0
    for minutes in (1, 5, 15, 60, 60, 60):
        refuse(tmp_path)
        assert seconds_to_wait(tmp_path, clock) == minutes * 60
        clock.now += minutes * 60 - 1
        assert seconds_to_wait(tmp_path, clock) == 1
        clock.now += 1
        assert seconds_to_wait(tmp_path, clock) == 0


def test_the_error_names_the_wait_and_the_reason(tmp_path: Path, clock: Clock) -> None:
    refuse(tmp_path)
    refuse(tmp_path)
    waiting = opened(tmp_path).waiting()
    assert waiting is not None
    error = waiting.error()
    assert isinstance(error, SignInWaitsError)
    assert error.exit_code == 4
    for part in ("2027-01-15 08:05:00 UTC", "2 times", "2027-01-15 08:00:00 UTC", "Wrong email or password"):
        assert part in str(error)


def test_a_login_counts_before_the_password_is_submitted(tmp_path: Path, clock: Clock) -> None:
    opened(tmp_path).begin()
    waiting = opened(tmp_path).waiting()
    assert waiting is not None
    assert waiting.reason == UNFINISHED


def test_other_credentials_start_again(tmp_path: Path, clock: Clock) -> None:
    for _ in range(3):
        refuse(tmp_path)
    other = (*CREDENTIALS[:2], "123456")
    assert seconds_to_wait(tmp_path, clock, other) == 0
    opened(tmp_path, other).begin()
    assert seconds_to_wait(tmp_path, clock, other) == 60


def test_a_login_clears_the_refusals(tmp_path: Path, clock: Clock) -> None:
    refuse(tmp_path)
    opened(tmp_path).succeed("refresh", "token", login=False)
    assert seconds_to_wait(tmp_path, clock) == 60
    opened(tmp_path).succeed("login", "token", login=True)
    assert seconds_to_wait(tmp_path, clock) == 0
    refuse(tmp_path)
    assert seconds_to_wait(tmp_path, clock) == 60


def test_a_login_that_submitted_nothing_is_undone(tmp_path: Path, clock: Clock) -> None:
    refuse(tmp_path, "the first")
    clock.now += 60
    record = opened(tmp_path)
    before = record.begin()
    record.use_code(NOON + 90)
    record.undo(before)
    assert seconds_to_wait(tmp_path, clock) == 0
    assert json.loads((tmp_path / ".sign-in.json").read_text())["reason"] == "the first"
    assert opened(tmp_path).code_used_until == NOON + 90
    refuse(tmp_path)
    assert seconds_to_wait(tmp_path, clock) == 300


def test_a_clock_that_was_ahead_does_not_make_the_wait_longer(tmp_path: Path, clock: Clock) -> None:
    clock.now += 10**7
    refuse(tmp_path)
    clock.now = NOON
    assert seconds_to_wait(tmp_path, clock) == 60


def test_the_file_holds_no_credentials(tmp_path: Path, clock: Clock) -> None:
    record = opened(tmp_path)
    refuse(tmp_path)
    record.use_fixed_code("123456")
    record.succeed("login", "an-access-token", login=False)
    path = tmp_path / ".sign-in.json"
    content = path.read_text()
    assert json.loads(content)["got"]["how"] == "login"  # the key that earlier versions write
    for secret in (*CREDENTIALS, "123456", "an-access-token"):
        assert secret not in content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    other = tmp_path / "other"
    other.mkdir()
    refuse(other)
    assert json.loads((other / ".sign-in.json").read_text())["credentials"] not in content, "salted"


def test_used_six_digit_codes_are_recorded(tmp_path: Path) -> None:
    assert not opened(tmp_path).is_used("123456")
    for code in ("123456", "654321"):
        opened(tmp_path).use_fixed_code(code)
    opened(tmp_path).succeed("login", "token", login=True)
    assert opened(tmp_path).is_used("123456")
    assert opened(tmp_path).is_used("654321")
    assert not opened(tmp_path).is_used("111111")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"refusals": -1}', b'{"attempted_at": "soon"}', b'{"salt": "zz"}']
)
def test_a_damaged_record_stops_logins(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".sign-in.json").write_bytes(content)
    for work in (opened(tmp_path).waiting, opened(tmp_path).begin):
        with pytest.raises(SignInError, match=r"\.sign-in\.json is damaged"):
            work()
    opened(tmp_path).succeed("refresh", "token", login=False)  # a refresh works without the record
    assert (tmp_path / ".sign-in.json").read_bytes() == content


def test_no_login_if_it_cannot_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(refusals, "replace_atomically", full)
    with pytest.raises(SignInError):
        opened(tmp_path).begin()
