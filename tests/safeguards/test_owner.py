"""The owner's codes and password: each code once, wrong ones wait, and what is kept tells neither."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyotp
import pytest
from pydantic import SecretStr

from pysequence_api.errors import InvalidRequestError, SettingsError, WrongCodeError, WrongPasswordError
from pysequence_api.records import open_records
from pysequence_api.records.database import Database
from pysequence_api.safeguards.owner import Owner, address_of, new_secret
from pysequence_api.settings import Settings
from tests.approvals import TOTP_SECRET

PASSWORD = "correct horse battery"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def shift(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def code(self, secret: str = TOTP_SECRET) -> str:
        """Return what an authenticator shows."""
        return pyotp.TOTP(secret).at(self.now)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def records(tmp_path: Path, clock: Clock) -> Iterator[Database]:
    records = open_records(tmp_path, clock)
    yield records
    records.close()


@pytest.fixture
def owner(records: Database) -> Owner:
    return Owner(records, SecretStr(TOTP_SECRET))


def test_a_code_works_once_and_the_ones_beside_it_too(owner: Owner, clock: Clock) -> None:
    old, code = pyotp.TOTP(TOTP_SECRET).at(NOON - timedelta(seconds=60)), clock.code()
    with pytest.raises(WrongCodeError):
        owner.use_code(old)
    owner.use_code(f" {code[:3]} {code[3:]} ")
    with pytest.raises(WrongCodeError, match="already used"):
        owner.use_code(code)
    owner.use_code(pyotp.TOTP(TOTP_SECRET).at(NOON + timedelta(seconds=30)))


def test_wrong_codes_wait_longer_and_longer_up_to_a_bound(owner: Owner, clock: Clock) -> None:
    pauses = []
    for _ in range(14):
        with pytest.raises(WrongCodeError) as error:
            owner.use_code("000000" if clock.code() != "000000" else "000001")
        assert error.value.retry_after_seconds is None
        with pytest.raises(WrongCodeError) as error:
            owner.use_code("x")
        pauses.append(error.value.retry_after_seconds or 0)
        clock.shift(pauses[-1])
    assert pauses[1:9] == [5, 10, 20, 40, 80, 160, 320, 640]
    assert max(pauses) == 900
    owner.use_code(clock.code())


def test_a_clock_that_was_set_back_keeps_nobody_out_for_long(owner: Owner, clock: Clock) -> None:
    for _ in range(3):
        with pytest.raises(WrongCodeError):
            owner.use_code("x")
    clock.shift(-30 * 86_400)
    with pytest.raises(WrongCodeError) as error:
        owner.use_code(clock.code())
    assert (error.value.retry_after_seconds or 0) <= 900


def test_a_password_needs_a_code_and_is_kept_as_a_hash(owner: Owner, records: Database, clock: Clock) -> None:
    assert not owner.has_password()
    with pytest.raises(WrongPasswordError):
        owner.sign_in("", clock.code())
    with pytest.raises(InvalidRequestError):
        owner.set_password("short", clock.code())
    with pytest.raises(WrongCodeError):
        owner.set_password(PASSWORD, "000000")
    assert not owner.has_password()
    session = owner.session()
    owner.set_password(PASSWORD, clock.code())
    assert owner.session().generation == session.generation + 1
    clock.shift(30)
    owner.sign_in(PASSWORD, clock.code())
    kept = repr(records.read(lambda reader: reader.owner_secrets()))
    assert PASSWORD not in kept + (records.path.parent / ".audit.jsonl").read_text()
    assert (records.read(lambda reader: reader.owner_secrets()).password_hash or "").startswith("scrypt$32768$8$1$")


def test_wrong_passwords_wait(owner: Owner, clock: Clock) -> None:
    owner.set_password(PASSWORD, clock.code())
    for _ in range(3):
        with pytest.raises(WrongPasswordError, match="is wrong"):
            owner.sign_in("something else", clock.code())
    with pytest.raises(WrongPasswordError) as error:
        owner.sign_in(PASSWORD, clock.code())
    assert error.value.retry_after_seconds == 5
    clock.shift(30)
    with pytest.raises(WrongCodeError):
        owner.sign_in(PASSWORD, "000000")
    with pytest.raises(WrongPasswordError, match="Wait 10 seconds"):
        owner.sign_in(PASSWORD, clock.code())
    for _ in range(2):
        clock.shift(30)
        owner.sign_in(PASSWORD, clock.code())


def test_a_session_outlives_the_process_and_ends_everywhere(owner: Owner, records: Database) -> None:
    session = owner.session()
    assert Owner(records).session() == session
    assert session.secret.hex() not in repr(session)
    owner.sign_out_everywhere()
    after = owner.session()
    assert (after.secret, after.generation) == (session.secret, session.generation + 1)


def test_the_secret_of_the_settings_goes_before_the_one_of_setup(records: Database, clock: Clock) -> None:
    own, kept = Owner(records), new_secret()
    assert not own.has_code()
    with pytest.raises(WrongCodeError):
        own.set_code(kept, "000000" if clock.code(kept) != "000000" else "000001")
    own.set_code(kept, clock.code(kept))
    assert f"secret={kept}" in address_of(kept)
    both = Owner(records, SecretStr(TOTP_SECRET))
    with pytest.raises(InvalidRequestError):
        both.set_code(new_secret(), "000000", lost=True)
    clock.shift(30)
    with pytest.raises(WrongCodeError):
        both.use_code(clock.code(kept))
    both.use_code(clock.code())


def test_a_lost_authenticator_is_told(records: Database, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    owner, first, second = Owner(records), new_secret(), new_secret()
    owner.set_code(first, clock.code(first), lost=True)
    generation = owner.session().generation
    with pytest.raises(WrongCodeError):
        owner.set_code(second, clock.code(second), old_code=clock.code(first))  # it was already used
    owner.set_code(second, clock.code(second), lost=True)
    lines = [json.loads(line) for line in (records.path.parent / ".audit.jsonl").read_text().splitlines()]
    assert [(line["event_type"], line.get("lost")) for line in lines] == [
        ("owner_code_changed", None),
        ("owner_code_changed", True),
    ]
    assert "replaced as lost" in caplog.text
    assert owner.session().generation == generation + 1
    assert first not in caplog.text + str(lines)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (TOTP_SECRET, TOTP_SECRET),
        ("jbsw y3dp-ehpk 3pxp jbsw y3dp ehpk 3pxp=", TOTP_SECRET),
        (address_of(TOTP_SECRET), TOTP_SECRET),
        ("123456", None),
        ("JBSWY3DPEHPK3PXP", None),
        (f"otpauth://totp/x?secret={TOTP_SECRET}&digits=8", None),
        (f"otpauth://totp/x?secret={TOTP_SECRET}&algorithm=SHA256", None),
    ],
)
def test_the_setting_is_a_secret_that_an_authenticator_can_use(given: str, kept: str | None) -> None:
    if kept is None:
        with pytest.raises(SettingsError, match="SEQUENCE_OWNER_TOTP") as error:
            Settings.load(owner_totp=given)
        assert given not in str(error.value)
        return
    found = Settings.load(owner_totp=given).owner_totp
    assert found is not None
    assert found.get_secret_value() == kept
