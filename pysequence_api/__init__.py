"""A trust boundary in front of GetSequence: one API key, limits and an audit trail between programs and money."""

__version__ = "0.1.0"
