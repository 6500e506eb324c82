"""Everything that knows GetSequence."""
