"""The client for Sequence: requests, pacing and signing in."""
