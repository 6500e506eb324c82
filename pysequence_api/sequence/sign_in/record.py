"""What is remembered of logins, over restarts, so that the account is never locked: refusals and used codes.

One file in the data directory, read and written under the lock of the sign-in. No credential is in it: what must be
known again is a slow hash with a salt of its own.
"""

import hashlib
import hmac
import json
import logging
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pysequence_api.errors import SignInError, SignInWaitsError
from pysequence_api.files import read_bytes, replace_atomically

log = logging.getLogger(__name__)

RECORD_FILE_NAME = ".sign-in.json"
WAITS_SECONDS = (60, 300, 900, 3600)
"""After so many refusals in a row the next login waits so long; after more, as long as the last."""
MAX_USED_CODES = 100
SCRYPT_COST = 2**14
SALT_BYTES = 16
UNFINISHED = "it was begun, and nobody knows how it ended"

_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Moment = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]


class Got(BaseModel):
    """How the newest tokens were got.

    Attributes:
        how: a word for people.
        token: the beginning of the access token's hash, which says whether the cache still holds it.
    """

    model_config = ConfigDict(frozen=True)

    how: str = Field(max_length=40)
    token: str = Field(max_length=64)


class Record(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True)

    salt: str = Field(default_factory=lambda: secrets.token_hex(SALT_BYTES), pattern=r"^[0-9a-f]{32}$")
    credentials: _Hash | None = None
    """Of which credentials the refusals are."""
    refusals: int = Field(0, ge=0, le=10**6)
    attempted_at: _Moment | None = None
    reason: str | None = Field(None, max_length=1000)
    used_codes: tuple[_Hash, ...] = Field((), max_length=MAX_USED_CODES)
    """Six digits that somebody typed."""
    code_used_until: _Moment = 0.0
    """When the last code that was made from a secret ran out, in Unix seconds."""
    got: Got | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why the next login may not be yet.

    Attributes:
        until: when it may, aware, in UTC.
        refusals: how many there were in a row.
        attempted_at: when the last was, aware, in UTC.
        reason: what the page said.
    """

    until: datetime
    refusals: int
    attempted_at: datetime
    reason: str

    def error(self) -> SignInWaitsError:
        """Say it to a person."""
        seconds = max(1, round((self.until - datetime.now(UTC)).total_seconds()))
        times = "once" if self.refusals == 1 else f"{self.refusals} times in a row"
        return SignInWaitsError(
            f"No login before {_shown(self.until)}, so that the account is not locked: it failed {times}, last at"
            f" {_shown(self.attempted_at)} ({self.reason}). Correct SEQUENCE_EMAIL, SEQUENCE_PASSWORD or"
            " SEQUENCE_TOTP, and it may be at once.",
            retry_after_seconds=seconds,
        )


class SignInRecord:
    """What is remembered, seen with the credentials that are set now. What is here blocks.

    Args:
        directory: the data directory.
        credentials: all that a login needs; with others, what was refused before says nothing.
    """

    def __init__(self, directory: Path, credentials: tuple[str, ...]) -> None:
        self.path = directory / RECORD_FILE_NAME
        self._credentials = json.dumps(credentials)
        self._hashes: dict[str, str] = {}

    def waiting(self) -> Waiting | None:
        """Say why the next login may not be yet, if so.

        Raises:
            SignInError: the file cannot be read.
        """
        record = self._read()
        if (
            record.attempted_at is None
            or not record.refusals
            or record.credentials != self._hash_of_credentials(record)
        ):
            return None
        now = time.time()
        attempted_at = min(record.attempted_at, now)  # a stamp from the future counts as now
        until = attempted_at + WAITS_SECONDS[min(record.refusals, len(WAITS_SECONDS)) - 1]
        if until <= now:
            return None
        return Waiting(_moment(until), record.refusals, _moment(attempted_at), record.reason or UNFINISHED)

    def begin(self) -> Record:
        """Write down that a password is about to be submitted: what comes now counts as refused, until it is not.

        Returns:
            What was there before, for `take_back`.

        Raises:
            SignInError: it cannot be written down, and so must not be tried.
        """
        record = self._read()
        credentials = self._hash_of_credentials(record)
        refusals = record.refusals if record.credentials == credentials else 0
        changes = {"credentials": credentials, "refusals": refusals + 1, "attempted_at": time.time()}
        self._write(record.model_copy(update=changes | {"reason": UNFINISHED}))
        return record

    def take_back(self, before: Record) -> None:
        """Undo `begin`, because it is certain that nothing was submitted. Codes that were used stay used."""
        kept = ("credentials", "refusals", "attempted_at", "reason")
        self._write(self._read().model_copy(update={name: getattr(before, name) for name in kept}))

    def explain(self, reason: str) -> None:
        """Add to what `begin` wrote what became of it."""
        self._write(self._read().model_copy(update={"reason": reason}))

    def succeed(self, how: str, access_token: str, *, login: bool) -> None:
        """Remember how tokens were got; after a login, forget the refusals.

        This never fails: tokens that are there are worth more than the note.
        """
        changes: dict[str, object] = {"got": Got(how=how, token=fingerprint(access_token))}
        if login:
            changes |= {"refusals": 0, "attempted_at": None, "reason": None, "credentials": None}
        try:
            self._write(self._read().model_copy(update=changes))
        except SignInError as error:
            log.warning("%s", error)

    def how(self, access_token: str) -> str | None:
        """Say how this access token was got, if it is the newest of ours."""
        got = self._read().got
        return got.how if got is not None and got.token == fingerprint(access_token) else None

    @property
    def code_used_until(self) -> float:
        """When the last used code from a secret ran out, in Unix seconds."""
        return self._read().code_used_until

    def use_code(self, ends_at: float) -> None:
        """Write down that a code from a secret is about to be typed.

        Raises:
            SignInError: it cannot be written down.
        """
        self._write(self._read().model_copy(update={"code_used_until": ends_at}))

    def is_used(self, fixed_code: str) -> bool:
        """Say whether six typed digits have been submitted before."""
        record = self._read()
        if not record.used_codes:
            return False
        hashed = _slow_hash(fixed_code, record.salt)
        return any(hmac.compare_digest(hashed, used) for used in record.used_codes)

    def use_fixed_code(self, fixed_code: str) -> None:
        """Write down that six typed digits are about to be submitted.

        Raises:
            SignInError: it cannot be written down.
        """
        record = self._read()
        used = (*record.used_codes, _slow_hash(fixed_code, record.salt))[-MAX_USED_CODES:]
        self._write(record.model_copy(update={"used_codes": used}))

    def _hash_of_credentials(self, record: Record) -> str:
        if record.salt not in self._hashes:  # slow is for guessing, not for every request that waits
            self._hashes[record.salt] = _slow_hash(self._credentials, record.salt)
        return self._hashes[record.salt]

    def _read(self) -> Record:
        try:
            content = read_bytes(self.path)
            return Record() if content is None else Record.model_validate_json(content)
        except OSError as error:
            raise SignInError(f"{self.path}, which remembers logins, cannot be read: {error.strerror}.") from error
        except ValidationError:
            raise SignInError(
                f"{self.path} is damaged. It says whether a login would lock the account, so there is none without it."
                " Delete it if you are sure that the last login was not refused."
            ) from None

    def _write(self, record: Record) -> None:
        try:
            replace_atomically(self.path, record.model_dump_json().encode())
        except OSError as error:
            raise SignInError(
                f"{self.path}, which remembers logins, cannot be written ({error.strerror}); without it there is no"
                " login, because a refused one could be repeated until the account is locked."
            ) from error


def fingerprint(access_token: str) -> str:
    """Name a token without giving it away; it is too random to be guessed."""
    return hashlib.sha256(access_token.encode()).hexdigest()[:16]


def _slow_hash(text: str, salt: str) -> str:
    salted = hashlib.scrypt(text.encode(), salt=bytes.fromhex(salt), n=SCRYPT_COST, r=8, p=1, dklen=32)
    return salted.hex()


def _moment(unix_seconds: float) -> datetime:
    return datetime.fromtimestamp(unix_seconds, UTC)


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
