"""The access token or the key, Sequence itself, the default ids, and this machine's clock. Sends one read of each kind.

If that read fails, the clock is compared with the sign-in service's by a request without credentials: a wrong clock can
be why signing in fails.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import anyio
import httpx

from pysequence_api.clock import MAX_CLOCK_OFFSET_SECONDS
from pysequence_api.doctor.finding import Finding, ok, problem, problem_of, warning
from pysequence_api.errors import AccessDeniedError, ClockError, SequenceError, SettingsError, SignInError
from pysequence_api.gateway import Gateway, open_gateway, open_sign_in
from pysequence_api.models import Accounts
from pysequence_api.sequence.proxies import proxy_for
from pysequence_api.sequence.sign_in.login import MAX_CODE_CLOCK_OFFSET_SECONDS
from pysequence_api.sequence.sign_in.service import SignInStatus
from pysequence_api.sequence.transport import clock_offset_seconds, new_tls
from pysequence_api.settings import Settings, variable
from pysequence_api.text import quoted

EXPIRES_SOON = timedelta(hours=1)
WARN_CLOCK_OFFSET_SECONDS = 10.0
CLOCK_TIMEOUT_SECONDS = 5.0
NO_CODES = "no login with one-time codes is made"
SIGN_IN = f"Run `pysequence-api auth login`, or set {variable('access_token')}."


def check_account(settings: Settings) -> Iterator[Finding]:
    """Check the access token or the key, whether Sequence accepts it, the default ids, and the clock."""
    if not settings.uses_platform:
        yield _check_token(settings)
    started = time.monotonic()
    try:
        offset_seconds, found = anyio.run(_read, settings)
    except (SequenceError, SettingsError) as error:
        is_explained = getattr(error, "advice", "") or isinstance(error, (SignInError, SettingsError))
        yield problem_of("Sequence", error, "" if is_explained else "Check whether Sequence is down.")
        has_sign_in = not (settings.sandbox or settings.uses_platform)
        offset_seconds = anyio.run(_sign_in_clock_offset_seconds, settings) if has_sign_in else None
        yield _check_clock(settings, offset_seconds)
        return
    where = "the sandbox" if settings.sandbox else "Sequence"
    yield ok("Sequence", f"{where} answered in {1000 * (time.monotonic() - started):.0f} ms")
    yield from found
    yield _check_clock(settings, offset_seconds)


async def _read(settings: Settings) -> tuple[float | None, list[Finding]]:
    async with open_gateway(settings, is_owner=True) as gateway:
        if settings.uses_platform:
            found = [await _check_key(gateway)]
        else:
            accounts = await gateway.client.accounts()
            found = [*check_ids(gateway.default_organization_id, gateway.default_kyc_id, accounts)]
        return gateway.client.clock_offset_seconds, found


async def _check_key(gateway: Gateway) -> Finding:
    """Say what a key of the Platform API can list, and what it cannot."""
    name, counts = "key", "no accounts"
    try:
        accounts = await gateway.client.accounts(balances=False)
        counts = f"{len(accounts.pods)} pods, {len(accounts.ports)} ports and {len(accounts.accounts)} accounts"
        await gateway.client.activity(gateway.organization_id, first=1)
    except AccessDeniedError as error:
        said = f"Sequence accepts it, but it lists {counts} and no transfers: {error}"
        return problem(name, said, error.advice, AccessDeniedError)
    return ok(name, f"Sequence accepts it; it lists {counts}, and their transfers")


def check_ids(organization_id: str | None, kyc_id: str | None, accounts: Accounts) -> Iterator[Finding]:
    """Check the default ids, as far as they are set, against the account."""
    found = [
        *_check_id("org_id", organization_id, accounts.organization_ids, complete=accounts.complete),
        *_check_id("kyc_id", kyc_id, accounts.kyc_ids, complete=True),
    ]
    yield from found
    if not found and organization_id is not None and kyc_id is not None:
        yield ok("ids", "organization and KYC id belong to the account")


def _check_id(name: str, value: str | None, known: tuple[str, ...] | None, *, complete: bool) -> Iterator[Finding]:
    if value is None or (known is not None and value in known):
        return
    if known is None or not complete:
        said = f"{variable(name)} cannot be checked, because Sequence did not list all of the account's"
        yield warning("ids", said, f"Check it yourself: {quoted(value)}.")
        return
    right = " or ".join(map(quoted, known))
    fix = f"Set it to {right}." if known else "This account has none. Sign in to another account."
    yield problem("ids", f"{variable(name)} {quoted(value)} does not belong to the account", fix, SettingsError)


async def _sign_in_clock_offset_seconds(settings: Settings) -> float | None:
    """Return how far the sign-in service's clock is ahead of ours; ``None`` if it cannot be reached."""
    try:
        tls = new_tls(certificates=settings.auth_url.startswith("https:"))
        async with httpx.AsyncClient(
            verify=tls, trust_env=False, proxy=proxy_for(settings.auth_url), timeout=CLOCK_TIMEOUT_SECONDS
        ) as client:
            asked_at = time.time()
            answer = await client.head(settings.auth_url)
            return clock_offset_seconds(answer.headers.get("date"), asked_at, time.time())
    except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError, SettingsError):
        return None  # the error that led here is already reported


def _check_clock(settings: Settings, offset_seconds: float | None) -> Finding:
    if offset_seconds is None:
        return warning("clock", "cannot be compared with Sequence's", "Check that this machine's clock is right.")
    said = f"{abs(offset_seconds):,.0f} seconds {'behind' if offset_seconds > 0 else 'ahead of'} Sequence's"
    if abs(offset_seconds) > MAX_CLOCK_OFFSET_SECONDS:
        until_then = "transfers are rejected" + ("" if settings.uses_platform else f", and {NO_CODES}")
        fix = f"Set this machine's clock. Until then, {until_then}."
        return problem("clock", said, fix, ClockError)
    if abs(offset_seconds) > MAX_CODE_CLOCK_OFFSET_SECONDS and not settings.uses_platform:
        fix = f"Synchronize this machine's clock with NTP. Until then, {NO_CODES}."
        return warning("clock", said, fix)
    if abs(offset_seconds) > WARN_CLOCK_OFFSET_SECONDS:
        return warning("clock", said, "Synchronize this machine's clock with NTP.")
    return ok("clock", "matches Sequence's")


def _check_token(settings: Settings) -> Finding:
    if settings.sandbox:
        return ok("token", "the sandbox issues its own")
    return check_token(anyio.run(_read_status, settings))


async def _read_status(settings: Settings) -> SignInStatus:
    async with open_sign_in(settings) as sign_in:
        return await sign_in.status()


def check_token(status: SignInStatus) -> Finding:
    """Check the sign-in status."""
    if status.trouble is not None:
        return problem("token", status.trouble, "Correct this, and run `pysequence-api auth status`.", SignInError)
    return _check_valid(status) if status.signed_in else _check_missing(status)


def _check_missing(status: SignInStatus) -> Finding:
    if status.renews_by is None:
        said = "there is none" if status.got_by is None else f"the one from {status.got_by} has expired"
        return problem("token", said, SIGN_IN, SignInError)
    if status.waiting is not None:
        return problem("token", status.waiting.error().detail, "Then run `pysequence-api auth login`.", SignInError)
    return ok("token", f"none is valid; a {status.renews_by} will get one")


def _check_valid(status: SignInStatus) -> Finding:
    if status.expires_at is None:
        return ok("token", f"from {status.got_by}, with an unknown expiry")
    until = f"from {status.got_by}, valid until {status.expires_at.astimezone():%Y-%m-%d %H:%M %Z}"
    if status.renews_by is not None:
        return ok("token", f"{until}, then renewed with the {status.renews_by}")
    expires_soon = status.expires_at < datetime.now(UTC) + EXPIRES_SOON
    return warning("token", f"{until}, which is soon", SIGN_IN) if expires_soon else ok("token", until)
