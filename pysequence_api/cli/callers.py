"""``callers``: programs with a key of their own. Reads and writes the data directory; makes no upstream call."""

from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from pysequence_api.cli.drawing import NOTHING, Column, print_table, shown_time
from pysequence_api.cli.running import confirm_or_exit
from pysequence_api.cli.terminal import note, print_json, print_line
from pysequence_api.records import callers as kept
from pysequence_api.records import open_records, read_records
from pysequence_api.records.attempts import DEFAULT_CALLER
from pysequence_api.records.callers import CallerInfo, NewKey
from pysequence_api.records.database import Database
from pysequence_api.settings import Settings, variable

COLUMNS = (
    Column("Caller", whole=True),
    Column("Key", whole=True),
    Column("Since", whole=True),
    Column("Last used", whole=True),
    Column("State"),
)
NEXT_REQUEST = "That holds from the next request on, in every process. What it asked for and still waits is released."
Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the caller.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the key in a JSON document.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation. Required in scripts.")]


def add(name: Name, as_json: AsJson = False) -> None:
    """Add a caller, and print its key.

    The key is shown once, and only its hash is stored. A name has lower-case letters, digits, - and _. It is never
    given out again, because attempts and limits belong to it.

    \b
    Example:
      pysequence-api callers add bookkeeper
      pysequence-api callers add openclaw > openclaw.key
    """
    made = kept.add(_records(), name)
    _print_key(name, made, as_json=as_json)


def list_callers(
    everybody: Annotated[bool, typer.Option("--all", help="Show removed callers, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the callers, their keys, and when each key was last used.

    A key is shown by its last characters. The caller `default` has the value of SEQUENCE_API_KEY.

    \b
    Example:
      pysequence-api callers list
      pysequence-api callers list --json | jq -r '.[].name'
    """
    settings = Settings.load()
    records = read_records(settings.data_directory)
    callers = [one for one in records.read(kept.listed) if everybody or one.removed_at is None]
    if as_json:
        print_json([one.model_dump(mode="json") for one in callers])
        return
    rows = [row for caller in callers for row in _rows(caller)]
    if settings.api_key is not None and all(one.name != DEFAULT_CALLER for one in callers):
        rows.insert(0, (DEFAULT_CALLER, variable("api_key"), NOTHING, NOTHING, ""))
    if rows:
        print_table(COLUMNS, rows)
    else:
        print_line("There are no callers. Add one: pysequence-api callers add NAME")


def rotate(
    name: Name,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Let the old key work, too, until `callers revoke NAME --old`.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give a caller a new key, and print it.

    Attempts, limits and idempotency keys belong to the caller, and stay. Without --keep-old, its old key ends at once.

    \b
    Example:
      pysequence-api callers rotate openclaw --keep-old
      pysequence-api callers rotate openclaw --yes
    """
    records = _records()
    hints = _hints(records, name)
    if hints and not keep_old:
        confirm_or_exit(f"The key of {name} that ends in {' and '.join(hints)} ends at once. Replace it?", yes=yes)
    _print_key(name, kept.rotate(records, name, keep_old=keep_old), as_json=as_json)


def revoke(
    name: Name,
    old: Annotated[bool, typer.Option("--old", help="Only the old key that `callers rotate` kept.")] = False,
    yes: Yes = False,
) -> None:
    """End the keys of a caller.

    From the next request on, in every process. What it asked for and still waits is released. The caller stays, and
    `callers rotate` gives it a new key.

    \b
    Example:
      pysequence-api callers revoke openclaw
      pysequence-api callers revoke openclaw --old --yes
    """
    records = _records()
    _hints(records, name)
    confirm_or_exit(f"End {'the old key' if old else 'every key'} of {name}?", yes=yes)
    hints = kept.revoke(records, name, old_only=old)
    print_line(f"Revoked: the key of {name} that ended in {' and '.join(hints)}. {NEXT_REQUEST}")


def remove(name: Name, yes: Yes = False) -> None:
    """Remove a caller for ever.

    Its keys end as with `callers revoke`. Its attempts stay, and its name is never given out again.

    \b
    Example:
      pysequence-api callers remove openclaw
    """
    records = _records()
    _hints(records, name)
    confirm_or_exit(f"Remove {name} for ever? Its name is never given out again.", yes=yes)
    kept.remove(records, name)
    print_line(f"Removed {name}. {NEXT_REQUEST}")


def _records() -> Database:
    return open_records(Settings.load().data_directory)


def _hints(records: Database, name: str) -> tuple[str, ...]:
    """Return the ends of the keys of a caller, which exists."""
    return tuple(key.hint for key in records.read(lambda reader: kept.keys_of(reader, name)))


def _print_key(name: str, made: NewKey, *, as_json: bool) -> None:
    if as_json:
        print_json({"caller": name, "key": made.key, "replaced": list(made.replaced), "old": made.old})
    else:
        print_line(made.key)
    note(f"This is the key of {name}. It is not shown again. Programs send it in the header X-API-Key.")
    if made.old is not None:
        note(f"The old key, which ends in {made.old}, works until: pysequence-api callers revoke {name} --old")


def _rows(caller: CallerInfo) -> Iterator[tuple[str, ...]]:
    state = _state(caller)
    if caller.name == DEFAULT_CALLER:
        yield caller.name, variable("api_key"), NOTHING, NOTHING, state
        return
    for key in caller.keys:
        used = shown_time(key.last_used_at) if key.last_used_at else "never"
        yield caller.name, f"...{key.hint}", shown_time(key.created_at), used, _joined([state, "old key" * key.old])
    if not caller.keys:
        yield caller.name, NOTHING, NOTHING, NOTHING, _joined([state, "no key"])


def _state(caller: CallerInfo) -> str:
    removed = f"removed {shown_time(caller.removed_at)}" if caller.removed_at else ""
    frozen = f"frozen since {shown_time(caller.frozen_since)} ({caller.frozen_reason})" if caller.frozen_since else ""
    return removed or frozen


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(part for part in parts if part)
