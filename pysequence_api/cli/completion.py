"""What the shell completes, besides commands and options. Makes no upstream call."""

from collections.abc import Callable, Iterable

from pysequence_api.errors import GatewayError
from pysequence_api.records import read_records
from pysequence_api.records.names import known_names
from pysequence_api.settings import Settings


def complete_name(incomplete: str) -> list[str]:
    """Complete the name of a pod, port or account, from the names that were read before."""
    try:
        names = known_names(read_records(Settings.load().data_directory)).values()
    except GatewayError:
        return []  # the command itself says what is wrong
    return sorted({name for name in names if name.startswith(incomplete)})


def completer(values: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a function that completes the beginning of one of these values, in capitals or not."""
    known = tuple(values)

    def complete(incomplete: str) -> list[str]:
        cased = [value.lower() for value in known] if incomplete.islower() else known
        return [value for value in cased if value.startswith(incomplete)]

    return complete
