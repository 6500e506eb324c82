"""A world at a fixed noon, whose clock a test can move."""

from tests.noon import sandbox, traveller, world

__all__ = ["sandbox", "traveller", "world"]
