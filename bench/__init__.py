"""Measures the gateway over the simulated Sequence, on loopback: ``python -m bench``."""
