"""The client for Sequence's Platform API."""
