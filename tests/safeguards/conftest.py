"""A clock to set, and orders to make."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine

from pysequence_api.models import TransferOrder
from pysequence_api.records.audit import Channel
from pysequence_api.safeguards.reservations import Attempt, Records
from pysequence_api.sandbox import Sandbox
from tests.world import World, open_world

MAX_TRANSFER_CENTS = 1_000_000
MAX_DAILY_CENTS = 2_500_000


@dataclass
class SetClock:
    """A clock that stands until somebody sets it."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 23, 12, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **delta: float) -> None:
        self.now += timedelta(**delta)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


def open_records(directory: Path, clock: SetClock) -> Records:
    return Records(directory, max_transfer_cents=MAX_TRANSFER_CENTS, max_daily_cents=MAX_DAILY_CENTS, clock=clock)


@pytest.fixture
def records(tmp_path: Path, clock: SetClock) -> Records:
    return open_records(tmp_path, clock)


def attempt_of(amount_cents: int, key: str | None = None) -> Attempt:
    order = TransferOrder(kyc_id="kyc", source_id="pod-a", destination_id="pod-b", amount_cents=amount_cents)
    return Attempt(order, Channel.API, key)


@pytest.fixture
def traveller() -> Iterator[time_machine.Traveller]:
    """Time that goes on from a fixed noon, and that a test can move, for the gateway and Sequence alike."""
    with time_machine.travel(datetime(2026, 11, 23, 12, tzinfo=UTC), tick=True) as traveller:
        yield traveller


@pytest.fixture
async def sandbox(tmp_path: Path, traveller: time_machine.Traveller) -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(tmp_path / "sequence.sqlite")
    yield sandbox
    await sandbox.aclose()


@pytest.fixture
async def world(tmp_path: Path, sandbox: Sandbox) -> AsyncIterator[World]:
    async with open_world(tmp_path, sandbox) as world:
        yield world


def announced(world: World, order: TransferOrder | None = None) -> Attempt:
    """Begin an attempt, up to where the first byte would be sent."""
    attempt = Attempt(order or world.order(), Channel.API)
    world.gateway.records.reserve(attempt)
    world.gateway.records.announce(attempt)
    return attempt
