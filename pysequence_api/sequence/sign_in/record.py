"""The record of rejected logins and used codes. It survives restarts, so that retries never lock the account.

It is one file in the data directory, read and written under the sign-in lock. It holds no credentials, only slow salted
hashes of them.
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
"""The wait before the next login, by the number of refusals in a row; the last one applies to all further ones."""
MAX_USED_CODES = 100
SCRYPT_COST = 2**14
SALT_BYTES = 16
UNFINISHED = "it was started, and its result is unknown"

_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Moment = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]


class TokenOrigin(BaseModel):
    """Where the newest tokens came from, and how long they live. Times are in Unix seconds, by this machine's clock.

    Attributes:
        how: the source, for people.
        token: the start of a hash of the access token, to check that the cache still holds that token.
        saved_at: when the tokens were saved; ``None`` if an earlier version did.
        expires_at: when the access token expires; ``None`` if that is unknown.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    how: str = Field(max_length=40)
    token: str = Field(max_length=64)
    saved_at: _Moment | None = None
    expires_at: _Moment | None = None


class Record(BaseModel):
    """The content of the file."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    salt: str = Field(default_factory=lambda: secrets.token_hex(SALT_BYTES), pattern=r"^[0-9a-f]{32}$")
    credentials: _Hash | None = None
    """The credentials that were refused."""
    refusals: int = Field(0, ge=0, le=10**6)
    attempted_at: _Moment | None = None
    reason: str | None = Field(None, max_length=1000)
    used_codes: tuple[_Hash, ...] = Field((), max_length=MAX_USED_CODES)
    """Used six-digit codes that were set directly."""
    code_used_until: _Moment = 0.0
    """When the last used code from a secret expired, in Unix seconds."""
    token_origin: TokenOrigin | None = Field(None, alias="got")


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why the next login has to wait. Times are aware, in UTC.

    Attributes:
        until: when the next login is allowed.
        refusals: the number of failed logins in a row.
        attempted_at: when the last login was tried.
        reason: what the page showed.
    """

    until: datetime
    refusals: int
    attempted_at: datetime
    reason: str

    def error(self) -> SignInWaitsError:
        """Return the error that tells a person to wait."""
        seconds = max(1, round((self.until - datetime.now(UTC)).total_seconds()))
        times = "once" if self.refusals == 1 else f"{self.refusals} times in a row"
        return SignInWaitsError(
            f"No login before {_shown(self.until)}, to avoid locking the account: it failed {times}, last at"
            f" {_shown(self.attempted_at)} ({self.reason}). To log in now, correct SEQUENCE_EMAIL, SEQUENCE_PASSWORD or"
            " SEQUENCE_TOTP.",
            retry_after_seconds=seconds,
        )


class SignInRecord:
    """The record of logins, for one set of credentials. All methods block.

    Args:
        directory: the data directory.
        credentials: the current credentials. Refusals of other credentials do not count.
    """

    def __init__(self, directory: Path, credentials: tuple[str, ...]) -> None:
        self.path = directory / RECORD_FILE_NAME
        self._credentials = json.dumps(credentials)
        self._hashes: dict[str, str] = {}

    def waiting(self) -> Waiting | None:
        """Return why the next login has to wait; ``None`` if it does not.

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
        attempted_at = min(record.attempted_at, now)  # a time in the future counts as now
        until = attempted_at + WAITS_SECONDS[min(record.refusals, len(WAITS_SECONDS)) - 1]
        if until <= now:
            return None
        return Waiting(_moment(until), record.refusals, _moment(attempted_at), record.reason or UNFINISHED)

    def begin(self) -> Record:
        """Record that a password is about to be submitted. The login counts as refused until `succeed` or `undo`.

        Returns:
            The previous record, for `undo`.

        Raises:
            SignInError: the file cannot be written, so the login must not be tried.
        """
        record = self._read()
        credentials = self._hash_of_credentials(record)
        refusals = record.refusals if record.credentials == credentials else 0
        changes = {"credentials": credentials, "refusals": refusals + 1, "attempted_at": time.time()}
        self._write(record.model_copy(update=changes | {"reason": UNFINISHED}))
        return record

    def undo(self, before: Record) -> None:
        """Undo `begin`, because no password was submitted. Used codes stay used."""
        restored = ("credentials", "refusals", "attempted_at", "reason")
        self._write(self._read().model_copy(update={name: getattr(before, name) for name in restored}))

    def explain(self, reason: str) -> None:
        """Record why the login that `begin` recorded has failed."""
        self._write(self._read().model_copy(update={"reason": reason}))

    def succeed(self, how: str, access_token: str, expires_at: float | None = None, *, login: bool) -> TokenOrigin:
        """Record the source of new tokens; after a login, also clear the refusals.

        This never fails: the tokens matter more than the record.

        Args:
            how: the source, for people.
            access_token: the new access token.
            expires_at: when it expires, by this machine's clock, if that is known.
            login: whether a login brought it.

        Returns:
            What was recorded.
        """
        origin = TokenOrigin(how=how, token=fingerprint(access_token), saved_at=time.time(), expires_at=expires_at)
        changes: dict[str, object] = {"token_origin": origin}
        if login:
            changes |= {"refusals": 0, "attempted_at": None, "reason": None, "credentials": None}
        try:
            self._write(self._read().model_copy(update=changes))
        except SignInError as error:
            log.warning("%s", error)
        return origin

    def origin(self, access_token: str) -> TokenOrigin | None:
        """Return where this access token came from, if it is the newest one that this program saved.

        Raises:
            SignInError: the file cannot be read.
        """
        origin = self._read().token_origin
        return origin if origin is not None and origin.token == fingerprint(access_token) else None

    @property
    def code_used_until(self) -> float:
        """When the last used code from a secret expired, in Unix seconds."""
        return self._read().code_used_until

    def use_code(self, ends_at: float) -> None:
        """Record that a code from a secret is about to be used.

        Raises:
            SignInError: the file cannot be written.
        """
        self._write(self._read().model_copy(update={"code_used_until": ends_at}))

    def is_used(self, fixed_code: str) -> bool:
        """Return whether a six-digit code was used before."""
        record = self._read()
        if not record.used_codes:
            return False
        hashed = _slow_hash(fixed_code, record.salt)
        return any(hmac.compare_digest(hashed, used) for used in record.used_codes)

    def use_fixed_code(self, fixed_code: str) -> None:
        """Record that a six-digit code is about to be used.

        Raises:
            SignInError: the file cannot be written.
        """
        record = self._read()
        used = (*record.used_codes, _slow_hash(fixed_code, record.salt))[-MAX_USED_CODES:]
        self._write(record.model_copy(update={"used_codes": used}))

    def _hash_of_credentials(self, record: Record) -> str:
        if record.salt not in self._hashes:  # slow on purpose, so compute it only once
            self._hashes[record.salt] = _slow_hash(self._credentials, record.salt)
        return self._hashes[record.salt]

    def _read(self) -> Record:
        try:
            content = read_bytes(self.path)
            return Record() if content is None else Record.model_validate_json(content)
        except OSError as error:
            raise SignInError(f"The record of logins {self.path} cannot be read ({error.strerror}).") from error
        except ValidationError:
            raise SignInError(
                f"The record of logins {self.path} is damaged, so no login is made: it could lock the account. Delete"
                " the file if you are sure that the last login was not refused."
            ) from None

    def _write(self, record: Record) -> None:
        try:
            replace_atomically(self.path, record.model_dump_json(by_alias=True).encode())
        except OSError as error:
            raise SignInError(
                f"The record of logins {self.path} cannot be written ({error.strerror}), so no login is made: repeated"
                " refusals could lock the account. Free some space or make the data directory writable."
            ) from error


def fingerprint(access_token: str) -> str:
    """Return a short hash that identifies a token. A token is too random to be guessed from it."""
    return hashlib.sha256(access_token.encode()).hexdigest()[:16]


def _slow_hash(text: str, salt: str) -> str:
    salted = hashlib.scrypt(text.encode(), salt=bytes.fromhex(salt), n=SCRYPT_COST, r=8, p=1, dklen=32)
    return salted.hex()


def _moment(unix_seconds: float) -> datetime:
    return datetime.fromtimestamp(unix_seconds, UTC)


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
