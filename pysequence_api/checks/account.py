"""The token, Sequence itself by one read, and the clock against its ``Date``."""

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import anyio

from pysequence_api.checks.finding import Finding, ok, problem, problem_of, warning
from pysequence_api.errors import SafeguardsUnavailableError, SequenceError, SignInError
from pysequence_api.files import read_bytes
from pysequence_api.gateway import open_gateway
from pysequence_api.settings import Settings, variable

TOKEN_FILE_NAME = ".tokens.json"
SOON_SECONDS = 3600.0
MAX_CLOCK_OFFSET_SECONDS = 120.0
"""As the safeguards have it."""
NOTED_CLOCK_OFFSET_SECONDS = 10.0
SIGN_IN = f"Set {variable('access_token')}, or sign in again."


def check_account(settings: Settings) -> Iterator[Finding]:
    """See whether there is a token, whether Sequence takes it, and what time it is there."""
    yield _check_token(settings)
    began = time.monotonic()
    try:
        offset_seconds = anyio.run(_read, settings)
    except SequenceError as error:
        fix = "" if isinstance(error, SignInError) else "Check the network, and Sequence's own status."
        yield problem_of("Sequence", error, fix)
        yield warning("clock", "cannot be held against Sequence's", "See what is wrong with Sequence.")
        return
    where = "the sandbox" if settings.sandbox else "Sequence"
    yield ok("Sequence", f"{where} answered in {1000 * (time.monotonic() - began):.0f} ms")
    yield _check_clock(offset_seconds)


async def _read(settings: Settings) -> float | None:
    async with open_gateway(settings) as gateway:
        await gateway.client.activity_summary()
        return gateway.client.clock_offset_seconds


def _check_clock(offset_seconds: float | None) -> Finding:
    if offset_seconds is None:
        return warning("clock", "Sequence did not tell its time", "Nothing; but see that this clock is right.")
    said = f"{abs(offset_seconds):.0f} seconds from Sequence's"
    if abs(offset_seconds) > MAX_CLOCK_OFFSET_SECONDS:
        return problem("clock", said, "Set this machine's clock; until then no transfer.", SafeguardsUnavailableError)
    if abs(offset_seconds) > NOTED_CLOCK_OFFSET_SECONDS:
        return warning("clock", said, "Have this machine's clock set by NTP.")
    return ok("clock", "agrees with Sequence's")


def _check_token(settings: Settings) -> Finding:
    if settings.sandbox:
        return ok("token", "the sandbox makes its own")
    if settings.access_token is not None:
        expires_at = _expiry_of(settings.access_token.get_secret_value())
        return _judge(variable("access_token"), expires_at, renewable=False)
    cached = _read_cache(settings)
    access_token = cached.get("access_token")
    if not isinstance(access_token, str) or not access_token:
        if settings.email is not None and settings.password is not None:
            return ok("token", "none yet; signing in gets one")
        return problem("token", "there is none", SIGN_IN, SignInError)
    said = cached.get("expires_at")
    times = [float(said)] if isinstance(said, int | float) else []
    times += [own] if (own := _expiry_of(access_token)) is not None else []
    renewable = isinstance(cached.get("refresh_token"), str) and settings.auth0_client_id is not None
    return _judge(TOKEN_FILE_NAME, min(times, default=None), renewable=renewable)


def _judge(where: str, expires_at: float | None, *, renewable: bool) -> Finding:
    if expires_at is None:
        return ok("token", f"from {where}, which does not say until when it is good")
    until = f"from {where}, good until {datetime.fromtimestamp(expires_at, UTC).astimezone():%Y-%m-%d %H:%M %Z}"
    left_seconds = expires_at - time.time()
    if renewable:
        return ok("token", f"{until}, then renewed")
    if left_seconds <= 0:
        return problem("token", f"the one from {where} has run out", SIGN_IN, SignInError)
    return warning("token", f"{until}, which is soon", SIGN_IN) if left_seconds < SOON_SECONDS else ok("token", until)


def _read_cache(settings: Settings) -> dict[str, object]:
    try:
        document = json.loads(read_bytes(settings.data_directory / TOKEN_FILE_NAME) or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _expiry_of(token: str) -> float | None:
    """Read when a JWT says that it runs out. It is not verified: Sequence does that."""
    try:
        payload = token.split(".")[1]
        expiry = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"]
        datetime.fromtimestamp(float(expiry), UTC)
        return float(expiry)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, OSError):
        return None
