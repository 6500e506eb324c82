"""Everything that says no, and remembers."""
