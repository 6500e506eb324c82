"""Everything at once, held against what Sequence really moved.

Random transfers with and without keys, faults, kills at any file operation, restarts, days that pass and lookups, by
two processes on one data directory. ``pytest --hypothesis-profile=long`` runs it for as long as one likes.
"""

import asyncio
import tempfile
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import time_machine
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from pysequence_api.safeguards.recovery import Result

from pysequence_api import files
from pysequence_api.errors import GatewayError
from pysequence_api.records import audit, chain, store
from tests.world import GRACE_SECONDS, open_world

LIMIT_CENTS = 30_000
FAULTS: dict[str, Any] = {
    "close": "close",
    "html": "html",
    "half": "half_body",
    "500": {"kind": "status", "status": 500},
    "429": {"kind": "status", "status": 429},
    "error": {"kind": "graphql_error"},
    "refuse": {"kind": "refuse", "message": "no"},
    "hide": "hide_new_transfer",
    "late": [{"kind": "invisible_seconds", "seconds": 200}, "close"],
    "hidden": ["hide_new_transfer", {"kind": "invisible_seconds", "seconds": 200}],
}


DID_NOTHING = {"429", "refuse"}
"""What Sequence answers only when it has moved nothing."""


class KilledError(BaseException):
    """The process is dead: it carries out nothing any more."""


class Mortal:
    """File operations that end at a given one, and with it the process."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.real = (files.append_lines, files.replace_atomically)
        for module in (audit, store, chain):
            for name in ("append_lines", "replace_atomically"):
                if hasattr(module, name):
                    setattr(module, name, getattr(self, name))

    def append_lines(self, path: Path, content: bytes) -> None:
        self._step()
        self.real[0](path, content)
        self._step()

    def replace_atomically(self, path: Path, content: bytes) -> None:
        self._step()
        self.real[1](path, content)
        self._step()

    def _step(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KilledError

    def undo(self) -> None:
        for module in (audit, store, chain):
            for name, real in zip(("append_lines", "replace_atomically"), self.real, strict=True):
                if hasattr(module, name):
                    setattr(module, name, real)


class HouseMachine(RuleBasedStateMachine):
    """Two processes, one account."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.directory = Path(self.folder.name)
        self.travel = time_machine.travel(datetime(2026, 11, 23, 12, tzinfo=UTC), tick=True)
        self.traveller = self.travel.start()
        self.mortal = Mortal()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.moved_by_key: dict[str, set[str]] = {}

    @initialize()
    def open(self) -> None:
        async def begin() -> None:
            self.world = await self.stack.enter_async_context(
                open_world(
                    self.directory,
                    token_seconds=3650 * 86_400,
                    max_daily_transfer_cents=LIMIT_CENTS,
                    max_transfer_attempts_per_minute=1_000,
                )
            )
            await self.world.open_process()

        self.runner.run(begin())

    async def _replace_killed(self, number: int) -> None:
        self.mortal.left = None
        await self.world.kill(self.world.processes[number])
        await self.world.open_process()

    @rule(
        number=st.integers(0, 1),
        amount_cents=st.sampled_from([5_000, 5_000, 9_000, 12_000, 31_000]),
        key=st.sampled_from([None, None, "a", "b", "c"]),
        fault=st.sampled_from([None, None, *FAULTS]),
        when=st.sampled_from(["before", "after"]),
        lives_steps=st.none() | st.none() | st.integers(0, 16),
    )
    def transfer(  # noqa: PLR0917 - a rule takes what it draws
        self, number: int, amount_cents: int, key: str | None, fault: str | None, when: str, lives_steps: int | None
    ) -> None:
        async def go() -> None:
            world = self.world
            if fault is not None:
                what = FAULTS[fault]
                effects = what if isinstance(what, list) else [what]
                world.fail(*effects, when="before" if fault in DID_NOTHING else when)
            self.mortal.left = lives_steps
            try:
                completed = await world.transfer(amount_cents, key=key, process=world.processes[number])
                if key is not None and completed.id is not None:
                    self.moved_by_key.setdefault(key, set()).add(completed.id)
            except GatewayError:
                pass
            except KilledError:
                await self._replace_killed(number)
            self.mortal.left = None
            world.sandbox.faults.clear()

        self.runner.run(go())

    @rule(numbers=st.sampled_from([(0,), (1,), (0, 1)]), lives_steps=st.none() | st.integers(0, 8))
    def find_out(self, numbers: tuple[int, ...], lives_steps: int | None) -> None:
        async def go() -> None:
            self.mortal.left = lives_steps if len(numbers) == 1 else None
            try:
                await asyncio.gather(*(self.world.follow_up(self.world.processes[number]) for number in numbers))
            except KilledError:
                await self._replace_killed(numbers[0])
            self.mortal.left = None

        self.runner.run(go())

    @rule(number=st.integers(0, 1))
    def restart(self, number: int) -> None:
        async def go() -> None:
            await self.world.close(self.world.processes[number])
            await self.world.open_process()

        self.runner.run(go())

    @rule(seconds=st.sampled_from([1, 60, 250, GRACE_SECONDS + 1, 6 * 3600, 13 * 3600, 30 * 3600]))
    def pass_time(self, seconds: float) -> None:
        self.traveller.shift(seconds)

    @invariant()
    def never_more_than_the_limit_on_a_day(self) -> None:
        by_day: dict[str, int] = {}
        for transfer in self._moved():
            day = str(transfer["created_at"])[:10]
            by_day[day] = by_day.get(day, 0) + transfer["amount_cents"]
        assert all(cents <= LIMIT_CENTS for cents in by_day.values()), by_day
        today = datetime.now(UTC).date().isoformat()
        for process in self.world.processes:
            assert self.runner.run(self.world.used_cents(process)) >= by_day.get(today, 0)

    @invariant()
    def the_trail_is_unbroken(self) -> None:
        if (self.directory / ".audit.jsonl").exists():
            assert self.world.gateway.records.audit.verify().intact

    def _moved(self) -> list[dict[str, Any]]:
        return self.runner.run(self.world.moved())

    def teardown(self) -> None:
        try:
            self._expect_everything_known()
        finally:
            self.mortal.undo()
            with suppress(GatewayError):
                self.runner.run(self.stack.aclose())
            self.runner.close()
            self.travel.stop()
            self.folder.cleanup()

    def _expect_everything_known(self) -> None:
        self.traveller.shift(GRACE_SECONDS + 250)
        findings = self.runner.run(self.world.follow_up())
        assert [one for one in findings if one.result is Result.IN_DOUBT] == []
        moved = self._moved()
        trail = self.world.files.trail()
        completed = {line["transfer_id"] for line in trail if line.get("transfer_id")}
        assert completed == {transfer["id"] for transfer in moved}
        ends: dict[str, int] = {}
        for line in trail:
            if line["event_type"] == "transfer_requested":
                ends.setdefault(line["attempt_id"], 0)
            final = line["event_type"] == "transfer_completed" or line.get("outcome") not in {None, "unknown"}
            if final and "attempt_id" in line:
                ends[line["attempt_id"]] += 1
        assert all(count == 1 for count in ends.values()), ends
        counted = {entry["transfer_id"] for entry in self.world.files.counted()}
        assert counted <= completed
        assert all(len(ids) == 1 for ids in self.moved_by_key.values())


TestHouse = HouseMachine.TestCase
TestHouse.settings = settings(
    max_examples=settings().max_examples // 5,
    stateful_step_count=20,
    deadline=None,
)
