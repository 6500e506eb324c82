"""Completion of values in shells."""

from collections.abc import Callable, Iterable


def completer(values: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a function that completes the beginning of one of these values, in capitals or not."""
    known = tuple(values)

    def complete(incomplete: str) -> list[str]:
        cased = [value.lower() for value in known] if incomplete.islower() else known
        return [value for value in cased if value.startswith(incomplete)]

    return complete
