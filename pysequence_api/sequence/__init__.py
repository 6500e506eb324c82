"""How Sequence is reached."""
