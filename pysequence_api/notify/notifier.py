"""Follows the audit events in the process of `serve`, and sends messages about those that matter.

The database is the queue: after a restart, what a channel has not got yet is read from there again. In memory, each
channel has at most `MAX_WAITING` messages; further ones are summed up in one more.
"""

import asyncio
import logging
from collections import Counter, deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import anyio
import anyio.to_thread

from pysequence_api.clock import read_time
from pysequence_api.errors import LockTimeoutError, SafeguardsUnavailableError
from pysequence_api.files import locked
from pysequence_api.notify.channels import Channel, Outcome, open_channels
from pysequence_api.notify.messages import Message, about, of_many, of_month, of_problem, with_lost
from pysequence_api.notify.told import FILE_NAME, Progress, Told
from pysequence_api.records.attempts import OWNER, Reader
from pysequence_api.records.audit import EventType, Line
from pysequence_api.records.database import Database
from pysequence_api.records.names import known_names
from pysequence_api.safeguards.caller_status import read_caller_limits
from pysequence_api.settings import NotifyEvent, Settings

LOCK_FILE_NAME = ".notify.lock"
"""Held by the one server of a data directory that sends messages."""
POLL_SECONDS = 1.0
LOCK_POLL_SECONDS = 30.0
AFTER_ERROR_SECONDS = 60.0
STOP_SECONDS = 2.0
"""How long the end of the server waits for messages that are being sent."""
BATCH_EVENTS = 200
MAX_WAITING = 20
MONTH_PERCENT = 80
REFUSAL_TIME = timedelta(hours=1)
_NEED_EARLIER = {EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED}
"""What they mean for the owner depends on the events of the attempt before them."""
SANDBOX_LABEL = "Sandbox, no real money: "

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A message that waits for a channel.

    Attributes:
        message: the message.
        seq: the audit event that it is about; ``None`` if it is about a problem.
        problem: the problem that it tells.
    """

    message: Message
    seq: int | None = None
    problem: str | None = None


@dataclass
class _Outbox:
    """What waits for one channel."""

    channel: Channel
    waiting: deque[_Waiting] = field(default_factory=deque)
    more: Counter[str] = field(default_factory=Counter)
    """How many messages of each title had no place."""
    more_seq: int | None = None
    came: asyncio.Event = field(default_factory=asyncio.Event)
    is_sending: bool = False
    is_failing: bool = False

    @property
    def is_empty(self) -> bool:
        return not (self.waiting or self.more)

    def put(self, one: _Waiting) -> None:
        if len(self.waiting) < MAX_WAITING and not self.more:
            self.waiting.append(one)
        else:
            self.more[one.message.title] += 1
            self.more_seq = self.more_seq if one.seq is None else one.seq
        self.came.set()

    def take(self) -> _Waiting:
        if self.waiting:
            return self.waiting.popleft()
        summed_up = _Waiting(of_many(self.more), self.more_seq)
        self.more, self.more_seq = Counter(), None
        return summed_up


class Notifier:
    """Sends messages to the owner. Create it with `open_notifier`.

    Args:
        channels: where messages go. Without any, nothing is read and nothing is sent.
        records: the database.
        events: the events that get a message.
        above_cents: transfers of more than this get one, too.
    """

    def __init__(
        self, channels: list[Channel], records: Database, events: frozenset[NotifyEvent], above_cents: int | None
    ) -> None:
        self._channels = channels
        self._records = records
        self._events = events
        self._above_cents = above_cents
        self._reported: dict[NotifyEvent, str | None] = {}

    def tells(self, event: NotifyEvent) -> bool:
        """Return whether an event gets a message."""
        return bool(self._channels) and event in self._events

    async def run(self) -> None:
        """Send messages until canceled. Errors are logged, not raised."""
        if self._channels:
            log.info("notifications go to %s", ", ".join(channel.name for channel in self._channels))
        while self._channels:
            try:
                with ExitStack() as stack:
                    await self._hold_lock(stack)
                    following = _Following(self._channels, self._records, self._events, self._above_cents)
                    await following.run(self._reported)
            except Exception:  # must not stop the server; channels raise nothing, so no URL is logged
                log.exception("notifications stop for %g seconds", AFTER_ERROR_SECONDS)
            await anyio.sleep(AFTER_ERROR_SECONDS)

    def report(self, event: NotifyEvent, problem: str | None) -> None:
        """Report a problem. The owner gets one message, and another one only if the problem changes or comes back.

        Args:
            event: `NotifyEvent.RECORDS` or `NotifyEvent.SIGN_IN`.
            problem: what is wrong; ``None`` if nothing is.
        """
        if self.tells(event):
            self._reported[event] = problem

    async def _hold_lock(self, stack: ExitStack) -> None:
        is_logged = False
        while True:
            try:
                stack.enter_context(locked(self._records.directory / LOCK_FILE_NAME, 0))
            except LockTimeoutError:
                if not is_logged:
                    log.warning("another server on this data directory sends the notifications")
                is_logged = True
                await anyio.sleep(LOCK_POLL_SECONDS)
            else:
                return


class _Following:
    """Following the audit events, once the lock is held; see `Notifier`."""

    def __init__(
        self, channels: list[Channel], records: Database, events: frozenset[NotifyEvent], above_cents: int | None
    ) -> None:
        self._outboxes = [_Outbox(channel) for channel in channels]
        self._records = records
        self._events = events
        self._above_cents = above_cents
        self._told = Told()
        self._seq: int | None = None
        """The newest event that was read; ``None`` until the database could be read."""
        self._queued: dict[NotifyEvent, str] = {}
        """The problems that were put into the outboxes."""
        self._must_save = False
        self._unreadable = ""

    async def run(self, reported: dict[NotifyEvent, str | None]) -> None:
        """Follow the events until canceled.

        Args:
            reported: the problems there are now.
        """
        self._told = await anyio.to_thread.run_sync(Told.read, self._records.directory)
        try:
            async with anyio.create_task_group() as tasks:
                for outbox in self._outboxes:
                    tasks.start_soon(self._deliver, outbox)
                while True:
                    read_all = await self._read()
                    self._put_problems(reported)
                    if self._must_save:
                        await self._save()
                    await anyio.sleep(POLL_SECONDS if read_all else 0)
        finally:
            with anyio.CancelScope(shield=True):
                await self._save()

    async def _read(self) -> bool:
        """Read the next events, and put the messages about them into the outboxes.

        Returns:
            Whether there were no more.
        """
        try:
            if self._seq is None:
                self._seq = self._begin(await anyio.to_thread.run_sync(self._records.read, Reader.newest_event))
            count, found = await anyio.to_thread.run_sync(self._next_messages, self._seq)
            self._unreadable = ""
        except SafeguardsUnavailableError as error:
            if str(error) != self._unreadable:
                log.error("notifications wait: %s", error)
            self._unreadable = str(error)
            return True
        for seq, message in found:
            for outbox in self._outboxes:
                if seq > self._told.channels[outbox.channel.name].seq:
                    outbox.put(_Waiting(message, seq))
        self._seq += count
        for outbox in self._outboxes:
            self._advance(outbox, None)
        return count < BATCH_EVENTS

    def _begin(self, newest: int) -> int:
        """Set the progress of each channel; a new one begins now. Return that of the one furthest behind."""
        names = [outbox.channel.name for outbox in self._outboxes]
        before = {name: self._told.channels.get(name, Progress(seq=newest)) for name in names}
        # A database that was put back may have fewer events.
        self._told.channels = {name: Progress(seq=min(one.seq, newest), lost=one.lost) for name, one in before.items()}
        self._must_save = True
        return min(one.seq for one in self._told.channels.values())

    def _next_messages(self, after: int) -> tuple[int, list[tuple[int, Message]]]:
        """Read the next events. Return their count, and the messages with the numbers of their events. Blocks."""
        rows = self._records.read(lambda reader: reader.events_after(after, BATCH_EVENTS))
        names = known_names(self._records) if rows else {}
        found: list[tuple[int, Message]] = []
        spent: dict[str, int] = {}
        for seq, raw in rows:
            line = Line.parse(raw)
            message = about(line, names, earlier=self._earlier(line, raw), above_cents=self._above_cents)
            if message is not None and self._is_wanted(message, line, seq):
                found.append((seq, message))
            if line.event_type == EventType.REQUESTED and line.caller not in {None, OWNER}:
                spent[str(line.caller)] = seq
        if NotifyEvent.MONTH in self._events:
            found += [(seq, message) for caller, seq in spent.items() for message in self._months(caller, seq)]
        return len(rows), sorted(found, key=lambda one: one[0])

    def _earlier(self, line: Line, raw: bytes) -> tuple[Line, ...]:
        attempt_id = line.attempt_id
        if attempt_id is None or line.event_type not in _NEED_EARLIER:
            return ()
        events = self._records.read(lambda reader: reader.events_of(attempt_id))
        return tuple(map(Line.parse, takewhile(raw.__ne__, events)))

    def _is_wanted(self, message: Message, line: Line, seq: int) -> bool:
        if message.event is NotifyEvent.REFUSAL and message.event in self._events:
            at = read_time(line.timestamp) or datetime.now(UTC)
            return self._told.is_news(f"refusal/{line.caller}/{line.code}", seq, at, at + REFUSAL_TIME)
        return message.event is None or message.event in self._events

    def _months(self, caller: str, seq: int) -> list[Message]:
        """Return a message if a caller has used most of its own limit for a month, once a month."""
        with suppress(SafeguardsUnavailableError):
            now = self._records.now()
            until = (now.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            for one in read_caller_limits(self._records, caller).windows:
                is_month = one.rule is None and one.name == "month_cents" and one.limit > 0
                if is_month and 100 * one.used >= MONTH_PERCENT * one.limit:
                    what = f"month/{caller}/{now:%Y-%m}/{one.limit}"
                    if self._told.is_news(what, seq, now, until):
                        return [of_month(caller, one.used, one.limit)]
        return []

    def _put_problems(self, reported: dict[NotifyEvent, str | None]) -> None:
        for event, problem in reported.items():
            if problem is None:
                self._must_save |= event in self._told.problems
                self._told.note_problem(event, None)
                self._queued.pop(event, None)
            elif self._told.is_new_problem(event, problem) and self._queued.get(event) != problem:
                self._queued[event] = problem
                for outbox in self._outboxes:
                    outbox.put(_Waiting(of_problem(event, problem), problem=problem))

    async def _deliver(self, outbox: _Outbox) -> None:
        while True:
            await outbox.came.wait()
            outbox.came.clear()
            while not outbox.is_empty:
                await self._send(outbox, outbox.take())

    async def _send(self, outbox: _Outbox, one: _Waiting) -> None:
        progress = self._told.channels.get(outbox.channel.name)
        message = with_lost(one.message, progress.lost) if progress and progress.lost else one.message
        outcome, outbox.is_sending = Outcome.TIMED_OUT, True
        try:
            outcome = await outbox.channel.send(message)
        except asyncio.CancelledError:  # the server stops: what may have arrived is not sent again
            with anyio.CancelScope(shield=True):
                outcome = await outbox.channel.finish(STOP_SECONDS)
            raise
        finally:
            outbox.is_sending = False
            if one.problem is not None and one.message.event is not None:
                self._told.note_problem(one.message.event, one.problem)
            self._advance(outbox, one, is_lost=outcome is not Outcome.SENT)
            _log_outcome(outbox, outcome)

    def _advance(self, outbox: _Outbox, one: _Waiting | None, *, is_lost: bool = False) -> None:
        """Note the progress of a channel, after a message or after reading."""
        before = self._told.channels.get(outbox.channel.name)
        if before is None or self._seq is None:
            return
        is_done = outbox.is_empty and not outbox.is_sending
        seq = self._seq if is_done else before.seq if one is None or one.seq is None else one.seq
        lost = before.lost if one is None else before.lost + 1 if is_lost else 0
        self._told.channels[outbox.channel.name] = Progress(seq=max(before.seq, seq), lost=lost)
        self._must_save |= one is not None

    async def _save(self) -> None:
        self._must_save = False
        told = self._told.model_copy(deep=True)
        try:
            await anyio.to_thread.run_sync(told.write, self._records.directory)
        except OSError as error:
            log.error("%s cannot be written (%s); messages may come twice", FILE_NAME, error.strerror)


def _log_outcome(outbox: _Outbox, outcome: Outcome) -> None:
    if outcome is Outcome.SENT and outbox.is_failing:
        log.info("notifications arrive again at %s", outbox.channel.name)
    elif outcome is not Outcome.SENT and not outbox.is_failing:
        log.warning("a notification to %s was not delivered (%s)", outbox.channel.name, outcome)
    outbox.is_failing = outcome is not Outcome.SENT


def open_notifier(settings: Settings, records: Database) -> Notifier:
    """Create the notifier of the settings. This sends nothing.

    Raises:
        SettingsError: Apprise is not installed, or cannot use a URL.
    """
    channels = open_channels(settings.notify_urls, SANDBOX_LABEL if settings.sandbox else "")
    return Notifier(channels, records, frozenset(settings.notify_events), settings.notify_above_cents)
