"""The Platform API of the simulated Sequence (docs/upstream-platform.md)."""
