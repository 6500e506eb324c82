"""Python's garbage collector, kept from what it has nothing to find in."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Collect no garbage meanwhile.

    This is for importing modules and building what lasts as long as the process. None of it is garbage, and the
    collector would look through it dozens of times, which takes a tenth of the time and more.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
