"""Completion of values in shells."""

from collections.abc import Callable, Iterable


def completer(values: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a function that completes the beginning of one of these values, in capitals or not."""
    known = tuple(values)

    def complete(incomplete: str) -> list[str]:
        return [value for value in known if value.lower().startswith(incomplete.lower())]

    return complete
