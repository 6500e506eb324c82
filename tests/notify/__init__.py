"""Telling the owner."""
