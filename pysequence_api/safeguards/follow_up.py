"""Looking up, in the account's activity, what became of attempts whose end is not known."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial

import anyio
import anyio.to_thread

from pysequence_api.clock import MAX_CLOCK_OFFSET_SECONDS
from pysequence_api.errors import SafeguardsUnavailableError, SequenceError
from pysequence_api.models import ActivityFilter, Transfer
from pysequence_api.safeguards.matching import ONE_DAY
from pysequence_api.safeguards.recovery import Finding, Lookup, Recovery, Result
from pysequence_api.sequence.client import SequenceClient

PAUSES_SECONDS = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Pauses between lookups while something is unsettled; the last one repeats."""
IDLE_SECONDS = 300.0
"""How often to look whether another process left something behind."""
PAGE_TRANSFERS = 100
MAX_PAGES = 200

log = logging.getLogger(__name__)


class FollowUp:
    """Looks up what is open, and has it decided.

    Args:
        client: the account at Sequence.
        recovery: the decisions.
        clock: gives the time in UTC.
    """

    def __init__(self, client: SequenceClient, recovery: Recovery, *, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._recovery = recovery
        self._clock = clock
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Say that something may have to be looked up."""
        self._wake.set()

    async def run_for_ever(self) -> None:
        """Look at once, then with growing pauses while anything is open."""
        looks = 0
        while True:
            try:
                findings = await self.run()
            except SafeguardsUnavailableError as error:
                log.error("%s", error)
                findings = []
            except Exception:
                # What is unsettled stays counted; the next look comes.
                log.exception("finding out what is unsettled failed")
                findings = []
            open_ones = [finding for finding in findings if finding.result is Result.IN_DOUBT]
            looks = looks + 1 if open_ones else 0
            pause_seconds = PAUSES_SECONDS[min(looks, len(PAUSES_SECONDS)) - 1] if looks else IDLE_SECONDS
            with anyio.move_on_after(pause_seconds):
                await self._wake.wait()
                looks = 0
            self._wake.clear()

    async def run(self) -> list[Finding]:
        """Look once.

        Returns:
            What was found out about each attempt that was open.

        Raises:
            SafeguardsUnavailableError: the files cannot be trusted or written.
        """
        findings, since = await anyio.to_thread.run_sync(self._recovery.begin)
        if since is not None:
            lookup = await self._look(since)
            findings += await anyio.to_thread.run_sync(partial(self._recovery.decide, lookup))
        for finding in findings:
            log.log(
                logging.INFO if finding.result is Result.IN_DOUBT else logging.WARNING,
                "attempt %s: %s %s",
                finding.attempt_id,
                finding.result,
                finding.reason or finding.transfer_id or "",
            )
        return findings

    async def _look(self, since: datetime) -> Lookup:
        began_at = self._clock()
        transfers: list[Transfer] = []
        party_ids: frozenset[str] = frozenset()
        external_ids: frozenset[str] = frozenset()
        try:
            accounts = await self._client.accounts()
            pods, ports, others = accounts.pods, accounts.ports, accounts.accounts
            party_ids = frozenset({one.id for one in pods} | {one.id for one in ports} | {one.id for one in others})
            external_ids = frozenset(one.id for one in others)
            problem = None if accounts.complete else "Sequence left out a part of the account"
            for organization_id in accounts.organization_ids:
                problem = await self._look_in(organization_id, since, transfers) or problem
        except SequenceError as error:
            problem = f"the lookup did not get through: {error}"
        offset_seconds = self._client.clock_offset_seconds
        if offset_seconds is not None and abs(offset_seconds) > MAX_CLOCK_OFFSET_SECONDS:
            problem = f"this machine's clock is {offset_seconds:+.0f} seconds from Sequence's"
        return Lookup(began_at, since, tuple(transfers), party_ids, external_ids, problem, offset_seconds)

    async def _look_in(self, organization_id: str, since: datetime, found: list[Transfer]) -> str | None:
        only = ActivityFilter(date_start=(since - ONE_DAY).date())
        problem, after = None, ""
        for _ in range(MAX_PAGES):
            page = await self._client.activity(organization_id, first=PAGE_TRANSFERS, after=after, only=only)
            found.extend(page.transfers)
            if not page.complete:
                problem = "Sequence left out a part of the activity"
            if not page.page_info.has_next_page:
                return problem
            if page.page_info.end_cursor in {"", after}:
                return "the activity says that it goes on, but not where"
            after = page.page_info.end_cursor
        return f"the activity has more than {MAX_PAGES} pages since then"
