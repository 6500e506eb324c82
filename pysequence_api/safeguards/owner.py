"""The owner's credentials: codes of an authenticator, each used once, and the password of the owner's page.

No caller uses this module. Anyone who can read the data directory or the settings can make codes.
"""

import base64
import hashlib
import hmac
import logging
import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil

import pyotp
from pydantic import SecretStr

from pysequence_api.errors import InvalidRequestError, WrongCodeError, WrongPasswordError
from pysequence_api.records.approvals import TOTP_STEP_SECONDS, OwnerSecrets
from pysequence_api.records.attempts import Reader, Writer
from pysequence_api.records.audit import Event, EventType
from pysequence_api.records.database import Database
from pysequence_api.settings import OTP_SECRET_CHARACTERS, variable

CODE_DIGITS = 6
CLOCK_STEPS = (0, -1, 1)
"""A code of the step before or after is accepted, too, because the clock of a phone may differ."""
FREE_FAILURES = 2
"""How many wrong codes or passwords in a row cause no pause."""
MAX_CODE_PAUSE_SECONDS = 900
MAX_PASSWORD_PAUSE_SECONDS = 60
"""Shorter, because anyone who reaches the page can cause it, and the owner has to wait, too."""
MIN_PASSWORD_CHARACTERS = 12
MAX_PASSWORD_CHARACTERS = 1000
SCRYPT = {"n": 2**15, "r": 8, "p": 1}
SCRYPT_MEMORY_BYTES = 64 * 1024 * 1024
SECRET_BYTES = 32

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """What the cookies of the owner's page are signed with.

    Attributes:
        secret: the key of the signature.
        generation: cookies of an earlier one are signed out.
    """

    secret: bytes = field(repr=False)
    generation: int


class Owner:
    """Checks codes and passwords of the owner. Every method blocks; call them from worker threads.

    Args:
        records: the database.
        totp: the secret in the settings, which takes precedence over the one in the database.
    """

    def __init__(self, records: Database, totp: SecretStr | None = None) -> None:
        self._records = records
        self._totp = totp

    @property
    def is_set_by_settings(self) -> bool:
        """Whether the settings have the secret of the authenticator."""
        return self._totp is not None

    def has_code(self) -> bool:
        """Return whether there is an authenticator."""
        return self._records.read(self._secret) is not None

    def has_password(self) -> bool:
        """Say whether the owner's page has a password."""
        return self._records.read(lambda reader: reader.owner_secrets()).password_hash is not None

    def check_pause(self, reader: Reader) -> WrongCodeError | None:
        """Return an error if no code is accepted now: the last ones were wrong, or there is no authenticator."""
        if self._secret(reader) is None:
            return WrongCodeError("There is no authenticator yet. Set one up: pysequence-api owner setup")
        until = reader.owner_secrets().totp_not_before
        seconds = _seconds_until(until, reader.now, MAX_CODE_PAUSE_SECONDS)
        if not seconds:
            return None
        return WrongCodeError(f"Too many wrong codes. Wait {seconds} seconds.", retry_after_seconds=seconds)

    def take_code(self, writer: Writer, code: str) -> WrongCodeError | None:
        """Use a code within a transaction, which must be committed even if the code is wrong.

        Returns:
            Why it is not accepted; ``None`` if it is.
        """
        error = self.check_pause(writer)
        return error or _take(writer, self._secret(writer) or "", code)

    def use_code(self, code: str) -> None:
        """Use a code, in a transaction of its own.

        Raises:
            WrongCodeError: it is not one that the authenticator shows now, or it was used before.
            SafeguardsUnavailableError: the records cannot be written.
        """
        error = self._records.write(lambda writer: self.take_code(writer, code))
        if error is not None:
            raise error

    def set_code(self, secret: str, code: str, *, old_code: str | None = None, lost: bool = False) -> None:
        """Keep the secret of a new authenticator in the database.

        Args:
            secret: in base32, from `new_secret`.
            code: that the new authenticator shows.
            old_code: that the old authenticator shows, if there is one.
            lost: the old authenticator is lost. The audit trail and the log say so.

        Raises:
            InvalidRequestError: the settings have the secret.
            WrongCodeError: a code is wrong; nothing was changed.
            SafeguardsUnavailableError: the records cannot be written.
        """
        self.require_own_secret()

        def change(writer: Writer) -> WrongCodeError | None:
            secrets = writer.owner_secrets()
            if secrets.totp_secret is not None and not lost and (error := self.take_code(writer, old_code or "")):
                return error
            step = _step_of(secret, code, writer.now)
            if step is None:
                return WrongCodeError(
                    "The code of the new authenticator is wrong. Enter the one that it shows now. Nothing was changed."
                )
            writer.set_owner_secrets(
                totp_secret=secret, totp_set_at=writer.now, totp_step=step, totp_failures=0, totp_not_before=writer.now
            )
            if secrets.totp_secret is not None:
                writer.set_owner_secrets(session_generation=secrets.session_generation + 1)
            is_lost = True if lost and secrets.totp_secret is not None else None
            writer.add_event(_event(writer, EventType.OWNER_CODE_CHANGED, lost=is_lost))
            return None

        error = self._records.write(change)
        if error is not None:
            raise error
        if lost:
            log.warning("the owner's authenticator was replaced as lost, without a code of the old one")

    def require_own_secret(self) -> None:
        """Check that the authenticator's secret can be kept in the database.

        Raises:
            InvalidRequestError: the settings have one, which takes precedence.
        """
        if self.is_set_by_settings:
            raise InvalidRequestError(
                f"{variable('owner_totp')} is set, and is the secret of your authenticator. Unset it to keep one in the"
                " data directory."
            )

    def set_password(self, password: str, code: str) -> None:
        """Set the password of the owner's page, and sign out every session.

        Args:
            password: of at least `MIN_PASSWORD_CHARACTERS` characters.
            code: that the authenticator shows.

        Raises:
            InvalidRequestError: the password is too short or too long.
            WrongCodeError: the code is wrong.
            SafeguardsUnavailableError: the records cannot be written.
        """
        if not MIN_PASSWORD_CHARACTERS <= len(password) <= MAX_PASSWORD_CHARACTERS:
            raise InvalidRequestError(
                f"The password must have {MIN_PASSWORD_CHARACTERS} to {MAX_PASSWORD_CHARACTERS} characters."
            )
        hashed = hash_password(password)

        def change(writer: Writer) -> WrongCodeError | None:
            error = self.take_code(writer, code)
            if error is None:
                writer.set_owner_secrets(
                    password_hash=hashed,
                    password_set_at=writer.now,
                    password_failures=0,
                    password_not_before=writer.now,
                    session_generation=writer.owner_secrets().session_generation + 1,
                )
                writer.add_event(_event(writer, EventType.OWNER_PASSWORD_CHANGED))
            return error

        error = self._records.write(change)
        if error is not None:
            raise error

    def sign_in(self, password: str, code: str) -> None:
        """Check the password of the owner's page, and use a code.

        Until both are right, the next password has to wait, so that no pause tells that a guessed one is right.

        Raises:
            WrongPasswordError: it is wrong, or no password is accepted now, because the last ones were wrong.
            WrongCodeError: the code is wrong, was used, or none is accepted now.
            SafeguardsUnavailableError: the records cannot be written.
        """
        self._check_password(password)
        self.use_code(code)
        self._records.write(
            lambda writer: writer.set_owner_secrets(password_failures=0, password_not_before=writer.now)
        )

    def _check_password(self, password: str) -> None:
        def begin(writer: Writer) -> str | WrongPasswordError:
            # Counted as wrong before it is checked. Otherwise, many tries at once would avoid the pause.
            secrets = writer.owner_secrets()
            seconds = _seconds_until(secrets.password_not_before, writer.now, MAX_PASSWORD_PAUSE_SECONDS)
            if seconds:
                return WrongPasswordError(
                    f"Too many wrong passwords. Wait {seconds} seconds.", retry_after_seconds=seconds
                )
            failures = secrets.password_failures + 1
            pause = _pause(failures, MAX_PASSWORD_PAUSE_SECONDS)
            writer.set_owner_secrets(password_failures=failures, password_not_before=writer.now + pause)
            return secrets.password_hash or hash_password("")

        found = self._records.write(begin)
        if isinstance(found, WrongPasswordError):
            raise found
        if not _is_password(password[:MAX_PASSWORD_CHARACTERS], found):
            raise WrongPasswordError("The password is wrong.")

    def session(self) -> Session:
        """Return the secret and the generation that cookies of the owner's page are signed with."""
        secrets = self._records.read(lambda reader: reader.owner_secrets())
        if secrets.session_secret is None:
            secrets = self._records.write(_with_session)
        assert secrets.session_secret is not None
        return Session(secrets.session_secret, secrets.session_generation)

    def sign_out_everywhere(self) -> None:
        """Sign out every session of the owner's page."""

        def sign_out(writer: Writer) -> None:
            writer.set_owner_secrets(session_generation=writer.owner_secrets().session_generation + 1)
            writer.add_event(_event(writer, EventType.OWNER_SIGNED_OUT))

        self._records.write(sign_out)

    def _secret(self, reader: Reader) -> str | None:
        return self._totp.get_secret_value() if self._totp is not None else reader.owner_secrets().totp_secret


def new_secret() -> str:
    """Make the secret of a new authenticator, in base32."""
    return pyotp.random_base32(OTP_SECRET_CHARACTERS)


def address_of(secret: str) -> str:
    """Return the ``otpauth://`` address of a secret, which a QR code shows to an authenticator."""
    return pyotp.TOTP(secret).provisioning_uri(name="owner", issuer_name="pysequence-api")


def hash_password(password: str) -> str:
    """Return a salted hash of a password, with the parameters of scrypt."""
    salt = os.urandom(16)
    return "$".join(["scrypt", *map(str, SCRYPT.values()), _text(salt), _text(_scrypt(password, salt, **SCRYPT))])


def _is_password(password: str, hashed: str) -> bool:
    _, n, r, p, salt, digest = hashed.split("$")
    found = _scrypt(password, base64.b64decode(salt), n=int(n), r=int(r), p=int(p))
    return hmac.compare_digest(found, base64.b64decode(digest)) and password != ""


def _scrypt(password: str, salt: bytes, *, n: int, r: int, p: int) -> bytes:
    content = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(content, salt=salt, n=n, r=r, p=p, maxmem=SCRYPT_MEMORY_BYTES, dklen=SECRET_BYTES)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _take(writer: Writer, secret: str, code: str) -> WrongCodeError | None:
    secrets = writer.owner_secrets()
    step = _step_of(secret, code, writer.now)
    if step is None:
        failures = secrets.totp_failures + 1
        pause = _pause(failures, MAX_CODE_PAUSE_SECONDS)
        writer.set_owner_secrets(totp_failures=failures, totp_not_before=writer.now + pause)
        log.warning("a wrong code was entered (%d in a row)", failures)
        return WrongCodeError(
            "The code is wrong. Enter the one that your authenticator shows now. Nothing was changed."
        )
    if step <= secrets.totp_step:
        return WrongCodeError("This code was already used. Wait for the next one. Nothing was changed.")
    writer.set_owner_secrets(totp_step=step, totp_failures=0, totp_not_before=writer.now)
    return None


def _step_of(secret: str, code: str, now: datetime) -> int | None:
    """Return the time step of a code; ``None`` if it is not a current one."""
    given = "".join(code.split())
    current = int(now.timestamp()) // TOTP_STEP_SECONDS
    if len(given) != CODE_DIGITS or not (given.isascii() and given.isdecimal()):
        return None
    totp = pyotp.TOTP(secret)
    found = [
        step for one in CLOCK_STEPS if hmac.compare_digest(totp.at((step := current + one) * TOTP_STEP_SECONDS), given)
    ]
    return found[0] if found else None


def _pause(failures: int, most_seconds: int) -> timedelta:
    if failures <= FREE_FAILURES:
        return timedelta()
    return timedelta(seconds=min(5 * 2 ** min(failures - FREE_FAILURES - 1, 20), most_seconds))


def _seconds_until(until: datetime, now: datetime, most: int) -> int:
    """Return how long to wait; never longer than a pause, even if the clock was set back."""
    return max(0, min(most, ceil((until - now).total_seconds())))


def _with_session(writer: Writer) -> OwnerSecrets:
    if writer.owner_secrets().session_secret is None:
        writer.set_owner_secrets(session_secret=os.urandom(SECRET_BYTES))
    return writer.owner_secrets()


def _event(writer: Writer, event_type: EventType, lost: bool | None = None) -> Event:
    return Event(timestamp=writer.now, event_type=event_type, lost=lost)
