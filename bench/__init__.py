"""Measures the server with the simulated Sequence, on loopback: ``python -m bench``."""
