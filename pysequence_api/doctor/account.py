"""The token, Sequence itself by one read, and the clock against its ``Date``."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio

from pysequence_api.clock import MAX_CLOCK_OFFSET_SECONDS
from pysequence_api.doctor.finding import Finding, ok, problem, problem_of, warning
from pysequence_api.errors import SafeguardsUnavailableError, SequenceError, SignInError
from pysequence_api.gateway import open_gateway, open_sign_in
from pysequence_api.settings import Settings, variable

if TYPE_CHECKING:
    from pysequence_api.sequence.sign_in.service import SignInStatus

SOON = timedelta(hours=1)
NOTED_CLOCK_OFFSET_SECONDS = 10.0
SIGN_IN = f"Run `pysequence-api auth login`, or set {variable('access_token')}."


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
    return judge_token(anyio.run(_read_status, settings))


async def _read_status(settings: Settings) -> "SignInStatus":
    async with open_sign_in(settings) as sign_in:
        return await sign_in.status()


def judge_token(status: "SignInStatus") -> Finding:
    """Say how well the account is signed in."""
    if status.trouble is not None:
        return problem("token", status.trouble, SIGN_IN, SignInError)
    return _judge_good(status) if status.signed_in else _judge_missing(status)


def _judge_missing(status: "SignInStatus") -> Finding:
    if status.renews_by is None:
        said = "there is none" if status.got_by is None else f"the one by {status.got_by} has run out"
        return problem("token", said, SIGN_IN, SignInError)
    if status.waiting is not None:
        return problem("token", status.waiting.error().detail, "Then run `pysequence-api auth login`.", SignInError)
    return ok("token", f"none that is good; a {status.renews_by} gets one")


def _judge_good(status: "SignInStatus") -> Finding:
    if status.expires_at is None:
        return ok("token", f"by {status.got_by}, which does not say until when it is good")
    until = f"by {status.got_by}, good until {status.expires_at.astimezone():%Y-%m-%d %H:%M %Z}"
    if status.renews_by is not None:
        return ok("token", f"{until}, then renewed by {status.renews_by}")
    is_soon = status.expires_at < datetime.now(UTC) + SOON
    return warning("token", f"{until}, which is soon", SIGN_IN) if is_soon else ok("token", until)
