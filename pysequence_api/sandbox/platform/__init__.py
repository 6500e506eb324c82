"""The Platform API of the simulated Sequence (docs/upstream-platform.md)."""

PLATFORM_PATH = "/platform/v1"
