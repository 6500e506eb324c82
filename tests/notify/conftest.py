"""A world at a fixed noon, whose clock a test can move, and short pauses."""

import pytest

from pysequence_api.notify import channels, notifier
from tests.noon import sandbox, traveller, world

__all__ = ["sandbox", "traveller", "world"]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(channels, "RETRY_SECONDS", 0.02)
