"""When the next request may go: one queue for a process, one pace for all processes on a data directory.

A request takes a *turn* when it is due, and never books one ahead: until then nothing is written down that a dead
process could leave behind. The turn is followed by connecting, which may be slow. So the first byte passes a *gate* as
well: if another request has had its turn in the meantime, it waits until it is far enough from that one.
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
from enum import IntEnum
from pathlib import Path

import anyio
import anyio.to_thread

from pysequence_api.errors import BusyError, LockTimeoutError
from pysequence_api.files import OWNER_ONLY, locked
from pysequence_api.sequence.telemetry import Phase, report

log = logging.getLogger(__name__)

STAMP_FILE_NAME = ".pacing"
LOCK_FILE_NAME = ".pacing.lock"
TRANSFER_FILE_NAME = ".pacing-transfer.lock"
LOCK_TRY_SECONDS = 0.25
"""One try for the lock; whoever wants a turn tries again until its wait runs out."""
TRANSFER_POLL_SECONDS = 0.05
"""How often a read looks whether the transfer of another process has gone."""
NANOSECONDS = 1_000_000_000


class TransferFlag:
    """Shown while a transfer waits, so that no read of another process goes before it.

    It is a shared lock on a file, which the system takes back if the process dies.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._descriptor: int | None = None
        self._released = False

    def show(self) -> None:
        """Show it, under the lock on the pace, under which alone reads look.

        Raises:
            OSError: it cannot be shown.
        """
        with self._mutex:
            # The one who waited may have gone while this thread was on its way.
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
        """Take it away, for good. This does not block."""
        with self._mutex:
            self._released = True
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


class SharedPace:
    """The files. Where they cannot be used, a warning says so once, and this process keeps its own pace alone."""

    def __init__(self, directory: Path) -> None:
        self._stamp_path = directory / STAMP_FILE_NAME
        self._lock_path = directory / LOCK_FILE_NAME
        self._transfer_path = directory / TRANSFER_FILE_NAME
        self._own_stamp_ns: int | None = None
        self._warned = False

    def transfer_flag(self) -> TransferFlag:
        """Make the flag of one transfer."""
        return TransferFlag(self._transfer_path)

    def show(self, flag: TransferFlag) -> None:
        """Show a transfer's flag to the other processes."""
        try:
            with locked(self._lock_path, LOCK_TRY_SECONDS):
                flag.show()
        except LockTimeoutError:
            log.warning(
                "The lock on the pace is held by a process that hangs; reads of others may go before a transfer."
            )
        except OSError as error:
            self._warn(error)

    def start(self, gap_seconds: float, *, yields: bool, mine: bool) -> float | None:
        """Start a request if it is due, and stamp it.

        Args:
            gap_seconds: the distance to keep from the last start.
            yields: do not start while a transfer waits in any process.
            mine: this request made the last start of this process already. If that is still the last of all, it starts.

        Returns:
            ``None`` if it has started, else how many seconds to wait before asking again.
        """
        try:
            with locked(self._lock_path, LOCK_TRY_SECONDS):
                if yields and self._transfer_waits():
                    return TRANSFER_POLL_SECONDS
                now_ns = time.time_ns()
                stamp_ns = self._read()
                if stamp_ns is not None and not (mine and stamp_ns == self._own_stamp_ns):
                    if stamp_ns > now_ns:  # a clock was set back: as if the last start were now
                        self._write(now_ns)
                        return gap_seconds
                    wait_seconds = gap_seconds - (now_ns - stamp_ns) / NANOSECONDS
                    if wait_seconds > 0:
                        return wait_seconds
                self._own_stamp_ns = self._write(now_ns)
        except LockTimeoutError:
            return 0.0  # the try has waited already
        except OSError as error:
            self._warn(error)
        return None

    def renew(self) -> None:
        """Stamp once more what this process started last, because only now it is out."""
        try:
            with locked(self._lock_path, LOCK_TRY_SECONDS):
                self._own_stamp_ns = self._write(time.time_ns())
        except LockTimeoutError:
            log.debug("The lock on the pace was not free; the stamp stays as it was before sending.")
        except OSError as error:
            self._warn(error)

    def _transfer_waits(self) -> bool:
        descriptor = _open(self._transfer_path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _read(self) -> int | None:
        try:
            return self._stamp_path.stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def _write(self, now_ns: int) -> int:
        try:
            os.utime(self._stamp_path, ns=(now_ns, now_ns))
        except FileNotFoundError:
            os.close(_open(self._stamp_path))
            os.utime(self._stamp_path, ns=(now_ns, now_ns))
        return self._stamp_path.stat().st_mtime_ns  # as the file system keeps it, which may be coarser

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "The pace cannot be shared with other processes (%s at %s). This process keeps its own; do not run"
                " another on the same account.",
                error.strerror or type(error).__name__,
                self._stamp_path,
            )


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, OWNER_ONLY)


MAX_WAITING_REQUESTS = 32
"""How many distinct requests of a process wait for their turn; more are turned away."""
MAX_WAIT_TURNS = 2 * MAX_WAITING_REQUESTS
"""A request waits for this many turns at the most: its own queue's, and as many of another process."""
MAX_WAIT_EXTRA_SECONDS = 10.0
"""On top of that, for what holds a turn up: a lock, a slow disk."""
GUARD_SECONDS = 0.05
"""Added to the interval, because two requests do not take equally long from here to Sequence's door: a loaded machine
and the way there delay one more than the other by some hundredths of a second."""


class Priority(IntEnum):
    """Who goes first."""

    TRANSFER = 0
    URGENT = 1
    """A read that a transfer waits for."""
    READ = 2


class Turn:
    """The right to send one request now. Not using it costs nothing but the time until the next one is due."""

    def __init__(self, pacer: "Pacer | None", gap_seconds: float) -> None:
        self._pacer = pacer
        self.gap_seconds = gap_seconds

    async def begin(self) -> None:
        """Pass the gate: call this right before the first byte goes out."""
        if self._pacer is not None:
            await self._pacer._pass_gate(self)
        report(Phase.ANSWER)

    async def renew(self) -> None:
        """Note that the request is out: the next one's distance counts from now."""
        if self._pacer is not None:
            await self._pacer._renew(self)


class Pacer:
    """Keeps requests apart, start to start.

    Args:
        directory: the data directory, which all processes of the account share.
        interval_seconds: the least distance; with 0 for both, nothing waits and no file is touched.
        jitter_seconds: a random part on top, up to this, drawn for each turn.
    """

    def __init__(self, directory: Path, *, interval_seconds: float, jitter_seconds: float) -> None:
        self._off = interval_seconds <= 0 and jitter_seconds <= 0
        self._interval_seconds = interval_seconds + (GUARD_SECONDS if interval_seconds > 0 else 0)
        self._jitter_seconds = jitter_seconds
        self._shared = SharedPace(directory)
        self._queue: list[_Waiter] = []
        self._numbers = itertools.count()
        self._pace_lock = anyio.Lock()  # one question about the pace at a time, and the gate before the queue
        self._latest: Turn | None = None
        self._latest_at = -math.inf

    async def take(self, priority: Priority) -> Turn:
        """Wait for a turn.

        Args:
            priority: who goes first; within the same, who came first.

        Raises:
            BusyError: too many requests wait already, or it took too long. Nothing was sent.
        """
        report(Phase.TURN)
        turn = Turn(None if self._off else self, self._interval_seconds + random.uniform(0, self._jitter_seconds))
        if self._off:
            return turn
        if len(self._queue) >= MAX_WAITING_REQUESTS:
            raise self._busy(f"{MAX_WAITING_REQUESTS} requests to Sequence wait already")
        waiter = _Waiter(priority, next(self._numbers))
        heapq.heappush(self._queue, waiter)
        flag = self._shared.transfer_flag() if priority is Priority.TRANSFER else None
        taken = False
        try:
            with anyio.move_on_after(self._max_wait_seconds):
                if flag is not None:
                    await anyio.to_thread.run_sync(self._shared.show, flag)
                await self._wait(waiter, turn, yields=flag is None)
                taken = True
        finally:
            if flag is not None:
                flag.release()
            self._leave(waiter)
        if not taken:
            raise self._busy(f"The request had no turn within {self._max_wait_seconds:.0f} seconds")
        return turn

    def _leave(self, waiter: "_Waiter") -> None:
        self._queue.remove(waiter)
        heapq.heapify(self._queue)
        if self._queue:
            self._queue[0].woken.set()

    async def _wait(self, waiter: "_Waiter", turn: Turn, *, yields: bool) -> None:
        while True:
            if self._queue[0] is not waiter:
                waiter.woken = anyio.Event()
                await waiter.woken.wait()
                continue
            async with self._pace_lock:
                if self._queue[0] is not waiter:
                    continue
                delay_seconds = await self._try(turn, yields=yields)
            if delay_seconds is None:
                return
            await anyio.sleep(delay_seconds)

    async def _try(self, turn: Turn, *, yields: bool) -> float | None:
        """Start, if it is time; else say how long to wait. What this process did itself counts without any file."""
        mine = self._latest is turn
        wait_seconds = self._latest_at + turn.gap_seconds - time.monotonic()
        if wait_seconds > 0 and not mine:
            return wait_seconds
        start = functools.partial(self._shared.start, turn.gap_seconds, yields=yields, mine=mine)
        delay_seconds = await anyio.to_thread.run_sync(start)
        if delay_seconds is None:
            self._latest, self._latest_at = turn, time.monotonic()
        return delay_seconds

    async def _pass_gate(self, turn: Turn) -> None:
        # Nobody else of this process takes a turn while one that has its own waits here.
        async with self._pace_lock:
            while True:
                delay_seconds = await self._try(turn, yields=False)
                if delay_seconds is None:
                    return
                await anyio.sleep(delay_seconds)

    async def _renew(self, turn: Turn) -> None:
        if self._latest is turn:
            self._latest_at = time.monotonic()
            await anyio.to_thread.run_sync(self._shared.renew)

    @property
    def _max_wait_seconds(self) -> float:
        return MAX_WAIT_TURNS * (self._interval_seconds + self._jitter_seconds) + MAX_WAIT_EXTRA_SECONDS

    def _busy(self, what: str) -> BusyError:
        queue_seconds = (len(self._queue) + 1) * (self._interval_seconds + self._jitter_seconds / 2)
        retry_after_seconds = max(1, math.ceil(queue_seconds))
        return BusyError(
            f"{what}, so nothing was sent. Try again in {retry_after_seconds} seconds.",
            retry_after_seconds=retry_after_seconds,
        )


class _Waiter:
    """A place in the queue."""

    def __init__(self, priority: Priority, number: int) -> None:
        self._rank = (priority, number)
        self.woken = anyio.Event()

    def __lt__(self, other: "_Waiter") -> bool:
        return self._rank < other._rank
