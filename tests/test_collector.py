"""The pauses of Python's garbage collector, which threads can make at once."""

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from pysequence_api.collector import collect_from_now, collector_paused

WAIT_SECONDS = 0.1
"""How long a thread is held where another one could come between, if it were not kept out."""


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    was_enabled = gc.isenabled()
    yield
    (gc.enable if was_enabled else gc.disable)()


def test_a_server_ends_the_pause_when_it_listens() -> None:
    gc.enable()
    with collector_paused():
        assert not gc.isenabled()
        collect_from_now()
        assert gc.isenabled()
    assert gc.isenabled()


def test_the_collector_is_on_after_two_pauses_that_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    is_paused, may_leave, has_left = Event(), Event(), Event()
    disable = gc.disable

    def disable_late() -> None:
        if is_paused.is_set():  # this is the second pause, which has found the collector off
            may_leave.set()
            has_left.wait(WAIT_SECONDS)
        disable()

    def first() -> None:
        with collector_paused():
            is_paused.set()
            may_leave.wait()
        has_left.set()

    def second() -> None:
        is_paused.wait()
        with collector_paused():
            pass

    monkeypatch.setattr(gc, "disable", disable_late)
    gc.enable()
    with ThreadPoolExecutor() as threads:
        for thread in [threads.submit(first), threads.submit(second)]:
            thread.result()
    assert gc.isenabled()
