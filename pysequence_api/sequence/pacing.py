"""When the next request may be sent: one queue in each process, one minimum distance for all processes.

A request gets its *turn* only once it is due. No turn is reserved in advance, so a process that dies leaves nothing
behind. Connecting comes after the turn and can be slow, so each request checks once more right before its first byte:
if another request has had a turn in the meantime, it waits for the full distance from that one.

Of the requests that wait in different processes, the owner's go first, then transfers, then reads. A process shows a
*flag* while a request of it waits, and requests of a lower `Rank` wait while they see it. After `MAX_YIELD_TURNS` turns
without one of its own, a process goes ahead of all, so a busy or suspended terminal cannot stop the server.

Processes share the time of the last request as the *modification time* of a file, which can be set even on a full disk.
The lock on that file is held for one read and one change, never during a wait.

An upstream with a *bucket* of requests allows a burst of them. Then the shared time is not that of the last request,
but the one that it would have had at an even pace, and it may be ahead of the clock by what the bucket holds (the
generic cell rate algorithm, with one number for all processes). Each upstream has files of its own.

If Sequence asks for a pause (``Retry-After``), all requests of all processes are held back until it is over: transfers
too, and also if nothing is paced. They share its end in the same way.
"""

import fcntl
import functools
import heapq
import itertools
import logging
import math
import os
import random
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum
from pathlib import Path

import anyio
import anyio.to_thread

from pysequence_api.errors import BusyError, LockTimeoutError, StoppingError
from pysequence_api.files import locked, open_own
from pysequence_api.sequence.telemetry import Phase, current_caller, report

log = logging.getLogger(__name__)

STAMP_FILE_NAME = ".pacing"
"""The names of the other files begin with it."""
FLAG_FILE_NAMES = (
    ".pacing-overdue.lock",
    ".pacing-owner-transfer.lock",
    ".pacing-owner.lock",
    ".pacing-transfer.lock",
)
"""The flags, by `Rank`."""
MAX_HOLD_SECONDS = 900.0
"""A longer pause is cut to this. Then one request shows whether it is over."""
MAX_CONNECTED_HOLD_SECONDS = 2.0
"""A request that is connected already waits for the end of a pause up to this long, and else is not sent."""
LOCK_TRY_SECONDS = 0.25
"""How long one attempt waits for the lock. A waiting request tries again until its own wait ends."""
FLAG_POLL_SECONDS = 0.05
"""How often a request checks whether another process still shows a flag that goes first."""
MAX_YIELD_TURNS = 2
"""How many turns a process leaves to flags of other processes before it is overdue."""
MAX_WAITING_REQUESTS = 32
"""How many different reads of one caller may wait for a turn, and as many requests of transfers; more are rejected."""
MAX_WAITING_IN_ALL = 4 * MAX_WAITING_REQUESTS
"""The same for all callers of one process."""
MAX_WAIT_TURNS = 2 * MAX_WAITING_REQUESTS
"""How many turns a request waits at most: the places of two callers."""
MAX_WAIT_EXTRA_SECONDS = 10.0
"""Added to that, for delays such as a lock or a slow disk."""
GUARD_SECONDS = 0.05
"""Added to the interval: on the way to Sequence, the first of two requests can be delayed by some hundredths of a
second more than the second."""
ROUNDING_SECONDS = 2.0
"""How much a file system may round a time."""
NANOSECONDS = 1_000_000_000
HELD = "Sequence asked for a pause (Retry-After)"


class Priority(IntEnum):
    """The order of waiting requests."""

    TRANSFER = 0
    URGENT = 1
    """A read that a transfer waits for."""
    READ = 2


class Rank(IntEnum):
    """The order of requests that wait in different processes."""

    OVERDUE = 0
    """Of a process that has waited for flags for long enough."""
    OWNER_TRANSFER = 1
    OWNER_READ = 2
    TRANSFER = 3
    READ = 4
    """Has no flag, because nothing waits for it."""


class Flag:
    """Tells other processes that a request is waiting, so that theirs of a lower rank wait.

    The flag is a shared lock on a file. The system releases it if the process dies.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._descriptor: int | None = None
        self._released = False

    def show(self) -> None:
        """Set the flag. The caller holds the pacing lock, because others check the flag under it.

        Raises:
            OSError: the file cannot be opened or locked.
        """
        with self._mutex:
            # The request may have been cancelled before this thread started.
            if self._released or self._descriptor is not None:
                return
            descriptor = _open(self._path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                raise
            self._descriptor = descriptor

    def release(self) -> None:
        """Remove the flag for good. This does not block."""
        with self._mutex:
            self._released = True
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


class SharedPace:
    """The pacing files. All methods block briefly, so call them from worker threads.

    If the files cannot be used, one warning is logged and this process is paced alone.

    Args:
        directory: where they are.
        name: how their names begin.
        ahead_seconds: how far the time of the last request may be ahead of the clock, in a burst.
    """

    def __init__(self, directory: Path, name: str = STAMP_FILE_NAME, ahead_seconds: float = 0) -> None:
        self._ahead_ns = int(ahead_seconds * NANOSECONDS)
        self._stamp_path = directory / name
        self._lock_path = directory / f"{name}.lock"
        self._flag_paths = [directory / f"{name}{flag.removeprefix(STAMP_FILE_NAME)}" for flag in FLAG_FILE_NAMES]
        self._hold_path = directory / f"{name}-hold"
        self._own_stamp_ns: int | None = None
        self._yielding_since_seconds: float | None = None
        self._overdue: Flag | None = None
        self._warned = False

    def flag(self, rank: Rank) -> Flag | None:
        """Return a new flag for one request; ``None`` for a rank without one."""
        return Flag(self._flag_paths[rank]) if rank < len(self._flag_paths) else None

    def show(self, flag: Flag) -> None:
        """Show a flag to the other processes."""
        try:
            with locked(self._lock_path, LOCK_TRY_SECONDS):
                flag.show()
        except LockTimeoutError:
            log.warning("Another process holds the pacing lock. Its requests may go ahead of more important ones.")
        except OSError as error:
            self._warn(error)

    def start(self, gap_seconds: float, *, rank: Rank, mine: bool) -> float | None:
        """Record the start of a request if it is due.

        Args:
            gap_seconds: the required distance from the last start.
            rank: wait while a flag of a higher rank is shown, for at most `MAX_YIELD_TURNS` gaps.
            mine: this request made the last start of this process. It starts if that is still the last of all.

        Returns:
            ``None`` if the request has started, otherwise the seconds to wait before trying again.
        """
        try:
            with locked(self._lock_path, LOCK_TRY_SECONDS):
                if self._yields(rank, gap_seconds):
                    return FLAG_POLL_SECONDS
                start_ns = now_ns = time.time_ns()
                latest_ns = now_ns + self._ahead_ns
                stamp_ns = self._read()
                if stamp_ns is not None and not (mine and stamp_ns == self._own_stamp_ns):
                    if stamp_ns > latest_ns:  # the clock was set back; treat the last start as now
                        self._write(latest_ns)
                        return gap_seconds
                    wait_seconds = gap_seconds - (latest_ns - stamp_ns) / NANOSECONDS
                    if wait_seconds > 0:
                        return wait_seconds
                    start_ns = max(now_ns, stamp_ns + int(gap_seconds * NANOSECONDS))
                self._own_stamp_ns = self._write(start_ns)
                self.stop_yielding()
        except LockTimeoutError:
            return 0.0  # that attempt has already waited
        except OSError as error:
            self._warn(error)
        return None

    def stop_yielding(self) -> None:
        """Forget how long this process has waited for flags. This does not block."""
        self._yielding_since_seconds = None
        overdue, self._overdue = self._overdue, None
        if overdue is not None:
            overdue.release()

    def renew(self) -> None:
        """Move this process's last start to now, because the request is fully sent only now."""
        try:
            with locked(self._lock_path, LOCK_TRY_SECONDS):
                self._own_stamp_ns = self._write(time.time_ns())
        except LockTimeoutError:
            log.debug("The pacing lock was busy; the recorded start stays at the time before sending.")
        except OSError as error:
            self._warn(error)

    def hold(self, seconds: float) -> None:
        """Have all processes send nothing for some time. A longer hold stays."""
        try:
            if seconds > self.held_seconds():
                _set_time(self._hold_path, time.time_ns() + int(seconds * NANOSECONDS))
        except OSError as error:
            self._warn(error)

    def held_seconds(self) -> float:
        """Return how long nothing may be sent; 0 if it may be. Short enough for the event loop."""
        try:
            left_seconds = self._hold_path.lstat().st_mtime - time.time()
        except OSError:
            return 0.0
        # No hold is longer. If one seems to be, the clock was set back.
        return left_seconds if 0 < left_seconds <= MAX_HOLD_SECONDS + ROUNDING_SECONDS else 0.0

    def _yields(self, rank: Rank, gap_seconds: float) -> bool:
        if self._overdue is not None or not any(_is_shown(path) for path in self._flag_paths[:rank]):
            return False
        now_seconds = time.monotonic()
        if self._yielding_since_seconds is None:
            self._yielding_since_seconds = now_seconds
        if now_seconds - self._yielding_since_seconds < MAX_YIELD_TURNS * gap_seconds:
            return True
        self._overdue = Flag(self._flag_paths[Rank.OVERDUE])
        self._overdue.show()
        return False

    def _read(self) -> int | None:
        try:
            return self._stamp_path.lstat().st_mtime_ns
        except FileNotFoundError:
            return None

    def _write(self, stamp_ns: int) -> int:
        _set_time(self._stamp_path, stamp_ns)
        return self._stamp_path.lstat().st_mtime_ns  # the file system may have rounded it

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "Pacing cannot be shared with other processes (%s at %s). Do not run another process on this account.",
                error.strerror or type(error).__name__,
                self._stamp_path,
            )


class Turn:
    """The right to send one request now. A turn that is not used only delays the next one."""

    def __init__(self, pacer: "Pacer", gap_seconds: float) -> None:
        self._pacer = pacer
        self.gap_seconds = gap_seconds
        self.started_at = -math.inf
        """When it was given, on the monotonic clock."""

    async def begin(self) -> None:
        """Wait until the first byte may be sent. Call this right before sending it.

        Raises:
            BusyError: Sequence has asked for a pause. Nothing was sent.
        """
        await self._pacer._confirm(self)
        report(Phase.ANSWER)

    async def renew(self) -> None:
        """Record that the request has been sent: the distance to the next one starts now."""
        await self._pacer._renew(self)


class Pacer:
    """Gives requests their turns, at least the interval apart, by priority; or in bursts, where a bucket allows it.

    Args:
        directory: the data directory, which all processes of the account share.
        interval_seconds: the minimum distance; if this and the jitter are 0, requests wait only while Sequence asks for
            it.
        jitter_seconds: the maximum of a random extra distance, drawn for each turn.
        is_owner: the requests are the owner's, made at a terminal. They go ahead of those of other processes.
        bucket_requests: how many requests may be sent at once after a pause. It gets one more with each interval.
        name: how the names of the files begin.
    """

    def __init__(
        self,
        directory: Path,
        *,
        interval_seconds: float,
        jitter_seconds: float = 0,
        is_owner: bool = False,
        bucket_requests: int = 1,
        name: str = STAMP_FILE_NAME,
    ) -> None:
        self._is_owner = is_owner
        self._off = interval_seconds <= 0 and jitter_seconds <= 0
        is_bucket = bucket_requests > 1
        self._interval_seconds = interval_seconds + (GUARD_SECONDS if interval_seconds > 0 and not is_bucket else 0)
        self._jitter_seconds = jitter_seconds
        self._ahead_seconds = (bucket_requests - 1) * interval_seconds
        self._shared = SharedPace(directory, name, self._ahead_seconds)
        self._queue: list[_Waiter] = []
        self._numbers = itertools.count()
        self._laps = dict.fromkeys(Priority, 0)
        """The lap of the last turn, by priority."""
        self._pace_lock = anyio.Lock()  # one task at a time tries to start or confirms its start
        self._latest: Turn | None = None
        self._latest_at = -math.inf
        self._held_until = -math.inf
        self._stopped = False
        self._waiting_reads: set[anyio.CancelScope] = set()

    def stop(self) -> None:
        """Release the reads that wait for a turn, and give them none from now on."""
        self._stopped = True
        for scope in self._waiting_reads:
            scope.cancel()

    @property
    def held_seconds(self) -> float:
        """How long Sequence has asked to be sent nothing; 0 if it may be sent something."""
        return max(self._held_until - time.monotonic(), self._shared.held_seconds())

    async def hold(self, seconds: float) -> None:
        """Hold back all requests of all processes, because Sequence asked for it."""
        seconds = min(seconds, MAX_HOLD_SECONDS)
        self._held_until = max(self._held_until, time.monotonic() + seconds)
        log.warning("Sequence asked for a pause. All requests wait for %.0f seconds.", self.held_seconds)
        await anyio.to_thread.run_sync(self._shared.hold, seconds)

    async def take(self, priority: Priority) -> Turn:
        """Wait for a turn. With the same priority, callers take turns, and each is served in order of arrival.

        Raises:
            BusyError: too many requests are waiting, or the wait took too long, or would. Nothing was sent.
            StoppingError: the program stops, and this is a read. Nothing was sent.
        """
        is_read = priority is Priority.READ
        if self._stopped and is_read:
            raise _stopping()
        report(Phase.TURN)
        turn = Turn(self, self._interval_seconds + random.uniform(0, self._jitter_seconds))
        held_seconds = self.held_seconds
        if self._off and not held_seconds:
            return turn
        if held_seconds > self._max_wait_seconds:
            raise self._busy(HELD)
        if held_seconds and priority is Priority.TRANSFER:
            log.warning("A transfer waits for %.0f seconds, because Sequence asked for a pause.", held_seconds)
        waiter = self._new_waiter(priority)
        heapq.heappush(self._queue, waiter)
        rank = self._rank_of(priority)
        taken = False
        try:
            with anyio.move_on_after(self._max_wait_seconds) as scope:
                if is_read:
                    self._waiting_reads.add(scope)
                async with self._flag_shown(rank):
                    await self._wait(waiter, turn, rank)
                taken = waiter.had_turn = True
        finally:
            self._leave(waiter)
            self._waiting_reads.discard(scope)
        if not taken and self._stopped and is_read:
            raise _stopping()
        if not taken:
            got_none = f"The request got no turn within {self._max_wait_seconds:.0f} seconds"
            raise self._busy(HELD if self.held_seconds else got_none)
        return turn

    def _rank_of(self, priority: Priority) -> Rank:
        if priority is Priority.TRANSFER:
            return Rank.OWNER_TRANSFER if self._is_owner else Rank.TRANSFER
        return Rank.OWNER_READ if self._is_owner else Rank.READ

    @asynccontextmanager
    async def _flag_shown(self, rank: Rank) -> AsyncIterator[None]:
        """Show other processes that a request waits, if its rank has a flag."""
        flag = None if self._off else self._shared.flag(rank)
        try:
            if flag is not None:
                await anyio.to_thread.run_sync(self._shared.show, flag)
            yield
        finally:
            if flag is not None:
                flag.release()

    def _new_waiter(self, priority: Priority) -> "_Waiter":
        """Return a place in the queue: a caller that waits for more turns than another comes later with the rest."""
        caller = current_caller()
        mine = [other for other in self._queue if other.caller == caller]
        lap = max([self._laps[priority], *(other.lap + 1 for other in mine if other.priority is priority)])
        waiter = _Waiter(priority, lap, next(self._numbers), caller)
        # Reads cannot take the places of transfers, nor one caller those of another.
        for waiting, at_most in ((mine, MAX_WAITING_REQUESTS), (self._queue, MAX_WAITING_IN_ALL)):
            if sum(other.is_read == waiter.is_read for other in waiting) >= at_most:
                raise self._busy(f"{at_most} requests to Sequence are already waiting")
        return waiter

    def _leave(self, waiter: "_Waiter") -> None:
        self._laps[waiter.priority] = max(self._laps[waiter.priority], waiter.lap if waiter.had_turn else 0)
        if self._queue[0] is waiter:
            self._shared.stop_yielding()
        self._queue.remove(waiter)
        heapq.heapify(self._queue)
        if self._queue:
            self._queue[0].woken.set()

    async def _wait(self, waiter: "_Waiter", turn: Turn, rank: Rank) -> None:
        while True:
            if self._queue[0] is not waiter:
                waiter.woken = anyio.Event()
                await waiter.woken.wait()
                continue
            if held_seconds := self.held_seconds:
                report(Phase.HELD)
                await anyio.sleep(held_seconds)
                report(Phase.TURN)
                continue
            async with self._pace_lock:
                if self._queue[0] is not waiter:
                    continue
                delay_seconds = await self._try(turn, rank)
            if delay_seconds is None:
                return
            await anyio.sleep(delay_seconds)

    async def _try(self, turn: Turn, rank: Rank) -> float | None:
        """Start the turn if it is due, otherwise return the seconds to wait. Own starts count without the files."""
        if self._off:
            return None
        if self._is_fresh(turn):
            return None
        mine = self._latest is turn and not self._ahead_seconds
        due_at = -math.inf if mine else self._latest_at + turn.gap_seconds
        wait_seconds = due_at - self._ahead_seconds - time.monotonic()
        if wait_seconds > 0:
            return wait_seconds
        start = functools.partial(self._shared.start, turn.gap_seconds, rank=rank, mine=mine)
        delay_seconds = await anyio.to_thread.run_sync(start)
        if delay_seconds is None:
            turn.started_at = time.monotonic()
            self._latest, self._latest_at = turn, max(turn.started_at, due_at)
        return delay_seconds

    def _is_fresh(self, turn: Turn) -> bool:
        """Say whether a turn of a bucket is so new that what was added to the bucket since is less than one request."""
        return self._ahead_seconds > 0 and time.monotonic() - turn.started_at < self._interval_seconds

    async def _confirm(self, turn: Turn) -> None:
        # While a turn waits here, no other request of this process gets one. It waits for no flag anymore.
        async with self._pace_lock:
            while True:
                held_seconds = self.held_seconds
                if held_seconds > MAX_CONNECTED_HOLD_SECONDS:
                    raise self._busy(HELD)
                delay_seconds = held_seconds if held_seconds else await self._try(turn, Rank.OVERDUE)
                if delay_seconds is None:
                    return
                await anyio.sleep(delay_seconds)

    async def _renew(self, turn: Turn) -> None:
        if self._latest is turn and not self._ahead_seconds:
            self._latest_at = time.monotonic()
            await anyio.to_thread.run_sync(self._shared.renew)

    @property
    def _max_wait_seconds(self) -> float:
        return MAX_WAIT_TURNS * (self._interval_seconds + self._jitter_seconds) + MAX_WAIT_EXTRA_SECONDS

    def _busy(self, problem: str) -> BusyError:
        queue_seconds = (len(self._queue) + 1) * (self._interval_seconds + self._jitter_seconds / 2)
        retry_after_seconds = max(1, math.ceil(queue_seconds + self.held_seconds))
        return BusyError(
            f"{problem}, so nothing was sent.",
            advice=f"Try again in {retry_after_seconds} seconds.",
            retry_after_seconds=retry_after_seconds,
        )


def _stopping() -> StoppingError:
    return StoppingError("The server stops; nothing was sent.", advice="Try again later.")


class _Waiter:
    """A place in the queue."""

    def __init__(self, priority: Priority, lap: int, number: int, caller: str) -> None:
        self._rank = (priority, lap, number)
        self.priority = priority
        self.lap = lap
        """In each lap, every caller has one turn."""
        self.caller = caller
        self.is_read = priority is Priority.READ
        self.had_turn = False
        self.woken = anyio.Event()

    def __lt__(self, other: "_Waiter") -> bool:
        return self._rank < other._rank


def _open(path: Path) -> int:
    return open_own(path, os.O_RDWR | os.O_CREAT)


def _is_shown(flag_path: Path) -> bool:
    descriptor = _open(flag_path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _set_time(path: Path, time_ns: int) -> None:
    """Set the modification time of a file of this user, which is created if it is missing."""
    descriptor = _open(path)
    try:
        os.utime(descriptor, ns=(time_ns, time_ns))
    finally:
        os.close(descriptor)
